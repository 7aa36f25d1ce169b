//! A session as it was.

use cm_core::wire::{Role, RowStatus, SessionDetail, TranscriptEntry};
use serde_json::Value;

use super::item::{command_of, text};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::table::age;
use crate::visible::{visible, visible_line, visible_strict};

/// Prints a session's head and everything that was said and done.
pub(crate) fn print_session(
    console: &mut Console,
    detail: &SessionDetail,
    now: i64,
) -> Result<(), Failure> {
    let session = &detail.session;
    let controls = &session.session_controls;
    console.out(&format!("{}\n", visible_line(session.label())), Style::Bold)?;
    let head = format!(
        "{} · {} · {} ago\n{}\nsandbox {} · approvals {} · network {} · model {}\n",
        session.session_id,
        if session.activity.is_empty() { "unknown" } else { &session.activity },
        age(now, session.updated_at),
        session.cwd,
        controls.filesystem_sandbox.as_str(),
        controls.approval_policy.as_str(),
        controls.network_access.as_str(),
        controls.model.as_deref().unwrap_or("of the runtime"),
    );
    console.out(&visible(&head), Style::Dim)?;
    let mut turn = "";
    for row in &detail.transcript {
        if row.turn_id != turn {
            console.out("\n", Style::Plain)?;
            turn = &row.turn_id;
        }
        print_row(console, row)?;
    }
    Ok(())
}

fn print_row(console: &mut Console, row: &TranscriptEntry) -> Result<(), Failure> {
    let end = match row.status {
        RowStatus::Complete => "",
        RowStatus::Streaming => " …",
        RowStatus::Canceled => " (interrupted)",
        RowStatus::Error => " (failed)",
    };
    match row.role {
        Role::User => console.out(&format!("› {}{end}\n", visible(&row.content)), Style::Bold),
        Role::Assistant => console.out(&format!("{}{end}\n", visible(&row.content)), Style::Plain),
        Role::System => print_system_row(console, row, end),
    }
}

fn print_system_row(
    console: &mut Console,
    row: &TranscriptEntry,
    end: &str,
) -> Result<(), Failure> {
    let item: Value =
        row.details.as_deref().and_then(|d| serde_json::from_str(d).ok()).unwrap_or(Value::Null);
    match row.kind.as_str() {
        "commandExecution" if item.is_object() => {
            let command = visible_strict(&command_of(&item));
            console.out(&format!("$ {command}{end}\n"), Style::Cyan)?;
            for line in text(&item, "aggregatedOutput").lines() {
                console.out(&format!("  {}\n", visible(line)), Style::Plain)?;
            }
            match item.get("exitCode").and_then(Value::as_i64) {
                Some(code) => console.out(&format!("  exit {code}\n"), Style::Dim),
                None => {
                    console.out(&format!("  {}\n", visible_line(text(&item, "status"))), Style::Dim)
                }
            }
        }
        "fileChange" if item.is_object() => {
            console.out(&format!("{}{end}\n", visible_line(&row.content)), Style::Cyan)?;
            for change in item.get("changes").and_then(Value::as_array).into_iter().flatten() {
                let path = visible_line(text(change, "path"));
                console.out(&format!("  {path}\n"), Style::Plain)?;
            }
            Ok(())
        }
        "turn.error" => console.out(&format!("error: {}\n", visible(&row.content)), Style::Red),
        _ => console.out(&format!("· {}{end}\n", visible(&row.content)), Style::Dim),
    }
}
