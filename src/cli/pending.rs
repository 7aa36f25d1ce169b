//! Requests that wait, of one session or of all.

use cm_core::ids::ThreadId;
use cm_core::wire::ListOf;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::http::Api;
use crate::resolve;

/// Reads the pending requests of one kind, the last part of the route.
///
/// Without a session, those of every session that waits for somebody. A server that does not say
/// what its sessions do is asked about each of them.
///
/// # Errors
///
/// When a list cannot be read.
pub(crate) fn pending<T: DeserializeOwned>(
    api: &Api,
    session: Option<&str>,
    kind: &str,
) -> Result<Vec<T>, Failure> {
    if let Some(text) = session {
        let session = resolve::session(api, text)?;
        return of_session(api, &session, kind);
    }
    let mut requests = Vec::new();
    for session in resolve::all_sessions(api, false)? {
        if !matches!(session.activity.as_str(), "waiting" | "") {
            continue;
        }
        match of_session(api, &session.session_id, kind) {
            Ok(more) => requests.extend(more),
            // It was deleted, or is not ours to see, since the list was read.
            Err(Failure::Refused(refusal)) if matches!(refusal.status, 403 | 404 | 410) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(requests)
}

fn of_session<T: DeserializeOwned>(
    api: &Api,
    session: &ThreadId,
    kind: &str,
) -> Result<Vec<T>, Failure> {
    api.get::<ListOf<T>>(&format!("/sessions/{session}/{kind}")).map(|list| list.data)
}
