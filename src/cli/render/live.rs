//! A turn as it happens: the agent's words on standard output, all else around it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::item::{
    Print, call_of, print_changes, print_command, print_command_end, print_plan, reasoning_text,
    text, user_text,
};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::visible::{visible, visible_line};

/// Most items that are remembered. When there are more, all are forgotten: what they streamed so
/// far is then repeated when they complete.
const MAX_ITEMS: usize = 4096;

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TurnEnd {
    /// The turn.
    pub(crate) turn_id: String,
    /// `completed`, `failed`, `interrupted` or what a later version says.
    pub(crate) status: String,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// What was shown of an item so far.
#[derive(Default)]
struct Shown {
    /// The agent's words as far as they came in pieces.
    words: String,
    /// Whether anything came in pieces.
    streamed: bool,
    /// Whether pieces were missed, so that later ones must not be put behind the earlier ones.
    torn: bool,
    /// Whether the item's beginning was shown.
    begun: bool,
    /// What the item changes, for the question that may follow.
    changes: Value,
}

/// Shows notifications of the app-server.
#[derive(Default)]
pub(crate) struct LiveView {
    /// The only turn to show; all when there is none.
    turn: Option<String>,
    open: HashMap<String, Shown>,
    done: HashSet<String>,
    /// What the agent said in this turn, message by message.
    said: Vec<String>,
    /// Whether events were missed at some time.
    missed: bool,
}

impl LiveView {
    /// Shows one turn and nothing else.
    pub(crate) fn of_turn(turn: String) -> Self {
        Self { turn: Some(turn), ..Self::default() }
    }

    /// What the agent said last.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.said.last().map(String::as_str)
    }

    /// What an item changes, as far as it was seen.
    pub(crate) fn changes_of(&self, item: Option<&str>) -> Option<&Value> {
        self.open.get(item?).map(|shown| &shown.changes).filter(|changes| changes.is_array())
    }

    /// Says that events were missed: items that are being streamed wait for their whole text.
    pub(crate) fn missed_events(&mut self) {
        self.missed = true;
        for shown in self.open.values_mut() {
            shown.torn = true;
        }
    }

    /// Whether events were missed at some time.
    pub(crate) fn has_missed_events(&self) -> bool {
        self.missed
    }

    /// Whether an event of the given turn is to be shown.
    pub(crate) fn shows(&self, turn: Option<&str>) -> bool {
        match (&self.turn, turn) {
            (Some(only), Some(turn)) => only == turn,
            _ => true,
        }
    }

    /// Shows a notification. Returns the end of the turn when that is what it says.
    pub(crate) fn notification(
        &mut self,
        method: &str,
        params: &Value,
        console: &mut Console,
    ) -> Result<Option<TurnEnd>, Failure> {
        let turn =
            params.get("turn").map_or_else(|| text(params, "turnId"), |turn| text(turn, "id"));
        if !self.shows(Some(turn).filter(|turn| !turn.is_empty())) {
            return Ok(None);
        }
        let item = params.get("item").unwrap_or(&Value::Null);
        match method {
            "turn/completed" => return self.turn_completed(params, console).map(Some),
            "item/started" => self.started(item, console),
            "item/completed" => self.completed(item, console)?,
            "item/agentMessage/delta" => self.words(params, console)?,
            "item/commandExecution/outputDelta" => {
                if let Some(delta) = self.piece(params) {
                    console.aside_indented(&visible(&delta), Style::Plain);
                }
            }
            "item/reasoning/summaryTextDelta" | "item/plan/delta" => {
                if let Some(delta) = self.piece(params) {
                    console.aside(&visible(&delta), Style::Dim);
                }
            }
            "item/reasoning/summaryPartAdded" => console.finish_err_line(),
            "turn/plan/updated" => print_plan(console, params),
            "error" => print_error(params, console),
            "warning" | "guardianWarning" => {
                let message = visible_line(text(params, "message"));
                console.note(&format!("warning: {message}"), Style::Yellow);
            }
            _ => {}
        }
        Ok(None)
    }

    fn remember(&mut self, id: &str) -> &mut Shown {
        if self.open.len() >= MAX_ITEMS && !self.open.contains_key(id) {
            self.open.clear();
        }
        let torn = self.missed;
        self.open.entry(id.to_owned()).or_insert_with(|| Shown { torn, ..Shown::default() })
    }

    /// A piece of an item's text, unless it cannot be put behind what is on the screen.
    fn piece(&mut self, params: &Value) -> Option<String> {
        let id = text(params, "itemId");
        let delta = text(params, "delta");
        if self.done.contains(id) {
            return None;
        }
        let shown = self.remember(id);
        if shown.torn {
            return None;
        }
        shown.streamed = true;
        Some(delta.to_owned())
    }

    fn words(&mut self, params: &Value, console: &mut Console) -> Result<(), Failure> {
        let Some(delta) = self.piece(params) else {
            return Ok(());
        };
        self.remember(text(params, "itemId")).words.push_str(&delta);
        if console.json { Ok(()) } else { console.out(&visible(&delta), Style::Plain) }
    }

    fn started(&mut self, item: &Value, console: &mut Console) {
        let id = text(item, "id");
        if self.done.contains(id) {
            return;
        }
        let shown = self.remember(id);
        if std::mem::replace(&mut shown.begun, true) {
            return;
        }
        shown.torn = false;
        match text(item, "type") {
            "commandExecution" => print_command(console, item),
            "fileChange" => {
                shown.changes = item.get("changes").cloned().unwrap_or(Value::Null);
                print_changes(console, &shown.changes, Print::Aside);
            }
            "userMessage" if self.turn.is_none() => {
                console.note(&format!("\n› {}", visible(&user_text(item))), Style::Bold);
            }
            "reasoning" => console.finish_err_line(),
            _ => {
                if let Some(call) = call_of(item) {
                    console.note(&call, Style::Cyan);
                }
            }
        }
    }

    /// Shows what is not on the screen yet of an item that is complete.
    pub(crate) fn completed(&mut self, item: &Value, console: &mut Console) -> Result<(), Failure> {
        let id = text(item, "id");
        if id.is_empty() || self.done.contains(id) {
            return Ok(());
        }
        let kind = text(item, "type");
        let begun = self.open.get(id).is_some_and(|shown| shown.begun);
        if !begun && kind != "agentMessage" {
            self.started(item, console);
        }
        let shown = self.open.remove(id).unwrap_or_default();
        if self.done.len() >= MAX_ITEMS {
            self.done.clear();
        }
        self.done.insert(id.to_owned());
        match kind {
            "agentMessage" => return self.message_completed(text(item, "text"), &shown, console),
            "commandExecution" => {
                print_command_end(console, item, shown.streamed && !shown.torn);
            }
            "fileChange" => {
                let (word, style) = match text(item, "status") {
                    "completed" => ("applied", Style::Dim),
                    "declined" => ("declined", Style::Yellow),
                    _ => ("not applied", Style::Red),
                };
                console.note(&format!("  {word}"), style);
            }
            "reasoning" => {
                if !shown.streamed {
                    console.aside(&visible(&reasoning_text(item)), Style::Dim);
                }
                console.finish_err_line();
            }
            "plan" if !shown.streamed => {
                console.note(&visible(text(item, "text")), Style::Plain);
            }
            _ if text(item, "status") == "failed" => console.note("  failed", Style::Red),
            _ => {}
        }
        Ok(())
    }

    fn message_completed(
        &mut self,
        whole: &str,
        shown: &Shown,
        console: &mut Console,
    ) -> Result<(), Failure> {
        if self.said.len() >= MAX_ITEMS {
            self.said.clear();
        }
        // Older app-servers number items anew when a thread is read, so after a gap the same
        // message may come under another id.
        let repeated = self.missed && self.said.iter().any(|words| words == whole);
        if repeated {
            return Ok(());
        }
        self.said.push(whole.to_owned());
        if console.json {
            return Ok(());
        }
        match whole.strip_prefix(&shown.words) {
            Some(rest) => console.out(&visible(rest), Style::Plain)?,
            None => {
                console.finish_out_line()?;
                console.out(&visible(whole), Style::Plain)?;
            }
        }
        console.finish_out_line()
    }

    fn turn_completed(
        &mut self,
        params: &Value,
        console: &mut Console,
    ) -> Result<TurnEnd, Failure> {
        let turn = params.get("turn").unwrap_or(&Value::Null);
        for item in turn.get("items").and_then(Value::as_array).into_iter().flatten() {
            if text(item, "type") == "agentMessage"
                && !self.said.iter().any(|w| w == text(item, "text"))
            {
                self.completed(item, console)?;
            }
        }
        if !console.json {
            console.finish_out_line()?;
        }
        console.finish_err_line();
        if self.turn.is_none() {
            self.said.clear();
            self.done.clear();
            self.open.clear();
        }
        let error = turn.get("error").map(|error| text(error, "message")).filter(|m| !m.is_empty());
        let status = text(turn, "status");
        Ok(TurnEnd {
            turn_id: text(turn, "id").to_owned(),
            status: if status.is_empty() { "completed" } else { status }.to_owned(),
            error: error.map(str::to_owned),
        })
    }
}

/// An error that the runtime gets over by itself. The last one is told when the turn ends.
fn print_error(params: &Value, console: &mut Console) {
    if params.get("willRetry").and_then(Value::as_bool) != Some(true) {
        return;
    }
    let error = params.get("error").unwrap_or(&Value::Null);
    let details = text(error, "additionalDetails");
    let details = if details.is_empty() { String::new() } else { format!(" ({details})") };
    console.note(&visible_line(&format!("{}{details}", text(error, "message"))), Style::Yellow);
}
