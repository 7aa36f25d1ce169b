//! `sessions send`, `sessions steer` and `sessions interrupt`.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cm_core::ids::{ThreadId, TurnId};
use cm_core::wire::{Interrupt, MessageAccepted, SessionDetail, Steer};
use serde_json::Value;

use super::arguments::{InterruptArgs, SendArgs, SteerArgs};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::message::{Errand, typed_message};
use crate::render::one_line;
use crate::resolve;
use crate::terminal::Terminal;

/// Sends a message, and follows its turn if asked to.
pub(super) fn send(
    arguments: &SendArgs,
    api: &Api,
    interrupted: &AtomicBool,
    console: &mut Console,
) -> Result<(), Failure> {
    let message = typed_message(&arguments.text, std::io::stdin())?;
    let session = resolve::session(api, &arguments.session)?;
    let body = arguments.controls.message(message.text, arguments.effort.effort);
    if !arguments.follow {
        let route = format!("/sessions/{session}/messages");
        let raw = api.post_value(&route, &body)?;
        if console.json {
            return console.out_json(&raw);
        }
        let accepted: MessageAccepted = api.typed(&route, raw)?;
        for warning in &accepted.warnings {
            console.note(&format!("warning: {}", one_line(warning)), Style::Yellow);
        }
        return console.out_line(&one_line(&accepted.turn_id));
    }
    let limit = arguments.answers.limit();
    let errand = Errand {
        api,
        session: &session,
        is_new: false,
        policy: arguments.answers.policy(),
        terminal: Terminal::of_process(message.from_stdin),
        interrupted,
        deadline: Instant::now() + limit,
        limit,
    };
    errand.run(&body, console)
}

/// Adds to the running turn.
pub(super) fn steer(
    arguments: &SteerArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let message = typed_message(&arguments.text, std::io::stdin())?;
    let session = resolve::session(api, &arguments.session)?;
    let turn = match &arguments.turn {
        Some(turn) => checked_turn(turn)?,
        None => running_turn(api, &session)?,
    };
    let route = format!("/sessions/{session}/turns/{turn}/steer");
    let raw = api.post_value(&route, &Steer { input: message.text })?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("added to turn {turn}"), Style::Dim);
    Ok(())
}

/// Stops the running turn.
pub(super) fn interrupt(
    arguments: &InterruptArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let session = resolve::session(api, &arguments.session)?;
    let turn_id = arguments.turn.as_deref().map(checked_turn).transpose()?;
    let body = Interrupt { turn_id: turn_id.map(|turn| turn.as_str().to_owned()) };
    let raw = api.post_value(&format!("/sessions/{session}/interrupt"), &body)?;
    if console.json {
        return console.out_json(&raw);
    }
    let turn = raw.get("turnId").and_then(Value::as_str).unwrap_or_default();
    console.note(&format!("interrupted turn {}", one_line(turn)), Style::Dim);
    Ok(())
}

fn checked_turn(text: &str) -> Result<TurnId, Failure> {
    TurnId::parse(text)
        .map_err(|error| Failure::Usage(format!("{text:?} is not a turn id: {error}")))
}

fn running_turn(api: &Api, session: &ThreadId) -> Result<TurnId, Failure> {
    let detail: SessionDetail = api.get(&format!("/sessions/{session}"))?;
    let turns = detail.thread.get("turns").and_then(Value::as_array);
    let running = turns
        .into_iter()
        .flatten()
        .rev()
        .find(|turn| turn.get("status").and_then(Value::as_str) == Some("inProgress"));
    match running.and_then(|turn| turn.get("id")).and_then(Value::as_str) {
        Some(turn) => checked_turn(turn),
        None => Err(Failure::NotFound("no turn runs in the session".to_owned())),
    }
}
