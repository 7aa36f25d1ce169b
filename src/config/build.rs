//! From checked values to settings, with the rules that concern several values.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cm_actors::request::FixedPolicy;
use cm_core::controls::{ApprovalPolicy, Controls, NetworkAccess, SandboxMode};
use cm_core::request::AtDeadline;
use cm_core::restart::Policy;

use super::load::Values;
use super::origin::Problem;
use super::settings::{
    DefaultsSettings, LimitSettings, LogFormat, LogLevel, LogSettings, RuntimeChoice,
    RuntimeSettings, Secret, ServerSettings, Settings, StoreSettings,
};
use super::table::*;
use super::table_later as later;
use super::value::Parsed;
use super::variable::{Kind, Variable};
use super::{environment, token};

/// Most HTTP workers that are started when nobody says how many.
const MOST_WORKERS: usize = 8;

/// What settings depend on besides the variables.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Relative paths start here.
    pub(super) working_directory: PathBuf,
    /// The user's home directory.
    pub(super) home: Option<PathBuf>,
    /// The environment of the process.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Assignments of `.env` that are none of ours.
    pub(super) foreign_dotenv: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// An absolute path. `~/` is the home directory, because no shell expands it in a file.
    fn absolute(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.working_directory.join(path),
        }
    }
}

/// Makes settings, and says which combinations are wrong.
pub(super) fn build(values: &Values, surroundings: Surroundings) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let data_dir = surroundings.absolute(values.text(&DATA_DIR).unwrap_or(".data"));
    let settings = Settings {
        server: server(values, &surroundings, &mut problems),
        supervision: supervision(values, &mut problems),
        defaults: defaults(values),
        store: StoreSettings { export_every: millis(values, &CODEX_MANAGER_STORE_EXPORT_MS) },
        limits: LimitSettings {
            line_cap: size(values, &CODEX_MANAGER_LINE_CAP_BYTES),
            ring: size(values, &CODEX_MANAGER_RING_BYTES),
            log: values.number(&CODEX_MANAGER_LOG_BYTES),
            max_body: size(values, &CODEX_MANAGER_MAX_BODY_BYTES),
            thread_items: size(values, &CODEX_MANAGER_THREAD_ITEMS_BYTES),
            thread_idle: millis(values, &CODEX_MANAGER_THREAD_IDLE_MS),
            thread_sync: millis(values, &CODEX_MANAGER_THREAD_SYNC_MS),
        },
        requests: requests(values, &mut problems),
        log: log(values),
        runtime: runtime(values, surroundings, &data_dir),
        data_dir,
    };
    check_extensions(values, &settings, &mut problems);
    (settings, problems)
}

/// Whether an address or name is this machine and nobody else can reach it. A name other than
/// `localhost` may point anywhere tomorrow, so it does not count.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn server(
    values: &Values,
    surroundings: &Surroundings,
    problems: &mut Vec<Problem>,
) -> ServerSettings {
    let host = values.text(&HOST).unwrap_or("127.0.0.1").to_owned();
    let token_file = values.text(&CODEX_MANAGER_TOKEN_FILE).map(|path| surroundings.absolute(path));
    let token = match token_file.as_deref().map(token::read_token) {
        None => None,
        Some(Ok(token)) => Some(token),
        Some(Err(error)) => {
            let origin = values.origin(&CODEX_MANAGER_TOKEN_FILE);
            problems.push(Problem::new(origin, error.to_string()));
            None
        }
    };
    if !is_loopback(&host) && token_file.is_none() {
        problems.push(Problem::new(
            values.origin(&HOST),
            format!(
                "HOST is `{host}`, which others can reach: make a token with `codex-manager token \
                 new PATH` and name it with --token-file PATH (CODEX_MANAGER_TOKEN_FILE), or \
                 listen on 127.0.0.1"
            ),
        ));
    }
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let http_workers = match size(values, &CODEX_MANAGER_HTTP_WORKERS) {
        0 => cores().min(MOST_WORKERS),
        asked => asked,
    };
    ServerSettings {
        host,
        port: u16::try_from(values.number(&PORT)).unwrap_or_default(),
        allowed_origins: values.list(&ALLOWED_ORIGINS),
        token,
        http_workers,
    }
}

fn supervision(values: &Values, problems: &mut Vec<Problem>) -> Policy {
    let policy = Policy {
        backoff_start: millis(values, &CODEX_MANAGER_RESTART_BACKOFF_MS),
        backoff_max: millis(values, &CODEX_MANAGER_RESTART_BACKOFF_MAX_MS),
        healthy_after: millis(values, &CODEX_MANAGER_RESTART_HEALTHY_MS),
        intensity: u32::try_from(values.number(&CODEX_MANAGER_RESTART_INTENSITY))
            .unwrap_or(u32::MAX),
        window: millis(values, &CODEX_MANAGER_RESTART_WINDOW_MS),
        probe_after: millis(values, &CODEX_MANAGER_RESTART_PROBE_MS),
    };
    if policy.backoff_start > policy.backoff_max {
        let origin = values.origin(&CODEX_MANAGER_RESTART_BACKOFF_MS);
        let message = format!(
            "CODEX_MANAGER_RESTART_BACKOFF_MS is {}; it must be at most \
             CODEX_MANAGER_RESTART_BACKOFF_MAX_MS, {}",
            policy.backoff_start.as_millis(),
            policy.backoff_max.as_millis()
        );
        problems.push(Problem::new(origin, message));
    }
    policy
}

/// A deadline without anything that happens then, or the other way round, is a mistake.
fn requests(values: &Values, problems: &mut Vec<Problem>) -> FixedPolicy {
    let patience = millis(values, &CODEX_MANAGER_REQUEST_DEADLINE_MS);
    let patience = (!patience.is_zero()).then_some(patience);
    let at_deadline = match values.text(&CODEX_MANAGER_REQUEST_POLICY) {
        Some("decline") => AtDeadline::Decline,
        Some("cancel") => AtDeadline::Cancel,
        _ => AtDeadline::Wait,
    };
    if patience.is_some() && at_deadline == AtDeadline::Wait {
        let origin = values.origin(&CODEX_MANAGER_REQUEST_DEADLINE_MS);
        let message = "CODEX_MANAGER_REQUEST_DEADLINE_MS is set; say with \
                       CODEX_MANAGER_REQUEST_POLICY (decline or cancel) what happens then";
        problems.push(Problem::new(origin, message));
    }
    if patience.is_none() && at_deadline != AtDeadline::Wait {
        let origin = values.origin(&CODEX_MANAGER_REQUEST_POLICY);
        let message = "CODEX_MANAGER_REQUEST_POLICY is set; say with \
                       CODEX_MANAGER_REQUEST_DEADLINE_MS after how long";
        problems.push(Problem::new(origin, message));
    }
    let auth_patience = millis(values, &CODEX_MANAGER_AUTH_REFRESH_TIMEOUT_MS);
    FixedPolicy { patience, at_deadline, auth_patience }
}

fn defaults(values: &Values) -> DefaultsSettings {
    let controls = Controls {
        approval_policy: word(values, &DEFAULT_APPROVAL_POLICY, ApprovalPolicy::Untrusted),
        filesystem_sandbox: word(values, &DEFAULT_SANDBOX_MODE, SandboxMode::ReadOnly),
        network_access: word(values, &DEFAULT_NETWORK_ACCESS, NetworkAccess::Restricted),
        ..Controls::default()
    };
    DefaultsSettings { controls, locked: values.switch(&SESSION_DEFAULTS_LOCKED) }
}

fn log(values: &Values) -> LogSettings {
    LogSettings {
        level: match values.text(&LOG_LEVEL) {
            Some("silent") => LogLevel::Silent,
            Some("fatal" | "error") => LogLevel::Error,
            Some("warn") => LogLevel::Warn,
            Some("debug") => LogLevel::Debug,
            Some("trace") => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: match values.text(&LOG_FORMAT) {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        },
    }
}

fn runtime(values: &Values, surroundings: Surroundings, data_dir: &Path) -> RuntimeSettings {
    let path = |variable| values.text(variable).map(|path| surroundings.absolute(path));
    // A bare name is looked up on PATH and stays as it is.
    let codex_bin = values.text(&CODEX_BIN).map(|program| match program.contains('/') {
        true => surroundings.absolute(program).display().to_string(),
        false => program.to_owned(),
    });
    RuntimeSettings {
        choice: match values.text(&CODEX_MANAGER_RUNTIME) {
            Some("codex") => RuntimeChoice::Codex,
            Some("embedded") => RuntimeChoice::Embedded,
            _ => RuntimeChoice::Auto,
        },
        codex_bin,
        codex_home: path(&CODEX_HOME).unwrap_or_else(|| data_dir.join("codex-home")),
        openai_api_key: values.text(&OPENAI_API_KEY).map(Secret::new),
        default_cwd: path(&CODEX_MANAGER_DEFAULT_CWD)
            .unwrap_or_else(|| surroundings.working_directory.clone()),
        call_timeout: millis(values, &CODEX_MANAGER_CALL_TIMEOUT_MS),
        initialize_timeout: millis(values, &CODEX_MANAGER_INITIALIZE_TIMEOUT_MS),
        inherited: environment::merged(surroundings.environment, surroundings.foreign_dotenv),
        user_home: surroundings.home,
    }
}

/// Version 1's rules for the roles of extension callers.
fn check_extensions(values: &Values, settings: &Settings, problems: &mut Vec<Problem>) {
    let mode = values.text(&later::AGENT_EXTENSION_RBAC_MODE);
    let mut complain = |message: &str| {
        let origin = values.origin(&later::AGENT_EXTENSION_RBAC_MODE);
        problems.push(Problem::new(origin, message));
    };
    let insecure = values.switch(&later::AGENT_EXTENSION_ALLOW_INSECURE_HEADER_MODE);
    if mode == Some("header") && !insecure {
        if !is_loopback(&settings.server.host) {
            complain(
                "AGENT_EXTENSION_RBAC_MODE is `header`, which needs a loopback HOST, or \
                 AGENT_EXTENSION_ALLOW_INSECURE_HEADER_MODE=true",
            );
        }
        if values.text(&later::AGENT_EXTENSION_RBAC_HEADER_SECRET).is_none() {
            complain(
                "AGENT_EXTENSION_RBAC_MODE is `header`, which needs \
                 AGENT_EXTENSION_RBAC_HEADER_SECRET, or \
                 AGENT_EXTENSION_ALLOW_INSECURE_HEADER_MODE=true",
            );
        }
    }
    if mode == Some("jwt") && values.text(&later::AGENT_EXTENSION_RBAC_JWT_SECRET).is_none() {
        complain("AGENT_EXTENSION_RBAC_MODE is `jwt`, which needs AGENT_EXTENSION_RBAC_JWT_SECRET");
    }
}

fn millis(values: &Values, variable: &Variable) -> Duration {
    Duration::from_millis(values.number(variable))
}

fn size(values: &Values, variable: &Variable) -> usize {
    usize::try_from(values.number(variable)).unwrap_or(usize::MAX)
}

fn word<T: std::str::FromStr>(values: &Values, variable: &Variable, otherwise: T) -> T {
    values.text(variable).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A value as it may be shown: secrets hidden, what is derived when unset worked out.
pub(super) fn shown(variable: &Variable, parsed: &Parsed, settings: &Settings) -> Option<String> {
    let runtime = &settings.runtime;
    let derived = [
        (DATA_DIR.name, settings.data_dir.display().to_string()),
        (CODEX_HOME.name, runtime.codex_home.display().to_string()),
        (CODEX_MANAGER_DEFAULT_CWD.name, runtime.default_cwd.display().to_string()),
        (CODEX_MANAGER_HTTP_WORKERS.name, settings.server.http_workers.to_string()),
    ];
    if let Some((_, value)) = derived.into_iter().find(|(name, _)| *name == variable.name) {
        return Some(value);
    }
    match parsed {
        Parsed::Unset => None,
        _ if variable.kind == Kind::Secret => Some("***".to_owned()),
        Parsed::Text(text) => Some(text.clone()),
        Parsed::Number(number) => Some(number.to_string()),
        Parsed::Switch(switch) => Some(switch.to_string()),
        Parsed::List(list) => Some(list.join(",")),
    }
}
