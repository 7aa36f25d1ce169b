//! What happened on a thread.

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::table::Call;
use crate::server::Server;
use crate::thread::{self, Meta, Status};
use crate::wire::{Fault, lock, parse_thread_id};

/// Turns per page unless asked otherwise, and at most.
const DEFAULT_PAGE: u64 = 25;
const MAX_PAGE: u64 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    thread_id: String,
    #[serde(default)]
    include_turns: Option<bool>,
}

/// A thread as it is, loaded or not.
struct Found {
    meta: Meta,
    status: Status,
    active: Option<Uuid>,
    persisted: bool,
}

fn find(server: &Server, thread_id: Uuid) -> Result<Found, Fault> {
    let loaded = lock(&server.threads).get(thread_id);
    if let Some(loaded) = loaded {
        let state = lock(&loaded.state);
        return Ok(Found {
            meta: state.meta.clone(),
            status: state.status.clone(),
            active: state.active.as_ref().map(|active| active.id),
            persisted: state.persisted,
        });
    }
    let missing = || Fault::invalid(format!("thread not loaded: {thread_id}"));
    let meta = server.store.meta(thread_id).ok_or_else(missing)?;
    Ok(Found { meta, status: Status::NotLoaded, active: None, persisted: true })
}

/// Reads a thread without loading it.
pub(super) fn read(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Read = call.params()?;
    let found = find(server, parse_thread_id(&params.thread_id)?)?;
    let mut turns = Vec::new();
    if params.include_turns == Some(true) {
        if found.meta.ephemeral {
            return Err(Fault::invalid("ephemeral threads do not support includeTurns"));
        }
        if found.persisted {
            turns = server.store.turns(found.meta.id, found.active)?;
        }
    }
    let turns = turns.into_iter().map(|turn| json!(turn)).collect();
    let thread = thread::thread(server, &found.meta, &found.status, turns);
    call.answer(json!({ "thread": thread, "readState": null }));
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Turns {
    thread_id: String,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    cursor: Option<String>,
}

/// Pages through a thread's turns with their items, newest first. The cursor is the id of the
/// last turn of the page before.
pub(super) fn turns(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Turns = call.params()?;
    let found = find(server, parse_thread_id(&params.thread_id)?)?;
    if found.meta.ephemeral {
        return Err(Fault::invalid("ephemeral threads do not support thread/turns/list"));
    }
    let mut turns = match found.persisted {
        true => server.store.turns(found.meta.id, found.active)?,
        false => Vec::new(),
    };
    turns.reverse();
    if let Some(cursor) = &params.cursor {
        let at = turns.iter().position(|turn| turn.id.to_string() == *cursor);
        let at = at.ok_or_else(|| Fault::invalid(format!("invalid cursor: {cursor}")))?;
        turns.drain(..=at);
    }
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize;
    let more = turns.len() > limit;
    turns.truncate(limit);
    let next = turns.last().filter(|_| more).map(|turn| turn.id);
    call.answer(json!({ "data": turns, "nextCursor": next, "backwardsCursor": null }));
    Ok(())
}
