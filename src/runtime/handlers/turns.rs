//! Turns: start, steer, interrupt.

use std::sync::Arc;

use cm_core::rpc::code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::table::Call;
use crate::server::Server;
use crate::thread::{self, ActiveTurn, LoadedThread, Overrides};
use crate::turn::{self, UserInput};
use crate::wire::{Fault, lock, parse_thread_id};

/// Characters of text one call may carry; as in codex.
const MAX_INPUT_CHARS: usize = 1_048_576;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    thread_id: String,
    input: Vec<Value>,
    #[serde(default)]
    client_user_message_id: Option<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    approval_policy: Option<Value>,
    #[serde(default)]
    sandbox_policy: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Steer {
    thread_id: String,
    expected_turn_id: String,
    input: Vec<Value>,
    #[serde(default)]
    client_user_message_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interrupt {
    thread_id: String,
    turn_id: String,
}

fn loaded(server: &Server, thread_id: &str) -> Result<Arc<LoadedThread>, Fault> {
    let id = parse_thread_id(thread_id)?;
    lock(&server.threads).get(id).ok_or_else(|| Fault::thread_not_found(id))
}

/// Starts a turn, or steers the one that runs and answers with its id, as codex does from 0.155
/// on. Settings given here hold for the thread from now on.
pub(super) fn start(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Start = call.params()?;
    let thread = loaded(server, &params.thread_id)?;
    let input = read_input(params.input, params.client_user_message_id)?;
    let overrides = Overrides {
        cwd: params.cwd,
        approval_policy: params.approval_policy,
        sandbox_policy: params.sandbox_policy,
        ..Overrides::default()
    };
    let mut state = lock(&thread.state);
    let settings = state.meta.settings.with(&overrides, server.is_experimental())?;
    let answer = |turn_id| json!({ "turn": thread::turn(turn_id, None) });
    if let Some(active) = state.active.clone() {
        room_for_input(server, &active)?;
        state.meta.settings = settings;
        call.answer(answer(active.id));
        active.inbox.push_input(input);
        return Ok(());
    }
    state.meta.settings = settings;
    let turn_id = turn::start(server, &thread, &mut state, input)?;
    call.answer(answer(turn_id));
    Ok(())
}

/// Adds a message to the turn that runs.
pub(super) fn steer(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Steer = call.params()?;
    let thread = loaded(server, &params.thread_id)?;
    let input = read_input(params.input, params.client_user_message_id)?;
    let state = lock(&thread.state);
    let none = || Fault::invalid("no active turn to steer");
    let active = state.active.as_ref().ok_or_else(none)?;
    if active.id.to_string() != params.expected_turn_id {
        let (wanted, found) = (params.expected_turn_id, active.id);
        let message = format!("expected active turn id `{wanted}` but found `{found}`");
        return Err(Fault::invalid(message));
    }
    room_for_input(server, active)?;
    call.answer(json!({ "turnId": active.id }));
    active.inbox.push_input(input);
    Ok(())
}

/// Interrupts the turn that runs, whatever it waits for.
pub(super) fn interrupt(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Interrupt = call.params()?;
    let thread = loaded(server, &params.thread_id)?;
    let state = lock(&thread.state);
    let none = || Fault::invalid("no active turn to interrupt");
    let active = state.active.as_ref().ok_or_else(none)?;
    if active.id.to_string() != params.turn_id {
        let (wanted, found) = (params.turn_id, active.id);
        let message = format!("expected active turn id {wanted} but found {found}");
        return Err(Fault::invalid(message));
    }
    // The answer goes first: the end of the turn follows it.
    call.answer(json!({}));
    active.inbox.interrupt();
    Ok(())
}

fn room_for_input(server: &Server, active: &ActiveTurn) -> Result<(), Fault> {
    match active.inbox.queued_inputs() < server.options.limits.queued_inputs {
        true => Ok(()),
        false => Err(Fault::overloaded()),
    }
}

/// Reads a message: text counts, everything else (images, mentions) is kept on the item only.
fn read_input(mut content: Vec<Value>, client_id: Option<String>) -> Result<UserInput, Fault> {
    if content.is_empty() {
        return Err(Fault::invalid("input must not be empty"));
    }
    let mut texts = Vec::new();
    for part in &mut content {
        let Some(object) = part.as_object_mut() else {
            return Err(Fault::bad_request(
                "invalid type: expected internally tagged enum UserInput",
            ));
        };
        let Some(kind) = object.get("type").and_then(Value::as_str) else {
            return Err(Fault::bad_request("missing field `type`"));
        };
        if kind == "text" {
            let Some(text) = object.get("text").and_then(Value::as_str) else {
                return Err(Fault::bad_request("missing field `text`"));
            };
            texts.push(text.to_owned());
            object.entry("text_elements").or_insert_with(|| json!([]));
        }
    }
    let text = texts.join("\n");
    let length = text.chars().count();
    if length > MAX_INPUT_CHARS {
        let message = format!("Input exceeds the maximum length of {MAX_INPUT_CHARS} characters.");
        let data = json!({
            "input_error_code": "input_too_large", "max_chars": MAX_INPUT_CHARS,
            "actual_chars": length,
        });
        return Err(Fault::invalid(message).code(code::INVALID_PARAMS).data(data));
    }
    Ok(UserInput { content, text, client_id })
}
