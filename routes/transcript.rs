//! Rows of a transcript.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::ids::ThreadId;
use cm_core::wire::{RowAdded, TranscriptEntry};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::text;
use crate::openapi::{BodyErrors, SessionErrors};
use crate::sessions::{body_of, session_id};

/// Characters of the names in a row.
const MAX_NAME: usize = 512;

/// Adds a row to a session's transcript, or writes it again.
///
/// A row is known by its `messageId`.
#[utoipa::path(
    post, path = "/api/sessions/{id}/transcript/upsert", tag = "transcript",
    operation_id = "upsertTranscriptRow",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = TranscriptEntry,
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
        let mut entry = body.required::<TranscriptEntry>()?;
        entry.message_id = text("messageId", &entry.message_id, MAX_NAME)?;
        entry.turn_id = text("turnId", &entry.turn_id, MAX_NAME)?;
        entry.kind = text("type", &entry.kind, MAX_NAME)?;
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
