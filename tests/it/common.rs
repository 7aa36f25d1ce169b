//! The program over each runtime, and the words in which the suites drive it.

use std::time::Duration;

use cm_testkit::app::{AppBuilder, Frame, Runtime, StreamClient, TestApp};
use cm_testkit::codex::{CODEX_NEW, CODEX_OLD};
use cm_testkit::http::Reply;
use cm_testkit::model::{
    ScriptedModel, Step, ask, call, config_toml, hold, http_error, prompt, run, run_patch, say,
};
use serde_json::{Value, json};

/// The program under test.
pub(crate) const MANAGER: &str = env!("CARGO_BIN_EXE_codex-manager");

/// Longest wait for anything that happens by itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Whether the long counts are asked for: `CM_IT_LONG=1`, as `tests/run --long` says.
pub(crate) fn is_long() -> bool {
    std::env::var_os("CM_IT_LONG").is_some_and(|value| value == "1")
}

/// The gate at which [`Act::Hold`] waits on codex.
const GATE: &str = "hold";

/// The program with restarts that are quick and never given up.
#[track_caller]
pub(crate) fn builder() -> AppBuilder {
    TestApp::builder(MANAGER)
        .env("CODEX_MANAGER_RESTART_BACKOFF_MS", "20")
        .env("CODEX_MANAGER_RESTART_BACKOFF_MAX_MS", "100")
        .env("CODEX_MANAGER_RESTART_INTENSITY", "1000")
}

/// Which runtime a flow runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The program's own.
    Embedded,
    /// The newest codex.
    CodexNew,
    /// The oldest codex.
    CodexOld,
}

impl Kind {
    /// Whether a real codex runs.
    pub(crate) fn is_codex(self) -> bool {
        self != Self::Embedded
    }

    /// The app-server to start.
    #[track_caller]
    pub(crate) fn runtime(self) -> Runtime {
        let version = match self {
            Self::Embedded => return Runtime::Embedded,
            // Another version can be tried by hand: CM_TEST_CODEX=0.155.0.
            Self::CodexNew => {
                std::env::var("CM_TEST_CODEX").unwrap_or_else(|_| CODEX_NEW.to_owned())
            }
            Self::CodexOld => CODEX_OLD.to_owned(),
        };
        Runtime::codex(&version).expect("tests/run installs the codex versions")
    }

    /// The message that makes the agent of this runtime do these things, in this order.
    pub(crate) fn message(self, acts: &[Act<'_>]) -> String {
        if self.is_codex() {
            return prompt("go", acts.iter().map(Act::step));
        }
        let lines: Vec<String> = acts.iter().map(Act::directive).collect();
        lines.join("\n")
    }
}

/// One thing that an agent does in a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act<'a> {
    /// Says a line of text.
    Say(&'a str),
    /// Runs a shell command after an approval.
    Run(&'a str),
    /// Writes a file with one line after an approval; the session is one of
    /// [`Bench::file_session`].
    Write(&'a str, &'a str),
    /// Asks a question with two options, `Red` and `Blue`.
    Ask(&'a str),
    /// Calls the client's tool `lookup` with the key `k`.
    Lookup,
    /// Begins an answer with the word `begun` and does not end it before [`Bench::release`].
    Hold,
    /// The model fails with this message.
    Fail(&'a str),
}

impl Act<'_> {
    fn step(&self) -> Step {
        match self {
            Self::Say(text) => say(text),
            Self::Run(command) => run(command),
            Self::Write(path, content) => run_patch(path, content),
            Self::Ask(question) => ask("colour", question, &["Red", "Blue"]),
            Self::Lookup => call("lookup", json!({ "key": "k" })),
            Self::Hold => hold(GATE, "begun ", "and ended"),
            Self::Fail(message) => {
                http_error(400, json!({ "error": { "message": message } }), None)
            }
        }
    }

    fn directive(&self) -> String {
        match self {
            Self::Say(text) => format!("/say {text}"),
            Self::Run(command) => format!("/run {command}"),
            Self::Write(path, content) => format!("/write {path}\n{content}\n/end"),
            Self::Ask(question) => format!("/ask {question} | Red | Blue"),
            Self::Lookup => "/call lookup {\"key\":\"k\"}".to_owned(),
            // Ten minutes: whatever ends it, it is not the end of the text.
            Self::Hold => "/slow 30000 20 begun".to_owned(),
            Self::Fail(message) => format!("/fail {message}"),
        }
    }
}

/// The running program with what its runtime needs.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The program. Declared before the model, so that it goes first.
    pub(crate) app: TestApp,
    /// The runtime.
    pub(crate) kind: Kind,
    /// What codex asks.
    model: Option<ScriptedModel>,
}

impl Bench {
    /// Starts the program over a runtime and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, |builder| builder)
    }

    /// [`Bench::start`] with changes to how it starts.
    #[track_caller]
    pub(crate) fn start_with(kind: Kind, change: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        Self::start_configured(kind, config_toml, change)
    }

    /// [`Bench::start_with`] with a codex configuration made from the address of the model.
    #[track_caller]
    pub(crate) fn start_configured(
        kind: Kind,
        config: impl FnOnce(&str) -> String,
        change: impl FnOnce(AppBuilder) -> AppBuilder,
    ) -> Self {
        let mut builder = change(builder().runtime(kind.runtime()));
        let model = kind.is_codex().then(ScriptedModel::start);
        if let Some(model) = &model {
            builder = builder.codex_config(&config(&model.base_url()));
        }
        let app = builder.start();
        Self { app, kind, model }
    }

    /// A session whose commands ask and may write the workspace; answers its id.
    #[track_caller]
    pub(crate) fn session(&self) -> String {
        self.session_with(json!({}))
    }

    /// [`Bench::session`] with further or other members of the body.
    #[track_caller]
    pub(crate) fn session_with(&self, members: Value) -> String {
        let mut body = json!({
            "cwd": self.app.workspace(),
            "approvalPolicy": "on-request",
            "filesystemSandbox": "workspace-write",
        });
        for (name, value) in members.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let created = self.app.post("/api/sessions", body).expect_status(200);
        text(&created.body["session"]["sessionId"])
    }

    /// A session in which [`Act::Write`] asks: codex asks for what its sandbox forbids, the
    /// embedded runtime has no sandbox, asks for everything and refuses in `read-only`.
    #[track_caller]
    pub(crate) fn file_session(&self) -> String {
        let sandbox = match self.kind {
            Kind::Embedded => "workspace-write",
            Kind::CodexNew | Kind::CodexOld => "read-only",
        };
        self.session_with(json!({ "filesystemSandbox": sandbox }))
    }

    /// A session with the client's tool of [`Act::Lookup`].
    #[track_caller]
    pub(crate) fn tool_session(&self) -> String {
        let schema = json!({ "type": "object", "properties": { "key": { "type": "string" } } });
        let tool = json!({
            "name": "lookup", "description": "Looks something up.", "inputSchema": schema,
        });
        self.session_with(json!({ "dynamicTools": [tool] }))
    }

    /// Sends a message and answers the id of its turn.
    #[track_caller]
    pub(crate) fn send(&self, session: &str, acts: &[Act<'_>]) -> String {
        self.send_text(session, &self.kind.message(acts))
    }

    /// Sends any text and answers the id of its turn.
    #[track_caller]
    pub(crate) fn send_text(&self, session: &str, message: &str) -> String {
        let path = format!("/api/sessions/{session}/messages");
        let reply = self.app.post(&path, json!({ "text": message })).expect_status(202);
        assert_eq!(reply.body["status"], "accepted");
        assert_eq!(reply.body["sessionId"], session);
        text(&reply.body["turnId"])
    }

    /// Plays a turn without requests to its end and checks that it completed.
    #[track_caller]
    pub(crate) fn complete_turn(&self, session: &str, acts: &[Act<'_>]) -> String {
        let mut stream = self.app.stream(Some(session));
        stream.wait_type("ready", DEADLINE);
        let turn = self.send(session, acts);
        let ended = turn_end(&mut stream, &turn);
        assert_eq!(ended["status"], "completed", "{ended}");
        turn
    }

    /// Lets [`Act::Hold`] go on. The embedded agent needs something else for it: a steer makes it
    /// leave the message it is in.
    pub(crate) fn release(&self) {
        if let Some(model) = &self.model {
            model.open_gate(GATE);
        }
    }

    /// The scripted model.
    #[track_caller]
    pub(crate) fn model(&self) -> &ScriptedModel {
        match &self.model {
            Some(model) => model,
            None => panic!("the embedded runtime has no model"),
        }
    }

    /// `GET /api/sessions/<id>`.
    #[track_caller]
    pub(crate) fn detail(&self, session: &str) -> Value {
        let path = format!("/api/sessions/{session}");
        self.app.get(&path).expect_status(200).body
    }

    /// `POST /api/sessions/<id>/<action>`.
    #[track_caller]
    pub(crate) fn act(&self, session: &str, action: &str, body: Value) -> Reply {
        let path = format!("/api/sessions/{session}/{action}");
        self.app.post(&path, body)
    }

    /// `POST /api/approvals/<id>/decision`.
    #[track_caller]
    pub(crate) fn decide(&self, approval: &str, body: Value) -> Reply {
        let path = format!("/api/approvals/{approval}/decision");
        self.app.post(&path, body)
    }
}

/// Waits for the end of a turn and answers the turn of the notification.
#[track_caller]
pub(crate) fn turn_end(stream: &mut StreamClient, turn: &str) -> Value {
    let frame = stream.wait_for(
        |frame| {
            is_notification(frame, "turn/completed")
                && frame["payload"]["params"]["turn"]["id"] == turn
        },
        DEADLINE,
    );
    frame["payload"]["params"]["turn"].clone()
}

/// Waits for a notification and answers its params.
#[track_caller]
pub(crate) fn notified(stream: &mut StreamClient, method: &str) -> Value {
    let frame = stream.wait_for(|frame| is_notification(frame, method), DEADLINE);
    frame["payload"]["params"].clone()
}

/// Whether the frame is the notification of a method.
pub(crate) fn is_notification(frame: &Frame, method: &str) -> bool {
    frame["type"] == "notification" && frame["payload"]["method"] == method
}

/// Waits for an approval and answers its id.
#[track_caller]
pub(crate) fn approval(stream: &mut StreamClient) -> String {
    text(&stream.wait_type("approval", DEADLINE)["payload"]["approvalId"])
}

/// The transcript's rows of one type.
pub(crate) fn rows<'a>(detail: &'a Value, kind: &str) -> Vec<&'a Value> {
    let rows = detail["transcript"].as_array();
    rows.into_iter().flatten().filter(|row| row["type"] == kind).collect()
}

/// The string that a value must be.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("expected text, got {value}"),
    }
}

/// One test per flow and runtime: `over_runtimes!(a_flow, another);` for functions that take a
/// [`Kind`].
macro_rules! over_runtimes {
    ($($flow:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $flow() { super::$flow($crate::common::Kind::Embedded); })+
        }
        mod codex_new {
            $(#[test] fn $flow() { super::$flow($crate::common::Kind::CodexNew); })+
        }
        mod codex_old {
            $(#[test] fn $flow() { super::$flow($crate::common::Kind::CodexOld); })+
        }
    };
}
pub(crate) use over_runtimes;
