//! A thread's own file in the codex home: who it is, and what was said in it.
//!
//! Each line is a JSON object with `type` and `payload`; the first one is `session_meta`. Only the
//! members that are needed here are looked at: codex 0.106 to 0.169 write them alike.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::moment::moment_ms;
use crate::ids::ThreadId;
use crate::thread::TurnStatus;

/// Bytes of words that are taken from one file. Overflow rule: later words are left to the
/// runtime, which has them all.
pub const MOST_WORDS: usize = 32 << 20;

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
                if let Some(turn) = self.turn(id.as_deref()) {
                    turn.error = event.message;
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
        if self.turns.iter().any(|turn| turn.id == id) {
            return;
        }
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
            Some(id) => self.turns.iter_mut().rev().find(|turn| turn.id == id),
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
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let there = self.turns.iter_mut().rev().filter(|turn| !turn.rolled_back);
        for turn in there.take(count) {
            turn.rolled_back = true;
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[Value]) -> Rollout {
        let mut rollout = Rollout::default();
        for line in lines {
            rollout.line(&line.to_string());
        }
        rollout
    }

    fn event(payload: Value) -> Value {
        json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": "event_msg", "payload": payload })
    }

    fn meta(id: &str, source: Value) -> Value {
        json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": "session_meta", "payload": {
            "id": id, "timestamp": "2026-11-26T17:24:50.000Z", "cwd": "/w",
            "cli_version": "0.140.0", "source": source, "model_provider": "mock" } })
    }

    #[test]
    fn what_was_said_is_read_of_the_older_and_the_newer_form() {
        let older = read(&[
            meta("s", json!("vscode")),
            event(json!({ "type": "task_started", "turn_id": "t1" })),
            event(json!({ "type": "user_message", "message": "hi" })),
            event(json!({ "type": "agent_message", "message": "hello" })),
            event(json!({ "type": "task_complete", "turn_id": "t1" })),
        ]);
        let newer = read(&[
            meta("s", json!("vscode")),
            event(json!({ "type": "task_started", "turn_id": "t1" })),
            event(json!({ "type": "item_completed", "turn_id": "t1", "item": {
                "type": "UserMessage", "id": "u", "content": [{ "type": "text", "text": "hi" }] } })),
            event(json!({ "type": "item_completed", "turn_id": "t1", "item": {
                "type": "AgentMessage", "id": "a", "content": [{ "type": "Text", "text": "hello" }] } })),
            event(json!({ "type": "task_complete", "turn_id": "t1" })),
        ]);
        for rollout in [&older, &newer] {
            let turn = &rollout.turns[0];
            assert_eq!((turn.id.as_str(), turn.status), ("t1", TurnStatus::Completed));
            let said: Vec<_> = turn.messages.iter().map(|m| (m.by_user, m.text.as_str())).collect();
            assert_eq!(said, [(true, "hi"), (false, "hello")]);
            assert_eq!(rollout.preview.as_deref(), Some("hi"));
            let meta = rollout.meta.as_ref().unwrap();
            assert_eq!((meta.cwd.as_str(), meta.created_ms), ("/w", Some(1_795_713_890_000)));
        }
        assert_eq!(newer.turns[0].messages[1].id.as_deref(), Some("a"));
    }

    #[test]
    fn how_turns_ended_and_which_were_taken_back_is_known() {
        let start = |id: &str| event(json!({ "type": "task_started", "turn_id": id }));
        let rollout = read(&[
            meta("s", json!({ "subagent": { "thread_spawn": { "parent_thread_id": "p" } } })),
            meta("ancestor", json!("cli")),
            start("t1"),
            event(json!({ "type": "turn_aborted", "turn_id": "t1", "reason": "interrupted" })),
            start("t2"),
            event(json!({ "type": "error", "message": "no" })),
            event(json!({ "type": "task_complete", "turn_id": "t2" })),
            start("t3"),
            event(json!({ "type": "thread_rolled_back", "num_turns": 1 })),
            start("t4"),
        ]);
        let turns: Vec<_> = rollout.turns.iter().map(|t| (t.status, t.rolled_back)).collect();
        assert_eq!(
            turns,
            [
                (TurnStatus::Interrupted, false),
                (TurnStatus::Failed, false),
                (TurnStatus::InProgress, true),
                (TurnStatus::InProgress, false),
            ]
        );
        let meta = rollout.meta.unwrap();
        assert_eq!(meta.id.as_str(), "s", "the first line is its own");
        assert_eq!(meta.parent.unwrap().as_str(), "p");
        assert!(meta.source["subAgent"]["thread_spawn"].is_object());
    }

    #[test]
    fn a_path_is_no_id() {
        assert_eq!(read(&[meta("../x", json!("cli"))]).meta, None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(lines in prop::collection::vec(".{0,80}", 0..8)) {
            let mut rollout = Rollout::default();
            for line in &lines {
                rollout.line(line);
            }
            prop_assert!(rollout.malformed <= lines.len());
        }
    }
}
