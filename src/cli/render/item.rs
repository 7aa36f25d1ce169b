//! One item of a turn: a command, a change of files, a plan, a tool call.

use serde_json::Value;

use crate::console::{Console, Style};
use crate::table::cut;
use crate::visible::{visible, visible_line, visible_strict};

/// Longest line that shows the arguments of a tool, in characters.
const MAX_ARGUMENTS: usize = 200;

/// A member that is text, else nothing.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A command as one text; older app-servers send the words apart.
pub(super) fn command_of(value: &Value) -> String {
    match value.get("command") {
        Some(Value::String(command)) => command.clone(),
        Some(Value::Array(words)) => {
            words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        _ => "(unknown command)".to_owned(),
    }
}

/// `$ command`.
pub(super) fn print_command(console: &mut Console, item: &Value) {
    console.note(&format!("$ {}", visible_strict(&command_of(item))), Style::Cyan);
}

/// What a command printed and how it ended. Output that was streamed is not repeated.
pub(super) fn print_command_end(console: &mut Console, item: &Value, output_was_shown: bool) {
    let output = text(item, "aggregatedOutput");
    if !output_was_shown && !output.is_empty() {
        console.finish_err_line();
        console.aside_indented(&visible(output), Style::Plain);
    }
    let status = text(item, "status");
    match item.get("exitCode").and_then(Value::as_i64) {
        Some(0) => console.note(&format!("  exit 0{}", duration(item)), Style::Dim),
        Some(code) => console.note(&format!("  exit {code}{}", duration(item)), Style::Red),
        None if status == "declined" => console.note("  declined", Style::Yellow),
        None if status.is_empty() => {}
        None => console.note(&format!("  {}", visible_line(status)), Style::Red),
    }
}

fn duration(item: &Value) -> String {
    match item.get("durationMs").and_then(Value::as_f64) {
        Some(milliseconds) if milliseconds >= 100.0 => format!(" ({:.1}s)", milliseconds / 1000.0),
        _ => String::new(),
    }
}

/// The files that an item changes, with what changes in them.
///
/// The diff of a new or deleted file is its content; that of an updated one is a unified diff.
pub(super) fn print_changes(console: &mut Console, changes: &Value, print: Print) {
    let Some(changes) = changes.as_array() else {
        return;
    };
    for change in changes {
        let kind = change
            .get("kind")
            .and_then(|kind| kind.as_str().or_else(|| kind.get("type").and_then(Value::as_str)))
            .unwrap_or("update");
        let mark = match kind {
            "add" => "A",
            "delete" => "D",
            _ => "M",
        };
        let path = visible_line(text(change, "path"));
        let moved = change.get("kind").map(|kind| text(kind, "move_path")).unwrap_or_default();
        let to =
            if moved.is_empty() { String::new() } else { format!(" → {}", visible_line(moved)) };
        print.line(console, &format!("{mark} {path}{to}"), Style::Bold);
        for line in text(change, "diff").lines() {
            let shown = visible_strict(line);
            let (shown, style) = match kind {
                "add" => (format!("+{shown}"), Style::Green),
                "delete" => (format!("-{shown}"), Style::Red),
                _ if line.starts_with('+') => (shown, Style::Green),
                _ if line.starts_with('-') => (shown, Style::Red),
                _ => (shown, Style::Plain),
            };
            print.line(console, &format!("  {shown}"), style);
        }
    }
}

/// Whether lines are told by the way, or belong to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Print {
    /// Left out where only the answer is wanted.
    Aside,
    /// Always there.
    Question,
}

impl Print {
    fn line(self, console: &mut Console, text: &str, style: Style) {
        match self {
            Self::Aside => console.note(text, style),
            Self::Question => console.ask(&format!("{text}\n"), style),
        }
    }
}

/// The steps of a plan and how far each is.
pub(super) fn print_plan(console: &mut Console, params: &Value) {
    let explanation = text(params, "explanation");
    console.note("plan", Style::Bold);
    if !explanation.is_empty() {
        console.note(&format!("  {}", visible(explanation)), Style::Dim);
    }
    for step in params.get("plan").and_then(Value::as_array).into_iter().flatten() {
        let mark = match text(step, "status") {
            "completed" => "[x]",
            "inProgress" | "in_progress" => "[>]",
            _ => "[ ]",
        };
        console.note(&format!("  {mark} {}", visible_line(text(step, "step"))), Style::Plain);
    }
}

/// A call of a tool, of whichever kind. `None` for items that are not calls.
pub(super) fn call_of(item: &Value) -> Option<String> {
    let name = match text(item, "type") {
        "dynamicToolCall" => match text(item, "namespace") {
            "" => text(item, "tool").to_owned(),
            namespace => format!("{namespace}/{}", text(item, "tool")),
        },
        "mcpToolCall" => format!("{}/{}", text(item, "server"), text(item, "tool")),
        "webSearch" => return Some(format!("web search: {}", visible_line(text(item, "query")))),
        _ => return None,
    };
    let arguments = match item.get("arguments") {
        None | Some(Value::Null) => String::new(),
        Some(arguments) => format!(" {}", cut(&arguments.to_string(), MAX_ARGUMENTS)),
    };
    Some(format!("tool {}{}", visible_line(&name), visible_line(&arguments)))
}

/// The text of a message of the user.
pub(super) fn user_text(item: &Value) -> String {
    let parts: Vec<&str> = item
        .get("content")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|part| match part.get("text").and_then(Value::as_str) {
            Some(words) => words,
            None => text(part, "type"),
        })
        .collect();
    parts.join("\n")
}

/// The summary of a piece of reasoning, else its full text.
pub(super) fn reasoning_text(item: &Value) -> String {
    let lines = |name: &str| -> String {
        item.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let summary = lines("summary");
    if summary.is_empty() { lines("content") } else { summary }
}
