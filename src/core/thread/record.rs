//! What is stored of a thread.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controls::Controls;
use crate::ids::{ProjectId, ThreadId};
use crate::wire::SessionProblem;

use super::kept::Kept;

/// Current [`ThreadRecord::version`].
///
/// Version 1 had the items inside of their records; since version 2 they lie beside them.
pub const THREAD_RECORD_VERSION: u32 = 2;

/// Characters of the first message that are kept.
const PREVIEW_CHARS: usize = 200;

/// Former threads of a session that are remembered. Overflow rule: the oldest but the first is
/// forgotten; it stays in the runtime's archive, and is a session of its own from then on.
const MOST_REPLACED: usize = 100;

/// A thread. What it has nothing of is not written: most of what is stored is in memory as well, and
/// thousands of threads have no project, parent or problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Session id.
    pub id: ThreadId,
    /// The runtime's thread where its id is another one: it took the place of one that never had a
    /// turn, or of one whose latest turns were taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<ThreadId>,
    /// Threads in whose place others are, and that the runtime still has in its archive; the newest
    /// last. Nothing that is said of them is the session's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ThreadId>,
    /// Title, once one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    /// Working directory.
    pub cwd: String,
    /// Controls in force.
    pub controls: Controls,
    /// Tools that the client offers, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_tools: Option<Value>,
    /// Whether it had a first turn.
    pub materialized: bool,
    /// Whether it is archived.
    pub archived: bool,
    /// Epoch seconds.
    pub created_at: i64,
    /// Epoch seconds.
    pub updated_at: i64,
    /// Project it is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// When the runtime had changed the thread as far as its history was compared, in epoch seconds;
    /// 0 where it never was. `None` where that is what the thread object says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_at: Option<i64>,
    /// The runtime's thread object as last seen, without its turns.
    pub thread: Value,
    /// Ordinal that the next turn gets.
    pub next_turn: u32,
    /// Ordinal that the next transcript row gets.
    pub next_row: u64,
    /// How much of its items is kept.
    #[serde(default, skip_serializing_if = "Kept::is_nothing")]
    pub kept: Kept,
    /// What keeps the session from working as it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<SessionProblem>,
    /// The session whose subagent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThreadId>,
    /// Its subagents, in the order in which the manager heard of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subagents: Vec<ThreadId>,
}

/// A title and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Title {
    /// The title.
    pub text: String,
    /// Whether a person chose it; the runtime does not overwrite such a title.
    pub chosen: bool,
}

impl ThreadRecord {
    /// The id by which the runtime knows the thread.
    pub fn runtime_id(&self) -> &ThreadId {
        self.runtime_id.as_ref().unwrap_or(&self.id)
    }

    /// Another thread of the runtime takes the place of the one behind the session. `keeps` says
    /// that the runtime still has the former one.
    pub fn take_runtime(&mut self, runtime_id: ThreadId, keeps: bool) {
        let former = self.runtime_id.replace(runtime_id).unwrap_or_else(|| self.id.clone());
        if keeps {
            self.replaced.push(former);
            if self.replaced.len() > MOST_REPLACED {
                // The first one goes by the session's own id.
                self.replaced.remove(1);
            }
        }
    }

    /// Threads of the runtime beside the session's id that are, or were, behind it.
    pub fn aliases(&self) -> impl Iterator<Item = &ThreadId> {
        self.runtime_id.iter().chain(&self.replaced).filter(|id| **id != self.id)
    }

    /// The title to show: the given one, the runtime's name, the preview, or `New chat`.
    pub fn shown_title(&self) -> &str {
        let given = self.title.as_ref().map(|title| title.text.as_str());
        let field = |name: &str| self.thread.get(name).and_then(Value::as_str);
        [given, field("threadName"), field("name"), field("preview")]
            .into_iter()
            .flatten()
            .map(str::trim)
            .find(|text| !text.is_empty())
            .unwrap_or(crate::wire::UNTITLED)
    }

    /// How the first message begins, once there was one.
    pub fn preview(&self) -> Option<&str> {
        let preview = self.thread.get("preview").and_then(Value::as_str).map(str::trim);
        preview.filter(|preview| !preview.is_empty())
    }

    /// Keeps how the first message begins; the runtime only says so when it is asked.
    pub fn keep_preview(&mut self, text: &str) {
        let Some(object) = self.thread.as_object_mut() else { return };
        let known = object.get("preview").and_then(Value::as_str).unwrap_or_default();
        if known.is_empty() {
            let preview: String = text.trim().chars().take(PREVIEW_CHARS).collect();
            object.insert("preview".to_owned(), Value::from(preview));
        }
    }

    /// Where the thread comes from: the runtime's word, `subAgent` for the object form.
    pub fn source(&self) -> &str {
        match self.thread.get("source") {
            Some(Value::String(source)) => source,
            Some(Value::Object(object)) if object.contains_key("subAgent") => "subAgent",
            _ => "unknown",
        }
    }

    /// Takes over the runtime's thread object, without its turns. What it says of changes does not
    /// make them known: only a comparison of the histories does.
    pub fn adopt(&mut self, thread: &Value) {
        let mut thread = thread.clone();
        if let Some(object) = thread.as_object_mut() {
            object.remove("turns");
            if let Some(cwd) = object.get("cwd").and_then(Value::as_str) {
                self.cwd = cwd.to_owned();
            }
            if let Some(updated) = object.get("updatedAt").and_then(Value::as_i64) {
                self.updated_at = self.updated_at.max(updated);
            }
            if !self.thread.is_null() {
                self.compared_at = Some(self.seen_updated_at().unwrap_or(0));
            }
            self.thread = thread;
        }
    }
}

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TurnStatus {
    /// It runs.
    InProgress,
    /// It ended well.
    Completed,
    /// It was stopped, by a person or because its process is gone.
    Interrupted,
    /// It failed.
    Failed,
}

impl TurnStatus {
    /// The runtime's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "inProgress",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The status of the runtime's word in `turn/completed`; an unknown one counts as completed,
    /// since the turn is over.
    pub fn of_ended(word: Option<&str>) -> Self {
        match word {
            Some("interrupted" | "cancelled" | "canceled") => Self::Interrupted,
            Some("failed" | "error") => Self::Failed,
            _ => Self::Completed,
        }
    }
}

/// A turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// Position among the thread's turns.
    pub ordinal: u32,
    /// The runtime's id.
    pub id: String,
    /// How far it is.
    pub status: TurnStatus,
    /// The runtime's error object of a failed turn, or ours of an interrupted one.
    pub error: Option<Value>,
    /// Epoch milliseconds.
    pub started_ms: i64,
    /// Epoch milliseconds.
    pub ended_ms: Option<i64>,
    /// Whether the manager ended it, because its process was gone; what the runtime says of it
    /// later counts more.
    #[serde(default)]
    pub ended_by_manager: bool,
    /// Whether it was taken back: nobody is shown it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// The name under which the runtime says that it began, where that is another one: codex from
    /// 0.140 on gives a review two. It is interrupted by this one, which also stands in the runtime's
    /// history; its items, and its end, come under `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_as: Option<String>,
}

impl TurnRecord {
    /// Whether the runtime calls it so.
    pub fn is(&self, name: &str) -> bool {
        self.id == name || self.begun_as.as_deref() == Some(name)
    }

    /// The name under which it began.
    pub fn first_name(&self) -> &str {
        self.begun_as.as_deref().unwrap_or(&self.id)
    }
}

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// It was started.
    Open,
    /// It was completed.
    Completed,
    /// Its turn ended first.
    Discarded,
}

/// An item of a turn. What the runtime says of it lies beside this record, as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Position among the thread's transcript rows.
    pub ordinal: u64,
    /// The turn's id.
    pub turn_id: String,
    /// The runtime's id.
    pub id: String,
    /// The runtime's `type`.
    pub kind: String,
    /// How far it is.
    pub state: ItemState,
    /// Epoch milliseconds.
    pub started_ms: Option<i64>,
    /// Epoch milliseconds.
    pub ended_ms: Option<i64>,
    /// Length of the runtime's item.
    pub bytes: u64,
    /// What it says, made short; see [`super::RawItem::digest`].
    pub digest: Option<u64>,
}

impl ItemRecord {
    /// Memory that a remembered record takes, about.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.turn_id.len() + self.id.len() + self.kind.len()
    }
}
