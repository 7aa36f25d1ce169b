//! What a session's turns may do, and free settings beside it.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_actors::thread::{Cage, ChangedBy, ControlsChanged, Defaults};
use cm_core::controls::{Controls, ControlsChange, SettingsChange};
use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::wire::{
    ApprovalPolicyChanged, ChangeApprovalPolicy, ChangeControls, ChangeSettings, ControlsScope,
    LOCKED, MAX_NAME, SessionControlsView, SettingsMode, SettingsView,
};
use serde_json::{Map, Value, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{NoBody, text};
use crate::openapi::{BodyErrors, SessionErrors};
use crate::query::Query;
use crate::sessions::{body_of, session_id};

/// Characters of a settings' key, of who changes something and with what.
const MAX_KEY: usize = 240;
const MAX_ACTOR: usize = 120;
const MAX_SOURCE: usize = 64;

/// What a session's turns may do, and those of new sessions.
#[utoipa::path(
    get, path = "/api/sessions/{id}/session-controls", tag = "controls",
    operation_id = "readSessionControls",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionControlsView), SessionErrors),
)]
pub(crate) async fn read(
    api: web::Data<Api>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let controls = api.threads.controls(&id).await.map_err(ApiError::session)?;
    let defaults = api.threads.defaults().await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(view(id, "ok", controls, defaults)))
}

fn view(id: ThreadId, status: &str, controls: Controls, defaults: Defaults) -> SessionControlsView {
    SessionControlsView {
        status: status.to_owned(),
        scope: None,
        applied: None,
        summary: None,
        session_id: id,
        controls,
        defaults: defaults.controls,
        defaults_editable: defaults.editable,
        default_lock_reason: (!defaults.editable).then(|| LOCKED.to_owned()),
        warnings: Vec::new(),
    }
}

/// Changes what a session's turns may do from its next turn on, or what those of new sessions may.
#[utoipa::path(
    post, path = "/api/sessions/{id}/session-controls", tag = "controls",
    operation_id = "changeSessionControls",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = ChangeControls,
    responses(
        (status = 200, body = SessionControlsView),
        (status = 423, body = cm_core::wire::ErrorBody, description = "`locked`: the configuration \
            keeps clients from changing the controls of new sessions."),
        SessionErrors, BodyErrors,
    ),
)]
pub(crate) async fn change(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let (body, by) = body_of(&api, &id, &request, payload, |body| {
        let mut body = body.required::<ChangeControls>()?;
        if let Some(model) = body.controls.model.take() {
            body.controls.model = Some(text("controls.model", &model, MAX_NAME)?);
        }
        let by = changed_by(body.actor.as_deref(), body.source.as_deref(), "ui")?;
        Ok((body, by))
    })
    .await?;
    let scope = body.scope;
    let change = ControlsChange::Replace(body.controls);
    let Some(changed) = apply(&api, &id, scope, change, by).await? else {
        let controls = api.threads.controls(&id).await.map_err(ApiError::session)?;
        let defaults = api.threads.defaults().await.map_err(ApiError::session)?;
        let members = json!(view(id, "locked", controls, defaults));
        return Err(locked(scope, members));
    };
    let controls = api.threads.controls(&id).await.map_err(ApiError::session)?;
    let defaults = api.threads.defaults().await.map_err(ApiError::session)?;
    let mut answer = view(id, changed.word(), controls, defaults);
    answer.scope = Some(scope);
    answer.summary = Some(changed.now.line());
    answer.warnings = Cage::warning(changed.now.filesystem_sandbox).into_iter().collect();
    answer.applied = Some(changed.now);
    Ok(HttpResponse::Ok().json(answer))
}

/// Changes controls of a scope and tells of it in the session's transcript; `None` where the
/// configuration forbids it.
async fn apply(
    api: &Api,
    id: &ThreadId,
    scope: ControlsScope,
    change: ControlsChange,
    by: ChangedBy,
) -> Result<Option<ControlsChanged>, ApiError> {
    match scope {
        ControlsScope::Session => {
            let changed = api.threads.change_controls(id, change, Some(by)).await;
            Ok(Some(changed.map_err(ApiError::session)?))
        }
        ControlsScope::Default => {
            // A session that does not exist changes nothing.
            api.threads.controls(id).await.map_err(ApiError::session)?;
            let changed = api.threads.change_defaults(change).await.map_err(ApiError::session)?;
            let Some(changed) = changed else { return Ok(None) };
            if changed.is_change() {
                let row = changed.row(scope, &by);
                // The change holds, whether its row could be written or not.
                if let Err(error) = api.threads.add_row(id, row).await {
                    tracing::warn!(session = %id, ?error, "a change of the defaults has no row");
                }
            }
            Ok(Some(changed))
        }
    }
}

/// The answer to a change that the configuration forbids, with what is in force.
fn locked(scope: ControlsScope, members: Value) -> ApiError {
    let mut error =
        ApiError::worded(ErrorCode::Locked, "locked", LOCKED).with("scope", json!(scope));
    if let Value::Object(members) = members {
        for (name, value) in members.into_iter().filter(|(name, _)| name != "status") {
            error = error.with(&name, value);
        }
    }
    error
}

fn changed_by(
    actor: Option<&str>,
    source: Option<&str>,
    usual: &str,
) -> Result<ChangedBy, ApiError> {
    Ok(ChangedBy {
        actor: text("actor", actor.unwrap_or("user"), MAX_ACTOR)?,
        source: text("source", source.unwrap_or(usual), MAX_SOURCE)?,
    })
}

/// Changes only when the agent must ask.
///
/// Version 1's older way; nothing is written in the transcript.
#[utoipa::path(
    post, path = "/api/sessions/{id}/approval-policy", tag = "controls",
    operation_id = "changeApprovalPolicy",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = ChangeApprovalPolicy,
    responses((status = 200, body = ApprovalPolicyChanged), SessionErrors, BodyErrors),
)]
pub(crate) async fn change_policy(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let body =
        body_of(&api, &id, &request, payload, |body| body.required::<ChangeApprovalPolicy>())
            .await?;
    let change = ControlsChange::ApprovalPolicy(body.approval_policy);
    let changed = api.threads.change_controls(&id, change, None).await;
    let approval_policy = changed.map_err(ApiError::session)?.now.approval_policy;
    let status = "ok".to_owned();
    let answer = ApprovalPolicyChanged { status, session_id: id, approval_policy };
    Ok(HttpResponse::Ok().json(answer))
}

/// Settings of a session, or of new ones: all, or one key.
#[utoipa::path(
    get, path = "/api/sessions/{id}/settings", tag = "controls", operation_id = "readSettings",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("scope" = Option<ControlsScope>, Query, description = "Whose."),
        ("key" = Option<String>, Query, description = "One key.", min_length = 1, max_length = 240),
    ),
    responses((status = 200, body = SettingsView), SessionErrors),
)]
pub(crate) async fn settings(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let scope = scope_of(&query)?;
    let key = query.get("key").map(|key| text("key", key, MAX_KEY)).transpose()?;
    let id = session_id(&path)?;
    let settings = settings_of(&api, &id, scope).await?;
    let mut answer = settings_view(id, "ok", scope);
    match key {
        Some(key) => {
            let value = settings.get(&key).cloned();
            answer.found = Some(value.is_some());
            answer.value = Some(value.unwrap_or_default());
            answer.key = Some(key);
        }
        None => answer.settings = Some(settings),
    }
    Ok(HttpResponse::Ok().json(answer))
}

fn scope_of(query: &Query) -> Result<ControlsScope, ApiError> {
    match query.get("scope") {
        None | Some("session") => Ok(ControlsScope::Session),
        Some("default") => Ok(ControlsScope::Default),
        Some(_) => Err(invalid("scope", "must be `session` or `default`")),
    }
}

async fn settings_of(
    api: &Api,
    id: &ThreadId,
    scope: ControlsScope,
) -> Result<Map<String, Value>, ApiError> {
    let session = api.threads.controls(id).await.map_err(ApiError::session)?;
    Ok(match scope {
        ControlsScope::Session => session.settings,
        ControlsScope::Default => {
            api.threads.defaults().await.map_err(ApiError::session)?.controls.settings
        }
    })
}

fn settings_view(id: ThreadId, status: &str, scope: ControlsScope) -> SettingsView {
    SettingsView {
        status: status.to_owned(),
        session_id: id,
        scope,
        key: None,
        found: None,
        value: None,
        removed: None,
        settings: None,
    }
}

/// Changes settings of a session, or of new ones: one key, or several.
#[utoipa::path(
    post, path = "/api/sessions/{id}/settings", tag = "controls",
    operation_id = "changeSettings",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = ChangeSettings,
    responses(
        (status = 200, body = SettingsView),
        (status = 423, body = cm_core::wire::ErrorBody, description = "`locked`: the configuration \
            keeps clients from changing the settings of new sessions."),
        SessionErrors, BodyErrors,
    ),
)]
pub(crate) async fn change_settings(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let (scope, key, change, by) = body_of(&api, &id, &request, payload, |body| {
        let body = body.required::<ChangeSettings>()?;
        let key = body.key.as_deref().map(|key| text("key", key, MAX_KEY)).transpose()?;
        let by = changed_by(body.actor.as_deref(), body.source.as_deref(), "api")?;
        let change = match (&key, body.value, body.settings) {
            (Some(key), Some(value), None) => SettingsChange::Set(key.clone(), value),
            (None, None, Some(settings)) => match body.mode {
                SettingsMode::Merge => SettingsChange::Merge(settings),
                SettingsMode::Replace => SettingsChange::Replace(settings),
            },
            _ => return Err(invalid("", "give `settings`, or `key` and `value`")),
        };
        Ok((body.scope, key, change, by))
    })
    .await?;
    write_settings(&api, id, scope, key, change, by).await
}

/// Removes a key from the settings of a session, or of new ones.
#[utoipa::path(
    delete, path = "/api/sessions/{id}/settings/{key}", tag = "controls",
    operation_id = "removeSetting",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("key" = String, Path, description = "The key.", min_length = 1, max_length = 240),
        ("scope" = Option<ControlsScope>, Query, description = "Whose."),
        ("actor" = Option<String>, Query, description = "Who removes it, for the transcript.",
            min_length = 1, max_length = 120),
        ("source" = Option<String>, Query, description = "With what, for the transcript.",
            min_length = 1, max_length = 64),
    ),
    responses(
        (status = 200, body = SettingsView),
        (status = 423, body = cm_core::wire::ErrorBody, description = "`locked`: the configuration \
            keeps clients from changing the settings of new sessions."),
        SessionErrors,
    ),
)]
pub(crate) async fn remove_setting(
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
    query: Query,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let (id, key) = path.into_inner();
    let key = text("key", &key, MAX_KEY)?;
    let scope = scope_of(&query)?;
    let by = changed_by(query.get("actor"), query.get("source"), "api")?;
    let id = session_id(&id)?;
    let change = SettingsChange::Remove(key.clone());
    write_settings(&api, id, scope, Some(key), change, by).await
}

async fn write_settings(
    api: &Api,
    id: ThreadId,
    scope: ControlsScope,
    key: Option<String>,
    change: SettingsChange,
    by: ChangedBy,
) -> Result<HttpResponse, ApiError> {
    let removes = matches!(change, SettingsChange::Remove(_));
    let Some(changed) = apply(api, &id, scope, ControlsChange::Settings(change), by).await? else {
        let settings = settings_of(api, &id, scope).await?;
        return Err(locked(scope, json!({ "sessionId": id, "settings": settings })));
    };
    let mut answer = settings_view(id, changed.word(), scope);
    answer.removed = removes.then(|| changed.is_change());
    answer.key = key;
    answer.settings = Some(changed.now.settings);
    Ok(HttpResponse::Ok().json(answer))
}
