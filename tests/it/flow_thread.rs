//! The thread object beside a session: how it stands, and its turns, as version 1 passed them on.

use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, over_runtimes, text, turn_end};

over_runtimes!(
    a_turn_has_the_members_of_version_1,
    answers_about_a_session_have_the_stored_turns,
    the_status_follows_what_the_session_does,
);

fn turns(answer: &Value) -> Vec<(String, usize)> {
    let turns = answer["thread"]["turns"].as_array().unwrap_or_else(|| panic!("none: {answer}"));
    let items = |turn: &Value| turn["items"].as_array().map(Vec::len).unwrap();
    turns.iter().map(|turn| (text(&turn["id"]), items(turn))).collect()
}

fn answers_about_a_session_have_the_stored_turns(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    let created = bench.act(&session, "unarchive", json!({})).expect_status(200).body;
    assert_eq!(created["thread"]["turns"], json!([]));
    let first = bench.complete_turn(&session, &[Act::Say("one")]);
    let second = bench.complete_turn(&session, &[Act::Say("two")]);
    let stored = bench.detail(&session)["thread"].clone();
    let expected = turns(&json!({ "thread": stored }));
    let ids: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert!(expected.iter().all(|(_, items)| *items >= 2), "{expected:?}");

    let resumed = bench.act(&session, "resume", json!({})).expect_status(200).body;
    assert_eq!(resumed["thread"]["turns"], stored["turns"]);
    assert_eq!(resumed["thread"]["status"], json!({ "type": "idle" }));
    let forked = bench.act(&session, "fork", json!({})).expect_status(200).body;
    assert_eq!(forked["thread"]["turns"], stored["turns"]);
    assert_eq!(forked["thread"]["id"], forked["session"]["sessionId"]);
    bench.app.restart();
    let resumed = bench.act(&session, "resume", json!({})).expect_status(200).body;
    assert_eq!(resumed["thread"]["turns"], stored["turns"]);
    bench.act(&session, "archive", json!({})).expect_status(200);
    let back = bench.act(&session, "unarchive", json!({})).expect_status(200).body;
    assert_eq!(back["thread"]["turns"], json!([]), "as version 1 answered");
}

fn status(bench: &Bench, session: &str) -> Value {
    bench.detail(session)["thread"]["status"].clone()
}

fn a_turn_has_the_members_of_version_1(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch here"), Act::Say("done")]);
    let id = approval(&mut stream);
    let running = bench.detail(&session)["thread"]["turns"][0].clone();
    assert_eq!(running["status"], "inProgress");
    assert_eq!(running.get("durationMs"), Some(&Value::Null), "{running}");
    assert_eq!(running.get("completedAt"), Some(&Value::Null), "{running}");
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    turn_end(&mut stream, &turn);

    let detail = bench.detail(&session);
    let ended = &detail["thread"]["turns"][0];
    assert_eq!((&ended["itemsView"], &ended["rootTurnId"]), (&json!("full"), &json!(turn)));
    assert!(ended["durationMs"].as_i64().is_some_and(|ms| (0..60_000).contains(&ms)), "{ended}");
    assert_eq!(ended.get("error"), Some(&Value::Null), "{ended}");
    assert_eq!(detail["thread"]["updatedAt"], detail["session"]["updatedAt"]);
}

fn the_status_follows_what_the_session_does(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let active = |flags: &[&str]| json!({ "type": "active", "activeFlags": flags });
    assert_eq!(status(&bench, &session), json!({ "type": "idle" }));

    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch here"), Act::Ask("Which colour?")]);
    let id = approval(&mut stream);
    assert_eq!(status(&bench, &session), active(&["waitingOnApproval"]));
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    let asked = stream.wait_type("tool_user_input_requested", DEADLINE);
    assert_eq!(status(&bench, &session), active(&["waitingOnUserInput"]));
    let path = format!("/api/tool-input/{}/decision", text(&asked["payload"]["requestId"]));
    bench.app.post(&path, json!({ "decision": "decline" })).expect_status(200);
    turn_end(&mut stream, &turn);
    assert_eq!(status(&bench, &session), json!({ "type": "idle" }));

    let turn = bench.send(&session, &[Act::Hold]);
    stream.wait_type("app_server.item.agent_message.delta", DEADLINE);
    assert_eq!(status(&bench, &session), active(&[]));
    bench.act(&session, "interrupt", json!({})).expect_status(200);
    turn_end(&mut stream, &turn);
    assert_eq!(status(&bench, &session), json!({ "type": "idle" }));

    let turn = bench.send(&session, &[Act::Fail("scripted trouble")]);
    turn_end(&mut stream, &turn);
    assert_eq!(status(&bench, &session), json!({ "type": "systemError" }));
    bench.complete_turn(&session, &[Act::Say("all is well")]);
    assert_eq!(status(&bench, &session), json!({ "type": "idle" }));

    bench.act(&session, "archive", json!({})).expect_status(200);
    assert_eq!(status(&bench, &session), json!({ "type": "notLoaded" }));
}
