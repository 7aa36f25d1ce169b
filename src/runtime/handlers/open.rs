//! Threads that become loaded: start, resume, fork.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::table::Call;
use crate::server::Server;
use crate::thread::{self, LoadedThread, MODEL, Meta, Overrides, Record, Settings, Status};
use crate::wire::{Fault, lock, parse_thread_id};

/// The parameters of all three calls; each reads its own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Open {
    thread_id: Option<String>,
    cwd: Option<String>,
    approval_policy: Option<Value>,
    sandbox: Option<String>,
    permissions: Option<String>,
    config: Option<Map<String, Value>>,
    model: Option<String>,
    ephemeral: Option<bool>,
    dynamic_tools: Option<Vec<Value>>,
    exclude_turns: Option<bool>,
    last_turn_id: Option<String>,
    before_turn_id: Option<String>,
}

impl Open {
    fn thread_id(&self) -> Result<&str, Fault> {
        self.thread_id.as_deref().ok_or_else(|| Fault::bad_request("missing field `threadId`"))
    }

    fn overrides(&mut self) -> Overrides {
        Overrides {
            cwd: self.cwd.take(),
            approval_policy: self.approval_policy.take(),
            sandbox: self.sandbox.take(),
            sandbox_policy: None,
            permissions: self.permissions.take(),
            config: self.config.take(),
            model: self.model.take(),
        }
    }
}

pub(super) fn start(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let mut params: Open = call.params()?;
    if params.dynamic_tools.is_some() {
        server.require_experimental("thread/start.dynamicTools")?;
    }
    let overrides = params.overrides();
    let settings = Settings::initial().with(&overrides, server.is_experimental())?;
    let originator = server.client.get().map_or("", |client| client.name.as_str());
    let mut meta = Meta::new(settings, originator);
    meta.ephemeral = params.ephemeral.unwrap_or(false);
    meta.dynamic_tools = params.dynamic_tools.unwrap_or_default();
    let loaded = load(server, meta.clone(), false)?;
    let thread = thread::thread(server, &meta, &Status::Idle, Vec::new());
    call.answer(thread::session(&meta, &thread));
    server.outbox.notify("thread/started", json!({ "thread": thread }));
    warn_about_model(server, loaded.id, &overrides);
    Ok(())
}

/// Loads a thread from disk. On a loaded thread overrides are ignored, as in codex.
pub(super) fn resume(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let mut params: Open = call.params()?;
    // codex words this one differently from every other call.
    let thread_id = Uuid::parse_str(params.thread_id()?)
        .map_err(|error| Fault::invalid(format!("invalid session id: {error}")))?;
    let meta = server.store.meta(thread_id).ok_or_else(|| Fault::no_rollout(thread_id))?;
    if meta.archived {
        return Err(Fault::invalid(format!(
            "session {thread_id} is archived. Run `codex unarchive {thread_id}` to unarchive it \
             first."
        )));
    }
    let overrides = params.overrides();
    let already = lock(&server.threads).get(thread_id);
    let loaded = match already {
        Some(loaded) => loaded,
        None => {
            let mut meta = meta;
            meta.settings = meta.settings.with(&overrides, server.is_experimental())?;
            let loaded = load(server, meta, true)?;
            let status = json!({ "threadId": thread_id, "status": Status::Idle });
            server.outbox.notify("thread/status/changed", status);
            loaded
        }
    };
    let state = lock(&loaded.state);
    let active = state.active.as_ref().map(|active| active.id);
    let turns = match params.exclude_turns {
        Some(true) => Vec::new(),
        _ => server.store.turns(thread_id, active)?,
    };
    let turns = turns.into_iter().map(|turn| json!(turn)).collect();
    let thread = thread::thread(server, &state.meta, &state.status, turns);
    call.answer(thread::session(&state.meta, &thread));
    drop(state);
    warn_about_model(server, thread_id, &overrides);
    Ok(())
}

/// Copies a thread, whole or up to a turn. A turn that still runs is copied as interrupted.
pub(super) fn fork(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let mut params: Open = call.params()?;
    let source = parse_thread_id(params.thread_id()?)?;
    let loaded = lock(&server.threads).get(source);
    let loaded = loaded.map(|loaded| {
        let state = lock(&loaded.state);
        (state.meta.clone(), state.persisted)
    });
    let stored = server.store.meta(source).map(|meta| (meta, true));
    let (meta, persisted) = loaded.or(stored).ok_or_else(|| Fault::no_rollout(source))?;
    let mut turns = match persisted {
        true => server.store.turns(source, None)?,
        false => Vec::new(),
    };
    let turn_at = |wanted: &str| {
        let position = turns.iter().position(|turn| turn.id.to_string() == wanted);
        position.ok_or_else(|| Fault::invalid(format!("turn not found: {wanted}")))
    };
    if let Some(last) = &params.last_turn_id {
        turns.truncate(turn_at(last)? + 1);
    } else if let Some(before) = &params.before_turn_id {
        turns.truncate(turn_at(before)?);
    }
    let overrides = params.overrides();
    let mut meta = meta.forked();
    meta.settings = meta.settings.with(&overrides, server.is_experimental())?;
    meta.ephemeral = params.ephemeral.unwrap_or(false);
    let persisted = !turns.is_empty() && !meta.ephemeral;
    if persisted && let Err(fault) = copy_turns(server, &meta, &turns) {
        // Half a copy would be listed as a thread.
        if let Err(error) = server.store.delete(meta.id) {
            tracing::warn!(thread = %meta.id, %error, "half a fork cannot be removed");
        }
        return Err(fault);
    }
    load(server, meta.clone(), persisted)?;
    let bare = thread::thread(server, &meta, &Status::Idle, Vec::new());
    let mut thread = bare.clone();
    if params.exclude_turns != Some(true) {
        thread["turns"] = json!(turns);
    }
    call.answer(thread::session(&meta, &thread));
    server.outbox.notify("thread/started", json!({ "thread": bare }));
    warn_about_model(server, meta.id, &overrides);
    Ok(())
}

fn copy_turns(server: &Server, meta: &Meta, turns: &[thread::Turn]) -> Result<(), Fault> {
    let mut log = server.store.log(meta.id)?;
    server.store.save(&mut log, meta).map_err(Fault::internal)?;
    let mut append = |record: &Record| log.append(record).map_err(Fault::internal);
    for turn in turns {
        append(&Record::TurnStarted { turn: turn.id, at: turn.started_at.unwrap_or(0) })?;
        for item in &turn.items {
            append(&Record::Item { turn: turn.id, item: item.clone() })?;
        }
        append(&Record::TurnEnded {
            turn: turn.id,
            status: turn.status.clone(),
            error: turn.error.clone(),
            at: turn.completed_at.unwrap_or(meta.created_at),
            duration_ms: turn.duration_ms.unwrap_or(0),
        })?;
    }
    Ok(())
}

/// Makes a thread loaded; at the bound another one that is idle leaves, as an idle thread does in
/// codex.
fn load(server: &Server, meta: Meta, persisted: bool) -> Result<Arc<LoadedThread>, Fault> {
    let loaded = Arc::new(LoadedThread::new(meta, persisted));
    let evicted = lock(&server.threads).insert(Arc::clone(&loaded));
    if let Some(evicted) = evicted.map_err(|()| Fault::overloaded())? {
        let closed = json!({ "threadId": evicted.id });
        let status = json!({ "threadId": evicted.id, "status": Status::NotLoaded });
        server.outbox.notify("thread/status/changed", status);
        server.outbox.notify("thread/closed", closed);
    }
    Ok(loaded)
}

/// A model that is not here is not pretended: the thread says which one answers.
fn warn_about_model(server: &Server, thread_id: Uuid, overrides: &Overrides) {
    let Some(wanted) = overrides.model.as_deref().filter(|model| *model != MODEL) else {
        return;
    };
    let message = format!("Model `{wanted}` is not available here; `{MODEL}` answers instead.");
    server.outbox.notify("warning", json!({ "threadId": thread_id, "message": message }));
}
