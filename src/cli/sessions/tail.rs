//! `sessions tail`: a session as it happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cm_core::wire::StreamFrame;
use serde_json::Value;

use super::arguments::SessionArgs;
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::follow::{Watch, Watched};
use crate::http::Api;
use crate::render::{LiveView, one_line};
use crate::resolve;
use crate::visible::one_line_json;

/// How long one look at the stream waits. Bounds how late Ctrl-C is noticed.
const TICK: Duration = Duration::from_millis(100);

/// Follows a session until Ctrl-C, or until it is deleted.
pub(super) fn tail(
    arguments: &SessionArgs,
    api: &Api,
    interrupted: &AtomicBool,
    console: &mut Console,
) -> Result<(), Failure> {
    let session = resolve::session(api, &arguments.session)?;
    // A filter for a session that does not exist is silent for ever.
    api.get_value(&format!("/sessions/{session}"))?;
    let mut watch = Watch::start(api, &session)?;
    let mut view = LiveView::default();
    console.note(&format!("following {session}; Ctrl-C ends"), Style::Dim);
    while !interrupted.swap(false, Ordering::SeqCst) {
        match watch.next(TICK)? {
            Watched::Frame(text, frame) => {
                let control = matches!(frame.kind.as_str(), "ready" | "pong" | "error");
                if control || frame.thread_id.as_deref() != Some(session.as_str()) {
                    continue;
                }
                if console.json {
                    console.out_line(&one_line_json(&text))?;
                } else {
                    show(&frame, &mut view, console)?;
                }
                if frame.kind == "session_deleted" {
                    console.note("the session was deleted", Style::Yellow);
                    return Ok(());
                }
            }
            Watched::Nothing => {}
            Watched::Lost(reason) => {
                let reason = one_line(&reason);
                console.note(&format!("connection lost ({reason})"), Style::Yellow);
            }
            Watched::Resumed => {
                console.note("connection is back", Style::Dim);
            }
            Watched::Back => {
                view.missed_events();
                console
                    .note("connection is back; what happened between is not shown", Style::Yellow);
            }
        }
    }
    Ok(())
}

fn show(frame: &StreamFrame, view: &mut LiveView, console: &mut Console) -> Result<(), Failure> {
    let member =
        |name: &str| one_line(frame.payload.get(name).and_then(Value::as_str).unwrap_or(""));
    match frame.kind.as_str() {
        "notification" => {
            let method = frame.payload.get("method").and_then(Value::as_str).unwrap_or_default();
            let params = frame.payload.get("params").unwrap_or(&Value::Null);
            let Some(end) = view.notification(method, params, console)? else {
                return Ok(());
            };
            let error =
                end.error.map(|error| format!(": {}", one_line(&error))).unwrap_or_default();
            let style = if end.status == "completed" { Style::Dim } else { Style::Red };
            console.note(&format!("— turn {}{error}", one_line(&end.status)), style);
        }
        "approval" => {
            let hint = format!("approvals decide {} accept", member("approvalId"));
            console.note(&format!("? {}  ({hint})", member("summary")), Style::Yellow);
        }
        "tool_user_input_requested" => {
            let hint = format!("tool-input decide {}", member("requestId"));
            console.note(&format!("? {}  ({hint})", member("summary")), Style::Yellow);
        }
        "tool_call_requested" => {
            let hint = format!("tool-calls respond {}", member("requestId"));
            console.note(&format!("? {}  ({hint})", member("summary")), Style::Yellow);
        }
        "approval_resolved" | "tool_user_input_resolved" => {
            let word = match member("decision") {
                decision if decision.is_empty() => member("status"),
                decision => decision,
            };
            console.note(&format!("  {word}"), Style::Dim);
        }
        _ => {}
    }
    Ok(())
}
