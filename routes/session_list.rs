//! Lists of sessions.

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use cm_actors::clock;
use cm_actors::index::{ListCursor, ListOrder, ListQuery, ProjectFilter, SessionStatus, SortBy};
use cm_core::ids::ProjectId;
use cm_core::wire::SessionList;

use crate::answer::{ApiError, invalid};
use crate::openapi::{AllOf, ManagerErrors, QueryErrors};
use crate::query::Query;
use crate::read_model::ReadModelCell;

/// Characters of the text that is looked for in titles.
const MAX_TEXT: usize = 200;

/// Sessions, the one that changed last first.
///
/// A list shows everything that was answered before it was asked for, on whatever connection.
#[utoipa::path(
    get, path = "/api/sessions", tag = "sessions", operation_id = "listSessions",
    params(
        ("archived" = Option<bool>, Query, description = "Whether the archived ones are listed."),
        ("limit" = Option<u32>, Query, description = "Rows of the page; 100 when absent.",
            minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page starts: `nextCursor` of the page before, with the same \
                           filters and order."),
        ("projectId" = Option<String>, Query, min_length = 1,
            description = "Only those of a project; `none` for those of no project."),
        ("q" = Option<String>, Query, min_length = 1, max_length = 200,
            description = "Only those in whose title this text is, in capitals or not."),
        ("status" = Option<String>, Query, pattern = "^(idle|running|waiting)$",
            description = "Only those that are doing this: `idle`, `running` or `waiting`."),
        ("since" = Option<String>, Query, min_length = 1,
            description = "Only those that have changed since: a time of RFC 3339, or epoch \
                           milliseconds. Times of sessions are kept in whole seconds."),
        ("sort" = Option<String>, Query, pattern = "^(updatedAt|createdAt)$",
            description = "What they are sorted by: `updatedAt` when absent, or `createdAt`."),
        ("order" = Option<String>, Query, pattern = "^(asc|desc)$",
            description = "The newest first, `desc`, when absent; or the oldest, `asc`."),
        ("includeSystemOwned" = Option<bool>, Query,
            description = "Taken for version 1's sake: no session is the system's."),
    ),
    responses((status = 200, body = SessionList), AllOf<(ManagerErrors, QueryErrors)>),
)]
pub(crate) async fn list(
    model: web::Data<ReadModelCell>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    query.flag("includeSystemOwned")?;
    let archived = query.flag("archived")?;
    let order = order(&query)?;
    let cursor = match query.cursor("cursor")? {
        None => None,
        Some(cursor) => {
            let known = ListCursor::parse(order, &cursor);
            let foreign = || invalid("cursor", "is not a cursor of this list");
            Some(known.ok_or_else(foreign)?)
        }
    };
    let text = query.text("q")?.map(|text| text.to_lowercase());
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT) {
        return Err(invalid("q", &format!("must not be longer than {MAX_TEXT} characters")));
    }
    let status = match query.get("status") {
        None => None,
        Some(word) => {
            let known = SessionStatus::parse(word);
            let unknown = || invalid("status", "must be `idle`, `running` or `waiting`");
            Some(known.ok_or_else(unknown)?)
        }
    };
    let since = match query.text("since")? {
        None => None,
        Some(time) => Some(since(&time)?),
    };
    let project = match query.text("projectId")?.as_deref() {
        None => ProjectFilter::Any,
        Some("none") => ProjectFilter::Unassigned,
        Some(id) => match ProjectId::parse(id) {
            Ok(id) => ProjectFilter::Of(id),
            // No project has a malformed id, so no session is in it.
            Err(_) => {
                let empty = SessionList { data: Vec::new(), next_cursor: None, archived };
                return Ok(HttpResponse::Ok().json(empty));
            }
        },
    };
    let query = ListQuery { archived, project, text, status, since, order, limit, cursor };
    let page = model.0.page(query).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(page))
}

fn order(query: &Query) -> Result<ListOrder, ApiError> {
    let by = match query.get("sort") {
        None | Some("updatedAt") => SortBy::UpdatedAt,
        Some("createdAt") => SortBy::CreatedAt,
        Some(_) => return Err(invalid("sort", "must be `updatedAt` or `createdAt`")),
    };
    let ascending = match query.get("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(invalid("order", "must be `asc` or `desc`")),
    };
    Ok(ListOrder { by, ascending })
}

/// A time in epoch seconds. Sessions keep no parts of a second: one that changed in the second of
/// the time is not left out.
fn since(time: &str) -> Result<i64, ApiError> {
    // A plus sign that was not encoded is a space in a query.
    let milliseconds = time.parse().ok().or_else(|| clock::parse_iso(&time.replace(' ', "+")));
    let unknown = || invalid("since", "must be a time of RFC 3339 or epoch milliseconds");
    milliseconds.map(|ms: i64| ms.div_euclid(1000)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for time in [
            "1790000000999",
            "2026-09-21T14:13:20Z",
            "2026-09-21T14:13:20.5Z",
            "2026-09-21T16:13:20+02:00",
            "2026-09-21T16:13:20 02:00",
        ] {
            assert_eq!(since(time).ok(), Some(1_790_000_000), "{time}");
        }
        for time in ["", "x", "2026-09", "2026-09-21", "1e9", "99999999999999999999"] {
            assert!(since(time).is_err(), "{time}");
        }
    }
}
