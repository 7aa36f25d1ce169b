//! A child that lacks methods which the manager calls, or has what the manager does not know.

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, MethodRule, step};
use serde_json::{Value, json};

use crate::common::{Bench, DEADLINE, Kind};
use crate::fake_app::{create, embedded, refused, run_turn, start};

fn drift(app: &TestApp) -> Value {
    app.get("/api/runtime").expect_status(200).body["drift"].clone()
}

fn missing(app: &TestApp) -> Vec<String> {
    let drift = drift(app);
    let missing = drift["missing"].as_array().cloned().unwrap_or_default();
    missing.iter().map(|one| one["method"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Lines of the log that hold a text.
fn lines(app: &TestApp, text: &str) -> usize {
    app.logs().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn each_operation_whose_method_is_missing_says_so() {
    let lacking = ["turn/start", "thread/archive", "thread/unarchive", "thread/delete"];
    let app = start(Behaviour::correct().lacks(&lacking));
    let session = create(&app);
    let missing = missing(&app);
    for method in lacking {
        assert!(missing.iter().any(|one| one == method), "{method}: {missing:?}");
    }
    let of_session = |rest: &str| format!("/api/sessions/{session}/{rest}");
    let feedback = json!({ "classification": "bug", "includeLogs": false });
    let edit = json!({ "keyPath": "a", "mergeStrategy": "replace", "value": 1 });
    let posts = [
        ("turn/start", of_session("messages"), json!({ "text": "hello" })),
        ("thread/fork", of_session("fork"), json!({})),
        ("thread/rollback", of_session("rollback"), json!({})),
        ("thread/compact/start", of_session("compact"), json!({})),
        ("review/start", of_session("review"), json!({})),
        ("command/exec", "/api/commands/exec".to_owned(), json!({ "command": ["true"] })),
        ("feedback/upload", "/api/feedback".to_owned(), feedback),
        (
            "skills/config/write",
            "/api/skills/config".to_owned(),
            json!({ "path": "/s", "enabled": true }),
        ),
        ("config/mcpServer/reload", "/api/mcp/reload".to_owned(), json!({})),
        ("mcpServer/oauth/login", "/api/mcp/servers/a/oauth/login".to_owned(), json!({})),
        ("account/login/cancel", "/api/account/login/cancel".to_owned(), json!({ "loginId": "l" })),
        ("account/logout", "/api/account/logout".to_owned(), json!({})),
        ("config/value/write", "/api/config/value".to_owned(), edit.clone()),
        ("config/batchWrite", "/api/config/batch".to_owned(), json!({ "edits": [edit] })),
    ];
    let gets = [
        ("app/list", "/api/apps"),
        ("experimentalFeature/list", "/api/features/experimental"),
        ("collaborationMode/list", "/api/collaboration/modes"),
        ("skills/list", "/api/skills"),
        ("mcpServerStatus/list", "/api/mcp/servers"),
        ("account/rateLimits/read", "/api/account/rate-limits"),
        ("config/read", "/api/config"),
        ("configRequirements/read", "/api/config/requirements"),
    ];
    let replies = posts.into_iter().map(|(method, path, body)| (method, app.post(&path, body)));
    let read = gets.into_iter().map(|(method, path)| (method, app.get(path)));
    for (method, reply) in replies.chain(read) {
        refused(&reply, 501, "method_not_supported");
        let message = reply.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("`{method}`")), "{method}: {message}");
        assert!(missing.iter().any(|one| one == method), "{method}: {missing:?}");
    }
    let archive = app.request("POST", &of_session("archive"), &[], None);
    assert_eq!(archive.status, 501, "{}", archive.text);
    assert_eq!(lines(&app, "without which sessions do not work"), 1);
}

#[test]
fn what_is_missing_is_said_once_and_nothing_that_has_a_substitute() {
    let app = start(Behaviour::correct().method("thread/revert", MethodRule::result(json!({}))));
    let missing = missing(&app);
    assert!(missing.contains(&"review/start".to_owned()), "{missing:?}");
    for fine in ["thread/rollback", "turn/start"] {
        assert!(!missing.contains(&fine.to_owned()), "{fine}: {missing:?}");
    }
    let said = "this Codex lacks methods: what needs them answers 501, everything else works";
    assert_eq!(lines(&app, said), 1);
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    assert_eq!(lines(&app, said), 1, "the next one is the same");
}

#[test]
fn what_the_embedded_runtime_lacks_is_shown_and_no_news() {
    let app = embedded().start();
    assert!(missing(&app).contains(&"thread/rollback".to_owned()));
    assert_eq!(lines(&app, "this Codex lacks methods"), 0);
}

#[test]
fn new_methods_and_unknown_notifications_are_shown_and_passed_on() {
    let names = (0..110).map(|number| format!("odd/number{number}"));
    let odd: Vec<Value> = ["dream/started".to_owned(), "dream/started".to_owned()]
        .into_iter()
        .chain(names)
        .map(|name| step::notify(&name, json!({})))
        .collect();
    let behaviour =
        Behaviour::correct().method("thread/dream", MethodRule::result(json!({}))).turn(odd);
    let app = start(behaviour);
    let session = create(&app);
    let mut stream = app.stream(None);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let drift = drift(&app);
    assert_eq!(drift["new"], json!(["thread/dream"]));
    let unknown = drift["unknownNotifications"].as_array().expect("a list");
    assert_eq!(unknown[0], json!({ "method": "dream/started", "count": 2 }));
    assert_eq!((unknown.len(), &drift["otherNotifications"]), (100, &json!(11)));
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    let later = app.get("/api/runtime").expect_status(200).body["drift"].clone();
    assert_eq!(later["unknownNotifications"][0], unknown[0], "since the start of the manager");
}

#[test]
fn nothing_that_a_known_codex_has_is_new_and_nothing_that_it_says_is_unknown() {
    for kind in [Kind::CodexNew, Kind::CodexOld] {
        let bench = Bench::start(kind);
        let session = bench.session();
        bench.complete_turn(&session, &[crate::common::Act::Say("hello")]);
        let none = json!({
            "missing": [], "new": [], "unknownNotifications": [], "otherNotifications": 0,
        });
        assert_eq!(drift(&bench.app), none, "{kind:?}");
    }
}
