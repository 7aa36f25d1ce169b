//! What a position is answered with when not everything can be told, and views.

use cm_testkit::app::{StreamClient, StreamOptions};
use cm_testkit::fake::{Behaviour, FakeScript, step};
use serde_json::{Value, json};

use crate::common::{DEADLINE, turn_end};
use crate::fake_app::{begin, create, embedded, send, start, with_fake};
use crate::flow_resume::{numbered, position, since};

#[track_caller]
fn reason(client: &mut StreamClient) -> String {
    let reset = client.wait_type("reset", DEADLINE);
    assert_eq!(reset["threadId"], Value::Null);
    assert!(reset["epoch"].is_string() && reset["seq"].is_u64(), "{reset}");
    reset["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_position_of_another_history_or_of_the_future_is_told_so() {
    let app = embedded().start();
    let mut stream = app.stream(None);
    let ready = stream.wait_type("ready", DEADLINE);
    let other = format!("0123456789abcdef0123456789abcdef:{}", ready["seq"]);
    assert_eq!(reason(&mut since(&app, &other)), "epoch_changed");
    let future = format!("{}:99999999", ready["epoch"].as_str().unwrap());
    assert_eq!(reason(&mut since(&app, &future)), "unknown_position");
    for malformed in ["17", "a%20b:1", ":1", "x:", "x:-1"] {
        let options = StreamOptions::default().query("since", malformed);
        let refused = app.try_stream(options).unwrap_err();
        assert_eq!((refused.status, &refused.body["code"]), (400, &json!("invalid_request")));
    }
    let options = StreamOptions::default().query("view", "double");
    assert_eq!(app.try_stream(options).unwrap_err().status, 400);
    // A command that is none of ours changes nothing.
    for command in [
        json!({ "type": "subscribe" }),
        json!({ "type": "subscribe", "after": "nonsense" }),
        json!({ "type": "subscribe", "threadId": "", "after": position(&ready) }),
    ] {
        stream.send(&command);
        let error = stream.wait_type("error", DEADLINE);
        assert_eq!(error["message"], "invalid websocket command");
    }
}

#[test]
fn the_single_view_says_each_thing_once() {
    let app = start(Behaviour::correct());
    let session = create(&app);
    let mut default = app.stream(None);
    let ready = default.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    turn_end(&mut default, &turn);
    let options = StreamOptions::default().query("view", "single");
    let mut single = app.try_stream(options.query("since", &position(&ready))).unwrap();
    let ends = |frame: &Value| {
        frame["type"] == "app_server.turn.completed"
            && frame["payload"]["params"]["turn"]["id"] == turn
    };
    let once = numbered(&mut single, ends);
    let mut twice = default.frames();
    let end = twice.iter().position(ends).unwrap();
    twice.truncate(end + 1);
    twice.retain(|frame| frame.get("seq").is_some() && frame["type"] != "ready");
    let repeated = |frame: &Value| {
        frame["type"] == "notification" || frame["type"] == "thread_token_usage_updated"
    };
    assert!(twice.iter().any(repeated));
    twice.retain(|frame| !repeated(frame));
    assert_eq!(once, twice);
}

#[test]
fn a_position_that_is_no_longer_kept_is_told_so() {
    let turns = (0..12).map(|_| vec![step::message(&"word ".repeat(400))]);
    let behaviour = turns.fold(Behaviour::correct(), Behaviour::turn);
    let mut app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_LOG_BYTES", "65536").start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let old = position(&stream.wait_type("ready", DEADLINE));
    let mut recent = String::new();
    for _ in 0..12 {
        recent = position(&stream.frames().last().cloned().unwrap());
        let turn = begin(&app, &session);
        turn_end(&mut stream, &turn);
    }
    app.restart();
    assert_eq!(reason(&mut since(&app, &old)), "trimmed");
    let mut resumed = since(&app, &recent);
    let frame = resumed.wait_for(|frame| frame["threadId"] == session, DEADLINE);
    assert!(frame["seq"].is_u64(), "{frame}");
    assert!(resumed.frames().iter().all(|frame| frame["type"] != "reset"));
}

#[test]
fn after_a_crash_a_position_brings_what_was_kept_and_a_snapshot_of_what_was_cut() {
    let record = |app: &cm_testkit::app::AppBuilder| app.dir().join("answers.jsonl");
    let builder = with_fake(FakeScript::default());
    let file = record(&builder);
    let behaviour = Behaviour::correct().turn([step::command_approval("touch x", &file)]);
    let mut app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let before = position(&stream.wait_type("ready", DEADLINE));
    send(&app, &session, "go").expect_status(202);
    let approval = stream.wait_type("approval", DEADLINE);
    let last = stream.frames().iter().rev().find(|frame| frame.get("seq").is_some()).cloned();
    app.kill();
    app.restart();
    let mut resumed = since(&app, &before);
    // The request was stored before it was shown, and so was the word of it.
    let again = resumed.wait_type("approval", DEADLINE);
    assert_eq!(again["payload"], approval["payload"]);
    let snapshot = resumed.wait_type("snapshot", DEADLINE);
    assert_eq!(snapshot["threadId"], session);
    assert_eq!(snapshot["payload"]["approvals"], json!([]), "it expired with the manager");
    assert_eq!(snapshot["payload"]["turn"], Value::Null);
    assert_eq!(snapshot["payload"]["session"]["activity"], "idle");
    // Where the last frame was shown and not kept, that is said; else nothing is missing.
    let mut latest = since(&app, &position(&last.unwrap()));
    let word = latest.wait_for(
        |frame| {
            ["reset", "approval_resolved", "snapshot"].contains(&frame["type"].as_str().unwrap())
        },
        DEADLINE,
    );
    if word["type"] == "reset" {
        assert_eq!(word["reason"], "unclean_restart");
    }
}

#[test]
fn a_client_with_a_position_that_falls_behind_is_reset_and_one_without_is_closed() {
    let behaviour = Behaviour::correct().turn([step::deltas(60_000, 200, 0)]);
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_RING_BYTES", "65536").start();
    let session = create(&app);
    let mut good = app.stream(None);
    let ready = good.wait_type("ready", DEADLINE);
    let mut with_position = since(&app, &position(&ready));
    let mut without = app.stream(None);
    with_position.wait_type("ready", DEADLINE);
    without.wait_type("ready", DEADLINE);
    with_position.stop_reading();
    without.stop_reading();
    send(&app, &session, "go").expect_status(202);
    let end =
        |frame: &Value| frame["type"] == "reset" || frame["type"] == "app_server.turn.completed";
    // The good one may fall behind as well with a ring this small; it then reads on anew.
    let _ = good.try_wait_for(end, DEADLINE);
    app_is_idle(&app, &session);
    with_position.resume_reading();
    without.resume_reading();
    assert_eq!(reason(&mut with_position), "behind");
    let closed = without.wait_closed(DEADLINE);
    assert_eq!((closed.code, closed.reason.as_str()), (Some(1013), "stream_gap"));
}

#[track_caller]
fn app_is_idle(app: &cm_testkit::app::TestApp, session: &str) {
    cm_testkit::process::wait_until("the turn has ended", DEADLINE, || {
        let detail = app.get(&format!("/api/sessions/{session}")).body;
        detail["session"]["activity"] == "idle" && detail["session"]["materialized"] == true
    });
}
