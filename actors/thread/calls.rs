//! Calls of a thread that wait for the child, and what is done with their answers.

use std::path::PathBuf;

use cm_core::controls::Controls;
use cm_core::wire::{MessageAccepted, SendMessage, SessionCreated, SessionSummary};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actions::ThreadAction;
use super::error::SessionError;
use super::messages::{Deleted, Reply, SteerFailure};
use super::recovery::Comparison;
use super::registry_create::Remarks;
use super::roll_back::RollingBack;

/// A call that waits, and what its answer is for.
#[derive(Debug)]
pub(super) enum Pending {
    /// `thread/resume` before something else.
    Resume { then: AfterResume, controls: Controls, echo: Echo },
    /// `turn/start`.
    TurnStart {
        text: String,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
    },
    /// `turn/steer` for a message that was sent while a turn ran.
    Join {
        turn_id: String,
        body: SendMessage,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
    },
    /// `turn/steer`.
    Steer { reply: Reply<Result<(), SteerFailure>> },
    /// `turn/interrupt`.
    Interrupt { turn_id: String, tries: u32, reply: Option<Reply<String>> },
    /// `thread/name/set` right after `thread/start`.
    FirstName { remarks: Remarks, result: Value, reply: Reply<SessionCreated> },
    /// `thread/name/set`.
    Rename { title: String, reply: Reply<SessionSummary> },
    /// `thread/archive`.
    Archive { reply: Reply<()> },
    /// `thread/unarchive`.
    Unarchive { reply: Reply<SessionCreated> },
    /// `thread/delete`, or `thread/archive` where the version has none.
    /// `file` is the session's file where it is the runtime's to remove; that many files of
    /// `former` threads of the session were removed already.
    Delete { file: Option<PathBuf>, former: u32, reply: Reply<Deleted> },
    /// `thread/backgroundTerminals/clean`: what an interrupt left running.
    CleanTerminals,
    /// Something that the runtime does with the thread. Where that is a turn, `turns` is how many
    /// there were before it.
    Act { method: &'static str, turns: Option<u32>, reply: Reply<Value> },
    /// `thread/settings/update` before something that runs a turn without naming controls.
    Settings { controls: Controls, action: ThreadAction, reply: Reply<Value> },
    /// `thread/unsubscribe` for the same where a version has no such method.
    Unload { action: ThreadAction, reply: Reply<Value> },
    /// `thread/rollback` or `thread/revert`.
    RollBack { rolling: RollingBack, reply: Reply<Value> },
    /// A page of the runtime's history, for a thread that was cut.
    History(Box<Comparison>),
}

impl Pending {
    /// Answers with an error: the session is gone.
    pub(super) fn refuse(self, error: SessionError) {
        match self {
            Self::Resume { then, .. } => then.refuse(error),
            Self::TurnStart { reply, .. } | Self::Join { reply, .. } => answer(reply, Err(error)),
            Self::Steer { reply } => answer(reply, Err(error)),
            Self::Interrupt { reply, .. } => {
                if let Some(reply) = reply {
                    answer(reply, Err(error));
                }
            }
            Self::FirstName { reply, .. } | Self::Unarchive { reply } => answer(reply, Err(error)),
            Self::Rename { reply, .. } => answer(reply, Err(error)),
            Self::Archive { reply } => answer(reply, Err(error)),
            Self::Delete { reply, .. } => answer(reply, Err(error)),
            Self::Act { reply, .. }
            | Self::Settings { reply, .. }
            | Self::Unload { reply, .. }
            | Self::RollBack { reply, .. } => answer(reply, Err(error)),
            Self::CleanTerminals | Self::History(_) => {}
        }
    }

    /// Whether nobody waits for it: it must not take the place of what somebody waits for.
    pub(super) fn is_background(&self) -> bool {
        matches!(
            self,
            Self::CleanTerminals
                | Self::History(_)
                | Self::Resume { then: AfterResume::Compare, .. }
        )
    }
}

/// What the controls that a resume echoes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// The child loads the thread: they are in force from now on.
    Loaded,
    /// The child has it loaded and was told controls just now: they are those, or it did not take
    /// them.
    Told,
    /// The child has it loaded, and keeps its controls until a turn names others.
    Kept,
}

/// What a resume is for.
#[derive(Debug)]
pub(super) enum AfterResume {
    /// Start a turn.
    Send { body: SendMessage, warnings: Vec<String>, reply: Reply<MessageAccepted> },
    /// Let the runtime do something with the thread.
    Act { action: ThreadAction, reply: Reply<Value> },
    /// It was asked for as such.
    Answer { reply: Reply<SessionCreated> },
    /// Compare with the runtime's history, because the thread was cut.
    Compare,
}

impl AfterResume {
    /// Whether a message waits for it.
    pub(super) fn is_send(&self) -> bool {
        matches!(self, Self::Send { .. })
    }

    /// Whether the manager does it by itself, for a thread that was cut.
    pub(super) fn is_compare(&self) -> bool {
        matches!(self, Self::Compare)
    }

    /// Answers with an error.
    pub(super) fn refuse(self, error: SessionError) {
        match self {
            Self::Send { reply, .. } => answer(reply, Err(error)),
            Self::Answer { reply } => answer(reply, Err(error)),
            Self::Act { reply, .. } => answer(reply, Err(error)),
            Self::Compare => {}
        }
    }
}

/// Answers; whoever asked may have stopped waiting.
pub(super) fn answer<T>(
    reply: oneshot::Sender<Result<T, SessionError>>,
    answer: Result<T, SessionError>,
) {
    if reply.send(answer).is_err() {
        tracing::debug!("an answer came after its deadline");
    }
}

/// The word for a refused steer, read from the runtime's text.
pub(super) fn steer_failure(error: String) -> SteerFailure {
    let text = error.to_ascii_lowercase();
    let has = |known: &str| text.contains(known);
    let status = if has("no active turn") {
        "conflict"
    } else if has("already resolved") || has("already handled") || has("not found") {
        "already_resolved"
    } else if has("not eligible") {
        "not_eligible"
    } else if has("conflict") {
        "conflict"
    } else {
        "failed"
    };
    SteerFailure { status, error }
}

/// Tools as the version takes them: from 0.155 on each entry carries its type.
pub(super) fn tool_specs(
    tools: &[cm_core::wire::DynamicTool],
    version: Option<cm_core::compat::Version>,
) -> Value {
    let tagged = version.is_some_and(|v| v >= cm_core::compat::Version::new(0, 155, 0));
    tools
        .iter()
        .map(|tool| {
            let mut spec = json!(tool);
            if tagged {
                spec["type"] = json!("function");
            }
            spec
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_steer_gets_version_1s_word() {
        let status = |text: &str| steer_failure(text.to_owned()).status;
        assert_eq!(status("no active turn to steer"), "conflict");
        assert_eq!(status("thread not found: x"), "already_resolved");
        assert_eq!(status("expected active turn id a but found b"), "failed");
    }
}
