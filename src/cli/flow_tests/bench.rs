//! What the tests have in common: typed commands, captured outputs, frames of a turn.

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server, Step};
use crate::command::ClientCommand;
use crate::console::Console;
use crate::failure::Failure;
use crate::http::Api;
use crate::message::TypedMessage;
use crate::run::RunArgs;
use crate::terminal::Terminal;

pub(super) const SESSION: &str = "01a1fb44-92e5-7a11-8259-dc5c54d0fe1e";
pub(super) const TURN: &str = "01a1fb44-a9e1-7ef0-a4f4-36e3a1b6a6b5";

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: ClientCommand,
}

/// A command as it would be typed.
pub(super) fn typed(line: &[&str]) -> ClientCommand {
    Program::try_parse_from([&["codex-manager"], line].concat()).unwrap().command
}

pub(super) fn run_arguments(line: &[&str]) -> RunArgs {
    match typed(&[&["run", "hello"], line].concat()) {
        ClientCommand::Run(arguments) => *arguments,
        other => panic!("{other:?}"),
    }
}

pub(super) fn api(server: &Server) -> Api {
    let endpoint = crate::endpoint::Endpoint::parse(&server.url, "/api").unwrap();
    Api::new(endpoint, Some("secret".to_owned()), Duration::from_secs(20))
}

/// Text that was printed.
#[derive(Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A person: types a line as soon as a question is on the screen.
pub(super) struct Person {
    screen: Captured,
    answers: Vec<(&'static str, &'static str)>,
    typing: PipeWriter,
}

impl Write for Person {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.screen.write(buffer)?;
        if let Some((question, line)) = self.answers.first().copied()
            && self.screen.text().ends_with(question)
        {
            self.answers.remove(0);
            writeln!(self.typing, "{line}").unwrap();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A command's surroundings.
pub(super) struct Bench {
    pub(super) out: Captured,
    pub(super) err: Captured,
    pub(super) console: Console,
    pub(super) terminal: Option<Terminal>,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let (out, err) = (Captured::default(), Captured::default());
        let console = Console::of_writers(Box::new(out.clone()), Box::new(err.clone()));
        Self { out, err, console, terminal: None, interrupted: Arc::default() }
    }

    /// With a person who gives these answers to these questions, one after the other.
    pub(super) fn with_person(answers: &[(&'static str, &'static str)]) -> Self {
        Self::with_hasty_person("", answers)
    }

    /// The same, with something typed before any question was asked.
    pub(super) fn with_hasty_person(early: &str, answers: &[(&'static str, &'static str)]) -> Self {
        let (out, err) = (Captured::default(), Captured::default());
        let (keys, mut typing) = io::pipe().unwrap();
        typing.write_all(early.as_bytes()).unwrap();
        let person = Person { screen: err.clone(), answers: answers.to_vec(), typing };
        let console = Console::of_writers(Box::new(out.clone()), Box::new(person));
        let terminal = Some(Terminal::of_file(File::from(OwnedFd::from(keys))));
        Self { out, err, console, terminal, interrupted: Arc::default() }
    }

    pub(super) fn run(&mut self, server: &Server, line: &[&str]) -> Result<(), Failure> {
        let arguments = run_arguments(line);
        self.console.json = arguments.options.json;
        self.console.quiet = arguments.options.quiet;
        let message = TypedMessage { text: arguments.text.join(" "), from_stdin: false };
        crate::run::converse(
            &arguments,
            message,
            &api(server),
            self.terminal.take(),
            &self.interrupted,
            &mut self.console,
        )
    }

    /// Runs any command but `run`.
    pub(super) fn execute(&mut self, server: &Server, line: &[&str]) -> Result<(), Failure> {
        let command = typed(line);
        self.console.json = command.options().json;
        self.console.quiet = command.options().quiet;
        let api = api(server);
        match &command {
            ClientCommand::Run(_) => panic!("run has a function of its own"),
            ClientCommand::Sessions(arguments) => {
                crate::sessions::execute(arguments, &api, &self.interrupted, &mut self.console)
            }
            ClientCommand::Approvals(arguments) => {
                crate::approvals::execute(arguments, &api, &mut self.console)
            }
            ClientCommand::ToolInput(arguments) => {
                crate::tool_input::execute(arguments, &api, &mut self.console)
            }
            ClientCommand::ToolCalls(arguments) => {
                crate::tool_calls::execute(arguments, &api, &mut self.console)
            }
        }
    }
}

pub(super) fn summary(id: &str, title: &str, activity: &str, updated_at: i64) -> Value {
    json!({
        "sessionId": id, "title": title, "materialized": true, "modelProvider": "mock",
        "approvalPolicy": "untrusted",
        "sessionControls": {"model": null, "approvalPolicy": "untrusted",
            "networkAccess": "restricted", "filesystemSandbox": "workspace-write", "settings": {}},
        "createdAt": updated_at, "updatedAt": updated_at, "cwd": "/demo", "source": "vscode",
        "projectId": null, "activity": activity, "archived": false
    })
}

/// `GET /api/sessions/:id` with one turn and its rows.
pub(super) fn detail(activity: &str, status: Option<&str>, rows: &Value) -> Value {
    let turns = match status {
        Some(status) => json!([{"id": TURN, "status": status, "error": null}]),
        None => json!([]),
    };
    json!({"session": summary(SESSION, "New chat", activity, 1), "thread": {"turns": turns},
           "transcript": rows})
}

pub(super) fn row(id: &str, role: &str, kind: &str, content: &str) -> Value {
    json!({"messageId": id, "turnId": TURN, "role": role, "type": kind, "content": content,
           "status": "complete"})
}

/// A frame of the session.
pub(super) fn frame(kind: &str, payload: &Value) -> Step {
    Step::Frame(json!({"seq": 1, "epoch": "e", "type": kind, "threadId": SESSION,
                       "payload": payload}))
}

/// The server cannot tell what came in between.
pub(super) fn reset() -> Step {
    Step::Frame(json!({"type": "reset", "threadId": null, "epoch": "e", "seq": 1,
                       "reason": "behind"}))
}

/// A notification of the turn.
pub(super) fn note(method: &str, mut params: Value) -> Step {
    params["threadId"] = json!(SESSION);
    if params.get("turn").is_none() && params.get("turnId").is_none() {
        params["turnId"] = json!(TURN);
    }
    frame("notification", &json!({"method": method, "params": params}))
}

pub(super) fn words(item: &str, delta: &str) -> Step {
    note("item/agentMessage/delta", json!({"itemId": item, "delta": delta}))
}

pub(super) fn message(item: &str, text: &str) -> Step {
    note("item/completed", json!({"item": {"type": "agentMessage", "id": item, "text": text}}))
}

pub(super) fn turn_ends(status: &str, error: Option<&str>) -> Step {
    let error = error.map(|message| json!({"message": message}));
    note(
        "turn/completed",
        json!({"turn": {"id": TURN, "items": [], "status": status, "error": error}}),
    )
}

pub(super) const CREATE: &str = "POST /api/sessions";
pub(super) const STREAM: &str = "GET /api/stream?threadId=01a1fb44-92e5-7a11-8259-dc5c54d0fe1e";
/// The connection after one that broke behind the only number that frames here have.
pub(super) const RESUMED: &str =
    "GET /api/stream?threadId=01a1fb44-92e5-7a11-8259-dc5c54d0fe1e&since=e%3A1";
pub(super) const DETAIL: &str = "GET /api/sessions/01a1fb44-92e5-7a11-8259-dc5c54d0fe1e";
pub(super) const MESSAGE: &str = "POST /api/sessions/01a1fb44-92e5-7a11-8259-dc5c54d0fe1e/messages";
pub(super) const INTERRUPT: &str =
    "POST /api/sessions/01a1fb44-92e5-7a11-8259-dc5c54d0fe1e/interrupt";

/// The answers that every good run needs; `None` for everything else.
pub(super) fn usual(seen: &Seen) -> Option<Reply> {
    Some(match seen.line.as_str() {
        CREATE => Reply::Json(
            200,
            json!({"session": summary(SESSION, "New chat", "idle", 1), "thread": {"id": SESSION}}),
        ),
        MESSAGE => {
            Reply::Json(202, json!({"status": "accepted", "sessionId": SESSION, "turnId": TURN}))
        }
        line if line.contains("/decision") || line.contains("/response") => {
            Reply::Json(200, json!({"status": "ok", "requestId": "r", "threadId": SESSION}))
        }
        // What new sessions may do is not said.
        "GET /api/runtime" => Reply::Json(200, json!({})),
        INTERRUPT => {
            Reply::Json(200, json!({"status": "ok", "sessionId": SESSION, "turnId": TURN}))
        }
        _ => return None,
    })
}

/// A server whose first stream plays the steps once the message was sent.
pub(super) fn server_with_turn(steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Server {
    Server::start(move |seen, _| match seen.line.as_str() {
        STREAM => {
            let mut all = vec![Step::Await(MESSAGE)];
            all.extend(steps());
            Reply::Stream(all)
        }
        _ => usual(seen).unwrap_or_else(|| Reply::Json(404, json!({"status": "not_found"}))),
    })
}
