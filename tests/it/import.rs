//! `codex-manager import`: a data directory of version 1 with sessions of the real codex is taken
//! over, and they go on.

use std::path::Path;

use cm_testkit::app::{AppBuilder, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::model::{prompt, run_in_sandbox, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, Kind, builder, text, turn_end};
use crate::other_clients::compared;
use crate::version1::{Version1, command, import, job, shown, tree};

mod codex_new {
    #[test]
    fn a_data_directory_of_version_1_is_taken_over_and_goes_on() {
        super::a_data_directory_of_version_1_is_taken_over_and_goes_on(
            crate::common::Kind::CodexNew,
        );
    }
}

mod codex_old {
    #[test]
    fn a_data_directory_of_version_1_is_taken_over_and_goes_on() {
        super::a_data_directory_of_version_1_is_taken_over_and_goes_on(
            crate::common::Kind::CodexOld,
        );
    }
}

/// What a transcript says, row by row.
fn said(detail: &Value) -> Vec<(String, String)> {
    let rows = detail["transcript"].as_array().into_iter().flatten();
    rows.map(|row| (text(&row["type"]), text(&row["content"]))).collect()
}

/// These rows and no others, by their types and, where that is known, by what they say.
#[track_caller]
fn exactly(words: &[(String, String)], expected: &[(&str, Option<&str>)]) {
    let kinds: Vec<&str> = words.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, expected.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), "{words:?}");
    for ((_, said), (_, content)) in words.iter().zip(expected) {
        assert!(content.is_none_or(|content| content == said), "{content:?} in {words:?}");
    }
}

fn manager(kind: Kind, dir: &TestDir) -> AppBuilder {
    builder().runtime(kind.runtime()).data_dir(dir.join("data"))
}

#[track_caller]
fn session<'a>(list: &'a Value, id: &str) -> &'a Value {
    let sessions = list["data"].as_array().expect("sessions");
    sessions.iter().find(|session| session["sessionId"] == id).expect("the session is listed")
}

#[track_caller]
fn complete_turn(app: &TestApp, session: &str, answer: &str) {
    let mut stream = app.stream(Some(session));
    let message = prompt("go", [say(answer)]);
    let path = format!("/api/sessions/{session}/messages");
    let sent = app.post(&path, json!({ "text": message })).expect_status(202);
    let ended = turn_end(&mut stream, &text(&sent.body["turnId"]));
    assert_eq!(ended["status"], "completed", "{ended}");
}

fn a_data_directory_of_version_1_is_taken_over_and_goes_on(kind: Kind) {
    let dir = TestDir::new("import");
    let cwd = dir.subdir("workspace");
    let version = if kind == Kind::CodexOld { "0.140.0" } else { "0.169.0" };
    let mut v1 = Version1::start(&dir, version);
    let (first, first_turn) = v1.thread(&cwd, [say("hello from version 1")]);
    let (second, _) = v1.thread(&cwd, [say("words without rows")]);
    let (archived, _) = v1.thread(&cwd, [say("put away")]);
    let (owned, _) = v1.thread(&cwd, [say("of an agent")]);
    v1.archive(&archived);
    v1.forget_rows(&second);
    v1.row(
        &first,
        json!({ "messageId": "session-controls-1", "turnId": "session-controls",
        "role": "system", "type": "session.controls.updated", "status": "complete",
        "content": "Session controls updated", "startedAt": 1_795_713_893_000_i64 }),
    );
    v1.row(
        &first,
        json!({ "messageId": "insight", "turnId": first_turn, "role": "system",
        "type": "turn.supervisorReview", "status": "complete", "content": "looks good" }),
    );
    let controls = json!({ "model": null, "approvalPolicy": "on-request",
        "networkAccess": "restricted", "filesystemSandbox": "workspace-write",
        "settings": { "supervisor": { "level": 3 } } });
    let defaults = json!({ "model": null, "approvalPolicy": "never", "networkAccess": "restricted",
        "filesystemSandbox": "read-only", "settings": {} });
    let metadata = json!({
        "titles": { (first.clone()): "My title", (second.clone()): "New chat" },
        "projects": { "p1": { "name": "Project", "workingDirectory": null,
            "createdAt": "2026-11-26T17:24:51.377Z", "updatedAt": "2026-11-26T17:24:51.377Z" } },
        "sessionProjectById": { (first.clone()): "p1" },
        "sessionControlsById": { (first.clone()): controls },
        "defaultSessionControls": defaults,
        "systemOwnedSessionIds": { (owned): true },
    });
    let jobs = json!([job("j1", "queued"), job("j2", "completed")]);
    let (source, _model) = v1.end(&metadata, &jobs);
    let data = dir.join("data");
    let before = tree(&source);

    let planned = import(&source, &data, &["--dry-run"]);
    assert!(!data.exists(), "a dry run makes nothing");
    let taken = import(&source, &data, &[]);
    assert_eq!(tree(&source), before, "the source is as it was");
    for report in [&planned, &taken] {
        assert_eq!(
            report["sessions"],
            json!({ "taken": 3, "already": 0, "notTaken": 1 }),
            "{report}"
        );
        assert_eq!(report["projects"]["taken"], 1);
        assert_eq!((&report["jobs"]["taken"], &report["jobsFailed"]), (&json!(2), &json!(1)));
        assert_eq!(report["extensionAudit"]["taken"], 1);
        assert_eq!((&report["defaults"], &report["config"]), (&json!("taken"), &json!("taken")));
        assert_eq!(report["damaged"]["named"], json!([]), "{report}");
    }
    assert_eq!((&planned["rows"], &planned["bytes"]), (&taken["rows"], &taken["bytes"]));

    let mut app = manager(kind, &dir).start();
    let list = app.get("/api/sessions?limit=50").expect_status(200).body;
    let listed = session(&list, &first);
    assert_eq!((&listed["title"], &listed["projectId"]), (&json!("My title"), &json!("p1")));
    assert_eq!(listed["sessionControls"], controls);
    assert_eq!(session(&list, &second)["sessionControls"], defaults, "the defaults of then");
    let put_away = app.get("/api/sessions?archived=true").expect_status(200).body;
    assert_eq!(session(&put_away, &archived)["archived"], true);
    let detail = app.detail(&first);
    let words = said(&detail);
    let own = [
        ("userMessage", None),
        ("agentMessage", Some("hello from version 1")),
        ("turn.supervisorReview", Some("looks good")),
        ("session.controls.updated", Some("Session controls updated")),
    ];
    exactly(&words, &own);
    assert_eq!(detail["thread"]["turns"][0]["status"], "completed");
    let words = said(&app.detail(&second));
    let without = [("userMessage", None), ("agentMessage", Some("words without rows"))];
    exactly(&words, &without);
    let created = app.post("/api/sessions", json!({ "cwd": cwd })).expect_status(200);
    assert_eq!(created.body["session"]["approvalPolicy"], "never", "the defaults of new sessions");

    for (session, before) in [(&first, &own[..]), (&second, &without[..])] {
        complete_turn(&app, session, "and on it goes");
        let more = [("userMessage", None), ("agentMessage", Some("and on it goes"))];
        exactly(&said(&app.detail(session)), &[before, &more].concat());
    }
    app.post(&format!("/api/sessions/{first}/rename"), json!({ "title": "Mine now" }))
        .expect_status(200);
    app.delete(&format!("/api/sessions/{second}")).expect_status(200);
    app.terminate();

    let again = import(&source, &data, &[]);
    let nothing = json!({ "taken": 0, "already": 3, "notTaken": 1 });
    assert_eq!(again["sessions"], nothing, "{again}");
    for kind in ["projects", "jobs", "extensionAudit"] {
        assert_eq!(again[kind]["taken"], 0, "{kind} {again}");
    }
    assert_eq!((&again["defaults"], &again["files"]["taken"]), (&json!("already"), &json!(0)));
    let text = shown(&command(&source, &data, &[]).output().expect("the program runs"));
    assert!(text.contains("Nothing is left to take"), "{text}");
    app.restart();
    assert_eq!(app.detail(&first)["session"]["title"], "Mine now", "what changed here stays");
    app.get(&format!("/api/sessions/{second}")).expect_status(404);
    app.terminate();
    check(&data);
}

mod history_codex_new {
    #[test]
    fn the_history_of_an_imported_session_is_compared_once_and_completes_it() {
        super::an_imported_history_is_completed(crate::common::Kind::CodexNew);
    }
}

mod history_codex_old {
    #[test]
    fn the_history_of_an_imported_session_is_compared_once_and_completes_it() {
        super::an_imported_history_is_completed(crate::common::Kind::CodexOld);
    }
}

fn an_imported_history_is_completed(kind: Kind) {
    let dir = TestDir::new("import-history");
    let cwd = dir.subdir("workspace");
    let version = if kind == Kind::CodexOld { "0.140.0" } else { "0.169.0" };
    let mut v1 = Version1::start(&dir, version);
    let steps = || [run_in_sandbox("echo ran"), say("after the command")];
    let (whole, _) = v1.thread(&cwd, steps());
    let (bare, _) = v1.thread(&cwd, steps());
    v1.forget_rows(&bare);
    let (source, _model) = v1.end(&json!({}), &json!([]));
    import(&source, &dir.join("data"), &[]);
    let kinds = |app: &TestApp, session: &str| -> Vec<String> {
        said(&app.detail(session)).into_iter().map(|(kind, _)| kind).collect()
    };
    let often = ("CODEX_MANAGER_THREAD_SYNC_MS", "100");
    let app = manager(kind, &dir).env(often.0, "0").start();
    let before = said(&app.detail(&whole));
    assert_eq!(kinds(&app, &bare), ["userMessage", "agentMessage"], "the command has no row");
    app.terminate();
    let mut app = manager(kind, &dir).env(often.0, often.1).start();
    for session in [&whole, &bare] {
        // The next message waits for the comparison where the list has not led to it yet.
        wait_until("the list was compared", DEADLINE, || compared(&app).0 > 1);
        complete_turn(&app, session, "and on it goes");
    }
    let after = said(&app.detail(&whole));
    assert_eq!(&after[..before.len()], &before[..]);
    let new: Vec<&str> = after[before.len()..].iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(new, ["userMessage", "agentMessage"], "nothing is there twice: {after:?}");
    let mut completed = kinds(&app, &bare);
    completed.sort();
    let mut all = vec!["agentMessage", "agentMessage", "userMessage", "userMessage"];
    if kind == Kind::CodexNew {
        // The history of older versions tells no commands.
        all.insert(2, "commandExecution");
    }
    assert_eq!(completed, all, "what was missing is there");
    app.restart();
    assert_eq!(said(&app.detail(&whole)), after);
}

/// The store is whole, and holds what no route shows yet.
#[track_caller]
fn check(data: &Path) {
    let mut tool = std::process::Command::new(crate::common::MANAGER);
    let check = tool.args(["store", "check", "--json", "--data-dir"]).arg(data).output().unwrap();
    let check = crate::version1::report(&check);
    assert_eq!(check["damagedCount"], 0, "{check}");
    let count = |kind: &str| check["kinds"][kind]["records"].clone();
    assert_eq!((count("jobs"), count("extensionAudit")), (json!(2), json!(1)), "{check}");
}
