//! Every operation, over every runtime: with right input, about what is not there, deleted or archived,
//! with a runtime that is down or does not answer, and with input that is wrong.

use std::cell::Cell;
use std::collections::BTreeSet;

use cm_testkit::app::AppBuilder;
use cm_testkit::fake::{Behaviour, MethodRule};
use cm_testkit::http::Reply;
use cm_testkit::process::{signal_process, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bad_input::is_refusal;
use crate::common::{Act, Bench, DEADLINE, Kind, approval, notified, over_runtimes, text};
use crate::description::Description;
use crate::fake_app::start;
use crate::openapi::Described;
use crate::operations_table::{Needs, ROWS, Row, STREAMS, UNSENT};

over_runtimes!(
    right_input_is_answered_as_the_table_says,
    what_is_not_there_is_told_so,
    without_the_runtime_what_asks_it_is_503,
    with_a_runtime_that_does_not_answer_what_asks_it_is_504,
);

impl Row {
    fn parts(&self) -> (&'static str, &'static str) {
        self.operation.split_once(' ').unwrap()
    }

    fn is_of_session(&self) -> bool {
        self.parts().1.starts_with("/api/sessions/{id}")
    }

    fn expected(&self, kind: Kind) -> u16 {
        let column = match kind {
            Kind::Embedded => 0,
            Kind::CodexOld => 2,
            Kind::CodexNew if std::env::var("CM_TEST_CODEX").is_ok_and(|v| v == "0.106.0") => 3,
            Kind::CodexNew => 1,
        };
        self.status[column]
    }
}

/// The bench with what paths and bodies can name.
struct Stage {
    bench: Bench,
    project: String,
    projects: Cell<u32>,
}

impl Stage {
    fn start(kind: Kind, change: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let bench = Bench::start_with(kind, change);
        let project = Self::project(&bench, "stage");
        Self { bench, project, projects: Cell::new(0) }
    }

    fn project(bench: &Bench, name: &str) -> String {
        let made = bench.app.post("/api/projects", json!({ "name": name })).expect_status(200);
        text(&made.body["project"]["projectId"])
    }

    /// A session with a turn that has ended.
    fn session(&self) -> String {
        let session = self.bench.session();
        self.bench.complete_turn(&session, &[Act::Say("done")]);
        session
    }

    /// Makes what the row needs and answers its path.
    fn path(&self, row: &Row) -> String {
        let bench = &self.bench;
        let path = row.parts().1;
        let wait = |session: String, act: Act<'_>, event: &str| {
            let mut stream = bench.app.stream(Some(&session));
            bench.send(&session, &[act]);
            text(&stream.wait_type(event, DEADLINE)["payload"]["requestId"])
        };
        let (mut item, mut turn) = (String::new(), String::new());
        let id = match row.needs {
            Needs::Nothing => String::new(),
            Needs::Session => {
                let session = self.session();
                item = text(&bench.detail(&session)["transcript"][0]["messageId"]);
                session
            }
            Needs::Archived => {
                let session = self.session();
                bench.act(&session, "archive", json!({})).expect_status(200);
                session
            }
            Needs::Turn => {
                let session = bench.session();
                let mut stream = bench.app.stream(Some(&session));
                turn = bench.send(&session, &[Act::Hold]);
                // 0.140 has answered before the turn can be steered.
                notified(&mut stream, "item/agentMessage/delta");
                session
            }
            Needs::Approval => {
                let session = bench.file_session();
                let mut stream = bench.app.stream(Some(&session));
                let file = bench.app.dir().join("workspace/approved");
                bench.send(&session, &[Act::Write(file.to_str().unwrap(), "x")]);
                approval(&mut stream)
            }
            Needs::Question => {
                wait(bench.tool_session(), Act::Ask("Which?"), "tool_user_input_requested")
            }
            Needs::Call => wait(bench.tool_session(), Act::Lookup, "tool_call_requested"),
            Needs::Project | Needs::EmptyProject => {
                let number = self.projects.get() + 1;
                self.projects.set(number);
                let project = Self::project(bench, &format!("stage {number}"));
                if row.needs == Needs::Project {
                    let session = bench.session();
                    let body = json!({ "projectId": project });
                    bench.act(&session, "project", body).expect_status(200);
                }
                project
            }
        };
        path.replace("{id}", &id)
            .replace("{projectId}", &id)
            .replace("{item}", &item)
            .replace("{turn}", &turn)
            .replace("{jobId}", "job-1")
            .replace("{serverName}", "docs")
            .replace("{key}", "colour")
    }

    fn body(&self, row: &Row) -> Option<String> {
        let workspace = self.bench.app.workspace().display().to_string();
        let body = row.body.replace("WORKSPACE", &workspace).replace("PROJECT", &self.project);
        (!body.is_empty()).then_some(body)
    }

    fn send(&self, row: &Row, path: &str, body: Option<&str>) -> Reply {
        let kind = [("Content-Type", "application/json")];
        let headers = if body.is_some() { &kind[..] } else { &[] };
        self.bench.app.request(row.parts().0, path, headers, body.map(str::as_bytes))
    }
}

#[test]
fn every_operation_has_a_row() {
    let bench = Bench::start(Kind::Embedded);
    let described: BTreeSet<String> =
        Description::read(&bench.app).operations().iter().map(|one| one.name()).collect();
    let rows = ROWS.iter().map(|row| row.operation).chain(STREAMS.map(|(operation, _)| operation));
    let rows: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(described, rows);
    assert_eq!(rows.len(), ROWS.len() + STREAMS.len(), "a row stands there twice");
}

fn right_input_is_answered_as_the_table_says(kind: Kind) {
    let stage = Stage::start(kind, |builder| builder);
    let described = Described::read(&stage.bench.app);
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| row.expected(kind) != UNSENT) {
        let path = stage.path(row);
        let child = stage.bench.app.child_pid().unwrap();
        let reply = stage.send(row, &path, stage.body(row).as_deref());
        if row.operation == "POST /api/runtime/restart" {
            stage.bench.app.wait_new_child(child, DEADLINE);
        }
        if reply.status != row.expected(kind) {
            wrong.push(format!("{}: {} {}", row.operation, reply.status, reply.text));
            continue;
        }
        let (verb, route) = row.parts();
        described.check(&verb.to_lowercase(), route, &reply);
        let good = (200..300).contains(&reply.status);
        for member in row.members.iter().filter(|_| good) {
            assert!(reply.body.get(member).is_some(), "{} {member}: {}", row.operation, reply.text);
        }
        if !good {
            assert!(!text(&reply.body["message"]).is_empty(), "{}: {}", row.operation, reply.text);
        }
        if !row.body.is_empty() {
            let path = stage.path(row);
            let refused = stage.send(row, &path, Some("[]"));
            // While there is no queue its bodies are not looked at.
            if !row.operation.contains("suggested-request") {
                is_refusal(&refused, row.operation);
                assert_eq!(refused.status, 400, "{}: {}", row.operation, refused.text);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!stage.bench.app.logs().contains("panicked"));
}

fn what_is_not_there_is_told_so(kind: Kind) {
    let stage = Stage::start(kind, |builder| builder);
    let deleted = stage.session();
    stage.bench.app.delete(&format!("/api/sessions/{deleted}")).expect_status(200);
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| row.parts().1.contains("{id}")) {
        let list = ["/approvals", "/tool-input", "/tool-calls"];
        let is_list = list.iter().any(|end| row.operation.ends_with(end));
        let mut ask = |id: &str, expected: u16| {
            let path = row.parts().1.replace("{id}", id).replace("{item}", "i");
            let path = path.replace("{turn}", "t").replace("{key}", "colour");
            let reply = stage.send(row, &path, stage.body(row).as_deref());
            if reply.status != expected {
                wrong.push(format!("{} {id}: {} {}", row.operation, reply.status, reply.text));
            }
            reply.body
        };
        let unknown = ask("00000000-0000-7000-8000-000000000000", if is_list { 200 } else { 404 });
        if is_list {
            assert_eq!(unknown["data"], json!([]));
        }
        if row.is_of_session() {
            let gone = ask(&deleted, 410);
            assert!(gone["deletedAt"].is_string(), "{}: {gone}", row.operation);
            let archived = stage.session();
            stage.bench.act(&archived, "archive", json!({})).expect_status(200);
            if !row.operation.contains("{item}") && row.expected(kind) != 501 {
                // The embedded runtime has no archive of its own.
                let forks = kind == Kind::Embedded && row.operation.ends_with("/fork");
                ask(&archived, if forks { 200 } else { row.archived });
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Asks everything that needs the runtime, and expects one answer.
fn all_that_ask(stage: &Stage, paths: &[(&Row, String)], expected: u16, codes: &[&str]) {
    let mut wrong = Vec::new();
    for (row, path) in paths {
        let reply = stage.send(row, path, stage.body(row).as_deref());
        let code = reply.body["code"].as_str().unwrap_or_default();
        if reply.status != expected || !codes.contains(&code) {
            wrong.push(format!("{}: {} {}", row.operation, reply.status, reply.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Paths of operations that ask the runtime for what it has, all about sessions that it has loaded.
fn that_ask(stage: &Stage, kind: Kind) -> Vec<(&'static Row, String)> {
    let asks = |row: &&Row| row.asks && row.expected(kind) != 501 && row.needs != Needs::Turn;
    ROWS.iter().filter(asks).map(|row| (row, stage.path(row))).collect()
}

fn without_the_runtime_what_asks_it_is_503(kind: Kind) {
    let minute = "60000";
    let stage = Stage::start(kind, |builder| {
        builder
            .env("CODEX_MANAGER_RESTART_BACKOFF_MS", minute)
            .env("CODEX_MANAGER_RESTART_BACKOFF_MAX_MS", minute)
    });
    let paths = that_ask(&stage, kind);
    assert!(paths.len() > 5);
    stage.bench.app.kill_child();
    let down = || stage.bench.app.get("/api/health").body["codex"]["initialized"] == json!(false);
    wait_until("it is known that the runtime is gone", DEADLINE, down);
    all_that_ask(&stage, &paths, 503, &["runtime_unavailable"]);
}

fn with_a_runtime_that_does_not_answer_what_asks_it_is_504(kind: Kind) {
    let stage = Stage::start(kind, |builder| builder.env("CODEX_MANAGER_CALL_TIMEOUT_MS", "700"));
    let paths = that_ask(&stage, kind);
    let child = stage.bench.app.child_pid().unwrap();
    signal_process(child, Signal::SIGSTOP);
    all_that_ask(&stage, &paths, 504, &["codex_timeout", "deadline_exceeded"]);
    signal_process(child, Signal::SIGCONT);
    let answers = || stage.bench.app.get("/api/models").status == 200;
    wait_until("the runtime answers again", DEADLINE, answers);
}

#[test]
fn feedback_is_handed_to_the_runtime() {
    let answer = json!({ "threadId": "kept" });
    let behaviour =
        Behaviour::correct().method("feedback/upload", MethodRule::result(answer.clone()));
    let app = start(behaviour);
    let body = json!({ "classification": "bug", "includeLogs": false, "reason": " why " });
    let sent = app.post("/api/feedback", body).expect_status(200).body;
    assert_eq!((&sent["status"], &sent["result"]), (&json!("ok"), &answer), "{sent}");
    let calls = app.fake().calls("feedback/upload");
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (&calls[0]["params"]["reason"], &calls[0]["params"]["classification"]),
        (&json!("why"), &json!("bug"))
    );
}
