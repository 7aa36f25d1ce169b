//! The command itself, and its thin parts: one call each.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cm_core::wire::{Rename, ResumeSession};
use serde::Serialize;
use serde_json::json;

use super::arguments::{CreateArgs, DeleteArgs, RenameArgs, SessionAction, SessionsArgs};
use super::{list, send, tail};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::resolve;
use crate::run::{create_session, working_directory};
use crate::terminal::{Terminal, confirmed};
use crate::trust;

/// Does what was typed behind `sessions`.
pub(crate) fn execute(
    arguments: &SessionsArgs,
    api: &Api,
    interrupted: &AtomicBool,
    console: &mut Console,
) -> Result<(), Failure> {
    match &arguments.action {
        SessionAction::List(arguments) => list::list(arguments, api, console),
        SessionAction::Show(arguments) => list::show(arguments, api, console),
        SessionAction::Send(arguments) => send::send(arguments, api, interrupted, console),
        SessionAction::Tail(arguments) => tail::tail(arguments, api, interrupted, console),
        SessionAction::Create(arguments) => {
            create(arguments, api, Terminal::of_process(false), console)
        }
        SessionAction::Rename(arguments) => rename(arguments, api, console),
        SessionAction::Archive(arguments) => {
            act(&arguments.session, "archive", &json!({}), api, console)
        }
        SessionAction::Unarchive(arguments) => {
            act(&arguments.session, "unarchive", &json!({}), api, console)
        }
        SessionAction::Resume(arguments) => {
            act(&arguments.session, "resume", &ResumeSession::default(), api, console)
        }
        SessionAction::Delete(arguments) => {
            delete(arguments, api, Terminal::of_process(false), console)
        }
        SessionAction::Interrupt(arguments) => send::interrupt(arguments, api, console),
        SessionAction::Steer(arguments) => send::steer(arguments, api, console),
    }
}

pub(crate) fn create(
    arguments: &CreateArgs,
    api: &Api,
    mut terminal: Option<Terminal>,
    console: &mut Console,
) -> Result<(), Failure> {
    let body = arguments.controls.create(Some(working_directory(arguments.cd.clone())?));
    trust::agree(&body, arguments.trust.trust, api, terminal.as_mut(), console)?;
    if console.json {
        let raw = api.post_value("/sessions", &body)?;
        return console.out_json(&raw);
    }
    // A single try: whoever creates sessions one by one can see and repeat a refusal.
    let id = create_session(&body, api, Instant::now(), &AtomicBool::new(false), console)?;
    console.out_line(id.as_str())
}

fn rename(arguments: &RenameArgs, api: &Api, console: &mut Console) -> Result<(), Failure> {
    let body = Rename { title: arguments.title.join(" ") };
    act(&arguments.session, "rename", &body, api, console)
}

fn act(
    session: &str,
    verb: &str,
    body: &impl Serialize,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let session = resolve::session(api, session)?;
    let raw = api.post_value(&format!("/sessions/{session}/{verb}"), body)?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("{verb}: {session}"), Style::Dim);
    Ok(())
}

pub(crate) fn delete(
    arguments: &DeleteArgs,
    api: &Api,
    terminal: Option<Terminal>,
    console: &mut Console,
) -> Result<(), Failure> {
    let session = resolve::session(api, &arguments.session)?;
    if !arguments.yes {
        let Some(mut terminal) = terminal else {
            return Err(Failure::Usage(
                "deleting cannot be undone, and there is no terminal to ask on: say --yes"
                    .to_owned(),
            ));
        };
        let question = format!("Delete {session} and its transcript for good? [y/N] ");
        if !confirmed(&mut terminal, console, &question) {
            return Err(Failure::NotConfirmed("nothing was deleted"));
        }
    }
    let raw = api.delete(&format!("/sessions/{session}"))?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("deleted: {session}"), Style::Dim);
    Ok(())
}
