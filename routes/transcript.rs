//! A session page by page: rows of its transcript, and its turns.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::ids::ThreadId;
use cm_core::rows::{RowKey, parse_turn_cursor};
use cm_core::wire::{MAX_ROW_NAME, NewRow, RowAdded, TranscriptEntry, TranscriptPage, TurnPage};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::text;
use crate::openapi::{AllOf, BodyErrors, QueryErrors, SessionErrors};
use crate::query::Query;
use crate::sessions::{body_of, exists, session_id};

/// Reads `limit` and `before` of a page. A session that does not exist is said before a query that
/// is wrong.
async fn page_of<T>(
    api: &Api,
    id: &ThreadId,
    query: Result<Query, ApiError>,
    parse: impl Fn(&ThreadId, &str) -> Option<T>,
) -> Result<(Option<T>, usize), ApiError> {
    let page = query.and_then(|query| {
        let before = match query.cursor("before")? {
            None => None,
            Some(cursor) => {
                let known = parse(id, &cursor);
                Some(known.ok_or_else(|| invalid("before", "is not a cursor of this list"))?)
            }
        };
        Ok((before, query.limit()?))
    });
    if page.is_err() {
        exists(api, id).await?;
    }
    page
}

/// Rows of a session's transcript, the newest page first.
///
/// Rows inside a page stand in the order of the transcript. A cursor stays valid while rows are
/// added.
#[utoipa::path(
    get, path = "/api/sessions/{id}/transcript", tag = "transcript",
    operation_id = "readTranscript",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("before" = Option<String>, Query, min_length = 1,
            description = "Only rows before this one: `nextCursor` of the page behind."),
        ("limit" = Option<u32>, Query, description = "Rows of the page; 100 when absent.",
            minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = TranscriptPage), AllOf<(SessionErrors, QueryErrors)>),
)]
pub(crate) async fn read(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Result<Query, ApiError>,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let (before, limit) = page_of(&api, &id, query, RowKey::parse_cursor).await?;
    let page = api.threads.transcript(&id, before, limit).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(page))
}

/// Turns of a session, the newest page first.
///
/// Turns inside a page stand in the order in which they began; those that were taken back are left
/// out.
#[utoipa::path(
    get, path = "/api/sessions/{id}/turns", tag = "transcript", operation_id = "listTurns",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("before" = Option<String>, Query, min_length = 1,
            description = "Only turns before this one: `nextCursor` of the page behind."),
        ("limit" = Option<u32>, Query, description = "Turns of the page; 100 when absent.",
            minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = TurnPage), AllOf<(SessionErrors, QueryErrors)>),
)]
pub(crate) async fn turns(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Result<Query, ApiError>,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let (before, limit) = page_of(&api, &id, query, parse_turn_cursor).await?;
    let page = api.threads.turns(&id, before, limit).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(page))
}

/// Adds a row to a session's transcript, or writes it again.
///
/// A row is known by its `messageId`.
#[utoipa::path(
    post, path = "/api/sessions/{id}/transcript/upsert", tag = "transcript",
    operation_id = "upsertTranscriptRow",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = NewRow,
    responses((status = 200, body = RowAdded), SessionErrors, BodyErrors),
)]
pub(crate) async fn upsert(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let entry = body_of(&api, &id, &request, payload, |body| {
        let row = body.required::<NewRow>()?;
        let entry = TranscriptEntry {
            message_id: text("messageId", &row.message_id, MAX_ROW_NAME)?,
            turn_id: text("turnId", &row.turn_id, MAX_ROW_NAME)?,
            kind: text("type", &row.kind, MAX_ROW_NAME)?,
            role: row.role,
            content: row.content,
            details: row.details,
            started_at: row.started_at,
            completed_at: row.completed_at,
            status: row.status,
        };
        for (name, time) in [("startedAt", entry.started_at), ("completedAt", entry.completed_at)] {
            if time.is_some_and(|time| time < 0) {
                return Err(invalid(name, "must not be negative"));
            }
        }
        Ok(entry)
    })
    .await?;
    let entry = api.threads.add_row(&id, entry).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(RowAdded { status: "ok".to_owned(), session_id: id, entry }))
}
