//! What the agent says about itself, and how it streams.

use std::time::Duration;

use serde_json::json;

use super::directive::DIRECTIVES;
use crate::turn::{Pause, Stop, Turn, agent_message, complete, reasoning};

/// Characters per delta of an ordinary message.
const DELTA_CHARS: usize = 40;

/// Characters of the question that are repeated in the answer.
const ECHO_CHARS: usize = 160;

/// The answer to a message without directives.
pub(super) fn introduction(asked: &str) -> String {
    let asked = asked.trim();
    let mut echo: String = asked.chars().take(ECHO_CHARS).collect();
    if echo.len() < asked.len() {
        echo.push('…');
    }
    format!(
        "I am Codex Manager's built-in guide, not a language model. There is no Codex here to \
         answer this: “{echo}”.\n\n{}",
        directives()
    )
}

/// The directives as a list.
pub(super) fn directives() -> String {
    let mut text = "I carry out these directives, one per line and in order:\n".to_owned();
    for help in DIRECTIVES {
        text.push_str(&format!("- `{}`: {}\n", help.usage, help.effect));
    }
    text
}

/// Says a text, in several deltas.
pub(super) fn say(turn: &mut Turn, text: &str) -> Result<(), Stop> {
    stream(turn, pieces(text).into_iter(), Duration::ZERO).map(drop)
}

/// Streams an agent message, one piece after each pause. Steering in the middle of a slow message
/// abandons it without `item/completed`, as codex does: the answer is `false`.
pub(super) fn stream(
    turn: &mut Turn,
    pieces: impl Iterator<Item = String>,
    every: Duration,
) -> Result<bool, Stop> {
    let mut item = agent_message();
    turn.item_started(&item);
    let mut text = String::new();
    for piece in pieces {
        if turn.inbox.is_interrupted() {
            return Err(Stop::Interrupted);
        }
        if !every.is_zero() {
            match turn.inbox.pause(every) {
                Pause::Elapsed => {}
                Pause::Steered => return Ok(false),
                Pause::Interrupted => return Err(Stop::Interrupted),
            }
        }
        turn.notify("item/agentMessage/delta", json!({ "itemId": item["id"], "delta": piece }));
        text.push_str(&piece);
    }
    turn.count_output(&text);
    complete(&mut item, json!({ "text": text }));
    turn.item_completed(&item);
    Ok(true)
}

/// Shows reasoning as a summary.
pub(super) fn think(turn: &mut Turn, text: &str) {
    let mut item = reasoning();
    turn.item_started(&item);
    let at = |mut params: serde_json::Value| {
        params["itemId"] = item["id"].clone();
        params["summaryIndex"] = json!(0);
        params
    };
    turn.notify("item/reasoning/summaryPartAdded", at(json!({})));
    for piece in pieces(text) {
        turn.notify("item/reasoning/summaryTextDelta", at(json!({ "delta": piece })));
    }
    turn.count_output(text);
    complete(&mut item, json!({ "summary": [text] }));
    turn.item_completed(&item);
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(DELTA_CHARS).map(|chunk| chunk.iter().collect()).collect()
}
