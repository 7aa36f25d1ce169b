//! Builds the program from its parts: store → actor tree → HTTP server. The only place that knows
//! all of them.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use cm_actors::app_server::{AppServerConfig, AppServerHandle, Program, app_server_spec};
use cm_actors::handle::Handle;
use cm_actors::idempotency::{Idempotency, IdempotencyHandle, idempotency_spec};
use cm_actors::index::ListVersion;
use cm_actors::journal::{JournalConfig, JournalHandle, journal_spec};
use cm_actors::metrics::Stats;
use cm_actors::project::{Projects, ProjectsHandle, projects_spec};
use cm_actors::store::{
    ExportPlan, OpenedStore, Store, StoreError, StoreFolder, StoreHandle, store_spec,
};
use cm_actors::supervisor::{ChildSpec, Strategy, Supervisor, SupervisorHandle};
use cm_actors::thread::{
    Cage, STORE_PATIENCE, ThreadConfig, ThreadRegistry, ThreadsHandle, registry_spec,
};
use cm_core::error::{ErrorCode, Failure};
use cm_core::restart::{Policy, Restart};
use cm_process::{OrphanLedger, StopDeadlines};
use cm_routes::api::ServerInfo;
use cm_routes::metrics::HttpStats;
use cm_routes::security::{AccessPolicy, Doorkeeper, gate};
use cm_routes::stream::{Hub, HubCell, HubSettings, remember_connection};
use cm_routes::{Api, ReadModel, ReadModelCell, StoreGauge, Vitals, configure};

use crate::config::{ResolvedRuntime, Settings, child_environment, resolve_runtime};
use crate::login::prepare_home;
use crate::shutdown::{self, Signals, Stoppable};

/// What a caller waits beyond the child's own deadline.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// The steps of the child's stop. Together with the rest of the shutdown they stay under 4.5 s.
const CHILD_STOP: StopDeadlines = StopDeadlines {
    after_stdin_close: Duration::from_millis(700),
    after_sigterm: Duration::from_millis(700),
};

/// How long a subscriber may leave what is ready for it.
const SUBSCRIBER_PATIENCE: Duration = Duration::from_secs(10);

/// What the nested supervisor of store, journal, threads and projects may take to end.
const STATE_STOP: Duration = Duration::from_secs(3);

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// Whatever keeps it from starting, with its code.
pub(crate) fn serve(settings: Settings) -> Result<(), Failure> {
    let runtime = resolve_runtime(&settings)?;
    tracing::info!(
        runtime = runtime.kind.as_str(),
        program = %runtime.program.display(),
        version = runtime.version.map(|version| version.to_string()),
        why = runtime.why,
        "runtime chosen"
    );
    tracing::debug!(
        controls = ?settings.defaults.controls,
        locked = settings.defaults.locked,
        policy = ?settings.supervision,
        limits = ?settings.limits,
        "settings in force"
    );
    let listener = bind(&settings)?;
    let folder = Arc::new(lock_store(&settings.data_dir)?);
    let store = open_store(&folder, &settings.data_dir)?;
    let login = prepare_home(&settings, &runtime)?;
    tracing::info!(%login, "login prepared");
    sweep(&settings.data_dir);
    actix_web::rt::System::new().block_on(run(settings, runtime, listener, folder, store))
}

fn bind(settings: &Settings) -> Result<TcpListener, Failure> {
    let (host, port) = (settings.server.host.as_str(), settings.server.port);
    TcpListener::bind((host.trim_matches(['[', ']']), port)).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            ErrorCode::PortInUse,
            format!(
                "Port {port} on {host} is in use. Stop what runs there (it may be another \
                 codex-manager), or choose another port with --port."
            ),
        ),
        _ => Failure::new(
            ErrorCode::InvalidConfig,
            format!("The server cannot listen on {host} port {port}: {error}."),
        ),
    })
}

/// Takes hold of the data directory, for as long as the program runs.
pub(crate) fn lock_store(data_dir: &Path) -> Result<StoreFolder, Failure> {
    StoreFolder::lock(data_dir).map_err(|error| store_failure(error, data_dir))
}

/// Opens the store before anything else runs, so that a directory that cannot be used is one
/// clear message.
fn open_store(folder: &StoreFolder, data_dir: &Path) -> Result<OpenedStore, Failure> {
    folder.open(env!("CARGO_PKG_VERSION")).map_err(|error| store_failure(error, data_dir))
}

/// What a person is told when the store cannot be used.
pub(crate) fn store_failure(error: StoreError, data_dir: &Path) -> Failure {
    match error {
        StoreError::InUse(_) => Failure::new(
            ErrorCode::DataDirInUse,
            format!(
                "Another codex-manager is running on {}. Stop it, or choose another directory \
                 with --data-dir.",
                data_dir.display()
            ),
        ),
        other => Failure::new(
            ErrorCode::DataDirUnusable,
            format!(
                "The data directory {} cannot be used: {other}. Mend it, or choose another one \
                 with --data-dir.",
                data_dir.display()
            ),
        ),
    }
}

fn ledger(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("children.json")
}

/// Ends what a manager that was killed left behind.
fn sweep(data_dir: &Path) {
    match OrphanLedger::new(ledger(data_dir)).sweep() {
        Ok(swept) => {
            for orphan in swept {
                tracing::warn!(?orphan, "a child of an earlier manager was dealt with");
            }
        }
        Err(error) => tracing::warn!(%error, "children of an earlier manager cannot be looked for"),
    }
}

/// The handles that the tree is reached by.
#[derive(Clone)]
struct Handles {
    store: StoreHandle,
    vitals: Vitals,
    journal: JournalHandle,
    registry: Handle<ThreadRegistry>,
    threads: ThreadsHandle,
    projects: Handle<Projects>,
    idempotency: Handle<Idempotency>,
    app_server: AppServerHandle,
    list_version: ListVersion,
    stats: Stats,
}

async fn run(
    settings: Settings,
    runtime: ResolvedRuntime,
    listener: TcpListener,
    folder: Arc<StoreFolder>,
    store: OpenedStore,
) -> Result<(), Failure> {
    let signals = Signals::catch().map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("Signals cannot be watched: {error}."))
    })?;
    let store_handle = StoreHandle::default();
    let OpenedStore { store, condition } = store;
    store_handle.set_condition(condition);
    store_handle.set_exports(ExportPlan::new(
        folder.exports(),
        env!("CARGO_PKG_VERSION"),
        settings.store.export_every,
    ));
    let first: FirstStore = Arc::new(Mutex::new(Some(Box::new(store))));
    let stats = Stats::new(store_handle.clone());
    let deadline = settings.runtime.call_timeout + ANSWER_MARGIN;
    let registry = Handle::new();
    let handles = Handles {
        vitals: Vitals {
            writes_fail: store_handle.failing(),
            store_health: StoreGauge::new({
                let store = store_handle.clone();
                move || store.health()
            }),
            ..Vitals::default()
        },
        store: store_handle,
        journal: JournalHandle::new(Arc::clone(&stats.stream)),
        threads: ThreadsHandle::new(registry.clone(), deadline),
        registry,
        projects: Handle::new(),
        idempotency: Handle::new(),
        app_server: AppServerHandle::new(),
        list_version: ListVersion::default(),
        stats,
    };
    let control = Arbiter::new();
    let supervisor = start_tree(&control, &settings, &runtime, &handles, folder, first).await?;
    let doorkeeper = on_arbiter(&control, || Doorkeeper::default().start()).await?;
    let stopping = Arc::new(AtomicBool::new(false));
    let api = Api {
        info: Arc::new(ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime: runtime.kind.as_str(),
            program: runtime.program.clone(),
            codex_home: settings.runtime.codex_home.clone(),
            has_api_key: settings.runtime.openai_api_key.is_some(),
            max_body: settings.limits.max_body,
        }),
        threads: handles.threads.clone(),
        projects: ProjectsHandle::new(handles.projects.clone(), deadline),
        app_server: handles.app_server.clone(),
        supervisor: supervisor.clone(),
        journal: handles.journal.clone(),
        vitals: handles.vitals.clone(),
        idempotency: IdempotencyHandle::new(handles.idempotency.clone(), deadline),
        stats: handles.stats.clone(),
        http: HttpStats::default(),
        doorkeeper,
        stopping: Arc::clone(&stopping),
    };
    let policy = AccessPolicy::new(
        &settings.server.host,
        settings.server.allowed_origins.clone(),
        settings.server.token.as_ref().map(|token| token.expose().to_owned()),
    );
    let address = listener.local_addr().map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("The server has no address: {error}."))
    })?;
    let hubs: Arc<Mutex<Vec<Addr<Hub>>>> = Arc::default();
    let threads = api.threads.clone();
    let list_version = handles.list_version.clone();
    let worker_hubs = Arc::clone(&hubs);
    let hub_settings =
        HubSettings { ring_bytes: settings.limits.ring, patience: SUBSCRIBER_PATIENCE };
    let server = HttpServer::new(move || {
        let (hub, hub_address) =
            Hub::start_on_worker(api.journal.clone(), api.threads.clone(), hub_settings);
        worker_hubs.lock().unwrap_or_else(PoisonError::into_inner).push(hub_address);
        let model = ReadModel::start_on_worker(api.threads.clone(), list_version.clone());
        App::new()
            .wrap(from_fn(gate))
            .app_data(web::Data::new(api.clone()))
            .app_data(web::Data::new(policy.clone()))
            .app_data(web::Data::new(HubCell(hub)))
            .app_data(web::Data::new(ReadModelCell(model)))
            .configure(configure)
    })
    .workers(settings.server.http_workers)
    .on_connect(remember_connection)
    .disable_signals()
    // Frames are batched here; the kernel need not wait for more.
    .tcp_nodelay(true)
    .shutdown_timeout(1)
    .listen(listener)
    .map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("The server cannot be started: {error}."))
    })?
    .run();
    say_listening(address);
    let stoppable = Stoppable {
        server: server.handle(),
        hubs,
        threads,
        supervisor,
        stopping: Arc::clone(&stopping),
    };
    let served = actix_web::rt::spawn(server);
    let stop = shutdown::on_signal(signals, stoppable);
    tokio::pin!(stop);
    let ended = tokio::select! {
        () = &mut stop => Ok(()),
        ended = served => {
            if stopping.load(Ordering::Relaxed) {
                stop.await;
                Ok(())
            } else {
                // Without its server the program would live on for nobody.
                let message = format!("The HTTP server ended by itself: {ended:?}.");
                Err(Failure::new(ErrorCode::Internal, message))
            }
        }
    };
    control.stop();
    tracing::info!("stopped");
    ended
}

/// The one line on stdout: scripts wait for it and read the address from it.
fn say_listening(address: std::net::SocketAddr) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let line = format!("codex-manager listening on http://{address}\n");
    // Nobody may be reading; the address is in the log as well.
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).ok();
    tracing::info!(%address, "listening");
}

/// Runs a function on the control arbiter and waits for what it makes.
async fn on_arbiter<T: Send + 'static>(
    arbiter: &Arbiter,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (told, made) = tokio::sync::oneshot::channel();
    arbiter.spawn_fn(move || {
        told.send(make()).ok();
    });
    made.await.map_err(|_| Failure::new(ErrorCode::Internal, "The control thread did not start."))
}

async fn start_tree(
    control: &Arbiter,
    settings: &Settings,
    runtime: &ResolvedRuntime,
    handles: &Handles,
    folder: Arc<StoreFolder>,
    first: FirstStore,
) -> Result<SupervisorHandle, Failure> {
    let handles = handles.clone();
    let policy = settings.supervision;
    let threads = ThreadConfig {
        defaults: settings.defaults.controls.clone(),
        defaults_locked: settings.defaults.locked,
        default_cwd: settings.runtime.default_cwd.clone(),
        cage: Cage::new(&[settings.data_dir.clone(), settings.runtime.codex_home.clone()]),
        idle: settings.limits.thread_idle,
        sync: settings.limits.thread_sync,
        item_cap: settings.limits.thread_items as u64,
        policy: Arc::new(settings.requests),
        store_patience: STORE_PATIENCE,
        list_version: handles.list_version.clone(),
        stats: Arc::clone(&handles.stats.sessions),
    };
    let app_server = AppServerConfig {
        program: Program {
            runtime: runtime.kind.as_str(),
            path: runtime.program.clone(),
            args: runtime.args.iter().map(std::ffi::OsString::from).collect(),
        },
        cwd: settings.runtime.default_cwd.clone(),
        env: child_environment(settings, runtime),
        codex_home: settings.runtime.codex_home.clone(),
        line_cap: settings.limits.line_cap,
        initialize_timeout: settings.runtime.initialize_timeout,
        call_timeout: settings.runtime.call_timeout,
        stop: CHILD_STOP,
        ledger: ledger(&settings.data_dir),
        api_key: settings.runtime.openai_api_key.as_ref().map(|key| key.expose().to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let journal =
        JournalConfig { ring_bytes: settings.limits.ring, log_bytes: settings.limits.log };
    on_arbiter(control, move || {
        let for_state = handles.clone();
        let state = ChildSpec {
            name: "state",
            restart: Restart::Permanent,
            policy,
            shutdown: STATE_STOP,
            watch: Some(handles.vitals.state.watcher()),
            start: Box::new(move |guard| {
                let specs = state_specs(&for_state, policy, journal, &threads, &folder, &first);
                Supervisor::start_nested("state", Strategy::RestForOne, specs, Some(guard)).1
            }),
        };
        let app_server = app_server_spec(
            handles.app_server,
            handles.registry,
            policy,
            app_server,
            handles.journal.flow(),
            state_changed(handles.journal),
        );
        Supervisor::start_tree("root", Strategy::OneForOne, vec![state, app_server])
    })
    .await
}

/// The store that was opened beforehand: it serves the first life of its actor.
type FirstStore = Arc<Mutex<Option<Box<dyn Store>>>>;

/// Store, journal, threads, projects and keys: each is rebuilt when one before it was.
fn state_specs(
    handles: &Handles,
    policy: Policy,
    journal: JournalConfig,
    threads: &ThreadConfig,
    folder: &Arc<StoreFolder>,
    first: &FirstStore,
) -> Vec<ChildSpec> {
    let (folder, first, store) = (Arc::clone(folder), Arc::clone(first), handles.store.clone());
    let opener = Box::new(move || {
        let opened = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            return Ok(opened);
        }
        let opened = folder.open(env!("CARGO_PKG_VERSION"))?;
        store.set_condition(opened.condition);
        Ok(Box::new(opened.store) as Box<dyn Store>)
    });
    vec![
        store_spec(handles.store.clone(), policy, opener, &handles.vitals.store),
        journal_spec(
            handles.journal.clone(),
            handles.store.clone(),
            policy,
            journal,
            &handles.vitals.journal,
        ),
        registry_spec(
            handles.registry.clone(),
            policy,
            threads.clone(),
            handles.store.clone(),
            handles.journal.clone(),
            handles.app_server.clone(),
            &handles.vitals.sessions,
        ),
        projects_spec(
            handles.projects.clone(),
            policy,
            handles.store.clone(),
            handles.journal.clone(),
            handles.threads.clone(),
        ),
        idempotency_spec(handles.idempotency.clone(), handles.store.clone(), policy),
    ]
}

/// Tells subscribers of the child's supervision: that it waits for its restart, or has failed.
fn state_changed(journal: JournalHandle) -> impl Fn(&cm_actors::supervisor::ChildState) + 'static {
    use cm_core::event::{Audience, Durability, FrameBatch};
    move |state| {
        if !matches!(state.state, "backoff" | "failed") {
            return;
        }
        let payload = serde_json::json!({
            "state": state.state,
            "incarnation": state.incarnation,
            "restarts": state.restarts,
            "reason": state.last_exit,
        });
        let mut frames = FrameBatch::default();
        let (audience, durability) = (&Audience::Everyone, Durability::Recorded);
        if let Err(error) = frames.push("runtime_state", audience, None, durability, &payload) {
            tracing::error!(%error, "an event could not be written");
        }
        journal.publish(frames);
    }
}
