//! Turns over connections that break, runtimes that fall silent, and people who lose patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cm_core::error::exit;
use cm_core::ids::ThreadId;
use cm_core::wire::SendMessage;
use serde_json::json;

use super::bench::{
    Bench, DETAIL, INTERRUPT, MESSAGE, RESUMED, SESSION, STREAM, TURN, api, detail, frame, message,
    note, reset, row, turn_ends, usual, words,
};
use super::server::{Reply, Server, Step};
use crate::follow::{Desk, Follow, Policy};

const DECIDE: &str = "POST /api/approvals/a1/decision";

fn lists(line: &str) -> bool {
    line.starts_with(DETAIL)
        && ["/approvals", "/tool-input", "/tool-calls"].iter().any(|end| line.ends_with(end))
}

#[test]
fn a_turn_that_ended_while_the_stream_was_broken_is_told_whole() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![Step::Await(MESSAGE), words("m1", "Hel"), Step::Drop]),
        RESUMED => Reply::Stream(vec![reset()]),
        DETAIL => {
            let command = json!({"type": "commandExecution", "id": "c", "command": "ls",
                                 "status": "completed", "exitCode": 2, "aggregatedOutput": "no\n"});
            let mut done =
                row("c", "system", "commandExecution", "Command execution completed: ls");
            done["details"] = json!(command.to_string());
            let rows = json!([
                row("u", "user", "userMessage", "hello"),
                row("m1", "assistant", "agentMessage", "Hello there"),
                done,
                row("m2", "assistant", "agentMessage", "All done"),
            ]);
            Reply::Json(200, detail("idle", Some("completed"), &rows))
        }
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.run(&server, &[]).unwrap();
    assert_eq!(bench.out.text(), "Hello there\nAll done\n");
    let err = bench.err.text();
    assert!(err.contains("connection lost") && err.contains("connection is back"), "{err}");
    assert!(err.contains("$ ls\n  no\n  exit 2\n"), "{err}");
}

#[test]
fn a_turn_that_still_runs_goes_on_behind_the_gap() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![Step::Await(MESSAGE), words("m1", "Hel"), Step::Close(1013)]),
        RESUMED => Reply::Stream(vec![
            reset(),
            // A torn message: its middle was missed, so its end must not be put behind "Hel".
            words("m1", "ere"),
            Step::Await(DECIDE),
            message("m1", "Hello there"),
            words("m2", "B"),
            message("m2", "Bye"),
            turn_ends("completed", None),
        ]),
        DETAIL => Reply::Json(200, detail("running", Some("inProgress"), &json!([]))),
        line if line.ends_with("/approvals") => Reply::Json(
            200,
            json!({"data": [{
            "approvalId": "a1", "method": "item/commandExecution/requestApproval",
            "threadId": SESSION, "turnId": TURN, "itemId": "c", "summary": "run ls",
            "details": {}, "createdAt": "", "status": "pending"}]}),
        ),
        line if lists(line) => Reply::Json(200, json!({"data": []})),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.run(&server, &["--yes"]).unwrap();
    assert_eq!(bench.out.text(), "Hello there\nBye\n");
    // It was asked for while nobody listened, and is decided all the same.
    assert_eq!(server.only(DECIDE).body["decision"], "accept");
}

#[test]
fn a_frame_that_is_too_big_is_fetched() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![
            Step::Await(MESSAGE),
            Step::Raw("not json"),
            note("item/completed", json!({"truncated": true, "bytes": 5_000_000, "href": "/x"})),
            turn_ends("completed", None),
        ]),
        DETAIL => {
            let rows = json!([row("m1", "assistant", "agentMessage", "a very long text")]);
            Reply::Json(200, detail("idle", Some("completed"), &rows))
        }
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.run(&server, &[]).unwrap();
    assert_eq!(bench.out.text(), "a very long text\n");
}

fn follow_silent_turn(server: &Server) -> (String, crate::follow::Followed) {
    let mut bench = Bench::new();
    let api = api(server);
    let follow = Follow {
        api: &api,
        console: &mut bench.console,
        session: ThreadId::parse(SESSION).unwrap(),
        desk: Desk::new(Policy::Ask, None),
        interrupted: &AtomicBool::new(false),
        deadline: Instant::now() + Duration::from_secs(60),
        limit: Duration::from_secs(60),
        idle_check: Duration::from_millis(20),
    };
    let body = SendMessage { text: "hello".to_owned(), ..SendMessage::default() };
    let followed = follow.send(&body, true).unwrap();
    (bench.out.text(), followed)
}

#[test]
fn a_silent_stream_is_no_reason_to_hang() {
    let server = Server::start(|seen, before| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![]),
        DETAIL if before == 0 => Reply::Json(503, json!({"status": "error", "code": "overloaded"})),
        DETAIL if before == 1 => {
            Reply::Json(200, detail("running", Some("inProgress"), &json!([])))
        }
        DETAIL => {
            let rows = json!([row("m", "assistant", "agentMessage", "hi")]);
            Reply::Json(200, detail("idle", Some("completed"), &rows))
        }
        line if lists(line) => Reply::Json(200, json!({"data": []})),
        _ => usual(seen).unwrap(),
    });
    let (out, followed) = follow_silent_turn(&server);
    assert_eq!((out.as_str(), followed.end.status.as_str()), ("hi\n", "completed"));
}

#[test]
fn a_turn_that_the_server_forgot_is_over() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![]),
        DETAIL => Reply::Json(200, detail("idle", None, &json!([]))),
        line if lists(line) => Reply::Json(200, json!({"data": []})),
        _ => usual(seen).unwrap(),
    });
    let (_, followed) = follow_silent_turn(&server);
    assert_eq!(followed.end.status, "interrupted");
    assert!(followed.end.error.is_some());
}

#[test]
fn a_deleted_session_ends_the_command() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![Step::Await(MESSAGE), frame("session_deleted", &json!({}))]),
        _ => usual(seen).unwrap(),
    });
    let failure = Bench::new().run(&server, &[]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::NOT_FOUND);
}

#[test]
fn ctrl_c_interrupts_the_turn_first() {
    let interrupted: Arc<AtomicBool> = Arc::default();
    let pressed = Arc::clone(&interrupted);
    let server = Server::start(move |seen, _| match seen.line.as_str() {
        MESSAGE => {
            pressed.store(true, Ordering::SeqCst);
            usual(seen).unwrap()
        }
        STREAM => Reply::Stream(vec![Step::Await(INTERRUPT), turn_ends("interrupted", None)]),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.interrupted = interrupted;
    let failure = bench.run(&server, &[]).unwrap_err();
    assert_eq!(failure.to_string(), "the turn was interrupted");
    assert_eq!(failure.exit_code(), exit::TURN_FAILED);
    assert_eq!(server.only(INTERRUPT).body, json!({"turnId": TURN}));
}

#[test]
fn ctrl_c_again_leaves_at_once() {
    let interrupted: Arc<AtomicBool> = Arc::default();
    let pressed = Arc::clone(&interrupted);
    let server = Server::start(move |seen, _| {
        if matches!(seen.line.as_str(), MESSAGE | INTERRUPT) {
            pressed.store(true, Ordering::SeqCst);
        }
        match seen.line.as_str() {
            STREAM => Reply::Stream(vec![]),
            _ => usual(seen).unwrap(),
        }
    });
    let mut bench = Bench::new();
    bench.interrupted = interrupted;
    let failure = bench.run(&server, &[]).unwrap_err();
    assert_eq!(failure.code(), "interrupted");
}

#[test]
fn the_overall_timeout_stops_the_turn() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![]),
        _ => usual(seen).unwrap(),
    });
    let failure = Bench::new().run(&server, &["--timeout", "1"]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::TIMEOUT);
    assert_eq!(server.only(INTERRUPT).body, json!({"turnId": TURN}));
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_was() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        STREAM => Reply::Stream(vec![Step::Await(MESSAGE), words("m1", "Hel"), Step::Drop]),
        // Nothing was missed, so nothing is looked up and the words go on in the line.
        RESUMED => Reply::Stream(vec![
            words("m1", "lo"),
            message("m1", "Hello"),
            turn_ends("completed", None),
        ]),
        DETAIL => panic!("nothing is to be looked up"),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.run(&server, &[]).unwrap();
    assert_eq!(bench.out.text(), "Hello\n");
    assert!(bench.err.text().contains("connection is back"), "{}", bench.err.text());
}
