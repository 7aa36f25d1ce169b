//! What the child writes that it should not, and what it should write and does not.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cm_testkit::app::{AppBuilder, StreamClient, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, read_json_lines, step};
use cm_testkit::process::{signal_process, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{DEADLINE, is_notification, text, turn_end};
use crate::fake_app::{
    begin, codex, create, fake_app_server, refused, run_turn, said, send, start, with_fake,
};

/// One turn of the fake, and the correct behaviour for the rest.
fn with_turn(steps: impl IntoIterator<Item = Value>) -> AppBuilder {
    with_fake(FakeScript::starts([Behaviour::correct().turn(steps)]))
}

fn unreadable(stream: &StreamClient) -> Vec<String> {
    stream.read(|frames| {
        frames
            .iter()
            .filter(|frame| frame["type"] == "runtime_output_unreadable")
            .map(|frame| text(&frame["payload"]["what"]))
            .collect()
    })
}

#[track_caller]
fn assert_first_life(app: &TestApp) {
    let codex = codex(app);
    assert_eq!(codex["incarnation"], 1, "{codex}");
    assert_eq!(codex["running"], true, "{codex}");
}

#[test]
fn garbage_between_frames_is_told_and_skipped() {
    let app = with_turn([
        step::line("this is no JSON"),
        step::line(r#"{"method":"turn/comp"#),
        step::byte_line(b"{\"method\":\"x\xff\xfe\"}"),
        step::line("[1, 2, 3]"),
        step::line("{}"),
        step::line(""),
        step::line(r#"{"method":7,"params":[]}"#),
        step::line("\u{0}\u{0}\u{0}"),
        step::message("still here"),
    ])
    .start();
    let session = create(&app);
    let mut stream = app.stream(None);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(said(&app, &session), ["still here"]);
    let told = unreadable(&stream);
    assert!(told.len() >= 5, "{told:#?}");
    assert!(told.iter().any(|what| what.contains("UTF-8")), "{told:#?}");
    assert_first_life(&app);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn half_a_line_and_an_exit_end_the_turn_and_start_another_child() {
    let app = with_turn([step::message("whole"), step::half_line(), step::exit(0)]).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let turn_id = begin(&app, &session);
    assert_eq!(turn_end(&mut stream, &turn_id)["status"], "interrupted");
    let told = unreadable(&stream);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("middle of a line"), "{told:?}");
    assert_eq!(said(&app, &session), ["whole"]);
    app.wait_new_child(app.fake().pids()[0], DEADLINE);
    let exit = &codex(&app)["lastExit"];
    assert_eq!((&exit["code"], &exit["signal"]), (&json!(0), &Value::Null));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn a_flood_on_stderr_blocks_nothing_and_is_not_kept() {
    let app = with_turn([step::stderr(100_000, 200), step::message("done")]).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(said(&app, &session), ["done"]);
    wait_until("the last lines are shown", DEADLINE, || {
        let runtime = app.get("/api/runtime").expect_status(200);
        let lines = runtime.body["appServer"]["stderr"].as_array().map_or(0, Vec::len);
        assert!(lines <= 200 && runtime.text.len() < 256 * 1024, "{lines} lines");
        lines > 0
    });
    assert_first_life(&app);
}

#[test]
fn an_unknown_request_of_the_child_is_answered_and_shown() {
    let dir = cm_testkit::dirs::TestDir::new("record");
    let record = dir.join("answers");
    let params = json!({ "a": { "b": 1 } });
    let app =
        with_turn([step::request("future/question", params, &record), step::message("went on")])
            .start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let answers = read_json_lines(&record);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["error"]["code"], -32601, "{answers:?}");
    let message = text(&answers[0]["error"]["message"]);
    assert!(message.contains("future/question"), "{message}");
    let mut again = stream.frames().into_iter();
    let shown = again.find(|frame| frame["type"] == "server_request");
    let shown = shown.expect("the stream shows the request");
    assert_eq!(shown["payload"]["method"], "future/question");
    assert_eq!(shown["payload"]["params"]["a"]["b"], 1);
}

#[test]
fn an_unknown_request_outside_of_a_turn_is_answered_too() {
    let dir = cm_testkit::dirs::TestDir::new("record");
    let record = dir.join("answers");
    let ask = step::request("future/question", json!({}), &record);
    let app = start(Behaviour::correct().after_initialize([ask]));
    wait_until("it is answered", DEADLINE, || !read_json_lines(&record).is_empty());
    assert_eq!(read_json_lines(&record)[0]["error"]["code"], -32601);
    assert_first_life(&app);
}

#[test]
fn an_unknown_notification_is_passed_on() {
    let params = json!({ "x": [1, { "y": null }], "z": "\u{1F600}" });
    let app = with_turn([step::notify("future/somethingNew", params.clone())]).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let frames = stream.frames();
    let raw = frames
        .iter()
        .find(|frame| is_notification(frame, "future/somethingNew"))
        .expect("it is in the stream");
    assert_eq!(raw["payload"]["params"]["x"], params["x"]);
    assert_eq!(raw["payload"]["params"]["z"], params["z"]);
    let typed = frames
        .iter()
        .find(|frame| frame["type"] == "app_server.future.something_new")
        .expect("it is there in the form of events");
    assert_eq!(typed["payload"]["method"], "future/somethingNew");
    assert_eq!(typed["threadId"], session.as_str());
}

#[test]
fn requests_are_answered_under_the_very_id_they_came_with() {
    let ids = [r#""a-text""#, r#""""#, "-7", "9007199254740993"];
    let ask = |id: &str| step::line(&format!(r#"{{"id":{id},"method":"future/question"}}"#));
    let app = start(Behaviour::correct().after_initialize(ids.map(ask)));
    wait_until("all are answered", DEADLINE, || {
        let received = app.fake().received();
        ids.iter().all(|id| {
            let id: Value = serde_json::from_str(id).expect("an id");
            let answer =
                |message: &Value| message["id"] == id && message["error"]["code"] == -32601;
            received.iter().any(answer)
        })
    });
    assert_first_life(&app);
}

#[test]
fn notifications_of_strange_shapes_are_passed_on_and_change_nothing() {
    let strange = [
        ("item/started", json!({})),
        ("item/completed", json!({ "item": null })),
        ("item/completed", json!({ "item": { "type": 5, "id": {} } })),
        ("item/completed", json!({ "item": { "type": "never/seen", "id": "i" } })),
        ("turn/started", json!({ "turn": null })),
        ("turn/completed", json!({ "turn": [] })),
        ("turn/completed", json!({ "turnId": "x", "turn": { "id": "x", "status": "odd" } })),
        ("thread/name/updated", json!({ "threadName": 5 })),
        ("thread/tokenUsage/updated", json!({ "tokenUsage": "many" })),
        ("serverRequest/resolved", json!({ "requestId": {} })),
        ("future/a", json!({ "threadId": "../../etc/passwd" })),
        ("future/b", json!({ "threadId": "a".repeat(300) })),
        ("future/c", json!({ "threadId": 5 })),
        ("future/d", json!({ "threadId": null })),
        ("", json!({})),
    ];
    let steps = strange.iter().map(|(method, params)| step::notify(method, params.clone()));
    let app = with_turn(steps.chain([step::message("after all that")])).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let frames = stream.frames();
    for (method, _) in &strange {
        let came = frames.iter().any(|frame| is_notification(frame, method));
        assert!(came, "`{method}` is not in the stream");
    }
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["session"]["activity"], "idle");
    assert_eq!(said(&app, &session), ["after all that"]);
    assert_first_life(&app);
    assert!(!app.logs().contains("panicked"), "{}", app.logs());
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn an_answer_that_comes_three_times_counts_once() {
    let thrice = Behaviour::correct()
        .method("thread/name/set", MethodRule::copies(3))
        .method("turn/start", MethodRule::copies(3))
        .method("initialize", MethodRule::copies(3));
    let app = start(thrice);
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let path = format!("/api/sessions/{session}/rename");
    let renamed = app.post(&path, json!({ "title": "Anew" })).expect_status(200);
    assert_eq!(renamed.body["session"]["title"], "Anew");
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let turns = app.get(&format!("/api/sessions/{session}")).body["thread"]["turns"].clone();
    assert_eq!(turns.as_array().map(Vec::len), Some(2), "{turns}");
    assert_first_life(&app);
}

#[test]
fn a_late_answer_is_too_late_and_harms_nothing() {
    let late = Behaviour::correct()
        .method("thread/archive", MethodRule::late(900))
        // The late answer comes while this turn pauses.
        .turn([step::message("first")])
        .turn([step::pause(1200), step::message("second")]);
    let app =
        with_fake(FakeScript::always(late)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "400").start();
    let (archived, other) = (create(&app), create(&app));
    let mut stream = app.stream(None);
    assert_eq!(run_turn(&app, &mut stream, &archived), "completed");
    let path = format!("/api/sessions/{archived}/archive");
    refused(&app.request("POST", &path, &[], None), 504, "codex_timeout");
    assert_eq!(run_turn(&app, &mut stream, &other), "completed");
    assert_eq!(said(&app, &other), ["second"]);
    assert_first_life(&app);
    let runtime = app.get("/api/runtime").expect_status(200).body;
    assert_eq!(runtime["appServer"]["inFlight"], 0);
}

#[test]
fn a_call_that_is_never_answered_ends_at_its_deadline() {
    let silent = Behaviour::correct().method("turn/start", MethodRule::never());
    let app =
        with_fake(FakeScript::always(silent)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "500").start();
    let session = create(&app);
    let began = Instant::now();
    refused(&send(&app, &session, "hello"), 504, "codex_timeout");
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(app.fake().calls("turn/start").len(), 1, "never sent twice");
    assert_first_life(&app);
}

#[test]
fn a_child_that_stands_still_is_waited_for_no_longer_than_the_deadline() {
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_CALL_TIMEOUT_MS", "500")
        .start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let pid = app.child_pid().expect("a child runs");
    signal_process(pid, Signal::SIGSTOP);
    refused(&send(&app, &session, "hello"), 504, "codex_timeout");
    assert_eq!(app.get("/api/health").status, 200);
    signal_process(pid, Signal::SIGCONT);
    // The message reached the child after all: its turn is followed like any other.
    stream.wait_for(|frame| is_notification(frame, "turn/completed"), DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let turns = app.get(&format!("/api/sessions/{session}")).body["thread"]["turns"].clone();
    assert_eq!(turns.as_array().map(Vec::len), Some(2), "{turns}");
    assert_first_life(&app);
}

#[test]
fn a_child_that_closes_its_output_and_lives_on_is_replaced() {
    let dir = cm_testkit::dirs::TestDir::new("wrapper");
    let fake = fake_app_server();
    let fake = fake.display();
    let first = dir.join("first");
    let first = first.display();
    // The shell lives as long as the fake, whose output ends after eight lines at its first start;
    // only `sed` holds the pipe.
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ] || [ -e {first} ]; then exec {fake} \"$@\"; fi\n\
         touch {first}\nexec 4<&0 3>&1 1>/dev/null\n\
         {fake} \"$@\" <&4 3>&- 4<&- | sed -u 8q >&3 3>&- 4<&- &\n\
         exec 3>&- 4<&-\nwait\nsleep 3600\n"
    );
    let wrapper = dir.write("codex", script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).expect("the mode is set");
    let hangs = Behaviour::correct().turn([step::deltas(20, 5, 1000), step::hang()]);
    let app = with_fake(FakeScript::starts([hangs])).env("CODEX_BIN", &wrapper).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    // The call may be cut off before or after its answer.
    let sent = send(&app, &session, "go");
    assert!(matches!(sent.status, 202 | 503), "{}", sent.text);
    stream.wait_for(
        |frame| frame["type"] == "runtime_state" && frame["payload"]["state"] == "ready",
        DEADLINE,
    );
    assert_eq!(codex(&app)["incarnation"], 2);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["session"]["activity"], "idle", "{detail}");
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let others = app.descendants().len();
    assert_eq!(others, 1, "the first child and its shell are gone");
}

#[test]
fn a_thread_that_is_never_started_is_a_timeout_as_well() {
    let silent = Behaviour::correct().method("thread/start", MethodRule::silent_first(1));
    let app =
        with_fake(FakeScript::always(silent)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "500").start();
    let body = json!({ "cwd": app.workspace() });
    refused(&app.post("/api/sessions", body), 504, "codex_timeout");
    let mut stream = app.stream(None);
    let session = create(&app);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn an_overloaded_child_is_asked_again_where_that_is_harmless() {
    let busy = Behaviour::correct()
        .method("account/read", MethodRule::overloaded_first(2))
        .method("thread/resume", MethodRule::overloaded_first(3));
    let app = start(busy);
    assert_eq!(app.fake().calls("account/read").len(), 3);
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let pid = app.kill_child();
    app.wait_new_child(pid, DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(app.fake().calls("thread/resume").len(), 4);
}

#[test]
fn an_overloaded_child_is_not_told_twice_to_start_a_turn() {
    let busy = Behaviour::correct().method("turn/start", MethodRule::overloaded_first(1));
    let app = start(busy);
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    refused(&send(&app, &session, "hello"), 503, "overloaded");
    assert_eq!(app.fake().calls("turn/start").len(), 1);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    assert_eq!(app.fake().calls("turn/start").len(), 2);
}

#[test]
fn a_turn_that_fails_says_why() {
    let app = with_turn([step::fail("the model is on holiday")]).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "failed");
    let detail = app.get(&format!("/api/sessions/{session}")).body;
    let rows = detail["transcript"].as_array().cloned().unwrap_or_default();
    let error = rows.iter().find(|row| row["type"] == "turn.error");
    let error = error.unwrap_or_else(|| panic!("no row tells of the error: {rows:#?}"));
    assert!(text(&error["content"]).contains("the model is on holiday"), "{error}");
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn twenty_turns_at_once_all_end_each_in_its_own_order() {
    const TURNS: usize = 20;
    let words = Behaviour::correct();
    let steps = || [step::deltas(100, 20, 200), step::message("the end")];
    let app = start((0..TURNS).fold(words, |behaviour, _| behaviour.turn(steps())));
    let sessions: Vec<String> = (0..TURNS).map(|_| create(&app)).collect();
    let mut stream = app.stream(None);
    let turns: Vec<String> = std::thread::scope(|scope| {
        let app = &app;
        let callers: Vec<_> =
            sessions.iter().map(|session| scope.spawn(move || begin(app, session))).collect();
        callers.into_iter().map(|caller| caller.join().expect("the message is taken")).collect()
    });
    let ended = |frames: &[Value]| {
        frames.iter().filter(|frame| is_notification(frame, "turn/completed")).count()
    };
    while stream.read(ended) < TURNS {
        stream.wait_for(|frame| is_notification(frame, "turn/completed"), DEADLINE);
    }
    let frames = stream.frames();
    let mut last = 0;
    for frame in frames.iter().filter(|frame| frame["type"] != "ready") {
        let seq = frame["seq"].as_u64().expect("every frame has a number");
        assert!(seq > last, "{seq} after {last}");
        last = seq;
    }
    for (session, turn) in sessions.iter().zip(&turns) {
        let own: Vec<String> = frames
            .iter()
            .filter(|frame| frame["threadId"] == session.as_str())
            .filter(|frame| frame["type"] == "notification")
            .map(|frame| text(&frame["payload"]["method"]))
            .collect();
        let place = |method: &str| own.iter().position(|own| own == method);
        assert!(place("turn/started") < place("item/agentMessage/delta"));
        assert_eq!(own.last().map(String::as_str), Some("turn/completed"));
        let deltas = own.iter().filter(|own| *own == "item/agentMessage/delta");
        assert_eq!(deltas.count(), 102);
        let detail = app.get(&format!("/api/sessions/{session}")).body;
        assert_eq!(detail["thread"]["turns"][0]["id"], turn.as_str());
        assert_eq!(detail["thread"]["turns"][0]["status"], "completed");
        assert_eq!(said(&app, session).last().map(String::as_str), Some("the end"));
    }
}
