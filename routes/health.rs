//! Liveness, readiness and health.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};
use cm_actors::app_server::AppServerStatus;
use cm_actors::clock;
use cm_core::error::ErrorCode;
use cm_core::wire::{
    AuthHealth, CodexHealth, Health, Liveness, QueueHealth, Readiness, Reason, ServiceInfo,
    StoreHealth,
};

use crate::api::{Api, ServerInfo};
use crate::read_model::{ReadModelCell, ReadModelHandle};

/// `GET /livez`
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live".to_owned() })
}

/// `GET /readyz`
pub(crate) async fn ready(api: web::Data<Api>, model: web::Data<ReadModelCell>) -> HttpResponse {
    let readiness = readiness(&facts(&api, &model.0).await);
    if readiness.reasons.is_empty() {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// The server's name and version.
#[utoipa::path(
    get, path = "/api", tag = "service", operation_id = "readServiceInfo",
    responses((status = 200, body = ServiceInfo)),
)]
pub(crate) async fn info(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().json(ServiceInfo {
        name: "Codex Manager API".to_owned(),
        version: api.info.version.clone(),
    })
}

/// How the server and everything below it are.
///
/// The answer is 200 while the server listens, whatever else is wrong: `reasons` says what keeps it
/// from being ready.
#[utoipa::path(
    get, path = "/api/health", tag = "service", operation_id = "readHealth",
    responses((status = 200, body = Health)),
)]
pub(crate) async fn health(api: web::Data<Api>, model: web::Data<ReadModelCell>) -> HttpResponse {
    let facts = facts(&api, &model.0).await;
    let readiness = readiness(&facts);
    HttpResponse::Ok().json(Health {
        status: "ok".to_owned(),
        service: "api".to_owned(),
        codex: codex(&facts.status, &api.info),
        orchestrator_queue: QueueHealth { enabled: false },
        auth: facts.auth,
        store: facts.store,
        reasons: readiness.reasons,
        warnings: readiness.warnings,
        timestamp: clock::now_iso(),
    })
}

/// What readiness is judged by.
#[derive(Debug)]
pub struct Facts {
    /// The child.
    pub status: Arc<AppServerStatus>,
    /// The login.
    pub auth: AuthHealth,
    /// Parts of the manager that are being restarted, or have failed.
    pub down: Vec<&'static str>,
    /// Whether the store's last write failed.
    pub writes_fail: bool,
    /// The store, as it describes itself.
    pub store: StoreHealth,
    /// Whether the server is stopping.
    pub stopping: bool,
}

/// Everything here is at hand on the worker; only whether a file exists may be asked of the system.
async fn facts(api: &Api, model: &ReadModelHandle) -> Facts {
    let status = api.app_server.status();
    let has_auth_file = model.file_exists(|| api.info.codex_home.join("auth.json")).await;
    let auth = auth(&status, &api.info, has_auth_file);
    let stopping = api.stopping.load(Ordering::Relaxed);
    let vitals = &api.vitals;
    let parts =
        [("store", &vitals.store), ("journal", &vitals.journal), ("sessions", &vitals.sessions)];
    let down = parts
        .into_iter()
        .filter(|(_, cell)| cell.read().state != "running")
        .map(|(name, _)| name)
        .collect();
    let writes_fail = vitals.writes_fail.load(Ordering::Relaxed);
    Facts { status, auth, down, writes_fail, store: vitals.store_health.read(), stopping }
}

/// The child's part of health.
pub(crate) fn codex(status: &AppServerStatus, info: &ServerInfo) -> CodexHealth {
    CodexHealth {
        running: status.pid.is_some(),
        pid: status.pid,
        initialized: status.initialized,
        last_exit: status.last_exit.clone(),
        runtime: info.runtime.to_owned(),
        version: status.profile.version.map(|version| version.to_string()),
        state: match (status.state.as_str(), status.initialized) {
            // Empty: the supervisor has not come to it yet.
            ("running" | "", false) => "starting".to_owned(),
            (state, _) => state.to_owned(),
        },
        incarnation: status.incarnation,
        restarts: status.restarts,
    }
}

fn auth(status: &AppServerStatus, info: &ServerInfo, codex_home_auth_file: bool) -> AuthHealth {
    let account = &status.account;
    let embedded = info.runtime == "embedded";
    let required = !embedded && account.required;
    let has_account = account.account.is_some() && account.used_up.is_none();
    let ready = embedded || (account.known && (!required || has_account));
    let likely_unauthenticated = if embedded {
        false
    } else if account.used_up.is_some() {
        true
    } else if account.known {
        required && account.account.is_none()
    } else {
        !info.has_api_key && !codex_home_auth_file
    };
    AuthHealth {
        has_open_ai_api_key: info.has_api_key,
        codex_home_auth_file,
        likely_unauthenticated,
        account: account.account.clone(),
        required,
        ready,
        problem: login_problem(status, info),
    }
}

/// What is wrong with the child's login, if it said so.
pub(crate) fn login_problem(status: &AppServerStatus, info: &ServerInfo) -> Option<Reason> {
    let failure = status.account.used_up.filter(|_| info.runtime != "embedded")?;
    let code = ErrorCode::LoginUsedUp.as_str().to_owned();
    Some(Reason { code, message: failure.message() })
}

/// Why the server is not ready, and what is worth knowing.
pub fn readiness(facts: &Facts) -> Readiness {
    let mut reasons = Vec::new();
    let mut add = |code: &str, message: String| {
        reasons.push(Reason { code: code.to_owned(), message });
    };
    if facts.stopping {
        add("shutting_down", "The manager is stopping.".to_owned());
    }
    let status = &facts.status;
    let last = status.last_exit.as_ref().and_then(|exit| exit.reason.as_deref());
    let last = last.map(|reason| format!(" {reason}")).unwrap_or_default();
    match status.state.as_str() {
        "failed" => add(
            "runtime_failed",
            format!(
                "The Codex runtime ended too often and is tried once a minute.{last} Look at \
                 /api/runtime for its last words, then POST /api/runtime/restart."
            ),
        ),
        "backoff" => {
            add("runtime_restarting", format!("The Codex runtime is being restarted.{last}"));
        }
        _ if !status.initialized => {
            add(
                "runtime_starting",
                "The Codex runtime has not answered `initialize` yet.".to_owned(),
            );
        }
        _ => {}
    }
    for part in &facts.down {
        let code = if *part == "store" { "store_unavailable" } else { "manager_restarting" };
        let message = format!(
            "The manager's {part} cannot be used at the moment; see /api/runtime for its state and \
             the log for the reason."
        );
        add(code, message);
    }
    if facts.writes_fail {
        let message = "The manager's store cannot be written; see the log for what the disk says. \
                       Reads go on, and writes work again when it does.";
        add("store_unavailable", message.to_owned());
    }
    if let Some(problem) = facts.auth.problem.as_ref().filter(|_| status.initialized) {
        add(&problem.code, problem.message.clone());
    } else if status.initialized && facts.auth.likely_unauthenticated {
        let failed = status.account.login_error.as_deref();
        let failed = failed.map(|why| format!(" Signing in with OPENAI_API_KEY failed. {why}"));
        add(
            "login_needed",
            format!(
                "Codex has no account, so turns will fail.{} Set OPENAI_API_KEY, sign in with \
                 `codex login` (CODEX_HOME as /api/runtime shows it), or start with --runtime \
                 embedded.",
                failed.unwrap_or_default()
            ),
        );
    }
    let word = if reasons.is_empty() { "ready" } else { "not_ready" };
    Readiness { status: word.to_owned(), reasons, warnings: store_warnings(&facts.store) }
}

/// What a person should know of the store although everything works.
fn store_warnings(store: &StoreHealth) -> Vec<Reason> {
    let mut warnings = Vec::new();
    if let Some(up_to) = &store.restored_up_to {
        let copy = store.damaged_copy.as_deref().unwrap_or("(gone)");
        let message = format!(
            "The store was damaged and restored: what came after {up_to} is lost. The damaged one \
             is in {copy}; remove it when you need it no more, and this warning goes."
        );
        warnings.push(Reason { code: "store_restored".to_owned(), message });
    }
    if store.damaged_records > 0 {
        let message = format!(
            "{} records of the store are damaged and cannot be shown. Stop the manager and run \
             `codex-manager store check`; see docs/operations/backup.md.",
            store.damaged_records
        );
        warnings.push(Reason { code: "store_damaged".to_owned(), message });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            status: Arc::new(AppServerStatus {
                state: "running".to_owned(),
                initialized: true,
                pid: Some(1),
                ..AppServerStatus::default()
            }),
            auth: AuthHealth {
                has_open_ai_api_key: false,
                codex_home_auth_file: false,
                likely_unauthenticated: false,
                account: None,
                required: false,
                ready: true,
                problem: None,
            },
            down: Vec::new(),
            writes_fail: false,
            store: StoreHealth::default(),
            stopping: false,
        }
    }

    fn codes(facts: &Facts) -> Vec<String> {
        readiness(facts).reasons.into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn each_thing_that_keeps_turns_from_running_is_a_reason() {
        assert!(codes(&facts()).is_empty());
        let mut broken = facts();
        Arc::make_mut(&mut broken.status).initialized = false;
        assert_eq!(codes(&broken), ["runtime_starting"]);
        Arc::make_mut(&mut broken.status).state = "failed".to_owned();
        broken.down = vec!["store", "journal"];
        let wanted = ["runtime_failed", "store_unavailable", "manager_restarting"];
        assert_eq!(codes(&broken), wanted);
        let full = Facts { writes_fail: true, ..facts() };
        assert_eq!(codes(&full), ["store_unavailable"]);
        let store = StoreHealth {
            restored_up_to: Some("then".to_owned()),
            damaged_records: 1,
            ..StoreHealth::default()
        };
        let restored = Facts { store, ..facts() };
        assert!(codes(&restored).is_empty());
        let warnings = readiness(&restored).warnings.into_iter().map(|warning| warning.code);
        assert_eq!(warnings.collect::<Vec<_>>(), ["store_restored", "store_damaged"]);
        let mut unauthenticated = facts();
        unauthenticated.auth.likely_unauthenticated = true;
        assert_eq!(codes(&unauthenticated), ["login_needed"]);
        let problem = Reason { code: "login_used_up".to_owned(), message: "why".to_owned() };
        unauthenticated.auth.problem = Some(problem);
        assert_eq!(codes(&unauthenticated), ["login_used_up"], "instead of the vaguer one");
    }
}
