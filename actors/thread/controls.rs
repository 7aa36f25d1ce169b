//! Controls of a session, and of new ones.

use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use cm_core::controls::{Controls, ControlsChange};
use cm_core::error::{ErrorCode, Failure};
use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::thread::Writes;
use cm_core::wire::{ControlsScope, Role, RowStatus, TranscriptEntry};
use serde_json::json;

use super::actor::Thread;
use super::calls::answer;
use super::config::CageError;
use super::error::SessionError;
use super::frames;
use super::messages::Reply;
use super::registry::ThreadRegistry;
use crate::clock;
use crate::store::{WriteBatch, put_defaults, read_defaults};

/// Bytes of a session's settings, or of those of new sessions, at the most.
const MAX_SETTINGS: usize = 64 * 1024;

/// Who changes controls, for the transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBy {
    /// Who.
    pub actor: String,
    /// With what.
    pub source: String,
}

/// What a change of controls did.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlsChanged {
    /// Before.
    pub before: Controls,
    /// Now.
    pub now: Controls,
}

impl ControlsChanged {
    /// Whether anything is different.
    pub fn is_change(&self) -> bool {
        self.before != self.now
    }

    /// Refuses settings that are too long: they are part of the session's record, of lists and of
    /// events.
    fn check(&self) -> Result<(), Failure> {
        let length = serde_json::to_vec(&self.now.settings).map_or(0, |text| text.len());
        if length <= MAX_SETTINGS {
            return Ok(());
        }
        let message =
            format!("The settings would be {length} bytes long; {MAX_SETTINGS} are taken.");
        Err(Failure::new(ErrorCode::InvalidRequest, message))
    }

    /// Version 1's word for it.
    pub fn word(&self) -> &'static str {
        if self.is_change() { "ok" } else { "unchanged" }
    }

    /// The row of the transcript that tells of it, as version 1 writes it.
    pub fn row(&self, scope: ControlsScope, by: &ChangedBy) -> TranscriptEntry {
        let now = clock::now_ms();
        let (whose, scope_word) = match scope {
            ControlsScope::Session => ("this chat", "session"),
            ControlsScope::Default => ("new chats default", "default"),
        };
        let details = json!({
            "occurredAt": clock::iso(now),
            "actor": by.actor,
            "source": by.source,
            "scope": scope_word,
            "previous": self.before,
            "next": self.now,
        });
        TranscriptEntry {
            message_id: format!("session-controls-{now}-{:08x}", rand::random::<u32>()),
            turn_id: "session-controls".to_owned(),
            role: Role::System,
            kind: "session.controls.updated".to_owned(),
            content: format!(
                "Session controls updated ({whose}) by {} via {}: {} -> {}",
                by.actor,
                by.source,
                self.before.line(),
                self.now.line()
            ),
            details: Some(details.to_string()),
            started_at: Some(now),
            completed_at: Some(now),
            status: RowStatus::Complete,
        }
    }
}

impl Thread {
    /// Changes the session's controls. They count from its next turn on. A sandbox that could write
    /// the manager's own state is refused, as it is for a new session.
    pub(super) fn change_controls(
        &mut self,
        change: Box<ControlsChange>,
        by: Option<ChangedBy>,
        reply: Reply<ControlsChanged>,
        ctx: &mut Context<Self>,
    ) {
        let sandbox = self.state.record.controls.changed(&change).filesystem_sandbox;
        if sandbox == self.state.record.controls.filesystem_sandbox {
            return self.apply_controls(&change, by.as_ref(), reply);
        }
        let config = Arc::clone(&self.shared.config);
        let cwd = PathBuf::from(&self.state.record.cwd);
        let look = self.shared.paths.look(move || config.cage.check(&cwd, sandbox));
        self.spawn_busy(look, ctx, move |thread, checked, _| {
            let refused =
                |error: CageError| Failure::new(ErrorCode::UnsafeWorkspace, error.to_string());
            match checked.and_then(|checked| checked.map_err(refused)) {
                Ok(()) => thread.apply_controls(&change, by.as_ref(), reply),
                Err(failure) => answer(reply, Err(failure.into())),
            }
        });
    }

    fn apply_controls(
        &mut self,
        change: &ControlsChange,
        by: Option<&ChangedBy>,
        reply: Reply<ControlsChanged>,
    ) {
        if let Some(deleted) = &self.deleted {
            return answer(reply, Err(SessionError::Deleted(deleted.clone())));
        }
        let before = self.state.record.controls.clone();
        let now = before.changed(change);
        let changed = ControlsChanged { before, now };
        if !changed.is_change() {
            return answer(reply, Ok(changed));
        }
        if let Err(failure) = changed.check() {
            return answer(reply, Err(failure.into()));
        }
        self.state.record.controls = changed.now.clone();
        self.note(Writes { thread: true, ..Writes::default() });
        if let Some(by) = by {
            // Its id is new, so there is none to be read.
            self.write_row(None, changed.row(ControlsScope::Session, by));
        }
        self.tell_with_change("controls");
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map(|()| changed).map_err(SessionError::from));
        }));
    }
}

/// The controls of new sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The controls.
    pub controls: Controls,
    /// Whether they can be changed.
    pub editable: bool,
}

/// Reads the controls of new sessions. Sent by routes.
#[derive(Debug, Message)]
#[rtype(result = "Defaults")]
pub(super) struct GetDefaults;

/// Changes the controls of new sessions. Sent by routes; answered through `reply`, with `None`
/// where the configuration forbids it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ChangeDefaults {
    pub(super) change: ControlsChange,
    pub(super) reply: Reply<Option<ControlsChanged>>,
}

impl ThreadRegistry {
    /// The controls of new sessions.
    pub(super) fn defaults(&self) -> Controls {
        let config = &self.shared.config;
        match config.defaults_locked {
            true => config.defaults.clone(),
            false => self.changed_defaults.over(&config.defaults),
        }
    }

    /// Reads what was changed for new sessions; nothing is answered before.
    pub(super) fn read_defaults(&self, ctx: &mut Context<Self>) {
        let store = self.shared.store.clone();
        let work = async move { store.read(read_defaults).await };
        ctx.wait(work.into_actor(self).map(|read, registry, _| match read {
            Ok(record) => registry.changed_defaults = record,
            Err(error) => {
                tracing::error!(%error, "what was changed for new sessions cannot be read");
            }
        }));
    }
}

impl Handler<GetDefaults> for ThreadRegistry {
    type Result = MessageResult<GetDefaults>;

    fn handle(&mut self, _: GetDefaults, _: &mut Self::Context) -> Self::Result {
        let editable = !self.shared.config.defaults_locked;
        MessageResult(Defaults { controls: self.defaults(), editable })
    }
}

impl Handler<ChangeDefaults> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, message: ChangeDefaults, ctx: &mut Self::Context) {
        let ChangeDefaults { change, reply } = message;
        let config = &self.shared.config;
        if config.defaults_locked {
            return answer(reply, Ok(None));
        }
        let record = self.changed_defaults.changed(&change, &config.defaults);
        let changed =
            ControlsChanged { before: self.defaults(), now: record.over(&config.defaults) };
        if !changed.is_change() {
            return answer(reply, Ok(Some(changed)));
        }
        if let Err(failure) = changed.check() {
            return answer(reply, Err(failure.into()));
        }
        let mut batch = WriteBatch::default();
        if let Err(error) = put_defaults(&mut batch, &record) {
            return answer(reply, Err(error.into()));
        }
        let mut told = FrameBatch::default();
        let payload = json!({ "defaults": changed.now });
        let (to, class) = (Audience::Everyone, Durability::DurableFirst);
        frames::push(&mut told, "session_defaults_updated", &to, None, class, &payload);
        let staged = self.shared.journal.stage(told, &mut batch);
        let store = self.shared.store.clone();
        let work = async move { store.commit(batch).await };
        // Nothing else happens meanwhile: the next change is one of what is on the disk.
        ctx.wait(work.into_actor(self).map(move |stored, registry, _| match stored {
            Ok(()) => {
                registry.changed_defaults = record;
                registry.shared.journal.publish_staged(staged);
                answer(reply, Ok(Some(changed)));
            }
            Err(error) => answer(reply, Err(error.into())),
        }));
    }
}
