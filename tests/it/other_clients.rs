//! Threads that other clients of the same CODEX_HOME make, go on with, name and archive.

use std::time::SystemTime;

use cm_testkit::app::TestApp;
use cm_testkit::app_server::AppServerClient;
use cm_testkit::codex::{CODEX_NEW, CODEX_OLD, codex_binary};
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule};
use cm_testkit::model::{prompt, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, rows, text};
use crate::fake_app::{create, with_fake};

pub(crate) const OFTEN: (&str, &str) = ("CODEX_MANAGER_THREAD_SYNC_MS", "100");

/// Another client, with an app-server of its own.
pub(crate) struct Other {
    pub(crate) client: AppServerClient,
    workspace: std::path::PathBuf,
}

impl Other {
    fn start(bench: &Bench) -> Self {
        Self::of(bench, if bench.kind == Kind::CodexNew { CODEX_NEW } else { CODEX_OLD })
    }

    pub(crate) fn of(bench: &Bench, version: &str) -> Self {
        let binary = codex_binary(version).expect("tests/run installs the codex versions");
        let (home, workspace) = (bench.app.codex_home(), bench.app.workspace());
        let environment = [
            ("CODEX_HOME", home.to_str().expect("UTF-8")),
            ("HOME", workspace.to_str().expect("UTF-8")),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let mut client = AppServerClient::spawn(&binary, &environment);
        client.initialize();
        Self { client, workspace }
    }

    pub(crate) fn thread(&mut self) -> String {
        let params = json!({
            "cwd": self.workspace, "approvalPolicy": "on-request", "sandbox": "read-only",
        });
        text(&self.client.call("thread/start", params)["thread"]["id"])
    }

    fn resume(&mut self, thread: &str) {
        let params = json!({
            "threadId": thread, "approvalPolicy": "on-request", "sandbox": "read-only",
        });
        self.client.call("thread/resume", params);
    }

    /// Plays a turn in which the agent says something.
    pub(crate) fn turn(&mut self, thread: &str, words: &str) {
        let message = prompt("theirs", [say(words)]);
        let input = json!([{ "type": "text", "text": message, "text_elements": [] }]);
        let params = json!({ "threadId": thread, "input": input });
        let turn = text(&self.client.call("turn/start", params)["turn"]["id"]);
        self.client.wait_for("the turn's end", DEADLINE, |message| {
            message["method"] == "turn/completed" && message["params"]["turn"]["id"] == turn
        });
    }

    /// Ends the client: its threads are free for others.
    pub(crate) fn end(mut self) {
        self.client.close_stdin();
        self.client.wait_exit(DEADLINE);
    }
}

/// What the agent said in a session, in order.
pub(crate) fn said(app: &TestApp, session: &str) -> Vec<String> {
    let detail = app.detail(session);
    rows(&detail, "agentMessage").into_iter().map(|row| text(&row["content"])).collect()
}

fn clock_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("a clock that is set").as_secs()
}

pub(crate) fn row(app: &TestApp, session: &str, query: &str) -> Option<Value> {
    let list = app.get(&format!("/api/sessions?limit=200&{query}")).expect_status(200).body;
    let rows = list["data"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["sessionId"] == session)
}

/// Waits until a session says this.
#[track_caller]
pub(crate) fn wait_said(app: &TestApp, session: &str, words: &[&str]) {
    let what = format!("{session} says {words:?}");
    wait_until(&what, DEADLINE, || said(app, session) == words);
}

#[test]
fn a_thread_of_another_client_is_a_session() {
    a_foreign_thread_appears(Kind::CodexNew);
}

#[test]
fn a_thread_of_another_client_of_an_older_codex_is_a_session() {
    a_foreign_thread_appears(Kind::CodexOld);
}

fn a_foreign_thread_appears(kind: Kind) {
    let mut bench = Bench::start_with(kind, |builder| builder.env(OFTEN.0, OFTEN.1));
    let own = bench.session();
    bench.complete_turn(&own, &[Act::Say("ours")]);
    let mut stream = bench.app.stream(None);
    stream.wait_type("ready", DEADLINE);
    let mut other = Other::start(&bench);
    let thread = other.thread();
    other.turn(&thread, "said elsewhere");
    let told = stream.wait_for(
        |frame| frame["type"] == "session_updated" && frame["threadId"] == thread.as_str(),
        DEADLINE,
    );
    assert_eq!(told["payload"]["reason"], "appeared");
    let shown = row(&bench.app, &thread, "").expect("a row");
    assert_eq!(shown, told["payload"]["session"]);
    assert_eq!((&shown["materialized"], &shown["projectId"]), (&json!(true), &Value::Null));
    assert_eq!(shown["cwd"], json!(bench.app.workspace()));
    assert!(text(&shown["title"]).starts_with("theirs"), "{shown}");
    // Without any question of ours: the newest ones are read at once.
    wait_said(&bench.app, &thread, &["said elsewhere"]);
    // Its turn may have been read before its end was.
    let path = format!("/api/sessions/{thread}/turns");
    wait_until("the end of the turn is read", DEADLINE, || {
        bench.app.get(&path).expect_status(200).body["data"][0]["status"] == "completed"
    });
    other.end();
    bench.complete_turn(&thread, &[Act::Say("said here")]);
    assert_eq!(said(&bench.app, &thread), ["said elsewhere", "said here"]);
    bench.app.restart();
    assert_eq!(said(&bench.app, &thread), ["said elsewhere", "said here"]);
    assert_eq!(said(&bench.app, &own), ["ours"]);
    // Deleted here, it stays away, also over a restart.
    bench.app.delete(&format!("/api/sessions/{thread}")).expect_status(200);
    bench.app.restart();
    let again = bench.session();
    bench.complete_turn(&again, &[Act::Say("later")]);
    assert_eq!(row(&bench.app, &thread, ""), None);
}

#[test]
fn what_another_client_adds_to_a_session_comes_before_what_is_sent_next() {
    another_client_goes_on(Kind::CodexNew);
}

#[test]
fn what_another_client_of_an_older_codex_adds_comes_before_what_is_sent_next() {
    another_client_goes_on(Kind::CodexOld);
}

fn another_client_goes_on(kind: Kind) {
    // The newer one says itself that it was changed, when it is loaded; the older one only in lists.
    let every = if kind == Kind::CodexNew { "0" } else { OFTEN.1 };
    let mut bench = Bench::start_with(kind, |builder| builder.env(OFTEN.0, every));
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("first")]);
    let untouched = bench.session();
    bench.complete_turn(&untouched, &[Act::Say("alone")]);
    bench.app.terminate();
    // The runtime tells of changes by the second.
    let ended = clock_seconds();
    wait_until("the next second", DEADLINE, || clock_seconds() > ended);
    let mut other = Other::start(&bench);
    other.resume(&session);
    other.turn(&session, "second");
    other.turn(&session, "third");
    other.end();
    bench.app.restart();
    if kind == Kind::CodexOld {
        wait_until("the list was compared", DEADLINE, || compared(&bench.app).0 > 1);
    }
    bench.complete_turn(&session, &[Act::Say("fourth")]);
    assert_eq!(said(&bench.app, &session), ["first", "second", "third", "fourth"]);
    assert_eq!(said(&bench.app, &untouched), ["alone"]);
}

#[test]
fn a_long_history_of_another_client_is_taken_over_whole_and_once() {
    a_long_history_is_taken_over(Kind::CodexNew);
}

#[test]
fn a_long_history_of_another_client_of_an_older_codex_is_taken_over_whole_and_once() {
    a_long_history_is_taken_over(Kind::CodexOld);
}

/// More turns than one page of the history has, before and after turns of ours; then what builds on
/// the history is asked for before the latest ones were read.
fn a_long_history_is_taken_over(kind: Kind) {
    let mut bench = Bench::start_with(kind, |builder| builder.env(OFTEN.0, OFTEN.1));
    let mut other = Other::start(&bench);
    let thread = other.thread();
    let mut words: Vec<String> = (0..8).map(|turn| format!("before {turn}")).collect();
    for said in &words {
        other.turn(&thread, said);
    }
    other.end();
    let is_said = |app: &TestApp, words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        wait_said(app, &thread, &words);
    };
    is_said(&bench.app, &words);
    words.push("ours".to_owned());
    bench.complete_turn(&thread, &[Act::Say("ours")]);
    bench.app.terminate();
    let ended = clock_seconds();
    wait_until("the next second", DEADLINE, || clock_seconds() > ended);
    let mut other = Other::start(&bench);
    other.resume(&thread);
    for turn in 0..7 {
        words.push(format!("after {turn}"));
        other.turn(&thread, words.last().expect("it was just pushed"));
    }
    other.end();
    bench.app.restart();
    wait_until("the list was compared", DEADLINE, || compared(&bench.app).0 > 1);
    // The turn that goes is the latest one of the other client, which is known first.
    let gone = bench.act(&thread, "rollback", json!({}));
    gone.expect_status(200);
    words.pop();
    is_said(&bench.app, &words);
    bench.app.restart();
    words.push("last".to_owned());
    bench.complete_turn(&thread, &[Act::Say("last")]);
    is_said(&bench.app, &words);
}

#[test]
fn names_and_archives_of_other_clients_are_taken_over() {
    names_and_archives(Kind::CodexNew);
}

#[test]
fn names_and_archives_of_other_clients_of_an_older_codex_are_taken_over() {
    names_and_archives(Kind::CodexOld);
}

fn names_and_archives(kind: Kind) {
    let mut bench = Bench::start_with(kind, |builder| builder.env(OFTEN.0, OFTEN.1));
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("ours")]);
    let rename = |bench: &Bench, title: &str| {
        bench.act(&session, "rename", json!({ "title": title })).expect_status(200);
    };
    rename(&bench, "my own title");
    // Nobody has it loaded.
    bench.app.restart();
    let mut other = Other::start(&bench);
    other.client.call("thread/name/set", json!({ "threadId": session, "name": "their title" }));
    let title = |bench: &Bench| row(&bench.app, &session, "").map(|row| text(&row["title"]));
    wait_until("the name is there", DEADLINE, || title(&bench).as_deref() == Some("their title"));
    rename(&bench, "mine again");
    other.client.call("thread/archive", json!({ "threadId": session }));
    wait_until("it is archived", DEADLINE, || row(&bench.app, &session, "archived=true").is_some());
    assert_eq!(row(&bench.app, &session, ""), None);
    other.client.call("thread/unarchive", json!({ "threadId": session }));
    wait_until("it is not archived", DEADLINE, || row(&bench.app, &session, "").is_some());
    assert_eq!(title(&bench).as_deref(), Some("mine again"));
    other.end();
}

#[test]
fn what_was_done_here_is_not_taken_for_another_clients_work() {
    nothing_is_there_twice(Kind::CodexNew);
}

#[test]
fn what_was_done_here_on_an_older_codex_is_not_taken_for_another_clients_work() {
    nothing_is_there_twice(Kind::CodexOld);
}

/// How many sessions the registry compared with the runtime's history, and how many are left.
pub(crate) fn compared(app: &TestApp) -> (u64, u64) {
    fn registry(value: &Value) -> Option<&Value> {
        match value {
            Value::Object(members) if members.contains_key("syncing") => Some(value),
            Value::Object(members) => members.values().find_map(registry),
            Value::Array(values) => values.iter().find_map(registry),
            _ => None,
        }
    }
    let runtime = app.get("/api/runtime").expect_status(200).body;
    let seen = registry(&runtime).expect("the registry");
    let count = |part: &str, name: &str| seen[part][name].as_u64().expect("a count");
    let left = count("recovering", "waiting") + count("recovering", "running");
    (count("syncing", "rounds"), left)
}

fn nothing_is_there_twice(kind: Kind) {
    let mut bench = Bench::start_with(kind, |builder| builder.env(OFTEN.0, OFTEN.1));
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("one")]);
    bench.complete_turn(&session, &[Act::Say("two")]);
    bench.act(&session, "rollback", json!({})).expect_status(200);
    let forked = bench.act(&session, "fork", json!({})).expect_status(200).body;
    let fork = text(&forked["session"]["sessionId"]);
    bench.complete_turn(&fork, &[Act::Say("mine")]);
    bench.complete_turn(&session, &[Act::Say("three")]);
    let before = [&session, &fork].map(|id| bench.app.detail(id)["transcript"].clone());
    for _ in 0..2 {
        let (rounds, _) = compared(&bench.app);
        wait_until("it was compared twice", DEADLINE, || compared(&bench.app).0 > rounds + 2);
        wait_until("nothing is being compared", DEADLINE, || compared(&bench.app).1 == 0);
        let after = [&session, &fork].map(|id| bench.app.detail(id)["transcript"].clone());
        assert_eq!(after, before);
        bench.app.restart();
    }
}

#[test]
fn only_threads_that_can_be_sessions_are_taken_over() {
    let listed = |id: &str, more: Value| {
        let mut thread = json!({
            "id": id, "preview": format!("preview of {id}"), "cwd": "/elsewhere",
            "createdAt": 1_700_000_000, "updatedAt": 1_700_000_100, "source": "cli",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            thread[name] = value.clone();
        }
        thread
    };
    let list = json!({ "data": [
        listed("theirs", json!({})),
        listed("of-a-subagent", json!({ "source": { "subAgent": "review" } })),
        listed("kept-nowhere", json!({ "ephemeral": true })),
        json!({ "id": "../evil" }),
        Value::Null,
    ], "nextCursor": null });
    let behaviour = Behaviour::correct().method("thread/list", MethodRule::result(list));
    let mut app = with_fake(FakeScript::always(behaviour)).env(OFTEN.0, OFTEN.1).start();
    let own = create(&app);
    // The fake child shows one list for both.
    let find =
        |app: &TestApp| row(app, "theirs", "").or_else(|| row(app, "theirs", "archived=true"));
    wait_until("it is there", DEADLINE, || find(&app).is_some());
    let shown = find(&app).expect("a row");
    assert_eq!(
        (&shown["createdAt"], &shown["updatedAt"], &shown["source"], &shown["cwd"]),
        (&json!(1_700_000_000), &json!(1_700_000_100), &json!("cli"), &json!("/elsewhere")),
    );
    assert!(row(&app, &own, "").is_some(), "what the runtime does not list stays");
    for other in ["of-a-subagent", "kept-nowhere"] {
        assert_eq!(row(&app, other, ""), None);
        app.get(&format!("/api/sessions/{other}")).expect_status(404);
    }
    app.restart();
    assert!(find(&app).is_some());
    assert!(row(&app, &own, "").is_some());
}

#[test]
fn a_runtime_that_does_not_list_its_threads_keeps_nobody_waiting() {
    let behaviour = Behaviour::correct().method("thread/list", MethodRule::never());
    let app = with_fake(FakeScript::always(behaviour)).env(OFTEN.0, OFTEN.1).start();
    for _ in 0..5 {
        let session = create(&app);
        assert!(row(&app, &session, "").is_some());
    }
}
