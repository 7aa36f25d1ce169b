//! What this version of the runtime has.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use cm_actors::app_server::AppServerStatus;
use cm_core::wire::{Capabilities, CapabilitiesRuntime, MethodDetail, MethodStatus};

use crate::answer::ApiError;
use crate::api::Api;
use crate::openapi::QueryErrors;
use crate::query::Query;

/// Methods that version 1 tried at its start, in its order. It called each; here the list of
/// methods that the runtime gave is looked at, so that nothing is signed out or reloaded by asking.
const METHODS: [&str; 29] = [
    "thread/fork",
    "thread/compact/start",
    "thread/rollback",
    "thread/backgroundTerminals/clean",
    "turn/steer",
    "review/start",
    "command/exec",
    "experimentalFeature/list",
    "collaborationMode/list",
    "skills/list",
    "skills/config/write",
    "skills/remote/read",
    "skills/remote/write",
    "app/list",
    "config/mcpServer/reload",
    "mcpServer/oauth/login",
    "item/tool/call",
    "item/tool/requestUserInput",
    "tool/requestUserInput",
    "config/read",
    "config/value/write",
    "config/batchWrite",
    "configRequirements/read",
    "feedback/upload",
    "account/read",
    "account/login/start",
    "account/login/cancel",
    "account/logout",
    "account/rateLimits/read",
];

/// What can be done with the runtime that runs.
#[utoipa::path(
    get, path = "/api/capabilities", tag = "service", operation_id = "readCapabilities",
    params(("refresh" = Option<bool>, Query,
        description = "Taken for version 1's sake: what is said is always current.")),
    responses((status = 200, body = Capabilities), QueryErrors),
)]
pub(crate) async fn read(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    query.flag("refresh")?;
    Ok(HttpResponse::Ok().json(capabilities(&api.app_server.status())))
}

fn capabilities(status: &AppServerStatus) -> Capabilities {
    let known = !status.profile.methods.is_empty();
    let has = |method: &str| known && status.profile.methods.contains(method);
    let detail = |method: &&str| {
        let detail = match (known, has(method)) {
            (_, true) => MethodDetail { status: MethodStatus::Available, reason: None },
            (true, false) => {
                let reason = format!("This version of the Codex runtime has no `{method}`.");
                MethodDetail { status: MethodStatus::Disabled, reason: Some(reason) }
            }
            (false, false) => {
                let reason = "The Codex runtime has not said yet what it has.".to_owned();
                MethodDetail { status: MethodStatus::Unknown, reason: Some(reason) }
            }
        };
        ((*method).to_owned(), detail)
    };
    let details: BTreeMap<String, MethodDetail> = METHODS.iter().map(detail).collect();
    let features = [
        ("toolUserInput", true),
        ("dynamicToolCall", true),
        ("threadFork", has("thread/fork")),
        ("threadCompact", has("thread/compact/start")),
        ("threadRollback", can_roll_back(has)),
        ("threadBackgroundTerminalClean", has("thread/backgroundTerminals/clean")),
        ("turnSteer", has("turn/steer")),
        ("reviewStart", has("review/start")),
        ("commandExec", has("command/exec")),
        ("feedbackUpload", has("feedback/upload")),
        ("mcpOauth", has("mcpServer/oauth/login")),
        ("mcpReload", has("config/mcpServer/reload")),
        (
            "accountLifecycle",
            has("account/read") && has("account/login/start") && has("account/logout"),
        ),
        ("configRead", has("config/read")),
        ("configWrite", has("config/value/write") || has("config/batchWrite")),
        ("configRequirements", has("configRequirements/read")),
        ("apps", has("app/list")),
        ("skills", has("skills/list")),
        ("collaborationModes", has("collaborationMode/list")),
        ("experimentalFeatures", has("experimentalFeature/list")),
        ("planUpdates", true),
        ("diffUpdates", true),
        ("tokenUsage", true),
    ];
    Capabilities {
        status: "ok".to_owned(),
        runtime: CapabilitiesRuntime {
            initialized: status.initialized,
            capabilities_last_updated_at: status.profiled_at.clone(),
        },
        methods: details.iter().map(|(name, detail)| (name.clone(), detail.status)).collect(),
        details,
        features: features.into_iter().map(|(name, has)| (name.to_owned(), has)).collect(),
    }
}

/// Turns are taken back with `thread/rollback`, which newer versions have replaced.
fn can_roll_back(has: impl Fn(&str) -> bool) -> bool {
    has("thread/rollback") || has("thread/revert")
}
