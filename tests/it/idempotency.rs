//! Requests with an `Idempotency-Key`: whatever happens, they are carried out once or the client is
//! told that it is not known.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule};
use cm_testkit::http::Reply;
use cm_testkit::process::wait_until;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::{create, embedded, refused, start, with_fake};

/// Sends a request with a key; the value stands in the header as it is.
#[track_caller]
fn keyed(app: &TestApp, key: &str, path: &str, body: Value) -> Reply {
    app.request("POST", path, &[("Idempotency-Key", key)], Some(body.to_string().as_bytes()))
}

#[track_caller]
fn is_replay_of(reply: &Reply, first: &Reply) {
    assert_eq!((reply.status, &reply.text), (first.status, &first.text));
    assert_eq!(reply.header("content-type"), first.header("content-type"));
    assert_eq!(reply.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_ne!(reply.header("x-request-id"), first.header("x-request-id"));
}

fn messages(session: &str) -> String {
    format!("/api/sessions/{session}/messages")
}

fn turns(app: &TestApp, session: &str) -> usize {
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    detail["thread"]["turns"].as_array().map_or(0, Vec::len)
}

/// The messages that a session shows of its user.
fn said_by_user(app: &TestApp, session: &str) -> usize {
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let rows = detail["transcript"].as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["role"] == "user").count()
}

#[test]
fn a_repetition_gets_the_answer_of_the_first_also_after_a_kill() {
    let data = TestDir::new("data");
    let on_data = || embedded().data_dir(data.join("data")).start();
    let app = on_data();
    let body = json!({ "cwd": app.workspace() });
    let created = keyed(&app, "create", "/api/sessions", body.clone()).expect_status(200);
    let session = text(&created.body["session"]["sessionId"]);
    let hello = json!({ "text": "/say hello" });
    let sent = keyed(&app, "say", &messages(&session), hello.clone()).expect_status(202);
    let forked = keyed(&app, "fork", &format!("/api/sessions/{session}/fork"), json!({}));
    assert_eq!(forked.status, 200, "{}", forked.text);
    app.kill();
    let app = on_data();
    is_replay_of(&keyed(&app, "create", "/api/sessions", body), &created);
    is_replay_of(&keyed(&app, "\"say\"", &messages(&session), hello.clone()), &sent);
    let again = keyed(&app, "fork", &format!("/api/sessions/{session}/fork"), json!({}));
    is_replay_of(&again, &forked);
    assert_eq!(turns(&app, &session), 1);
    let other = keyed(&app, "say again", &messages(&session), hello).expect_status(202);
    assert_ne!(other.body["turnId"], sent.body["turnId"], "another key, another message");
    // Where it has no meaning it is not looked at.
    app.request("GET", "/api/sessions", &[("Idempotency-Key", "")], None);
    let rename = format!("/api/sessions/{session}/rename");
    for title in ["one", "two"] {
        let renamed = keyed(&app, "say", &rename, json!({ "title": title })).expect_status(200);
        assert_eq!(renamed.body["session"]["title"], title);
    }
}

#[test]
fn a_key_belongs_to_one_request_and_is_printable() {
    let app = start(Behaviour::correct());
    let (one, two) = (create(&app), create(&app));
    let hello = json!({ "text": "hello" });
    keyed(&app, "k", &messages(&one), hello.clone()).expect_status(202);
    for (path, body) in [
        (messages(&one), json!({ "text": "other" })),
        (messages(&two), hello.clone()),
        (format!("{}?x=1", messages(&one)), hello.clone()),
        (format!("/api/sessions/{one}/interrupt"), hello.clone()),
    ] {
        refused(&keyed(&app, "k", &path, body), 422, "idempotency_key_reused");
    }
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"open", "schl\u{fc}ssel", &long] {
        refused(&keyed(&app, key, &messages(&one), hello.clone()), 400, "invalid_request");
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    let body = hello.to_string();
    let reply = app.request("POST", &messages(&one), &twice, Some(body.as_bytes()));
    refused(&reply, 400, "invalid_request");
    keyed(&app, &long[1..], &messages(&one), hello).expect_status(202);
    assert_eq!(app.fake().calls("turn/start").len() + app.fake().calls("turn/steer").len(), 2);
}

#[test]
fn what_did_nothing_leaves_the_key_free() {
    let behaviour = Behaviour::correct().method("turn/start", MethodRule::overloaded_first(1));
    let app = start(behaviour);
    let session = create(&app);
    let path = messages(&session);
    let hello = json!({ "text": "hello" });
    refused(&keyed(&app, "k", &path, json!({ "text": 5 })), 400, "invalid_request");
    refused(&keyed(&app, "k", &messages("nope"), hello.clone()), 404, "not_found");
    refused(&keyed(&app, "k", &path, hello.clone()), 503, "overloaded");
    let sent = keyed(&app, "k", &path, hello.clone()).expect_status(202);
    is_replay_of(&keyed(&app, "k", &path, hello), &sent);
}

#[test]
fn of_many_at_once_one_is_carried_out_and_the_others_get_its_answer() {
    let app = start(Behaviour::correct().method("turn/start", MethodRule::late(300)));
    let session = create(&app);
    let replies: Vec<Reply> = std::thread::scope(|threads| {
        let send = || keyed(&app, "k", &messages(&session), json!({ "text": "hello" }));
        let sending: Vec<_> = (0..8).map(|_| threads.spawn(send)).collect();
        sending.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let turn = &replies[0].body["turnId"];
    assert!(replies.iter().all(|reply| reply.status == 202 && reply.body["turnId"] == *turn));
    let replayed = replies.iter().filter(|reply| reply.header("idempotency-replayed").is_some());
    assert_eq!(replayed.count(), 7);
    assert_eq!(app.fake().calls("turn/start").len(), 1);
    assert_eq!(app.fake().calls("turn/steer").len(), 0);
}

#[test]
fn who_has_lost_the_connection_finds_the_answer() {
    let app = start(Behaviour::correct().method("turn/start", MethodRule::late(300)));
    let session = create(&app);
    let body = json!({ "text": "hello" }).to_string();
    let mut lost = TcpStream::connect(app.address()).expect("a connection");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        messages(&session),
        app.address(),
        body.len(),
    );
    lost.write_all(head.as_bytes()).expect("it is sent");
    wait_until("the child has it", DEADLINE, || !app.fake().calls("turn/start").is_empty());
    // A reset, as from a client that was killed: the server drops what it does for the connection.
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&lost, sockopt::Linger, &at_once).expect("an option of the socket");
    drop(lost);
    let reply = keyed(&app, "k", &messages(&session), json!({ "text": "hello" }));
    assert_eq!(reply.expect_status(202).header("idempotency-replayed"), Some("true"));
    assert_eq!(app.fake().calls("turn/start").len(), 1);
}

#[test]
fn a_kill_between_the_call_and_its_answer_is_told_and_nothing_is_done_twice() {
    let silent = MethodRule::never;
    let behaviour = Behaviour::correct()
        .method("turn/start", silent())
        .method("review/start", silent())
        .method("thread/compact/start", silent())
        .method("command/exec", silent())
        .method("feedback/upload", silent());
    let script = FakeScript::starts([behaviour]);
    let mut app = with_fake(script).start();
    let session = create(&app);
    // One each: while one of them is carried out in a session, another one is refused there.
    let of_session = |rest: &str| format!("/api/sessions/{}/{rest}", create(&app));
    let feedback = json!({ "classification": "bug", "includeLogs": false });
    let requests = [
        ("turn/start", messages(&session), json!({ "text": "hello" })),
        ("review/start", of_session("review"), json!({})),
        ("thread/compact/start", of_session("compact"), json!({})),
        ("command/exec", "/api/commands/exec".to_owned(), json!({ "command": ["true"] })),
        ("feedback/upload", "/api/feedback".to_owned(), feedback),
    ];
    std::thread::scope(|threads| {
        for (method, path, body) in &requests {
            let (app, body) = (&app, body.to_string());
            threads.spawn(move || {
                let headers = [("Idempotency-Key", *method)];
                let cut = app.try_request("POST", path, &headers, Some(body.as_bytes()));
                assert!(cut.is_err(), "{cut:?}");
            });
        }
        wait_until("the child has them all", DEADLINE, || {
            requests.iter().all(|(method, _, _)| !app.fake().calls(method).is_empty())
        });
        app.kill();
    });
    app.restart();
    for (method, path, body) in requests {
        for _ in 0..2 {
            let reply = keyed(&app, method, &path, body.clone());
            refused(&reply, 409, "outcome_unknown");
            assert!(text(&reply.body["message"]).contains("not known"), "{}", reply.text);
        }
        assert_eq!(app.fake().calls(method).len(), 1, "{method} was called again");
    }
    keyed(&app, "a new one", &messages(&session), json!({ "text": "hello" })).expect_status(202);
}

#[test]
fn a_kill_between_the_act_and_the_storing_of_its_answer_is_told() {
    let data = TestDir::new("data");
    let on_data = || embedded().data_dir(data.join("data"));
    let app = on_data().start();
    let session = create(&app);
    app.kill();
    let row = json!({
        "messageId": "r", "turnId": "t", "role": "system", "type": "note", "content": "once",
        "status": "complete", "startedAt": 5,
    });
    let hello = json!({ "text": "/say hello" });
    let upsert = format!("/api/sessions/{session}/transcript/upsert");
    for (path, body) in [(messages(&session), &hello), (upsert.clone(), &row)] {
        let app = on_data().env("CM_CRASH_POINT", "idempotency.ended").start();
        let headers = [("Idempotency-Key", path.as_str())];
        let cut = app.try_request("POST", &path, &headers, Some(body.to_string().as_bytes()));
        assert!(cut.is_err(), "{cut:?}");
    }
    let app = on_data().start();
    let path = messages(&session);
    refused(&keyed(&app, &path, &path, hello), 409, "outcome_unknown");
    assert_eq!(said_by_user(&app, &session), 1);
    // A row is known by its id: to write it again changes nothing.
    let again = keyed(&app, &upsert, &upsert, row.clone()).expect_status(200);
    is_replay_of(&keyed(&app, &upsert, &upsert, row), &again);
}

#[test]
fn when_the_child_ends_in_the_middle_it_is_not_known_and_when_it_was_gone_nothing_was_done() {
    let silent = Behaviour::correct().method("turn/start", MethodRule::never());
    let script = FakeScript::starts([silent, Behaviour::correct().hang_in_initialize()]);
    let app = with_fake(script).env("CODEX_MANAGER_INITIALIZE_TIMEOUT_MS", "2000").start();
    let session = create(&app);
    let hello = json!({ "text": "hello" });
    let path = messages(&session);
    let cut = std::thread::scope(|threads| {
        let cut = threads.spawn(|| keyed(&app, "cut", &path, hello.clone()));
        wait_until("the child has it", DEADLINE, || !app.fake().calls("turn/start").is_empty());
        app.kill_child();
        cut.join().expect("an answer")
    });
    refused(&cut, 503, "runtime_unavailable");
    let gone = keyed(&app, "gone", &path, hello.clone());
    refused(&gone, 503, "runtime_unavailable");
    app.wait_ready(DEADLINE);
    refused(&keyed(&app, "cut", &path, hello.clone()), 409, "outcome_unknown");
    keyed(&app, "gone", &path, hello).expect_status(202);
    assert_eq!(app.fake().calls("turn/start").len(), 2);
}

#[test]
fn an_answer_that_is_too_long_is_given_once() {
    let output = |bytes: usize| json!({ "exitCode": 0, "stdout": "x".repeat(bytes), "stderr": "" });
    let behaviour = Behaviour::correct()
        .method("command/exec", MethodRule::result(output(2 << 20)))
        .method("feedback/upload", MethodRule::result(output(900 << 10)));
    let app = start(behaviour);
    let run = || keyed(&app, "k", "/api/commands/exec", json!({ "command": ["true"] }));
    let first = run().expect_status(200);
    assert_eq!(first.header("idempotency-stored"), Some("false"));
    assert_eq!(first.text.len() >> 20, 2);
    refused(&run(), 409, "answer_not_kept");
    assert_eq!(app.fake().calls("command/exec").len(), 1);
    let feedback = json!({ "classification": "bug", "includeLogs": false });
    let first = keyed(&app, "fits", "/api/feedback", feedback.clone()).expect_status(200);
    assert_eq!(first.header("idempotency-stored"), None);
    is_replay_of(&keyed(&app, "fits", "/api/feedback", feedback), &first);
    let tree = app.get("/api/runtime").expect_status(200).text;
    assert!(tree.contains("\"keptBytes\":92"), "{tree}");
}

#[test]
fn nothing_is_begun_that_cannot_be_written_down() {
    let faults = TestDir::new("faults");
    let file = faults.join("file");
    let app =
        with_fake(FakeScript::always(Behaviour::correct())).env("CM_FAULT_FILE", &file).start();
    let session = create(&app);
    std::fs::write(&file, "store.before_batch:ENOSPC\n").expect("a fault");
    let send = || keyed(&app, "k", &messages(&session), json!({ "text": "hello" }));
    refused(&send(), 507, "store_unavailable");
    assert_eq!(app.fake().calls("turn/start").len(), 0);
    std::fs::write(&file, "").expect("no fault");
    wait_until("writing works again", Duration::from_secs(10), || send().status == 202);
    assert_eq!(app.fake().calls("turn/start").len(), 1);
}
