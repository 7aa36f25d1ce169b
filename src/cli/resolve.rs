//! From what a person types to a whole id.

use cm_core::ids::{RequestId, ThreadId};
use cm_core::wire::{SessionList, SessionSummary};

use crate::endpoint::query_value;
use crate::failure::Failure;
use crate::http::Api;

/// Shortest beginning of an id that is taken for one, in characters.
const MIN_PREFIX: usize = 6;

/// Length of an id as codex makes them (a UUID), in characters.
const WHOLE_ID: usize = 36;

/// Sessions per page (the server's largest page).
const PAGE: usize = 200;

/// Most pages that are read in one go, so that a server that never ends the list ends somewhere.
const MAX_PAGES: usize = 100;

/// Reads the pages of the session list, first to last.
///
/// # Errors
///
/// When a page cannot be read.
pub(crate) fn all_sessions(api: &Api, archived: bool) -> Result<Vec<SessionSummary>, Failure> {
    let mut sessions: Vec<SessionSummary> = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = session_page(api, archived, PAGE, cursor.as_deref())?;
        for session in page.data {
            // A session that was touched while the pages were read may stand on two of them.
            if !sessions.iter().any(|known| known.session_id == session.session_id) {
                sessions.push(session);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(sessions)
}

/// Reads one page of the session list.
///
/// # Errors
///
/// When the page cannot be read.
pub(crate) fn session_page(
    api: &Api,
    archived: bool,
    limit: usize,
    cursor: Option<&str>,
) -> Result<SessionList, Failure> {
    api.get(&session_page_route(archived, limit, cursor))
}

/// The route of one page of the session list.
pub(crate) fn session_page_route(archived: bool, limit: usize, cursor: Option<&str>) -> String {
    let mut route = format!("/sessions?archived={archived}&limit={limit}");
    if let Some(cursor) = cursor {
        route.push_str("&cursor=");
        route.push_str(&query_value(cursor));
    }
    route
}

/// Finds a session by its id, by the beginning of its id, or as `latest`.
///
/// # Errors
///
/// When there is no such session, or more than one.
pub(crate) fn session(api: &Api, text: &str) -> Result<ThreadId, Failure> {
    if text == "latest" {
        let page = session_page(api, false, PAGE, None)?;
        return page
            .data
            .into_iter()
            .max_by_key(|session| (session.updated_at, session.created_at))
            .map(|session| session.session_id)
            .ok_or_else(|| Failure::NotFound("there is no session yet".to_owned()));
    }
    let id = ThreadId::parse(text)
        .map_err(|error| Failure::Usage(format!("{text:?} is not a session id: {error}")))?;
    if text.len() >= WHOLE_ID {
        return Ok(id);
    }
    let mut matches: Vec<SessionSummary> = Vec::new();
    for archived in [false, true] {
        for candidate in all_sessions(api, archived)? {
            if candidate.session_id == id {
                return Ok(id);
            }
            let known = matches.iter().any(|known| known.session_id == candidate.session_id);
            if !known && candidate.session_id.as_str().starts_with(text) {
                matches.push(candidate);
            }
        }
    }
    if text.len() < MIN_PREFIX {
        return Err(Failure::Usage(format!(
            "{text:?} is too short: give at least {MIN_PREFIX} characters of the session's id"
        )));
    }
    let first = matches.first().map(|session| session.session_id.clone());
    match (first, matches.len()) {
        (Some(only), 1) => Ok(only),
        (Some(_), count) => {
            let few: Vec<&str> =
                matches.iter().take(5).map(|session| session.session_id.as_str()).collect();
            Err(Failure::Ambiguous(format!(
                "{count} sessions begin with {text:?}: {}{}",
                few.join(", "),
                if count > few.len() { ", …" } else { "" }
            )))
        }
        (None, _) => Err(Failure::NotFound(format!("no session begins with {text:?}"))),
    }
}

/// Finds a pending request by its id or by the beginning of its id.
///
/// A text that no pending request begins with is taken as it is: the server knows requests that
/// are over, and says what became of them.
///
/// # Errors
///
/// When the text cannot be an id, or more than one pending request begins with it.
pub(crate) fn request(
    text: &str,
    pending: impl FnOnce() -> Result<Vec<RequestId>, Failure>,
) -> Result<RequestId, Failure> {
    let id = RequestId::parse(text)
        .map_err(|error| Failure::Usage(format!("{text:?} is not a request id: {error}")))?;
    if text.len() >= WHOLE_ID || text.len() < MIN_PREFIX {
        return Ok(id);
    }
    let mut matches = pending()?;
    if matches.contains(&id) {
        return Ok(id);
    }
    matches.retain(|known| known.as_str().starts_with(text));
    match matches.len() {
        0 => Ok(id),
        1 => Ok(matches.remove(0)),
        count => Err(Failure::Ambiguous(format!("{count} pending requests begin with {text:?}"))),
    }
}
