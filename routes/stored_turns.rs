//! The turns that the manager stored, in answers that version 1 gave with the runtime's whole history.

use std::collections::BTreeMap;

use cm_actors::thread::SessionError;
use cm_core::wire::SessionCreated;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::api::Api;

/// Turns in one answer. Overflow rule: the latest ones are there.
const MOST_TURNS: usize = 1_000;

/// Bytes of turns with their items in one answer, so that one with an idempotency key can be kept.
/// Overflow rule: the latest turns have their items, those in front of them have none.
const MOST_BYTES: usize = 512 * 1024;

/// What is read of a session's detail.
#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow)]
    thread: BTreeMap<String, &'a RawValue>,
}

/// Puts the session's thread, with the turns that are stored, into an answer about it.
pub(crate) async fn with_turns(api: &Api, mut answer: SessionCreated) -> SessionCreated {
    // What was asked for was done: it is answered so even if the history cannot be read now.
    match api.threads.detail(&answer.session.session_id).await {
        Ok(detail) => {
            if let Some(thread) = thread_of(&detail) {
                answer.thread = thread;
            }
        }
        Err(SessionError::Failed(failure)) => {
            tracing::warn!(session = %answer.session.session_id, %failure, "answered without turns");
        }
        Err(_) => {}
    }
    answer
}

/// An answer about a session of which no turns are shown.
pub(crate) fn without_turns(mut answer: SessionCreated) -> SessionCreated {
    if let Some(members) = answer.thread.as_object_mut() {
        members.entry("turns").or_insert_with(|| json!([]));
    }
    answer
}

/// The thread of a session's detail; `None` where the runtime never said what it is.
fn thread_of(detail: &[u8]) -> Option<Value> {
    let mut thread = serde_json::from_slice::<Detail<'_>>(detail).ok()?.thread;
    let turns: Vec<&RawValue> = serde_json::from_str(thread.remove("turns")?.get()).ok()?;
    let mut left = MOST_BYTES;
    let mut shown = Vec::new();
    for turn in turns.iter().rev().take(MOST_TURNS) {
        let whole = left.checked_sub(turn.get().len());
        left = whole.unwrap_or(0);
        shown.push(match whole {
            Some(_) => serde_json::from_str(turn.get()).ok()?,
            None => without_items(turn)?,
        });
    }
    shown.reverse();
    let mut members = parsed(thread)?;
    members.insert("turns".to_owned(), Value::Array(shown));
    Some(Value::Object(members))
}

/// A turn whose items are left out, said as the runtime says it.
fn without_items(turn: &RawValue) -> Option<Value> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(turn.get()).ok()?;
    members.remove("items");
    let mut members = parsed(members)?;
    members.insert("items".to_owned(), json!([]));
    members.insert("itemsView".to_owned(), json!("notLoaded"));
    Some(Value::Object(members))
}

fn parsed(members: BTreeMap<String, &RawValue>) -> Option<Map<String, Value>> {
    let parse =
        |(name, value): (String, &RawValue)| Some((name, serde_json::from_str(value.get()).ok()?));
    members.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(number: usize, bytes: usize) -> Value {
        let items = json!([{ "id": "i", "text": "a".repeat(bytes) }]);
        json!({ "id": number.to_string(), "items": items, "itemsView": "full" })
    }

    fn answered(turns: &[Value]) -> Vec<Value> {
        let thread = json!({ "id": "t", "status": { "type": "idle" }, "turns": turns });
        let detail = json!({ "session": {}, "thread": thread, "transcript": [] }).to_string();
        let thread = thread_of(detail.as_bytes()).unwrap();
        assert_eq!((&thread["id"], &thread["status"]["type"]), (&json!("t"), &json!("idle")));
        thread["turns"].as_array().unwrap().clone()
    }

    #[test]
    fn what_fits_is_answered_as_it_is() {
        let turns = [turn(1, 10), turn(2, 100_000), turn(3, 10)];
        assert_eq!(answered(&turns), turns);
        assert_eq!(answered(&[]), [] as [Value; 0]);
        assert_eq!(thread_of(br#"{"thread":null}"#), None);
    }

    #[test]
    fn the_latest_turns_have_their_items() {
        let turns = [turn(1, 10), turn(2, 400_000), turn(3, 200_000)];
        let shown = answered(&turns);
        assert_eq!(shown[2], turns[2]);
        for (shown, id) in shown[..2].iter().zip(["1", "2"]) {
            let bare = json!({ "id": id, "items": [], "itemsView": "notLoaded" });
            assert_eq!(shown, &bare, "there is no gap among those with items");
        }
        let many: Vec<Value> = (0..1_100).map(|number| turn(number, 1)).collect();
        let shown = answered(&many);
        assert_eq!((shown.len(), &shown[0]["id"]), (1_000, &json!("100")));
    }
}
