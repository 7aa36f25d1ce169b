//! The child is back after any exit; who gives up says so; nobody waits for a child that is gone.

use std::time::{Duration, Instant};

use cm_testkit::app::StreamClient;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::{kill_process, pid_alive, wait_pid_gone, wait_until};
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, codex, create, refused, run_turn, send, start, with_fake};

/// What is *at once* for a caller whose child died, on a busy machine; call deadlines are 120 s.
const AT_ONCE: Duration = Duration::from_secs(5);

fn words_of_runtime(stream: &StreamClient) -> Vec<String> {
    stream.read(|frames| {
        frames
            .iter()
            .filter(|frame| frame["type"] == "runtime_state")
            .map(|frame| text(&frame["payload"]["state"]))
            .collect()
    })
}

#[test]
fn a_child_that_exits_at_once_is_started_again() {
    let bad = || Behaviour::correct().at_start([step::complain("no luck today"), step::exit(3)]);
    let app = with_fake(FakeScript::starts([bad(), bad()])).start();
    let codex = codex(&app);
    assert_eq!(codex["incarnation"], 3, "{codex}");
    assert_eq!(codex["restarts"], 2, "{codex}");
    assert_eq!(codex["state"], "running");
    assert_eq!(codex["lastExit"]["code"], 3);
    assert_eq!(codex["lastExit"]["stderr"], json!(["no luck today"]));
    assert_eq!(app.fake().pids().len(), 3);
}

#[test]
fn a_child_that_crashes_before_initialize_is_started_again() {
    let app =
        with_fake(FakeScript::starts([Behaviour::correct().at_start([step::sigkill()])])).start();
    let codex = codex(&app);
    assert_eq!(codex["incarnation"], 2);
    assert_eq!(codex["lastExit"]["signal"], "SIGKILL");
    assert_eq!(codex["lastExit"]["code"], Value::Null);
}

#[test]
fn a_hang_in_initialize_is_bounded() {
    let app = with_fake(FakeScript::starts([Behaviour::correct().hang_in_initialize()]))
        .env("CODEX_MANAGER_INITIALIZE_TIMEOUT_MS", "400")
        .start();
    let codex = codex(&app);
    assert_eq!(codex["incarnation"], 2);
    let reason = text(&codex["lastExit"]["reason"]);
    assert!(reason.contains("not ready within") || reason.contains("initialize"), "{reason}");
    wait_pid_gone(app.fake().pids()[0], DEADLINE);
}

#[test]
fn a_child_that_refuses_initialize_is_replaced() {
    let app = with_fake(FakeScript::starts([Behaviour::correct().refuse_initialize()])).start();
    let codex = codex(&app);
    assert_eq!(codex["incarnation"], 2);
    let reason = text(&codex["lastExit"]["reason"]);
    assert!(reason.contains("scripted refusal"), "{reason}");
}

#[test]
fn while_the_child_hangs_the_server_answers_and_is_not_ready() {
    let app = with_fake(FakeScript::always(Behaviour::correct().hang_in_initialize()))
        .without_readiness()
        .start();
    wait_until("the child runs", DEADLINE, || codex(&app)["running"] == true);
    let codex = codex(&app);
    assert_eq!((&codex["initialized"], &codex["state"]), (&json!(false), &json!("starting")));
    assert_eq!(app.get("/livez").status, 200);
    let ready = app.get("/readyz").expect_status(503);
    assert_eq!(ready.body["reasons"][0]["code"], "runtime_starting");
    let began = Instant::now();
    let body = json!({ "cwd": app.workspace() });
    refused(&app.post("/api/sessions", body), 503, "runtime_unavailable");
    assert!(began.elapsed() < AT_ONCE);
}

#[test]
fn a_crash_loop_is_given_up_and_a_restart_by_hand_mends_it() {
    let bad = || Behaviour::correct().at_start([step::complain("broken build"), step::exit(7)]);
    // Given up at the end of the life that would need a fourth restart.
    let script = FakeScript::starts([Behaviour::correct(), bad(), bad(), bad()]);
    let app = with_fake(script).env("CODEX_MANAGER_RESTART_INTENSITY", "3").start();
    let session = create(&app);
    let mut stream = app.stream(None);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    app.kill_child();
    let failed = stream.wait_for(
        |frame| frame["type"] == "runtime_state" && frame["payload"]["state"] == "failed",
        DEADLINE,
    );
    assert_eq!(failed["threadId"], Value::Null);
    let down = |words: &[String], word: &str| words.iter().filter(|said| *said == word).count();
    let words = words_of_runtime(&stream);
    assert_eq!(down(&words, "backoff"), 3, "{words:?}");
    assert_eq!(down(&words, "failed"), 1, "{words:?}");

    let health = app.get("/api/health").expect_status(200).body;
    assert_eq!(health["codex"]["state"], "failed", "{health}");
    assert_eq!(health["codex"]["running"], false);
    assert_eq!(health["codex"]["lastExit"]["code"], 7);
    assert_eq!(health["codex"]["lastExit"]["stderr"], json!(["broken build"]));
    let ready = app.get("/readyz").expect_status(503);
    assert_eq!(ready.body["reasons"][0]["code"], "runtime_failed");
    let runtime = app.get("/api/runtime").expect_status(200).body;
    assert_eq!(runtime["appServer"]["state"], "failed");
    assert_eq!(runtime["appServer"]["lastExit"]["stderr"][0], "broken build");

    let began = Instant::now();
    refused(&send(&app, &session, "hello"), 503, "runtime_unavailable");
    refused(
        &app.post("/api/sessions", json!({ "cwd": app.workspace() })),
        503,
        "runtime_unavailable",
    );
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(app.get(&format!("/api/sessions/{session}")).status, 200);
    assert_eq!(app.fake().pids().len(), 4);

    let restart = app.post("/api/runtime/restart", json!({ "reason": "mended" }));
    assert_eq!(restart.status, 202, "{}", restart.text);
    assert_eq!(restart.body["status"], "restarting");
    stream.wait_for(
        |frame| frame["type"] == "runtime_state" && frame["payload"]["state"] == "ready",
        DEADLINE,
    );
    app.wait_ready(DEADLINE);
    assert_eq!(codex(&app)["state"], "running");
    assert_eq!(codex(&app)["incarnation"], 5);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn a_child_that_was_given_up_is_tried_again_by_itself() {
    let bad = || Behaviour::correct().at_start([step::exit(7)]);
    let app = with_fake(FakeScript::starts([bad(), bad()]))
        .env("CODEX_MANAGER_RESTART_INTENSITY", "1")
        .env("CODEX_MANAGER_RESTART_PROBE_MS", "300")
        .start();
    assert_eq!(codex(&app)["incarnation"], 3);
}

#[test]
fn a_child_that_kills_itself_in_the_middle_of_a_turn_is_back_and_the_turn_interrupted() {
    let crash = Behaviour::correct().turn([step::open_deltas(50, 10), step::sigkill()]);
    let app = with_fake(FakeScript::starts([crash])).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let turn_id = begin(&app, &session);
    let turn = turn_end(&mut stream, &turn_id);
    assert_eq!(turn["status"], "interrupted");
    let deltas = stream.read(|frames| {
        let is_delta = |frame: &&Value| frame["type"] == "app_server.item.agent_message.delta";
        frames.iter().filter(is_delta).count()
    });
    assert_eq!(deltas, 50, "everything that was written is passed on");
    let detail = app.get(&format!("/api/sessions/{session}")).body;
    assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted", "{detail}");
    assert_eq!(detail["session"]["activity"], "idle");
    let old = app.fake().pids()[0];
    app.wait_new_child(old, DEADLINE);
    let codex = codex(&app);
    assert_eq!(codex["incarnation"], 2);
    assert_eq!(codex["lastExit"]["signal"], "SIGKILL");
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn calls_in_flight_fail_at_once_when_the_child_dies() {
    let silent = Behaviour::correct()
        .method("thread/archive", MethodRule::never())
        .method("turn/start", MethodRule::never());
    let app = start(silent);
    let (archived, messaged) = (create(&app), create(&app));
    std::thread::scope(|scope| {
        let archive = scope.spawn(|| {
            let path = format!("/api/sessions/{archived}/archive");
            app.request("POST", &path, &[], None)
        });
        let message = scope.spawn(|| send(&app, &messaged, "hello"));
        wait_until("both calls are in flight", DEADLINE, || {
            let made = |method| !app.fake().calls(method).is_empty();
            made("thread/archive") && made("turn/start")
        });
        let began = Instant::now();
        app.kill_child();
        for call in [archive, message] {
            refused(&call.join().expect("the caller ends"), 503, "runtime_unavailable");
        }
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    });
}

#[test]
fn a_restart_by_hand_replaces_a_healthy_child() {
    let app = with_fake(FakeScript::starts([Behaviour::correct().turn([step::hang()])])).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let turn_id = begin(&app, &session);
    let old = app.child_pid().expect("a child runs");
    let reply = app.request("POST", "/api/runtime/restart", &[], None);
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(reply.body["incarnation"], 1);
    assert_eq!(turn_end(&mut stream, &turn_id)["status"], "interrupted");
    let new = app.wait_new_child(old, DEADLINE);
    assert!(!pid_alive(old) && pid_alive(new));
    assert_eq!(codex(&app)["incarnation"], 2);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn many_restarts_at_once_leave_one_child() {
    let app = start(Behaviour::correct());
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let reply = app.request("POST", "/api/runtime/restart", &[], None);
                assert_eq!(reply.status, 202, "{}", reply.text);
            });
        }
    });
    wait_until("one child is ready and the others are gone", DEADLINE, || {
        let codex = codex(&app);
        let pids = app.fake().pids();
        let alive: Vec<u32> = pids.into_iter().filter(|pid| pid_alive(*pid)).collect();
        let is_new = codex["incarnation"].as_u64() > Some(1);
        is_new && codex["initialized"] == true && alive.len() == 1 && codex["pid"] == alive[0]
    });
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn a_restart_by_hand_ends_a_hang_in_initialize() {
    let script = FakeScript::starts([Behaviour::correct().hang_in_initialize()]);
    let app = with_fake(script).without_readiness().start();
    wait_until("the child runs", DEADLINE, || codex(&app)["running"] == true);
    let reply = app.request("POST", "/api/runtime/restart", &[], None);
    assert_eq!(reply.status, 202, "{}", reply.text);
    app.wait_ready(AT_ONCE);
    wait_pid_gone(app.fake().pids()[0], DEADLINE);
}

#[test]
fn a_client_may_connect_as_soon_as_the_server_listens() {
    for _ in 0..10 {
        let app = with_fake(FakeScript::default()).without_readiness().start();
        app.stream(None).wait_type("ready", DEADLINE);
    }
}

#[test]
fn each_life_is_announced_with_a_higher_number() {
    let app = start(Behaviour::correct());
    let mut stream = app.stream(None);
    for life in 1..=3_u64 {
        assert_eq!(codex(&app)["incarnation"], life);
        let pid = app.child_pid().expect("a child runs");
        kill_process(pid);
        for state in ["down", "ready"] {
            let number = if state == "down" { life } else { life + 1 };
            let frame = stream.wait_for(
                |frame| frame["type"] == "runtime_state" && frame["payload"]["state"] == state,
                DEADLINE,
            );
            assert_eq!(frame["payload"]["incarnation"], number, "{frame}");
        }
    }
    assert_eq!(codex(&app)["restarts"], 3);
}

#[test]
fn what_the_child_says_on_stderr_is_shown() {
    let app = start(Behaviour::correct().after_initialize([step::complain("a word of warning")]));
    wait_until("its last lines are shown", DEADLINE, || {
        let runtime = app.get("/api/runtime").expect_status(200).body;
        runtime["appServer"]["stderr"] == json!(["a word of warning"])
    });
    let pid = app.kill_child();
    app.wait_new_child(pid, DEADLINE);
    assert_eq!(codex(&app)["lastExit"]["stderr"], json!(["a word of warning"]));
}
