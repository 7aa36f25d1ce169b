//! Approvals, questions and tool calls.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use cm_actors::thread::{DecisionInput, Families, SessionError};
use cm_core::error::ErrorCode;
use cm_core::ids::{RequestId, ThreadId};
use cm_core::request::{RequestFamily, RequestRecord, RequestState};
use cm_core::transcript;
use cm_core::wire::{
    AgentRequest, Approval, ApprovalDecision, DecideApproval, DecideToolInput, Decided, ListOf,
    Listed, MAX_TEXT, RespondToolCall, ToolCall, ToolInput,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{RawBody, few, not_longer};
use crate::openapi::{
    AllOf, ApprovalErrors, BodyErrors, GoneErrors, ManagerErrors, NoRequestErrors, ToolCallErrors,
    ToolInputErrors,
};
use crate::query::Query;
use crate::sessions::session_id;

/// What `GET /api/requests` has.
const KINDS_OF_VERSION_1: Families =
    &[RequestFamily::Approval, RequestFamily::ToolInput, RequestFamily::ToolCall];
const ALL_KINDS: Families = &[
    RequestFamily::Approval,
    RequestFamily::ToolInput,
    RequestFamily::ToolCall,
    RequestFamily::Extended,
];

/// Approvals of a session, oldest first.
///
/// A session that does not exist has none. What its subagents wait for is there too, with the
/// `threadId` of theirs.
#[utoipa::path(
    get, path = "/api/sessions/{id}/approvals", tag = "requests", operation_id = "listApprovals",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("status" = Option<String>, Query, pattern = "^(pending|all)$",
            description = "`all`: those that were decided or have expired are there too."),
        ("kinds" = Option<String>, Query, pattern = "^all$",
            description = "`all`: kinds that version 1 did not know are there too."),
    ),
    responses((status = 200, body = ListOf<Listed<Approval>>), AllOf<(ManagerErrors, GoneErrors)>),
)]
pub(crate) async fn approvals(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let families: Families = match check_kinds(&query)? {
        true => &[RequestFamily::Approval, RequestFamily::Extended],
        false => &[RequestFamily::Approval],
    };
    list(&api, &path, &query, families, transcript::approval).await
}

/// Questions of a session, oldest first.
///
/// A session that does not exist has none. Those of its subagents are there too while they wait.
#[utoipa::path(
    get, path = "/api/sessions/{id}/tool-input", tag = "requests", operation_id = "listToolInput",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("status" = Option<String>, Query, pattern = "^(pending|all)$",
            description = "`all`: those that were decided or have expired are there too."),
        ("kinds" = Option<String>, Query, pattern = "^all$",
            description = "Taken, and without effect here."),
    ),
    responses((status = 200, body = ListOf<Listed<ToolInput>>), AllOf<(ManagerErrors, GoneErrors)>),
)]
pub(crate) async fn tool_inputs(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    list(&api, &path, &query, &[RequestFamily::ToolInput], transcript::tool_input).await
}

/// Tool calls of a session, oldest first.
///
/// A session that does not exist has none. Those of its subagents are there too while they wait.
#[utoipa::path(
    get, path = "/api/sessions/{id}/tool-calls", tag = "requests", operation_id = "listToolCalls",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("status" = Option<String>, Query, pattern = "^(pending|all)$",
            description = "`all`: those that were decided or have expired are there too."),
        ("kinds" = Option<String>, Query, pattern = "^all$",
            description = "Taken, and without effect here."),
    ),
    responses((status = 200, body = ListOf<Listed<ToolCall>>), AllOf<(ManagerErrors, GoneErrors)>),
)]
pub(crate) async fn tool_calls(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    list(&api, &path, &query, &[RequestFamily::ToolCall], transcript::tool_call).await
}

async fn list<T: Serialize>(
    api: &Api,
    id: &str,
    query: &Query,
    families: Families,
    show: fn(&RequestRecord) -> Option<T>,
) -> Result<HttpResponse, ApiError> {
    check_kinds(query)?;
    let all = match query.get("status") {
        None | Some("pending") => false,
        Some("all") => true,
        Some(_) => return Err(invalid("status", "must be `pending` or `all`")),
    };
    // A session that does not exist has no requests, as in version 1.
    let Ok(id) = session_id(id) else {
        return Ok(HttpResponse::Ok().json(ListOf::<Value> { data: Vec::new() }));
    };
    let mut records = match api.threads.requests(&id, families, all).await {
        Ok(records) => records,
        Err(SessionError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(ApiError::session(error)),
    };
    // Its stream shows them as well: whoever comes back to it finds them here.
    match api.threads.pending_requests(families, Some(id)).await {
        Ok(of_subagents) => records.extend(of_subagents),
        // One of them is slow: what the session itself waits for is not kept back for that.
        Err(error) => {
            let error = ApiError::session(error);
            tracing::warn!(%error, "a list of requests is without those of subagents");
        }
    }
    // Stable: those of one session stay in their order.
    records.sort_by_key(|record| record.created_ms);
    let rows = records.iter().filter_map(|record| Some(listed(record, show(record)?)));
    Ok(HttpResponse::Ok().json(ListOf { data: rows.collect::<Vec<_>>() }))
}

/// Whether every kind is wanted, or those of version 1.
fn check_kinds(query: &Query) -> Result<bool, ApiError> {
    match query.get("kinds") {
        None => Ok(false),
        Some("all") => Ok(true),
        Some(_) => Err(invalid("kinds", "must be `all`")),
    }
}

/// The request as a list shows it, with what became of it.
fn listed<T>(record: &RequestRecord, request: T) -> Listed<T> {
    let decision = record.decision();
    let expired = match &record.state {
        RequestState::Expired { reason, at, .. } => Some((*reason, at.clone())),
        _ => None,
    };
    Listed {
        request,
        params_bytes: record.params_bytes,
        params_href: record.params_bytes.map(|_| format!("/api/requests/{}/params", record.id)),
        decision: decision.map(|decision| decision.label.clone()),
        decided_by: decision.map(|decision| decision.by.clone()),
        decided_at: decision.map(|decision| decision.at.clone()),
        expired_reason: expired.as_ref().map(|(reason, _)| *reason),
        expired_at: expired.map(|(_, at)| at),
    }
}

/// Pending requests of all sessions and of the runtime itself, oldest first.
///
/// What is asked of whom and where it is answered: one list to watch.
#[utoipa::path(
    get, path = "/api/requests", tag = "requests", operation_id = "listRequests",
    params(
        ("kinds" = Option<String>, Query, pattern = "^all$",
            description = "`all`: kinds that version 1 did not know are there too."),
    ),
    responses((status = 200, body = ListOf<Listed<AgentRequest>>), ManagerErrors),
)]
pub(crate) async fn all(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let families = if check_kinds(&query)? { ALL_KINDS } else { KINDS_OF_VERSION_1 };
    let records = api.threads.pending_requests(families, None).await.map_err(ApiError::session)?;
    let rows = records.iter().map(|record| listed(record, transcript::agent_request(record)));
    Ok(HttpResponse::Ok().json(ListOf { data: rows.collect::<Vec<_>>() }))
}

/// The params of a request, byte for byte as the runtime wrote them.
#[utoipa::path(
    get, path = "/api/requests/{id}/params", tag = "requests", operation_id = "readRequestParams",
    params(("id" = RequestId, Path, description = "The request, as its list names it.")),
    responses((status = 200, body = Object), AllOf<(ManagerErrors, NoRequestErrors)>),
)]
pub(crate) async fn params(
    api: web::Data<Api>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let missing = |id: &str| {
        ApiError::worded(ErrorCode::NotFound, "not_found", "There is no such request.")
            .with("requestId", id)
    };
    let Ok(id) = RequestId::parse(&path) else {
        return Err(missing(&path));
    };
    let params = api.threads.request_params(id.clone()).await.map_err(|error| match error {
        SessionError::NoRequest(_) => missing(id.as_str()),
        other => ApiError::session(other),
    })?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(params))
}

/// Decides an approval or a request of another kind; the first decision holds.
///
/// Of the members behind `scope` each is taken by one kind. A decision that does not fit the request
/// is refused with 400, and the request waits on.
#[utoipa::path(
    post, path = "/api/approvals/{id}/decision", tag = "requests", operation_id = "decideApproval",
    params(
        ("id" = RequestId, Path, description = "The request, as its list names it."),
        ("x-codex-actor" = Option<String>, Header, max_length = 120,
            description = "Who decides, for the record; `user` when absent."),
    ),
    request_body = DecideApproval,
    responses(
        (status = 200, body = Decided),
        AllOf<(ManagerErrors, BodyErrors, ApprovalErrors)>,
    ),
)]
pub(crate) async fn decide_approval(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: DecideApproval = read(&request, payload).await?;
    decide(&api, &request, &path, DecisionInput::Approval(Box::new(body))).await
}

/// Answers a question, or declines to; the first decision holds.
#[utoipa::path(
    post, path = "/api/tool-input/{id}/decision", tag = "requests", operation_id = "decideToolInput",
    params(
        ("id" = RequestId, Path, description = "The request, as its list names it."),
        ("x-codex-actor" = Option<String>, Header, max_length = 120,
            description = "Who decides, for the record; `user` when absent."),
    ),
    request_body = DecideToolInput,
    responses(
        (status = 200, body = Decided),
        AllOf<(ManagerErrors, BodyErrors, ToolInputErrors)>,
    ),
)]
pub(crate) async fn decide_tool_input(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: DecideToolInput = read(&request, payload).await?;
    let answers = body.answers.unwrap_or_default();
    for (question, answer) in &answers {
        let texts = answer.get("answers").and_then(Value::as_array);
        let path = format!("answers.{question}.answers");
        let Some(texts) = texts.filter(|texts| texts.iter().all(Value::is_string)) else {
            return Err(invalid(&path, "must be a list of texts"));
        };
        few(&path, texts.len())?;
        for (index, text) in texts.iter().filter_map(Value::as_str).enumerate() {
            not_longer(&format!("{path}.{index}"), text, MAX_TEXT)?;
        }
    }
    let result = match (body.response, body.decision) {
        (Some(response), _) => response,
        (None, ApprovalDecision::Accept) => json!({ "answers": answers }),
        // The runtime has no word for a refusal: no answers is what its schema allows.
        (None, _) => json!({ "answers": {} }),
    };
    let input = DecisionInput::ToolInput { decision: body.decision, result };
    decide(&api, &request, &path, input).await
}

/// Gives a tool call its result; the first one holds.
#[utoipa::path(
    post, path = "/api/tool-calls/{id}/response", tag = "requests", operation_id = "respondToToolCall",
    params(
        ("id" = RequestId, Path, description = "The request, as its list names it."),
        ("x-codex-actor" = Option<String>, Header, max_length = 120,
            description = "Who decides, for the record; `user` when absent."),
    ),
    request_body = RespondToolCall,
    responses(
        (status = 200, body = Decided),
        AllOf<(ManagerErrors, BodyErrors, ToolCallErrors)>,
    ),
)]
pub(crate) async fn respond_tool_call(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: RespondToolCall = read(&request, payload).await?;
    check_content_items(body.content_items.as_ref())?;
    let (success, result) = match body.response {
        Some(response) => {
            let success = response.get("success").and_then(Value::as_bool).unwrap_or(true);
            (success, response)
        }
        None => {
            let success = body.success.unwrap_or(true);
            let text = body.text.map(|text| json!({ "type": "inputText", "text": text }));
            let items = body.content_items.unwrap_or_else(|| text.into_iter().collect());
            (success, json!({ "success": success, "contentItems": items }))
        }
    };
    decide(&api, &request, &path, DecisionInput::ToolCall { success, result }).await
}

fn check_content_items(items: Option<&Vec<Value>>) -> Result<(), ApiError> {
    few("contentItems", items.map_or(0, Vec::len))?;
    for (index, item) in items.into_iter().flatten().enumerate() {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let wrong = |name: &str, message: &str| {
            Err(invalid(&format!("contentItems.{index}.{name}"), message))
        };
        match text("type") {
            Some("inputText") if text("text").is_none() => return wrong("text", "must be a text"),
            Some("inputImage") if text("imageUrl").is_none_or(|url| url.trim().is_empty()) => {
                return wrong("imageUrl", "must be the address of a picture");
            }
            Some("inputText" | "inputImage") => {}
            _ => return wrong("type", "must be `inputText` or `inputImage`"),
        }
        for name in ["text", "imageUrl"] {
            not_longer(
                &format!("contentItems.{index}.{name}"),
                text(name).unwrap_or_default(),
                MAX_TEXT,
            )?;
        }
    }
    Ok(())
}

/// Reads a body that a decision needs; it is judged before the request is looked up.
async fn read<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, ApiError> {
    RawBody::read(request, payload).await?.required()
}

async fn decide(
    api: &Api,
    request: &HttpRequest,
    id: &str,
    input: DecisionInput,
) -> Result<HttpResponse, ApiError> {
    let family = input.family();
    let Ok(id) = RequestId::parse(id) else {
        return Err(ApiError::no_request(family, id));
    };
    let by = request
        .headers()
        .get("x-codex-actor")
        .and_then(|actor| actor.to_str().ok())
        .map(str::trim)
        .filter(|actor| !actor.is_empty())
        .unwrap_or("user");
    let by: String = by.chars().take(120).collect();
    let decided = api.threads.decide(id.clone(), input, by).await;
    let thread_id = decided.map_err(|error| ApiError::decision(family, error))?;
    let approval = family == RequestFamily::Approval;
    Ok(HttpResponse::Ok().json(Decided {
        status: "ok".to_owned(),
        approval_id: approval.then(|| id.clone()),
        request_id: (!approval).then_some(id),
        thread_id,
    }))
}
