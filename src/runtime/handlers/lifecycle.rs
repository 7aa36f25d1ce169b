//! Names, the archive, deletion.

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::table::Call;
use crate::server::Server;
use crate::thread::{self, Meta, Status};
use crate::wire::{Fault, lock, parse_thread_id};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfThread {
    thread_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetName {
    thread_id: String,
    name: String,
}

/// Names a thread, loaded or not; a name puts a thread on disk.
pub(super) fn set_name(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: SetName = call.params()?;
    let thread_id = parse_thread_id(&params.thread_id)?;
    let name = params.name.trim();
    if name.is_empty() {
        return Err(Fault::invalid("thread name must not be empty"));
    }
    let loaded = lock(&server.threads).get(thread_id);
    if let Some(loaded) = loaded {
        let mut state = lock(&loaded.state);
        if state.meta.ephemeral {
            return Err(Fault::invalid(format!(
                "ephemeral thread does not support metadata updates: {thread_id}"
            )));
        }
        let mut meta = state.meta.clone();
        meta.name = Some(name.to_owned());
        match state.active {
            // The running turn holds the log and records the name when it ends.
            Some(_) => server.store.save_beside(&meta).map_err(Fault::internal)?,
            None => save(server, &meta)?,
        }
        state.meta = meta;
        state.persisted = true;
    } else {
        let missing = || Fault::thread_not_found(thread_id);
        let mut meta = server.store.meta(thread_id).ok_or_else(missing)?;
        meta.name = Some(name.to_owned());
        save(server, &meta)?;
    }
    call.answer(json!({}));
    let updated = json!({ "threadId": thread_id, "threadName": name });
    server.outbox.notify("thread/name/updated", updated);
    Ok(())
}

/// Archives a thread: interrupts its turn, unloads it.
pub(super) fn archive(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: OfThread = call.params()?;
    let thread_id = parse_thread_id(&params.thread_id)?;
    let missing = || Fault::no_rollout(thread_id);
    server.store.meta(thread_id).filter(|meta| !meta.archived).ok_or_else(missing)?;
    unload(server, thread_id)?;
    let mut meta = server.store.meta(thread_id).ok_or_else(missing)?;
    meta.archived = true;
    save(server, &meta)?;
    call.answer(json!({}));
    server.outbox.notify("thread/archived", json!({ "threadId": thread_id }));
    Ok(())
}

/// Takes a thread out of the archive; it stays unloaded.
pub(super) fn unarchive(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: OfThread = call.params()?;
    let thread_id = parse_thread_id(&params.thread_id)?;
    let archived = server.store.meta(thread_id).filter(|meta| meta.archived);
    let mut meta = archived.ok_or_else(|| {
        Fault::invalid(format!("no archived rollout found for thread id {thread_id}"))
    })?;
    meta.archived = false;
    save(server, &meta)?;
    let thread = thread::thread(server, &meta, &Status::NotLoaded, Vec::new());
    call.answer(json!({ "thread": thread }));
    server.outbox.notify("thread/unarchived", json!({ "threadId": thread_id }));
    Ok(())
}

/// Deletes a thread, loaded or not, for good. Forks hold copies and stay.
pub(super) fn delete(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: OfThread = call.params()?;
    let thread_id = parse_thread_id(&params.thread_id)?;
    let was_loaded = unload(server, thread_id)?;
    if server.store.meta(thread_id).is_some() {
        server.store.delete(thread_id).map_err(Fault::internal)?;
    } else if !was_loaded {
        return Err(Fault::no_rollout(thread_id));
    }
    call.answer(json!({}));
    server.outbox.notify("thread/deleted", json!({ "threadId": thread_id }));
    Ok(())
}

fn save(server: &Server, meta: &Meta) -> Result<(), Fault> {
    let mut log = server.store.log(meta.id)?;
    server.store.save(&mut log, meta).map_err(Fault::internal)
}

/// Ends the thread's turn, if any, and forgets the thread; `false` when it was not loaded.
fn unload(server: &Server, thread_id: Uuid) -> Result<bool, Fault> {
    let Some(loaded) = lock(&server.threads).get(thread_id) else {
        return Ok(false);
    };
    loaded.interrupt_silently();
    if !loaded.wait_until_idle() {
        return Err(Fault::internal(format!("the turn of thread {thread_id} does not end")));
    }
    lock(&server.threads).remove(thread_id);
    let status = json!({ "threadId": thread_id, "status": Status::NotLoaded });
    server.outbox.notify("thread/status/changed", status);
    Ok(true)
}
