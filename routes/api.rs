//! What handlers reach, and the table of routes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::Addr;
use actix_web::middleware::from_fn;
use actix_web::web::{delete, get, post};
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};
use cm_actors::app_server::AppServerHandle;
use cm_actors::idempotency::IdempotencyHandle;
use cm_actors::journal::JournalHandle;
use cm_actors::metrics::Stats;
use cm_actors::project::ProjectsHandle;
use cm_actors::supervisor::{StateCell, SupervisorHandle};
use cm_actors::thread::ThreadsHandle;
use cm_core::error::ErrorCode;
use cm_core::wire::StoreHealth;

use crate::answer::ApiError;
use crate::metrics::HttpStats;
use crate::security::Doorkeeper;
use crate::{
    actions, codex, controls, docs, health, idempotency, jobs, metrics, openapi, projects,
    requests, runtime, security, session_list, sessions, stream, transcript, turns,
};

/// Facts about the server that do not change while it runs.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Version of the program.
    pub version: String,
    /// `codex` or `embedded`.
    pub runtime: &'static str,
    /// The executable that runs as the child.
    pub program: PathBuf,
    /// The child's CODEX_HOME.
    pub codex_home: PathBuf,
    /// Whether `OPENAI_API_KEY` is set.
    pub has_api_key: bool,
    /// Largest body that is read, in bytes.
    pub max_body: usize,
}

/// What the manager itself needs to work, as readiness sees it.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// Supervision of the store, the journal and the registry together.
    pub state: StateCell,
    /// Supervision of the store.
    pub store: StateCell,
    /// Supervision of the journal.
    pub journal: StateCell,
    /// Supervision of the sessions' registry.
    pub sessions: StateCell,
    /// Whether the store's last write failed.
    pub writes_fail: Arc<AtomicBool>,
    /// The store, as it describes itself.
    pub store_health: StoreGauge,
}

/// Reads the store's part of health, without waiting for the store.
#[derive(Clone)]
pub struct StoreGauge(Arc<dyn Fn() -> StoreHealth + Send + Sync>);

impl StoreGauge {
    /// Makes a gauge.
    pub fn new(read: impl Fn() -> StoreHealth + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The store now.
    pub fn read(&self) -> StoreHealth {
        (self.0)()
    }
}

impl Default for StoreGauge {
    fn default() -> Self {
        Self::new(StoreHealth::default)
    }
}

impl std::fmt::Debug for StoreGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StoreGauge").field(&self.read()).finish()
    }
}

/// What handlers reach: handles only.
#[derive(Debug, Clone)]
pub struct Api {
    /// Facts about the server.
    pub info: Arc<ServerInfo>,
    /// Sessions.
    pub threads: ThreadsHandle,
    /// Projects.
    pub projects: ProjectsHandle,
    /// The child.
    pub app_server: AppServerHandle,
    /// The supervision tree.
    pub supervisor: SupervisorHandle,
    /// The journal.
    pub journal: JournalHandle,
    /// What the manager itself needs to work.
    pub vitals: Vitals,
    /// Keys of requests that are not to be carried out twice.
    pub idempotency: IdempotencyHandle,
    /// What is counted.
    pub stats: Stats,
    /// What is counted of requests.
    pub http: HttpStats,
    /// Issues and checks tickets and cookies.
    pub doorkeeper: Addr<Doorkeeper>,
    /// Set when the server is stopping: it is then no longer ready.
    pub stopping: Arc<AtomicBool>,
}

/// A route that reads: GET, and HEAD as health checkers use it.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The route of a verb. `once` and `repeatable` are POST with an `Idempotency-Key`.
macro_rules! route {
    (once $handler:path) => {
        post().to($handler).wrap(from_fn(idempotency::once))
    };
    (repeatable $handler:path) => {
        post().to($handler).wrap(from_fn(idempotency::repeatable))
    };
    ($verb:ident $handler:path) => {
        $verb().to($handler)
    };
}

/// The table of routes: how they are registered, and a list for their description.
macro_rules! routes {
    ($($verb:ident $path:literal => $handler:path,)*) => {
        /// Registers every route.
        pub fn configure(config: &mut web::ServiceConfig) {
            $(config.route($path, route!($verb $handler));)*
            config.default_service(web::to(unknown_route));
        }

        /// Every route: its verb (`read`, `get`, `delete`, `post`, `once` or `repeatable`) and its
        /// path.
        pub(crate) const ROUTES: &[(&str, &str)] = &[$((stringify!($verb), $path),)*];
    };
}

routes! {
    read "/livez" => health::live,
    read "/readyz" => health::ready,
    read "/metrics" => metrics::scrape,
    read "/api" => health::info,
    read "/api/openapi.json" => openapi::serve,
    read "/api/docs" => docs::page,
    read "/api/docs/{file:.*}" => docs::file,
    read "/api/health" => health::health,
    read "/api/runtime" => runtime::view,
    once "/api/runtime/restart" => runtime::restart,
    post "/api/login" => security::doorkeeper::log_in,
    post "/api/logout" => security::doorkeeper::log_out,
    get "/api/stream" => stream::socket::connect,
    get "/api/events" => stream::events::all,
    get "/api/sessions/{id}/events" => stream::events::of_session,
    post "/api/stream/tickets" => security::doorkeeper::issue_ticket,
    read "/api/capabilities" => codex::capabilities::read,
    read "/api/models" => codex::catalog::models,
    read "/api/apps" => codex::catalog::apps,
    read "/api/features/experimental" => codex::catalog::features,
    read "/api/collaboration/modes" => codex::catalog::modes,
    read "/api/skills" => codex::skills::list,
    post "/api/skills/config" => codex::skills::configure,
    read "/api/skills/remote" => codex::skills::remote,
    post "/api/skills/remote" => codex::skills::write_remote,
    read "/api/mcp/servers" => codex::mcp::servers,
    post "/api/mcp/reload" => codex::mcp::reload,
    post "/api/mcp/servers/{serverName}/oauth/login" => codex::mcp::log_in,
    read "/api/account" => codex::account::read,
    post "/api/account/login/start" => codex::account::start_login,
    post "/api/account/login/cancel" => codex::account::cancel_login,
    post "/api/account/logout" => codex::account::log_out,
    read "/api/account/rate-limits" => codex::account::rate_limits,
    read "/api/config" => codex::config::read,
    read "/api/config/requirements" => codex::config::requirements,
    post "/api/config/value" => codex::config::write_value,
    post "/api/config/batch" => codex::config::write_batch,
    once "/api/commands/exec" => codex::commands::execute,
    once "/api/feedback" => codex::commands::feedback,
    read "/api/projects" => projects::list,
    once "/api/projects" => projects::create,
    post "/api/projects/{id}/rename" => projects::update,
    delete "/api/projects/{id}" => projects::delete,
    read "/api/projects/{id}/agent-sessions" => projects::agent_sessions,
    once "/api/projects/{id}/chats/move-all" => projects::move_all,
    once "/api/projects/{id}/chats/delete-all" => projects::delete_all,
    read "/api/orchestrator/jobs/{jobId}" => jobs::read,
    post "/api/orchestrator/jobs/{jobId}/cancel" => jobs::cancel,
    read "/api/projects/{projectId}/orchestrator/jobs" => jobs::list,
    post "/api/sessions/{id}/suggested-request" => jobs::suggest,
    post "/api/sessions/{id}/suggested-request/jobs" => jobs::queue_suggestion,
    post "/api/sessions/{id}/suggested-request/upsert" => jobs::upsert_suggestion,
    read "/api/sessions" => session_list::list,
    once "/api/sessions" => sessions::create,
    read "/api/sessions/{id}" => sessions::read,
    delete "/api/sessions/{id}" => sessions::delete,
    read "/api/sessions/{id}/items/{item}" => sessions::item,
    post "/api/sessions/{id}/rename" => sessions::rename,
    post "/api/sessions/{id}/archive" => sessions::archive,
    post "/api/sessions/{id}/unarchive" => sessions::unarchive,
    post "/api/sessions/{id}/resume" => sessions::resume,
    post "/api/sessions/{id}/project" => projects::assign,
    once "/api/sessions/{id}/messages" => turns::send,
    once "/api/sessions/{id}/interrupt" => turns::interrupt,
    once "/api/sessions/{id}/turns/{turn}/steer" => turns::steer,
    once "/api/sessions/{id}/fork" => actions::fork,
    once "/api/sessions/{id}/compact" => actions::compact,
    once "/api/sessions/{id}/rollback" => actions::roll_back,
    repeatable "/api/sessions/{id}/background-terminals/clean" => actions::clean_terminals,
    once "/api/sessions/{id}/review" => actions::review,
    read "/api/sessions/{id}/session-controls" => controls::read,
    post "/api/sessions/{id}/session-controls" => controls::change,
    post "/api/sessions/{id}/approval-policy" => controls::change_policy,
    read "/api/sessions/{id}/settings" => controls::settings,
    post "/api/sessions/{id}/settings" => controls::change_settings,
    delete "/api/sessions/{id}/settings/{key}" => controls::remove_setting,
    read "/api/sessions/{id}/transcript" => transcript::read,
    read "/api/sessions/{id}/turns" => transcript::turns,
    repeatable "/api/sessions/{id}/transcript/upsert" => transcript::upsert,
    read "/api/sessions/{id}/approvals" => requests::approvals,
    read "/api/sessions/{id}/tool-input" => requests::tool_inputs,
    read "/api/sessions/{id}/tool-calls" => requests::tool_calls,
    read "/api/requests" => requests::all,
    read "/api/requests/{id}/params" => requests::params,
    repeatable "/api/approvals/{id}/decision" => requests::decide_approval,
    repeatable "/api/tool-input/{id}/decision" => requests::decide_tool_input,
    repeatable "/api/tool-calls/{id}/response" => requests::respond_tool_call,
}

/// A path or method that does not exist, with the members that version 1 answers.
async fn unknown_route(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let message = format!("Route {}:{} not found", request.method(), request.path());
    let error = ApiError::new(ErrorCode::NotFound, message);
    Err(error.with("error", "Not Found").with("statusCode", 404))
}
