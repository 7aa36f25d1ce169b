//! Requests that wait for a person.

use cm_core::wire::{Approval, Question};
use serde_json::Value;

use super::item::{Print, command_of, print_changes, text};
use crate::console::{Console, Style};
use crate::visible::{visible_line, visible_strict};

/// What a request is about, in a word.
pub(crate) fn request_kind(method: &str) -> &'static str {
    match method {
        "item/commandExecution/requestApproval" | "execCommandApproval" => "command",
        "item/fileChange/requestApproval" | "applyPatchApproval" => "files",
        "item/permissions/requestApproval" => "permissions",
        "item/tool/requestUserInput" | "tool/requestUserInput" => "question",
        "item/tool/call" => "tool",
        _ => "other",
    }
}

/// A text from the server on one line.
pub(crate) fn one_line(text: &str) -> String {
    visible_line(text)
}

/// What an approval allows. Nothing in it can look like our own lines: each line of a command has
/// a bar in front of it.
pub(crate) fn print_approval(console: &mut Console, approval: &Approval, changes: Option<&Value>) {
    console.finish_err_line();
    let details = &approval.details;
    match request_kind(&approval.method) {
        "command" => {
            console.ask("\nThe agent wants to run a command:\n", Style::Bold);
            barred(console, &command_of(details), Style::Cyan);
            place(console, details);
        }
        "files" => {
            console.ask("\nThe agent wants to change files:\n", Style::Bold);
            match changes {
                // The diff stands above, where it was shown when the change came up.
                Some(changes) if console.tells() => print_paths(console, changes),
                Some(changes) => print_changes(console, changes, Print::Question),
                None => match details.get("fileChanges") {
                    Some(changes) => barred(console, &pretty(changes), Style::Plain),
                    None => barred(console, &approval.summary, Style::Plain),
                },
            }
            let root = text(details, "grantRoot");
            if !root.is_empty() {
                console.ask(
                    &format!("  and to write below {} for the session\n", visible_line(root)),
                    Style::Yellow,
                );
            }
        }
        _ => {
            console.ask(&format!("\n{}\n", visible_line(&approval.summary)), Style::Bold);
            barred(console, &pretty(details), Style::Plain);
        }
    }
    let reason = text(details, "reason");
    if !reason.is_empty() {
        console.ask(&format!("  reason: {}\n", visible_line(reason)), Style::Plain);
    }
}

fn print_paths(console: &mut Console, changes: &Value) {
    for change in changes.as_array().into_iter().flatten() {
        barred(console, text(change, "path"), Style::Cyan);
    }
}

fn place(console: &mut Console, details: &Value) {
    let cwd = text(details, "cwd");
    if !cwd.is_empty() {
        console.ask(&format!("  in {}\n", visible_line(cwd)), Style::Plain);
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn barred(console: &mut Console, text: &str, style: Style) {
    for line in visible_strict(text).split('\n') {
        console.ask("  │ ", Style::Dim);
        console.ask(&format!("{line}\n"), style);
    }
}

/// A question and what can be chosen.
pub(crate) fn print_question(console: &mut Console, question: &Question) {
    console.finish_err_line();
    let header = visible_line(&question.header);
    let words = visible_line(&question.question);
    let heading = if header.is_empty() { words } else { format!("{header}: {words}") };
    console.ask(&format!("\n{heading}\n"), Style::Bold);
    for (index, option) in question.options.iter().flatten().enumerate() {
        let label = visible_line(&option.label);
        console.ask(&format!("  {}. {label}", index + 1), Style::Plain);
        if !option.description.is_empty() {
            console.ask(&format!("  {}", visible_line(&option.description)), Style::Dim);
        }
        console.ask("\n", Style::Plain);
    }
    if question.is_secret {
        console.ask("  (a secret: it will be visible while you type)\n", Style::Yellow);
    }
}
