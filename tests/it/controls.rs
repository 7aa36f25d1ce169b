//! Session controls, settings, and rows that clients add to a transcript.

use cm_testkit::app::{Frame, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::{create, embedded};

const NEW: &str = r#"{"model": null, "approvalPolicy": "on-request", "networkAccess": "enabled",
                      "filesystemSandbox": "workspace-write"}"#;

fn new_controls() -> Value {
    serde_json::from_str(NEW).expect("controls")
}

/// A manager on a data directory that outlives it, with some variables.
fn on(data: &TestDir, environment: &[(&str, &str)]) -> TestApp {
    let builder = embedded().data_dir(data.join("data"));
    environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
}

fn path(session: &str, rest: &str) -> String {
    format!("/api/sessions/{session}/{rest}")
}

#[track_caller]
fn change(app: &TestApp, session: &str, scope: &str, controls: Value) -> Reply {
    let body = json!({ "scope": scope, "controls": controls, "actor": "me", "source": "test" });
    app.post(&path(session, "session-controls"), body)
}

/// The rows of a type in a session's transcript.
#[track_caller]
fn rows(app: &TestApp, session: &str, kind: &str) -> Vec<Value> {
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let rows = detail["transcript"].as_array().cloned().unwrap_or_default();
    rows.into_iter().filter(|row| row["type"] == kind).collect()
}

#[test]
fn the_controls_of_a_session_are_read_and_changed() {
    let app = embedded().start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let read = app.get(&path(&session, "session-controls")).expect_status(200).body;
    assert_eq!(read["controls"]["approvalPolicy"], "untrusted");
    assert_eq!(
        (&read["defaultsEditable"], &read["defaultLockReason"]),
        (&json!(true), &Value::Null)
    );
    app.post(&path(&session, "settings"), json!({ "scope": "session", "key": "a", "value": 1 }))
        .expect_status(200);
    let changed = change(&app, &session, "session", new_controls()).expect_status(200).body;
    assert_eq!((&changed["status"], &changed["scope"]), (&json!("ok"), &json!("session")));
    assert_eq!(changed["summary"], "default | on-request | enabled | workspace-write | settings:1");
    assert_eq!(changed["applied"], changed["controls"], "settings stay: {changed}");
    assert_eq!(changed["applied"]["settings"], json!({ "a": 1 }));
    assert_eq!(changed["defaults"], read["defaults"]);
    let is_told = |frame: &Frame| {
        frame["type"] == "session_updated"
            && frame["payload"]["session"]["approvalPolicy"] == "on-request"
    };
    let told = stream.wait_for(is_told, DEADLINE);
    assert_eq!(told["payload"]["reason"], "controls");
    let again = change(&app, &session, "session", new_controls()).expect_status(200).body;
    assert_eq!(again["status"], "unchanged");
    let rows = rows(&app, &session, "session.controls.updated");
    assert_eq!(rows.len(), 2, "what changed nothing writes no row: {rows:?}");
    let content = text(&rows[1]["content"]);
    assert!(
        content.starts_with("Session controls updated (this chat) by me via test: "),
        "{content}"
    );
    let details: Value = serde_json::from_str(&text(&rows[1]["details"])).expect("JSON");
    assert_eq!(details["next"]["networkAccess"], "enabled");
    // The older way to change one of them: no row.
    let policy = app.post(&path(&session, "approval-policy"), json!({ "approvalPolicy": "never" }));
    let policy = policy.expect_status(200).body;
    assert_eq!(policy, json!({ "status": "ok", "sessionId": session, "approvalPolicy": "never" }));
    let listed = app.get("/api/sessions").expect_status(200).body;
    assert_eq!(listed["data"][0]["sessionControls"]["approvalPolicy"], "never");
}

#[test]
fn the_controls_of_new_sessions_follow_the_configuration_where_nobody_changed_them() {
    let data = TestDir::new("data");
    let app = on(&data, &[]);
    let session = create(&app);
    let mut stream = app.stream(None);
    app.post(&path(&session, "settings"), json!({ "scope": "default", "key": "x", "value": null }))
        .expect_status(200);
    stream.wait_type("session_defaults_updated", DEADLINE);
    let rows = rows(&app, &session, "session.controls.updated");
    assert!(text(&rows[0]["content"]).contains("(new chats default) by user via api"), "{rows:?}");
    app.kill();
    let app = on(&data, &[("DEFAULT_APPROVAL_POLICY", "on-request")]);
    let read = app.get(&path(&session, "session-controls")).expect_status(200).body;
    assert_eq!(read["defaults"]["approvalPolicy"], "on-request", "the configuration's");
    assert_eq!(read["defaults"]["settings"], json!({ "x": null }), "what was changed");
    let changed = change(&app, &session, "default", new_controls()).expect_status(200).body;
    assert_eq!(changed["defaults"], changed["applied"]);
    app.kill();
    let app = on(&data, &[("DEFAULT_APPROVAL_POLICY", "never")]);
    let created = app.post("/api/sessions", json!({ "cwd": app.workspace() })).expect_status(200);
    let controls = &created.body["session"]["sessionControls"];
    assert_eq!(controls["approvalPolicy"], "on-request", "what was changed counts more");
    assert_eq!(controls["settings"], json!({ "x": null }));
    app.kill();
    let app = on(&data, &[("SESSION_DEFAULTS_LOCKED", "true")]);
    let read = app.get(&path(&session, "session-controls")).expect_status(200).body;
    assert_eq!(read["defaults"]["approvalPolicy"], "untrusted", "locked: the configuration's");
    assert_eq!(read["defaultLockReason"], "Managed by harness configuration");
    for refused in [
        change(&app, &session, "default", new_controls()),
        app.post(&path(&session, "settings"), json!({ "scope": "default", "settings": {} })),
        app.delete(&path(&session, "settings/x?scope=default")),
    ] {
        let body = refused.expect_status(423).body;
        assert_eq!((&body["status"], &body["code"]), (&json!("locked"), &json!("locked")));
        assert_eq!(body["scope"], "default");
    }
    change(&app, &session, "session", new_controls()).expect_status(200);
}

#[test]
fn settings_are_read_written_and_removed_by_key() {
    let app = embedded().start();
    let session = create(&app);
    let settings = path(&session, "settings");
    let write = |body: Value| app.post(&settings, body).expect_status(200).body;
    let theme = write(json!({ "scope": "session", "key": " ui.theme ", "value": "dark" }));
    assert_eq!(theme["key"], "ui.theme");
    let merged = write(json!({ "scope": "session", "settings": { "a": 1 }, "mode": "merge" }));
    assert_eq!(merged["settings"], json!({ "ui.theme": "dark", "a": 1 }));
    assert_eq!(merged.get("key"), None);
    let same = write(json!({ "scope": "session", "settings": { "a": 1 } }));
    assert_eq!(same["status"], "unchanged");
    let one = app.get(&format!("{settings}?key=ui.theme")).expect_status(200).body;
    assert_eq!((&one["found"], &one["value"]), (&json!(true), &json!("dark")));
    let none = app.get(&format!("{settings}?scope=session&key=ui")).expect_status(200).body;
    assert_eq!((&none["found"], &none["value"]), (&json!(false), &Value::Null));
    let replaced =
        write(json!({ "scope": "session", "settings": { "b": [2] }, "mode": "replace" }));
    assert_eq!(replaced["settings"], json!({ "b": [2] }));
    let removed = app.delete(&format!("{settings}/b?actor=me")).expect_status(200).body;
    assert_eq!((&removed["status"], &removed["removed"]), (&json!("ok"), &json!(true)));
    let again = app.delete(&format!("{settings}/b")).expect_status(200).body;
    assert_eq!((&again["status"], &again["removed"]), (&json!("unchanged"), &json!(false)));
    for wrong in [
        json!({ "scope": "session" }),
        json!({ "scope": "session", "key": "a" }),
        json!({ "scope": "session", "value": 1 }),
        json!({ "scope": "session", "key": "a", "value": 1, "settings": {} }),
        json!({ "scope": "everywhere", "key": "a", "value": 1 }),
        json!({ "key": "a", "value": 1 }),
        json!({ "scope": "session", "key": " ", "value": 1 }),
        json!({ "scope": "session", "key": "a", "value": 1, "actor": "x".repeat(121) }),
        json!({ "scope": "session", "key": "k".repeat(241), "value": 1 }),
        json!({ "scope": "session", "settings": [] }),
    ] {
        let refused = app.post(&settings, wrong.clone()).expect_status(400).body;
        assert_eq!(refused["code"], "invalid_request", "{wrong}: {refused}");
    }
    app.get(&format!("{settings}?scope=other")).expect_status(400);
    let nobody = "/api/sessions/00000000-0000-7000-8000-000000000000";
    for rest in ["session-controls", "settings", "settings?key=a"] {
        app.get(&format!("{nobody}/{rest}")).expect_status(404);
    }
    app.delete(&format!("{nobody}/settings/a")).expect_status(404);
    // A session that does not exist changes nothing, not even for new ones.
    let body = json!({ "scope": "default", "key": "a", "value": 1 });
    app.post(&format!("{nobody}/settings"), body).expect_status(404);
    let defaults = app.get(&format!("{settings}?scope=default")).expect_status(200).body;
    assert_eq!(defaults["settings"], json!({}));
}

#[test]
fn controls_that_would_let_an_agent_out_of_its_cage_are_refused() {
    let app = embedded().start();
    let inside = app.data_dir();
    let body = json!({ "cwd": inside, "filesystemSandbox": "read-only" });
    let created = app.post("/api/sessions", body).expect_status(200).body;
    let session = text(&created["session"]["sessionId"]);
    let refused = change(&app, &session, "session", new_controls()).expect_status(403).body;
    assert_eq!(refused["code"], "unsafe_workspace");
    let read = app.get(&path(&session, "session-controls")).expect_status(200).body;
    assert_eq!(read["controls"]["filesystemSandbox"], "read-only");
    assert_eq!(read["controls"]["approvalPolicy"], "untrusted", "all of it or nothing");
}

#[test]
fn settings_have_a_length() {
    let app = embedded().start();
    let session = create(&app);
    let settings = path(&session, "settings");
    for scope in ["session", "default"] {
        let value = "x".repeat(40_000);
        let write =
            |key: &str| app.post(&settings, json!({ "scope": scope, "key": key, "value": value }));
        write("a").expect_status(200);
        assert_eq!(write("b").expect_status(400).body["code"], "invalid_request");
        let read = app.get(&format!("{settings}?scope={scope}&key=b")).expect_status(200).body;
        assert_eq!(read["found"], false);
    }
}

#[test]
fn concurrent_writes_of_settings_do_not_lose_one_another() {
    let app = embedded().start();
    let session = create(&app);
    let settings = path(&session, "settings");
    for scope in ["session", "default"] {
        std::thread::scope(|threads| {
            for number in 0..16 {
                let (app, settings) = (&app, &settings);
                threads.spawn(move || {
                    let key = format!("k{number}");
                    let body = json!({ "scope": scope, "key": key, "value": number });
                    app.post(settings, body).expect_status(200);
                });
            }
        });
        let read = app.get(&format!("{settings}?scope={scope}")).expect_status(200).body;
        assert_eq!(read["settings"].as_object().map(serde_json::Map::len), Some(16), "{read}");
    }
}

#[test]
fn rows_of_a_transcript_are_added_and_written_again() {
    let data = TestDir::new("data");
    let app = on(&data, &[]);
    let session = create(&app);
    let upsert = path(&session, "transcript/upsert");
    let mut stream = app.stream(Some(&session));
    let row = |id: &str, status: &str, content: &str| {
        json!({
            "messageId": id, "turnId": "t", "role": "system", "type": "note",
            "content": content, "status": status, "startedAt": 5,
        })
    };
    let added = app.post(&upsert, row(" n ", "streaming", "")).expect_status(200).body;
    assert_eq!(added["entry"]["messageId"], "n");
    let mut done = row("n", "complete", "all of it");
    done["details"] = json!("{}");
    done["completedAt"] = json!(3);
    app.post(&upsert, done).expect_status(200);
    let late = app.post(&upsert, row("n", "streaming", "all")).expect_status(200).body;
    assert_eq!(late["entry"]["status"], "complete", "the row as it is now: {late}");
    assert_eq!(late["entry"]["completedAt"], 5, "not before its start");
    for _ in 0..3 {
        let told = stream.wait_type("transcript_updated", DEADLINE)["payload"].clone();
        assert_eq!((&told["messageId"], &told["type"]), (&json!("n"), &json!("note")));
    }
    app.post(&upsert, row("m", "complete", "behind")).expect_status(200);
    let mut anchored = row("a", "complete", "anchored");
    anchored["details"] = json!(r#"{"anchorItemId": "n"}"#);
    app.post(&upsert, anchored).expect_status(200);
    app.kill();
    let app = on(&data, &[]);
    let rows = rows(&app, &session, "note");
    let shown: Vec<String> = rows.iter().map(|row| text(&row["messageId"])).collect();
    assert_eq!(shown, ["n", "a", "m"]);
    assert_eq!(rows[0]["content"], "all of it");
    for (name, value) in [
        ("messageId", json!(" ")),
        ("messageId", json!("x".repeat(513))),
        ("role", json!("nobody")),
        ("status", json!("done")),
        ("startedAt", json!(-1)),
        ("content", json!(1)),
        ("type", Value::Null),
    ] {
        let mut wrong = row("w", "complete", "");
        wrong[name] = value;
        let refused = app.post(&upsert, wrong).expect_status(400).body;
        assert_eq!(refused["issues"][0]["path"][0], name, "{refused}");
    }
}
