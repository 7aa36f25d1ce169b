//! An orderly stop ends everything within five seconds, whatever the child, a client or a turn
//! does; a second signal ends it at once.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cm_testkit::app::{Closed, Exited, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::{pid_alive, signal_process, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::DEADLINE;
use crate::fake_app::{begin, create, embedded, run_turn, send, start, with_fake};

/// What the program promises for its stop.
const PROMISED: Duration = Duration::from_secs(5);

/// What is left of a program that has ended is gone within this.
const LEFTOVERS: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_stopped(app: &TestApp, exited: &Exited) {
    assert_eq!((exited.code, exited.signal), (Some(0), None), "{exited}");
    assert!(exited.elapsed < PROMISED, "{:?}", exited.elapsed);
    assert!(!exited.stderr.contains("panicked"), "{exited}");
    app.wait_no_descendants(LEFTOVERS);
}

#[test]
fn with_a_running_turn_and_a_client_that_reads_nothing_it_is_gone_in_time() {
    // More than the buffers of both sockets hold, so that the connection is stuck.
    let flood = Behaviour::correct().turn([step::deltas(8_000, 1_000, 0), step::hang()]);
    let mut app = with_fake(FakeScript::starts([flood])).start();
    let session = create(&app);
    let mut stalled = app.stream(None);
    stalled.wait_type("ready", DEADLINE);
    stalled.stop_reading();
    let mut stream = app.stream(Some(&session));
    begin(&app, &session);
    let method = "item/completed";
    stream.wait_for(
        |frame| {
            frame["payload"]["method"] == method
                && frame["payload"]["params"]["item"]["type"] == "agentMessage"
        },
        DEADLINE,
    );
    let exited = app.terminate();
    assert_stopped(&app, &exited);
    app.restart();
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted", "{}", detail["thread"]);
    assert_eq!(detail["session"]["activity"], "idle");
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn clients_are_told_that_the_server_goes_away() {
    let app = embedded().start();
    let clients: Vec<_> = (0..5).map(|_| app.stream(None)).collect();
    for mut client in clients.iter().map(|_| app.stream(Some("x"))) {
        client.wait_type("ready", DEADLINE);
    }
    let exited = app.terminate();
    for client in &clients {
        let expected = Closed { code: Some(1001), reason: "shutting_down".to_owned() };
        assert_eq!(client.wait_closed(DEADLINE), expected);
    }
    assert_stopped(&app, &exited);
}

#[test]
fn a_running_turn_is_interrupted_before_the_child_goes() {
    let mut app = start(Behaviour::correct().turn([step::hang()]));
    let session = create(&app);
    begin(&app, &session);
    let exited = app.terminate();
    assert_stopped(&app, &exited);
    assert_eq!(app.fake().calls("turn/interrupt").len(), 1);
    app.restart();
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted");
}

/// A child that ends for nothing but SIGKILL, with a grandchild, and whose turns go on after they
/// were interrupted.
fn stubborn(app_dir: &cm_testkit::dirs::TestDir) -> Behaviour {
    Behaviour::correct()
        .ignore_sigterm()
        .ignore_stdin_eof()
        .method("turn/interrupt", MethodRule::result(json!({})))
        .after_initialize([step::grandchild(&app_dir.join("grandchild"))])
        .turn([step::hang()])
}

fn grandchild(dir: &cm_testkit::dirs::TestDir) -> u32 {
    let mut found = None;
    wait_until("the grandchild runs", DEADLINE, || {
        let text = std::fs::read_to_string(dir.join("grandchild")).unwrap_or_default();
        found = text.trim().parse().ok();
        found.is_some()
    });
    found.expect("the wait ended with a pid")
}

#[test]
fn a_child_that_ignores_everything_is_killed_with_its_grandchild() {
    let dir = cm_testkit::dirs::TestDir::new("pids");
    let app = start(stubborn(&dir));
    let grandchild = grandchild(&dir);
    let session = create(&app);
    begin(&app, &session);
    assert!(pid_alive(grandchild));
    let exited = app.terminate();
    assert_stopped(&app, &exited);
    assert!(!pid_alive(grandchild));
}

#[test]
fn a_child_that_is_stopped_by_a_signal_is_killed() {
    let app = start(Behaviour::correct().turn([step::hang()]));
    let session = create(&app);
    begin(&app, &session);
    signal_process(app.fake().pids()[0], Signal::SIGSTOP);
    assert_stopped(&app, &app.terminate());
}

#[test]
fn the_grandchild_of_a_child_that_was_killed_does_not_stay() {
    let dir = cm_testkit::dirs::TestDir::new("pids");
    let tool = step::grandchild(&dir.join("grandchild"));
    let app =
        with_fake(FakeScript::starts([Behaviour::correct().after_initialize([tool])])).start();
    let grandchild = grandchild(&dir);
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    cm_testkit::process::wait_pid_gone(grandchild, DEADLINE);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = cm_testkit::dirs::TestDir::new("pids");
    let app = start(stubborn(&dir));
    let session = create(&app);
    begin(&app, &session);
    signal_process(app.pid(), Signal::SIGTERM);
    wait_until("it is stopping", DEADLINE, || app.logs().contains("stopping"));
    let exited = app.terminate();
    assert_eq!(exited.signal, None, "{exited}");
    // The steps of the orderly stop of this child take more than two seconds.
    assert!(exited.elapsed < Duration::from_millis(1000), "{:?}", exited.elapsed);
    assert!(exited.stderr.contains("stopping at once"), "{exited}");
    let child = app.fake().pids()[0];
    wait_until("the child dies with it", LEFTOVERS, || !pid_alive(child));
}

#[test]
fn an_interrupt_from_the_keyboard_is_an_orderly_stop_too() {
    let app = embedded().start();
    let client = app.stream(None);
    signal_process(app.pid(), Signal::SIGINT);
    assert_eq!(client.wait_closed(DEADLINE).code, Some(1001));
    wait_until("it has ended", PROMISED, || !pid_alive(app.pid()));
    let exited = app.terminate();
    assert_eq!((exited.code, exited.signal), (Some(0), None), "{exited}");
    app.wait_no_descendants(LEFTOVERS);
}

#[test]
fn a_signal_right_after_the_start_is_an_orderly_stop() {
    for _ in 0..10 {
        let app = embedded().without_readiness().start();
        assert_stopped(&app, &app.terminate());
    }
}

#[test]
fn half_a_request_and_idle_connections_hold_nothing_up() {
    let app = embedded().start();
    let mut held = Vec::new();
    for bytes in [
        "",
        "POST /api/sessions HTTP/1.1\r\nHost: loc",
        "POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{\"cwd\":",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut connection = TcpStream::connect(app.address()).expect("a connection");
        connection.write_all(bytes.as_bytes()).expect("it takes the bytes");
        held.push(connection);
    }
    assert_eq!(app.get("/livez").status, 200);
    let exited = app.terminate();
    assert_stopped(&app, &exited);
    drop(held);
}

#[test]
fn whoever_waits_for_the_child_gets_an_answer() {
    let app = start(Behaviour::correct().method("turn/start", MethodRule::never()));
    let session = create(&app);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| send(&app, &session, "hello"));
        wait_until("the call is in flight", DEADLINE, || {
            !app.fake().calls("turn/start").is_empty()
        });
        let exited = app.terminate();
        let reply = caller.join().expect("an answer");
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert_stopped(&app, &exited);
    });
}

#[test]
fn it_stops_while_the_child_is_starting_or_given_up() {
    let hang = with_fake(FakeScript::always(Behaviour::correct().hang_in_initialize()));
    let app = hang.without_readiness().start();
    wait_until("the child runs", DEADLINE, || !app.fake().pids().is_empty());
    assert_stopped(&app, &app.terminate());

    let broken = with_fake(FakeScript::always(Behaviour::correct().at_start([step::exit(1)])));
    let app = broken.env("CODEX_MANAGER_RESTART_INTENSITY", "0").without_readiness().start();
    wait_until("it is given up", DEADLINE, || {
        app.get("/readyz").body["reasons"][0]["code"] == "runtime_failed"
    });
    let began = Instant::now();
    assert_stopped(&app, &app.terminate());
    assert!(began.elapsed() < PROMISED);
}
