//! A thread's own file in the codex home: who it is, and what was said in it.
//!
//! Each line is a JSON object with `type` and `payload`; the first one is `session_meta`. Only the
//! members that are needed here are looked at: codex 0.106 to 0.169 write them alike.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::moment::moment_ms;
use crate::ids::ThreadId;
use crate::thread::TurnStatus;

/// Bytes of words that are taken from one file. Overflow rule: later words are left to the
/// runtime, which has them all.
pub const MOST_WORDS: usize = 32 << 20;

/// Turns that are taken from one file. Overflow rule: later turns are left to the runtime, which
/// has them all.
pub(super) const MOST_TURNS: usize = 100_000;

/// Who a thread is, as its first line says.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutMeta {
    /// Its id.
    pub id: ThreadId,
    /// Epoch milliseconds.
    pub created_ms: Option<i64>,
    /// Where it works.
    pub cwd: String,
    /// Version of codex that began it.
    pub cli_version: Option<String>,
    /// Where it comes from, in the words of the runtime's protocol.
    pub source: Value,
    /// Who runs its model.
    pub model_provider: Option<String>,
    /// The thread whose agent began it.
    pub parent: Option<ThreadId>,
}

/// What somebody said in a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutMessage {
    /// Whether a person said it, or the agent.
    pub by_user: bool,
    /// The item's id, where the line has one.
    pub id: Option<String>,
    /// The words.
    pub text: String,
    /// Epoch milliseconds.
    pub at_ms: Option<i64>,
}

/// A turn.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutTurn {
    /// Its id.
    pub id: String,
    /// How it ended; `InProgress` where the file does not say.
    pub status: TurnStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// Epoch milliseconds.
    pub started_ms: Option<i64>,
    /// Epoch milliseconds.
    pub ended_ms: Option<i64>,
    /// Whether it was taken back.
    pub rolled_back: bool,
    /// What was said.
    pub messages: Vec<RolloutMessage>,
}

/// What was read of a file so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// Who it is.
    pub meta: Option<RolloutMeta>,
    /// Its turns, in order.
    pub turns: Vec<RolloutTurn>,
    /// How the first message begins.
    pub preview: Option<String>,
    /// The time of the latest line, epoch milliseconds.
    pub last_ms: Option<i64>,
    /// Lines that could not be understood.
    pub malformed: usize,
    words: usize,
    /// Where each turn stands, by its id.
    places: HashMap<String, usize>,
    /// Where those turns stand that were not taken back, in order.
    standing: Vec<usize>,
    /// Turns behind [`MOST_TURNS`] that were not taken back.
    left_out: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Meta {
    id: String,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    cwd: String,
    #[serde(default)]
    cli_version: Option<String>,
    #[serde(default)]
    source: Value,
    #[serde(default)]
    model_provider: Option<String>,
    #[serde(default)]
    parent_thread_id: Option<String>,
}

/// The members of events that are needed here, of all of them.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    turn_id: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    item: Value,
    #[serde(default)]
    num_turns: Option<u64>,
}

impl Rollout {
    /// Reads the next line.
    pub fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.read(line).is_none() {
            self.malformed += 1;
        }
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let line: Line<'_> = serde_json::from_str(line).ok()?;
        let at = line.timestamp.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        let at_ms = at.as_ref().and_then(moment_ms);
        self.last_ms = at_ms.or(self.last_ms);
        match line.kind.as_ref() {
            // A fork has those of its ancestors behind its own.
            "session_meta" if self.meta.is_none() => {
                self.meta = Some(read_meta(line.payload.get(), at_ms)?);
            }
            "event_msg" => {
                let head: Event = serde_json::from_str(line.payload.get()).ok()?;
                self.event(head, at_ms);
            }
            _ => {}
        }
        Some(())
    }

    fn event(&mut self, event: Event, at_ms: Option<i64>) {
        match (event.kind.as_str(), event.turn_id) {
            ("task_started" | "turn_started", Some(id)) => self.begin(id, at_ms),
            ("task_complete" | "turn_complete", id) => {
                self.end(id.as_deref(), TurnStatus::Completed, at_ms);
            }
            ("turn_aborted", id) => self.end(id.as_deref(), TurnStatus::Interrupted, at_ms),
            ("error", id) => {
                let length = event.message.as_ref().map_or(0, String::len);
                if self.words + length > MOST_WORDS {
                    return;
                }
                if let Some(turn) = self.turn(id.as_deref()) {
                    turn.error = event.message;
                    self.words += length;
                }
            }
            ("thread_rolled_back", _) => self.roll_back(event.num_turns.unwrap_or(0)),
            ("user_message", id) => self.say(id.as_deref(), true, None, event.message, at_ms),
            ("agent_message", id) => self.say(id.as_deref(), false, None, event.message, at_ms),
            ("item_completed", id) => {
                let item = &event.item;
                let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
                let by_user = match kind {
                    "UserMessage" => true,
                    "AgentMessage" => false,
                    _ => return,
                };
                let item_id = item.get("id").and_then(Value::as_str).map(str::to_owned);
                let parts = item.get("content").and_then(Value::as_array);
                let texts = parts.into_iter().flatten();
                let texts: Vec<&str> =
                    texts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
                let text = texts.join(if by_user { "\n" } else { "" });
                self.say(id.as_deref(), by_user, item_id, Some(text), at_ms);
            }
            _ => {}
        }
    }

    fn begin(&mut self, id: String, at_ms: Option<i64>) {
        if self.places.contains_key(&id) {
            return;
        }
        if self.turns.len() >= MOST_TURNS {
            self.left_out += 1;
            return;
        }
        self.places.insert(id.clone(), self.turns.len());
        self.standing.push(self.turns.len());
        self.turns.push(RolloutTurn {
            id,
            status: TurnStatus::InProgress,
            error: None,
            started_ms: at_ms,
            ended_ms: None,
            rolled_back: false,
            messages: Vec::new(),
        });
    }

    /// The turn of an id, or the latest one.
    fn turn(&mut self, id: Option<&str>) -> Option<&mut RolloutTurn> {
        match id {
            Some(id) => self.turns.get_mut(*self.places.get(id)?),
            // What is of a turn that was left out is not another one's.
            None if self.left_out > 0 => None,
            None => self.turns.last_mut(),
        }
    }

    fn end(&mut self, id: Option<&str>, status: TurnStatus, at_ms: Option<i64>) {
        let Some(turn) = self.turn(id) else { return };
        turn.ended_ms = at_ms;
        turn.status = match (status, &turn.error) {
            (TurnStatus::Completed, Some(_)) => TurnStatus::Failed,
            (status, _) => status,
        };
    }

    fn say(
        &mut self,
        turn: Option<&str>,
        by_user: bool,
        id: Option<String>,
        text: Option<String>,
        at_ms: Option<i64>,
    ) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        if by_user && self.preview.is_none() {
            self.preview = Some(text.clone());
        }
        if self.words + text.len() > MOST_WORDS {
            return;
        }
        let length = text.len();
        let Some(turn) = self.turn(turn) else { return };
        // Some versions write a message in two forms.
        let is_known = |known: &RolloutMessage| known.by_user == by_user && known.text == text;
        if turn.messages.last().is_some_and(is_known) {
            return;
        }
        turn.messages.push(RolloutMessage { by_user, id, text, at_ms });
        self.words += length;
    }

    fn roll_back(&mut self, count: u64) {
        let of_left_out = count.min(self.left_out);
        self.left_out -= of_left_out;
        let count = usize::try_from(count - of_left_out).unwrap_or(usize::MAX);
        let stay = self.standing.len().saturating_sub(count);
        for place in self.standing.drain(stay..) {
            if let Some(turn) = self.turns.get_mut(place) {
                turn.rolled_back = true;
            }
        }
    }
}

fn read_meta(payload: &str, at_ms: Option<i64>) -> Option<RolloutMeta> {
    let meta: Meta = serde_json::from_str(payload).ok()?;
    let spawned = meta.source.pointer("/subagent/thread_spawn/parent_thread_id");
    let parent = spawned.and_then(Value::as_str).or(meta.parent_thread_id.as_deref());
    Some(RolloutMeta {
        id: ThreadId::parse(&meta.id).ok()?,
        created_ms: moment_ms(&meta.timestamp).or(at_ms),
        parent: parent.and_then(|id| ThreadId::parse(id).ok()),
        cwd: meta.cwd,
        cli_version: meta.cli_version,
        source: source(meta.source),
        model_provider: meta.model_provider,
    })
}

/// The file's word for where a thread comes from, in the words of the runtime's protocol.
fn source(word: Value) -> Value {
    match word {
        Value::String(word) => match word.as_str() {
            "mcp" | "app-server" | "app_server" => Value::from("appServer"),
            "cli" | "vscode" | "exec" => Value::from(word),
            _ => Value::from("unknown"),
        },
        Value::Object(mut object) => match object.remove("subagent") {
            Some(subagent) => json!({ "subAgent": subagent }),
            None => Value::from("unknown"),
        },
        _ => Value::from("unknown"),
    }
}

#[cfg(test)]
mod tests;
