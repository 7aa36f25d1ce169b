//! Plays one step as server-sent events of the Responses API.
//!
//! What `codex` needs: `response.output_item.done` for every item and `response.completed` with an
//! id; deltas count only after `response.output_item.added` (observed on 0.106 – 0.169).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::script::{Part, Step};
use super::select::call_id;

/// Characters per delta unless the script says otherwise.
const DEFAULT_CHUNK: usize = 16;
/// Bytes per flood delta unless the script says otherwise.
const DEFAULT_FLOOD_SIZE: usize = 8;

/// Where an answer goes. Everything can fail, because the client may go at any time.
pub(super) trait Sink {
    /// One event.
    fn event(&mut self, name: &str, data: Value) -> io::Result<()>;
    /// Bytes as they are.
    fn raw(&mut self, text: &str) -> io::Result<()>;
    /// Sends what is buffered and waits.
    fn pause(&mut self, duration: Duration) -> io::Result<()>;
    /// Sends what is buffered and waits until the test opens the gate.
    fn gate(&mut self, name: &str) -> io::Result<()>;
    /// Sends what is buffered and waits until the client goes.
    fn hang(&mut self) -> io::Result<()>;
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The stream is complete, well or badly.
    Complete,
    /// The connection is to be cut as it is.
    Cut,
}

/// The step as it is played for the `attempt`-th time (from 1): failures that were to happen
/// fewer times are gone.
pub(super) fn for_attempt(mut step: Step, attempt: u32) -> Step {
    for part in &mut step.0 {
        if part.times.is_none_or(|times| attempt <= times) {
            continue;
        }
        *part = Part {
            status: None,
            body: None,
            sse_error: None,
            incomplete: None,
            drop: false,
            ..std::mem::take(part)
        };
        let silent = part.text.is_none() && part.call.is_none() && part.custom.is_none();
        if silent {
            part.text = Some("Recovered.".to_owned());
        }
    }
    step
}

/// Plays a step.
///
/// # Errors
///
/// When the client went away or the server stops.
pub(super) fn play(
    step: &Step,
    index: usize,
    serials: &AtomicU64,
    sink: &mut impl Sink,
) -> io::Result<End> {
    let response = format!("resp_{}", serials.fetch_add(1, Ordering::Relaxed));
    sink.event("response.created", json!({ "response": { "id": response } }))?;
    for part in &step.0 {
        if let Some(milliseconds) = part.predelay_ms {
            sink.pause(Duration::from_millis(milliseconds))?;
        }
        let serial = serials.fetch_add(1, Ordering::Relaxed);
        play_reasoning(part, serial, sink)?;
        if let Some(end) = play_message(part, serial, sink)? {
            return Ok(end);
        }
        play_calls(part, index, serial, sink)?;
        if let Some(text) = &part.sse {
            sink.raw(text)?;
        }
        if let Some(failure) = &part.sse_error {
            let response = json!({ "id": response, "status": "failed", "error": failure });
            sink.event("response.failed", json!({ "response": response }))?;
            return Ok(End::Complete);
        }
        if let Some(reason) = &part.incomplete {
            let details = json!({ "reason": reason });
            let response = json!({ "id": response, "incomplete_details": details });
            sink.event("response.incomplete", json!({ "response": response }))?;
            return Ok(End::Complete);
        }
    }
    let usage = step.0.iter().rev().find_map(|part| part.usage.clone());
    let mut completed = json!({ "id": response, "usage": usage.unwrap_or_else(default_usage) });
    if let Some(end_turn) = step.0.iter().rev().find_map(|part| part.end_turn) {
        completed["end_turn"] = Value::Bool(end_turn);
    }
    sink.event("response.completed", json!({ "response": completed }))?;
    Ok(End::Complete)
}

fn play_reasoning(part: &Part, serial: u64, sink: &mut impl Sink) -> io::Result<()> {
    let Some(text) = &part.reason else {
        return Ok(());
    };
    let id = format!("rs_{serial}");
    let begun = json!({ "type": "reasoning", "id": id, "summary": [] });
    sink.event("response.output_item.added", json!({ "item": begun }))?;
    let summary = json!({ "type": "summary_text", "text": "" });
    sink.event(
        "response.reasoning_summary_part.added",
        json!({ "item_id": id, "summary_index": 0, "part": summary }),
    )?;
    for delta in chunks(text, part.chunk.unwrap_or(DEFAULT_CHUNK)) {
        sink.event(
            "response.reasoning_summary_text.delta",
            json!({ "item_id": id, "summary_index": 0, "delta": delta }),
        )?;
        sink.event(
            "response.reasoning_text.delta",
            json!({ "item_id": id, "content_index": 0, "delta": delta }),
        )?;
    }
    let item = json!({
        "type": "reasoning",
        "id": id,
        "summary": [{ "type": "summary_text", "text": text }],
        "content": [{ "type": "reasoning_text", "text": text }],
    });
    sink.event("response.output_item.done", json!({ "item": item }))
}

/// The message of a part, and whether the answer ends in the middle of it.
fn play_message(part: &Part, serial: u64, sink: &mut impl Sink) -> io::Result<Option<End>> {
    let has_message = part.text.is_some() || part.flood.is_some() || part.rest.is_some();
    let id = format!("msg_{serial}");
    if has_message {
        let begun = json!({ "type": "message", "id": id, "role": "assistant", "content": [] });
        sink.event("response.output_item.added", json!({ "item": begun }))?;
    }
    let mut whole = String::new();
    stream_text(part, part.text.as_deref(), &id, &mut whole, sink)?;
    let filler = "x".repeat(part.size.unwrap_or(DEFAULT_FLOOD_SIZE));
    for _ in 0..part.flood.unwrap_or(0) {
        delta(&id, &filler, sink)?;
        whole.push_str(&filler);
    }
    if let Some(name) = &part.gate {
        sink.gate(name)?;
    }
    stream_text(part, part.rest.as_deref(), &id, &mut whole, sink)?;
    if part.drop {
        return Ok(Some(End::Cut));
    }
    if part.hang {
        sink.hang()?;
        return Ok(Some(End::Cut));
    }
    if has_message {
        let content = json!([{ "type": "output_text", "text": whole }]);
        let item = json!({ "type": "message", "id": id, "role": "assistant", "content": content });
        sink.event("response.output_item.done", json!({ "item": item }))?;
    }
    Ok(None)
}

fn stream_text(
    part: &Part,
    text: Option<&str>,
    id: &str,
    whole: &mut String,
    sink: &mut impl Sink,
) -> io::Result<()> {
    for chunk in chunks(text.unwrap_or_default(), part.chunk.unwrap_or(DEFAULT_CHUNK)) {
        delta(id, &chunk, sink)?;
        whole.push_str(&chunk);
        if let Some(milliseconds) = part.delay_ms {
            sink.pause(Duration::from_millis(milliseconds))?;
        }
    }
    Ok(())
}

fn delta(id: &str, text: &str, sink: &mut impl Sink) -> io::Result<()> {
    let data = json!({ "item_id": id, "output_index": 0, "content_index": 0, "delta": text });
    sink.event("response.output_text.delta", data)
}

fn play_calls(part: &Part, index: usize, serial: u64, sink: &mut impl Sink) -> io::Result<()> {
    let call_id = call_id(index, serial);
    let mut items = Vec::new();
    if let Some(name) = &part.call {
        let arguments = match &part.args {
            Some(Value::String(raw)) => raw.clone(),
            Some(arguments) => arguments.to_string(),
            None => "{}".to_owned(),
        };
        let mut item = json!({
            "type": "function_call",
            "id": format!("fc_{serial}"),
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        });
        if let Some(namespace) = &part.namespace {
            item["namespace"] = json!(namespace);
        }
        items.push(item);
    }
    if let Some(name) = &part.custom {
        let input = part.input.clone().unwrap_or_default();
        items.push(json!({
            "type": "custom_tool_call",
            "id": format!("ctc_{serial}"),
            "call_id": call_id,
            "name": name,
            "input": input,
        }));
    }
    items.extend(part.item.clone());
    for item in items {
        sink.event("response.output_item.done", json!({ "item": item }))?;
    }
    Ok(())
}

/// `text` in pieces of `size` characters; nothing for an empty text.
fn chunks(text: &str, size: usize) -> impl Iterator<Item = String> {
    let mut characters = text.chars();
    std::iter::from_fn(move || {
        let chunk: String = characters.by_ref().take(size.max(1)).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Plausible round numbers, so that usage events are there and easy to recognise.
fn default_usage() -> Value {
    json!({
        "input_tokens": 1000,
        "input_tokens_details": { "cached_tokens": 200 },
        "output_tokens": 50,
        "output_tokens_details": { "reasoning_tokens": 10 },
        "total_tokens": 1050,
    })
}

#[cfg(test)]
mod tests {
    use super::super::script::{Failure, call, hang, hold, http_error, say, stream};
    use super::*;

    #[derive(Default)]
    struct Trace(Vec<String>);

    impl Sink for Trace {
        fn event(&mut self, name: &str, data: Value) -> io::Result<()> {
            let detail = data["delta"].as_str().or_else(|| data["item"]["name"].as_str());
            self.0.push(format!("{} {}", name, detail.unwrap_or_default()).trim().to_owned());
            Ok(())
        }
        fn raw(&mut self, text: &str) -> io::Result<()> {
            self.0.push(format!("raw {text}"));
            Ok(())
        }
        fn pause(&mut self, duration: Duration) -> io::Result<()> {
            self.0.push(format!("pause {}", duration.as_millis()));
            Ok(())
        }
        fn gate(&mut self, name: &str) -> io::Result<()> {
            self.0.push(format!("gate {name}"));
            Ok(())
        }
        fn hang(&mut self) -> io::Result<()> {
            self.0.push("hang".to_owned());
            Ok(())
        }
    }

    fn played(step: &Step) -> (End, Vec<String>) {
        let mut trace = Trace::default();
        let end = play(step, 0, &AtomicU64::new(1), &mut trace).expect("play");
        let names = trace.0.iter().map(|name| name.trim_start_matches("response.").to_owned());
        (end, names.collect())
    }

    #[test]
    fn a_message_is_added_streamed_done_and_completed() {
        let (end, names) = played(&stream(2, 5, "ab"));
        assert_eq!(end, End::Complete);
        let expected = [
            "created",
            "output_item.added",
            "output_text.delta ab",
            "pause 5",
            "output_text.delta ab",
            "pause 5",
            "output_item.done",
            "completed",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_gate_is_inside_the_message_and_a_hang_never_completes_it() {
        let (_, names) = played(&hold("g", "a", "b"));
        let expected = [
            "created",
            "output_item.added",
            "output_text.delta a",
            "gate g",
            "output_text.delta b",
            "output_item.done",
            "completed",
        ];
        assert_eq!(names, expected);
        let (end, names) = played(&hang());
        assert_eq!((end, names), (End::Cut, vec!["created".to_owned(), "hang".to_owned()]));
    }

    #[test]
    fn a_call_is_one_finished_item() {
        let (_, names) = played(&call("tool", json!({"a": 1})));
        assert_eq!(names, ["created", "output_item.done tool", "completed"]);
    }

    #[test]
    fn a_failure_happens_as_often_as_it_should() {
        let step = http_error(500, Value::Null, Some(2));
        assert_eq!(for_attempt(step.clone(), 2), step);
        let recovered = for_attempt(step, 3);
        assert_eq!(recovered.0[0].text.as_deref(), Some("Recovered."));
        assert_eq!(recovered.0[0].status, None);
        let always = http_error(500, Value::Null, None);
        assert_eq!(for_attempt(always.clone(), 99), always);
        let failing = Part { sse_error: Some(Failure::default()), ..say("a").0.remove(0) };
        let (_, names) = played(&failing.into());
        assert_eq!(names.last().map(String::as_str), Some("failed"));
    }
}
