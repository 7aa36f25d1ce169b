//! What the manager does by itself for sessions that were cut when the child was gone.

use cm_testkit::app::{StreamClient, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, rows, text, turn_end};
use crate::fake_app::{begin, create, refused, run_turn, send, with_fake};
use crate::passivation::registry;

/// The fake over two lives: the second one is told what to do when the first one runs.
fn with_lives(first: Behaviour, second: Behaviour) -> FakeScript {
    FakeScript::starts([first]).then(second)
}

/// A session whose turn hangs.
#[track_caller]
fn hanging(app: &TestApp) -> (String, String) {
    let session = create(app);
    let turn = begin(app, &session);
    (session, turn)
}

fn hangs() -> Behaviour {
    Behaviour::correct().turn([step::hang()]).turn([step::hang()])
}

#[track_caller]
fn reconciled(stream: &mut StreamClient) -> Value {
    stream.wait_type("session_reconciled", DEADLINE)["payload"].clone()
}

/// The threads that `thread/resume` was called for, with the calls.
fn resumed(app: &TestApp) -> Vec<(String, Value)> {
    let calls = app.fake().calls("thread/resume");
    calls.iter().map(|call| (text(&call["params"]["threadId"]), call["params"].clone())).collect()
}

#[test]
fn a_session_that_was_cut_is_loaded_again_by_itself_and_no_other_one() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, turn) = hanging(&app);
    let idle = create(&app);
    let fresh = create(&app);
    let mut stream = app.stream(Some(&idle));
    stream.wait_type("ready", DEADLINE);
    // The second turn of this process hangs too; it is interrupted, so nothing of it was cut.
    let other = begin(&app, &idle);
    app.post(&format!("/api/sessions/{idle}/interrupt"), json!({})).expect_status(200);
    assert_eq!(turn_end(&mut stream, &other)["status"], "interrupted");
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    app.kill_child();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
    let payload = reconciled(&mut stream);
    assert_eq!(payload["threadId"], cut.as_str());
    assert_eq!(payload["complete"], true, "{payload}");
    let calls = resumed(&app);
    assert_eq!(calls.len(), 1, "neither {idle} nor {fresh} was cut: {calls:?}");
    assert_eq!(calls[0].0, cut);
    for named in ["approvalPolicy", "sandbox"] {
        assert!(calls[0].1[named].is_string(), "{calls:?}");
    }
    assert_eq!(calls[0].1["excludeTurns"], true);
    assert_eq!(app.fake().calls("turn/start").len(), 2, "nothing is sent again");
    // It is loaded now: the next message does not load it again.
    assert_eq!(run_turn(&app, &mut stream, &cut), "completed");
    assert_eq!(resumed(&app).len(), 1);
}

#[test]
fn a_session_that_was_cut_with_the_manager_is_loaded_again_too() {
    let mut app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, turn) = hanging(&app);
    app.kill();
    app.restart();
    wait_until("the session is loaded again", DEADLINE, || resumed(&app).len() == 1);
    assert_eq!(resumed(&app)[0].0, cut);
    let turns = app.detail(&cut)["thread"]["turns"].clone();
    assert_eq!((&turns[0]["id"], &turns[0]["status"]), (&json!(turn), &json!("interrupted")));
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &cut), "completed");
    assert_eq!(app.fake().calls("turn/start").len(), 2);
    // What is settled stays settled.
    app.restart();
    assert_eq!(app.detail(&cut)["session"]["activity"], "idle");
    assert_eq!(resumed(&app).len(), 1);
}

#[test]
fn four_sessions_at_a_time_are_loaded_and_nobody_waits_for_them() {
    const SESSIONS: usize = 9;
    let first = (0..SESSIONS).fold(Behaviour::correct(), |first, _| first.turn([step::hang()]));
    let second = Behaviour::correct().method("thread/resume", MethodRule::never());
    let app = with_fake(with_lives(first, second)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "8000");
    let app = app.start();
    let cut: Vec<String> = (0..SESSIONS).map(|_| hanging(&app).0).collect();
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    wait_until("the first ones are loaded", DEADLINE, || resumed(&app).len() == 4);
    let other = create(&app);
    let mut stream = app.stream(Some(&other));
    stream.wait_type("ready", DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &other), "completed");
    assert_eq!(resumed(&app).len(), 4, "a turn was played meanwhile");
    // A load that is never answered ends at its deadline, and the next ones have their turn.
    wait_until("the others are loaded", DEADLINE, || resumed(&app).len() == SESSIONS);
    let mut loaded: Vec<String> = resumed(&app).into_iter().map(|(session, _)| session).collect();
    loaded.sort();
    let mut cut = cut;
    cut.sort();
    assert_eq!(loaded, cut);
}

/// A page of the runtime's history with one turn.
fn history(turn: &str, status: &str, items: &Value) -> Value {
    let turn = json!({
        "id": turn, "items": items, "itemsView": "full", "status": status, "error": null,
        "startedAt": 1_790_000_000, "completedAt": 1_790_000_001, "durationMs": 1,
    });
    json!({ "data": [turn], "nextCursor": null, "backwardsCursor": null })
}

#[test]
fn a_turn_that_ended_unseen_is_corrected_and_its_items_are_there() {
    let first = Behaviour::correct().turn([step::open_deltas(3, 8), step::hang()]);
    let app = with_fake(with_lives(first, Behaviour::correct())).start();
    let cut = create(&app);
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &cut);
    let started = stream.wait_for(
        |frame| {
            frame["payload"]["method"] == "item/started"
                && frame["payload"]["params"]["item"]["type"] == "agentMessage"
        },
        DEADLINE,
    );
    // In threads of the older form items have other ids in the history.
    assert!(started["payload"]["params"]["item"]["id"].is_string());
    let content = json!([{ "type": "text", "text": "go", "text_elements": [] }]);
    let items = json!([
        { "type": "userMessage", "id": "item-1", "content": content },
        { "type": "agentMessage", "id": "item-2", "text": "the whole answer" },
    ]);
    let page = history(&turn, "completed", &items);
    let second = Behaviour::correct().method("thread/turns/list", MethodRule::result(page));
    app.fake().rewrite(&with_lives(Behaviour::correct(), second));
    app.kill_child();
    let payload = reconciled(&mut stream);
    assert_eq!(payload["turnsCorrected"], json!([turn]), "{payload}");
    assert_eq!(payload["itemsAdopted"], 1, "the message was known: {payload}");
    let detail = app.detail(&cut);
    let turns = &detail["thread"]["turns"];
    assert_eq!(turns.as_array().map(Vec::len), Some(1), "{turns}");
    assert_eq!(turns[0]["status"], "completed");
    assert_eq!(turns[0]["error"], Value::Null);
    let said: Vec<&Value> = rows(&detail, "agentMessage");
    assert_eq!(said.len(), 1, "the answer that had begun is this one: {said:?}");
    assert_eq!(
        (&said[0]["content"], &said[0]["status"]),
        (&json!("the whole answer"), &json!("complete"))
    );
    assert_eq!(rows(&detail, "userMessage").len(), 1);
    assert!(rows(&detail, "turn.interrupted").is_empty());
}

#[test]
fn a_turn_that_the_runtime_says_was_cut_stays_interrupted() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, turn) = hanging(&app);
    for (index, status) in ["interrupted", "inProgress"].into_iter().enumerate() {
        let page = history(&turn, status, &json!([]));
        let next = Behaviour::correct()
            .turn([step::hang()])
            .method("thread/turns/list", MethodRule::result(page));
        app.fake().rewrite(&FakeScript::always(next));
        let mut stream = app.stream(Some(&cut));
        let ready = stream.wait_type("ready", DEADLINE);
        if index > 0 {
            begin(&app, &cut);
        }
        app.kill_child();
        let payload = reconciled(&mut stream);
        assert_eq!(payload["turnsCorrected"], json!([]), "{payload} {ready}");
        let detail = app.detail(&cut);
        assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted");
        assert_eq!(rows(&detail, "turn.interrupted").len(), index + 1);
    }
}

#[test]
fn a_session_that_was_loaded_with_other_controls_says_so_and_runs_nothing() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, _) = hanging(&app);
    // The child takes it with more rights, and starts a turn by itself.
    let turn = json!({ "id": "by-itself", "status": "inProgress", "items": [] });
    let by_itself = step::notify("turn/started", json!({ "threadId": cut, "turn": turn }));
    let wrong = json!({ "sandbox": { "type": "dangerFullAccess" } });
    let second = Behaviour::correct()
        .method("thread/resume", MethodRule::merge(wrong))
        .after_initialize([step::pause(1_500), by_itself]);
    app.fake().rewrite(&with_lives(Behaviour::correct(), second));
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    app.kill_child();
    let problem = stream.wait_type("session_problem", DEADLINE)["payload"]["problem"].clone();
    assert_eq!(problem["code"], "controls_not_taken", "{problem}");
    let session = app.detail(&cut)["session"].clone();
    assert_eq!(session["problem"], problem);
    stream.wait_type("turn_adopted", DEADLINE);
    wait_until("the turn is interrupted", DEADLINE, || {
        let calls = app.fake().calls("turn/interrupt");
        calls.iter().any(|call| call["params"]["turnId"] == "by-itself")
    });
}

/// Nobody else knows that the child has it loaded with other controls.
#[test]
fn a_session_that_was_loaded_with_other_controls_is_not_let_go() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct()))
        .env("CODEX_MANAGER_THREAD_IDLE_MS", "40")
        .start();
    let (cut, _) = hanging(&app);
    let wrong = json!({ "sandbox": { "type": "dangerFullAccess" } });
    let second = Behaviour::correct().method("thread/resume", MethodRule::merge(wrong));
    app.fake().rewrite(&with_lives(Behaviour::correct(), second));
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    let old = app.kill_child();
    stream.wait_type("session_problem", DEADLINE);
    app.wait_new_child(old, DEADLINE);
    // Those that come after it, and after one another, are let go.
    for _ in 0..3 {
        let other = create(&app);
        wait_until("the other one is let go", DEADLINE, || {
            registry(&app)["threads"].get(&other).is_none()
        });
    }
    let observed = registry(&app);
    assert!(observed["threads"].get(&cut).is_some(), "{observed}");
}

/// The runtime starts a turn by itself after it was asked to load the session for a message, and
/// before it says that it has.
#[test]
fn a_message_whose_session_is_loaded_joins_the_turn_that_runs_by_then() {
    let app = with_fake(with_lives(Behaviour::correct(), Behaviour::correct())).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let turn = json!({ "id": "by-itself", "status": "inProgress", "items": [] });
    let record = app.dir().join("gate");
    let gate = json!({
        "threadId": session, "callId": "c", "tool": "gate", "arguments": {},
    });
    let second = Behaviour::correct()
        .method("thread/resume", MethodRule::late(3_000))
        .method("turn/steer", MethodRule::result(json!({ "turnId": "by-itself" })))
        .after_initialize([
            // It goes on when the test has seen that the session is being loaded.
            step::request("item/tool/call", gate, &record),
            step::notify("turn/started", json!({ "threadId": session, "turn": turn })),
        ]);
    app.fake().rewrite(&FakeScript::always(second));
    app.kill_child();
    let gate = stream.wait_type("tool_call_requested", DEADLINE)["payload"].clone();
    let starts = app.fake().calls("turn/start").len();
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| send(&app, &session, "go").expect_status(202));
        wait_until("the session is being loaded", DEADLINE, || resumed(&app).len() == 1);
        let path = format!("/api/tool-calls/{}/response", text(&gate["requestId"]));
        app.post(&path, json!({ "text": "go on" })).expect_status(200);
        stream.wait_type("app_server.turn.started", DEADLINE);
        let reply = sent.join().expect("a reply");
        assert_eq!(reply.body["turnId"], "by-itself", "{}", reply.text);
    });
    let steered = app.fake().calls("turn/steer");
    assert_eq!(steered.len(), 1, "{steered:?}");
    assert_eq!(steered[0]["params"]["expectedTurnId"], "by-itself");
    assert_eq!(app.fake().calls("turn/start").len(), starts, "no second turn is started");
}

#[test]
fn a_session_that_another_process_holds_says_which_one() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, _) = hanging(&app);
    let busy = MethodRule::error(-32600, &format!("thread {cut} already has an active writer"));
    let second = Behaviour::correct().method("thread/resume", busy);
    app.fake().rewrite(&with_lives(Behaviour::correct(), second));
    // This process is the other one.
    let rollout = app.codex_home().join("fake-rollouts").join(&cut);
    let held = std::fs::File::open(&rollout).expect("the session's file");
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    app.kill_child();
    let problem = stream.wait_type("session_problem", DEADLINE)["payload"]["problem"].clone();
    assert_eq!(problem["code"], "thread_in_use", "{problem}");
    let own = format!("Process {}", std::process::id());
    assert!(text(&problem["message"]).contains(&own), "{problem}");
    let starts = app.fake().calls("thread/start").len();
    let told = send(&app, &cut, "go");
    refused(&told, 409, "thread_in_use");
    assert!(text(&told.body["message"]).contains(&own), "{}", told.text);
    assert_eq!(app.fake().calls("thread/start").len(), starts, "no other thread is started");
    drop(held);
    // As soon as the other one lets go, it works again and says so.
    app.fake().rewrite(&FakeScript::always(Behaviour::correct()));
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    assert_eq!(run_turn(&app, &mut stream, &cut), "completed");
    assert_eq!(app.detail(&cut)["session"]["problem"], Value::Null);
}

#[test]
fn a_turn_that_the_runtime_starts_by_itself_is_adopted() {
    let app = with_fake(with_lives(hangs(), Behaviour::correct())).start();
    let (cut, _) = hanging(&app);
    // A queued submission, or a goal, starts when the thread is loaded again.
    let turn = |status: &str| json!({ "id": "queued", "status": status, "items": [] });
    let of = |params: Value| {
        let mut params = params;
        params["threadId"] = json!(cut);
        params
    };
    let message = json!({ "id": "m", "type": "agentMessage", "text": "queued answer" });
    let second = Behaviour::correct().after_initialize([
        step::pause(1_000),
        step::notify("turn/started", of(json!({ "turn": turn("inProgress") }))),
        step::notify("item/completed", of(json!({ "turnId": "queued", "item": message }))),
        step::notify("turn/completed", of(json!({ "turn": turn("completed") }))),
    ]);
    app.fake().rewrite(&with_lives(Behaviour::correct(), second));
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    app.kill_child();
    let adopted = stream.wait_type("turn_adopted", DEADLINE)["payload"].clone();
    assert_eq!(adopted, json!({ "threadId": cut, "turnId": "queued", "why": "runtime" }));
    assert_eq!(turn_end(&mut stream, "queued")["status"], "completed");
    let detail = app.detail(&cut);
    let turns = detail["thread"]["turns"].as_array().cloned().unwrap_or_default();
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert_eq!((&turns[1]["id"], &turns[1]["status"]), (&json!("queued"), &json!("completed")));
    // Turns that a client started are no news.
    let own = begin(&app, &cut);
    turn_end(&mut stream, &own);
    let adopted =
        stream.read(|frames| frames.iter().filter(|frame| frame["type"] == "turn_adopted").count());
    assert_eq!(adopted, 1);
}

#[test]
fn a_message_to_a_session_that_is_being_compared_waits_for_that() {
    let late = MethodRule::late(700);
    let second = Behaviour::correct().method("thread/turns/list", late);
    let app = with_fake(with_lives(hangs(), second)).start();
    let (cut, _) = hanging(&app);
    let mut stream = app.stream(Some(&cut));
    stream.wait_type("ready", DEADLINE);
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    let turn = text(&send(&app, &cut, "go").expect_status(202).body["turnId"]);
    turn_end(&mut stream, &turn);
    let order: Vec<String> = stream.read(|frames| {
        let wanted = frames.iter().filter(|frame| {
            let started = &frame["payload"]["params"]["turn"]["id"];
            frame["type"] == "session_reconciled"
                || (frame["type"] == "app_server.turn.started" && *started == turn.as_str())
        });
        wanted.map(|frame| text(&frame["type"])).collect()
    });
    // The stream may have heard of the cut turn's own start.
    assert!(order.ends_with(&["session_reconciled", "app_server.turn.started"].map(str::to_owned)));
    assert_eq!(order.iter().filter(|kind| *kind == "session_reconciled").count(), 1);
}
