//! Carrying out a message, directive by directive.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;

use super::directive::{Directive, parse};
use super::speech::{directives, introduction, say, stream, think};
use crate::tools;
use crate::turn::{Stop, Turn, UserInput};

/// Works until nothing is left to do, steering included, and completes the turn.
///
/// Each directive counts as one answer of a model: usage is reported after it, and steering is
/// taken up between two of them.
pub(crate) fn work(turn: &mut Turn, input: &UserInput) -> Result<(), Stop> {
    let mut queue = VecDeque::from(parse(&input.text));
    let mut report = Vec::new();
    loop {
        while let Some(steering) = turn.inbox.take_input() {
            turn.user_message(&steering);
            queue.extend(parse(&steering.text));
        }
        if turn.inbox.is_interrupted() {
            return Err(Stop::Interrupted);
        }
        if let Some(directive) = queue.pop_front() {
            if let Some(line) = carry_out(turn, directive)? {
                turn.count_output(&line);
                report.push(line);
            }
            turn.usage();
            continue;
        }
        if !report.is_empty() {
            let lines = std::mem::take(&mut report);
            say(turn, &format!("Done.\n{}", lines.join("\n")))?;
            turn.usage();
        }
        if turn.try_complete()? {
            return Ok(());
        }
    }
}

/// Carries out one directive; the answer is a line for the closing report, if it needs one.
fn carry_out(turn: &mut Turn, directive: Directive) -> Result<Option<String>, Stop> {
    match directive {
        Directive::Run(command) => tools::run_command(turn, &command).map(Some),
        Directive::Write { path, content } => {
            tools::change_file(turn, &path, Some(&content)).map(Some)
        }
        Directive::Delete(path) => tools::change_file(turn, &path, None).map(Some),
        Directive::Ask { question, options } => tools::ask(turn, &question, &options).map(Some),
        Directive::Call { tool, arguments } => tools::call(turn, &tool, &arguments).map(Some),
        Directive::Think(text) => {
            think(turn, &text);
            Ok(Some("- think: shown".to_owned()))
        }
        Directive::Plan(steps) => {
            let step = |step: &String| json!({ "step": step, "status": "pending" });
            let plan: Vec<_> = steps.iter().map(step).collect();
            turn.notify("turn/plan/updated", json!({ "explanation": null, "plan": plan }));
            Ok(Some(format!("- plan: {} steps", steps.len())))
        }
        Directive::Say(text) => say(turn, &text).map(|()| None),
        Directive::Slow { pieces, every_ms, text } => {
            let pieces = (1..=pieces).map(move |number| format!("{text} {number} "));
            stream(turn, pieces, Duration::from_millis(every_ms)).map(|_| None)
        }
        Directive::Flood { pieces, bytes } => {
            stream(turn, (0..pieces).map(|_| "x".repeat(bytes)), Duration::ZERO).map(|_| None)
        }
        Directive::Fail(message) => Err(Stop::Failed(message)),
        Directive::Help => say(turn, &directives()).map(|()| None),
        Directive::Plain(text) => say(turn, &introduction(&text)).map(|()| None),
        Directive::Wrong(line) => Ok(Some(format!("- not understood: {line} (try /help)"))),
    }
}
