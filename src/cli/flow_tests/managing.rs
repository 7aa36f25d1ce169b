//! Lists, ids, decisions: everything but following a turn.

use cm_core::error::exit;
use serde_json::{Value, json};

use super::bench::{
    Bench, DETAIL, MESSAGE, RESUMED, SESSION, STREAM, TURN, api, detail, frame, reset, row,
    summary, turn_ends, usual, words,
};
use super::server::{Reply, Server, Step};
use crate::failure::Failure;

const OTHER: &str = "01a1fb44-92e7-7a11-8259-dc5c54d0fe1e";
const APPROVAL: &str = "5a5bfa36-75d2-4f0e-9c6c-000000000001";

fn list(archived: bool, rows: &Value, next: Option<&str>) -> Reply {
    Reply::Json(200, json!({"data": rows, "nextCursor": next, "archived": archived}))
}

fn two_sessions() -> Server {
    Server::start(|seen, _| match seen.line.as_str() {
        line if line.starts_with("GET /api/sessions?archived=false") => {
            let second = json!([summary(OTHER, "second\u{1b}]0;x\u{7}", "waiting", 9)]);
            if line.contains("cursor=next%20page") {
                list(false, &second, None)
            } else {
                list(false, &json!([summary(SESSION, "first", "idle", 5)]), Some("next page"))
            }
        }
        line if line.starts_with("GET /api/sessions?archived=true") => list(true, &json!([]), None),
        line if line == format!("GET /api/sessions/{OTHER}/approvals") => Reply::Json(
            200,
            json!({"data": [{
                "approvalId": APPROVAL, "method": "item/commandExecution/requestApproval",
                "threadId": OTHER, "turnId": null, "itemId": null, "summary": "run\nls",
                "details": {}, "createdAt": "", "status": "pending"}]}),
        ),
        line if line == format!("POST /api/approvals/{APPROVAL}/decision") => {
            Reply::Json(200, json!({"status": "ok", "approvalId": APPROVAL, "threadId": OTHER}))
        }
        line if line.starts_with("POST /api/approvals/") => Reply::Json(
            409,
            json!({
            "status": "reconciled", "code": "already_resolved", "approvalId": "x",
            "threadId": OTHER, "decision": "decline", "by": "ada", "at": "noon"}),
        ),
        "DELETE /api/sessions/01a1fb44-92e5-7a11-8259-dc5c54d0fe1e" => {
            Reply::Json(200, json!({"status": "ok", "sessionId": SESSION}))
        }
        _ => usual(seen).unwrap_or_else(|| Reply::Json(404, json!({"status": "not_found"}))),
    })
}

#[test]
fn sessions_are_listed_page_by_page_or_all() {
    let server = two_sessions();
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "list"]).unwrap();
    let text = bench.out.text();
    assert!(text.starts_with("ID        TITLE  ACTIVITY  AGE"), "{text}");
    assert!(text.contains("01a1fb44  first  idle"), "{text}");
    assert!(bench.err.text().contains("--cursor 'next page'"), "{}", bench.err.text());

    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "list", "--all"]).unwrap();
    let text = bench.out.text();
    // Made at about the same time, the two ids are told apart all the same.
    assert!(text.contains("01a1fb44-92e5  first") && text.contains("01a1fb44-92e7  "), "{text}");
    assert!(text.contains("second\\u{1b}]0;x\\u{7}"), "{text}");

    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "list", "--json"]).unwrap();
    let page: Value = serde_json::from_str(&bench.out.text()).unwrap();
    assert_eq!(page["nextCursor"], "next page");
}

#[test]
fn ids_are_found_or_it_is_said_why_not() {
    let server = two_sessions();
    let api = api(&server);
    let find = |text: &str| crate::resolve::session(&api, text);
    assert_eq!(find("01a1fb44-92e7").unwrap().as_str(), OTHER);
    assert_eq!(find("latest").unwrap().as_str(), SESSION, "the newest of the first page");
    for (text, code, exit_code) in [
        ("01a1fb44", "ambiguous", exit::CONFLICT),
        ("01a1", "usage", exit::USAGE),
        ("ffffff", "not_found", exit::NOT_FOUND),
        ("../etc", "usage", exit::USAGE),
    ] {
        let failure = find(text).unwrap_err();
        assert_eq!((failure.code(), failure.exit_code()), (code, exit_code), "{text}: {failure}");
    }
}

#[test]
fn a_transcript_is_readable() {
    let server = Server::start(|_, _| {
        let mut command = row("c", "system", "commandExecution", "Command execution completed: ls");
        let item = json!({"type": "commandExecution", "command": "ls \u{1b}c", "exitCode": 0,
                          "aggregatedOutput": "a\nb\n", "status": "completed"});
        command["details"] = json!(item.to_string());
        let mut broken = row("e", "system", "turn.error", "no such model");
        broken["status"] = json!("error");
        let rows = json!([
            row("u", "user", "userMessage", "hello"),
            command,
            row("m", "assistant", "agentMessage", "two files\u{9b}"),
            row("x", "system", "approval.resolved", "Approval resolved (accept)"),
            broken,
        ]);
        Reply::Json(200, detail("idle", Some("failed"), &rows))
    });
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "show", SESSION]).unwrap();
    let text = bench.out.text();
    // The age of the session depends on the day.
    let text = text.lines().filter(|line| !line.contains(" ago")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn send_prints_the_turn_or_follows_it() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        DETAIL => Reply::Json(200, detail("idle", None, &json!([]))),
        STREAM => Reply::Stream(vec![
            Step::Await(MESSAGE),
            words("m", "hi"),
            turn_ends("completed", None),
        ]),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "send", SESSION, "two", "words"]).unwrap();
    assert_eq!(bench.out.text(), format!("{TURN}\n"));
    assert_eq!(server.only(MESSAGE).body, json!({"text": "two words"}));
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "send", SESSION, "more", "--follow"]).unwrap();
    assert_eq!(bench.out.text(), "hi\n");
}

#[test]
fn tail_follows_over_a_broken_connection() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        DETAIL => Reply::Json(200, detail("idle", None, &json!([]))),
        STREAM => Reply::Stream(vec![words("m", "one\n"), Step::Drop]),
        RESUMED => Reply::Stream(vec![
            reset(),
            turn_ends("failed", Some("why\u{7}")),
            frame("session_deleted", &json!({})),
        ]),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "tail", SESSION]).unwrap();
    assert_eq!(bench.out.text(), "one\n");
    assert!(bench.err.text().contains("— turn failed: why\\u{7}"), "{}", bench.err.text());
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "tail", SESSION, "--json"]).unwrap();
    for line in bench.out.text().lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[test]
fn a_session_that_does_not_exist_is_not_followed() {
    let server = two_sessions();
    let failure = Bench::new().execute(&server, &["sessions", "tail", SESSION]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::NOT_FOUND);
}

#[test]
fn deleting_asks_first() {
    const QUESTION: &str = "for good? [y/N] ";
    let server = two_sessions();
    let arguments = |line: &[&str]| match super::bench::typed(line) {
        crate::ClientCommand::Sessions(crate::SessionsArgs {
            action: crate::SessionAction::Delete(arguments),
            ..
        }) => arguments,
        other => panic!("{other:?}"),
    };
    let delete = |bench: &mut Bench, line: &[&str]| {
        let terminal = bench.terminal.take();
        crate::sessions::delete(&arguments(line), &api(&server), terminal, &mut bench.console)
    };
    let line = ["sessions", "delete", SESSION];
    let failure = delete(&mut Bench::new(), &line).unwrap_err();
    assert_eq!(failure.exit_code(), exit::USAGE);
    let mut bench = Bench::with_person(&[(QUESTION, "")]);
    assert!(matches!(delete(&mut bench, &line), Err(Failure::NotConfirmed(_))));
    assert!(server.lines().is_empty(), "{:?}", server.lines());
    let mut bench = Bench::with_person(&[(QUESTION, "y")]);
    delete(&mut bench, &line).unwrap();
    delete(&mut Bench::new(), &["sessions", "delete", SESSION, "--yes"]).unwrap();
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn approvals_of_all_sessions_are_found_and_decided() {
    let server = two_sessions();
    let mut bench = Bench::new();
    bench.execute(&server, &["approvals", "list"]).unwrap();
    let expected = format!("{APPROVAL}  {OTHER}  command  run\\nls\n");
    assert!(bench.out.text().ends_with(&expected), "{}", bench.out.text());
    // Only the session that waits was asked.
    assert!(!server.lines().iter().any(|line| line.contains(&format!("{SESSION}/approvals"))));

    let line = ["approvals", "decide", "5a5bfa36", "accept", "--scope", "session"];
    Bench::new().execute(&server, &line).unwrap();
    let decided = server.only(&format!("POST /api/approvals/{APPROVAL}/decision"));
    assert_eq!(decided.body, json!({"decision": "accept", "scope": "session"}));

    let mut bench = Bench::new();
    let failure = bench.execute(&server, &["approvals", "decide", "gone", "accept"]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::CONFLICT);
    assert_eq!(failure.to_string(), "the request was decided already: decline by ada at noon");
}

#[test]
fn questions_and_calls_are_answered_by_id() {
    let server = two_sessions();
    let mut bench = Bench::new();
    let line = ["tool-input", "decide", "q", "accept", "--answer", "pick=A"];
    bench.execute(&server, &line).unwrap();
    let answered = server.only("POST /api/tool-input/q/decision");
    assert_eq!(
        answered.body,
        json!({"decision": "accept",
                                     "answers": {"pick": {"answers": ["A"]}}})
    );
    bench.execute(&server, &["tool-calls", "respond", "c", "--text", "42", "--failed"]).unwrap();
    let answered = server.only("POST /api/tool-calls/c/response");
    assert_eq!(answered.body, json!({"success": false, "text": "42"}));
    let line = ["tool-input", "decide", "q", "decline", "--answer", "pick=A"];
    assert_eq!(bench.execute(&server, &line).unwrap_err().exit_code(), exit::USAGE);
}

#[test]
fn thin_commands_call_their_route() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        DETAIL => Reply::Json(200, detail("running", Some("inProgress"), &json!([]))),
        _ => usual(seen)
            .unwrap_or_else(|| Reply::Json(200, json!({"status": "ok", "sessionId": SESSION}))),
    });
    for (line, route, body) in [
        (&["rename", SESSION, "a", "b"][..], "rename", json!({"title": "a b"})),
        (&["archive", SESSION], "archive", json!({})),
        (&["unarchive", SESSION], "unarchive", json!({})),
        (&["resume", SESSION], "resume", json!({})),
        (&["interrupt", SESSION], "interrupt", json!({})),
        (&["steer", SESSION, "more"], &format!("turns/{TURN}/steer"), json!({"input": "more"})),
    ] {
        Bench::new().execute(&server, &[&["sessions"], line].concat()).unwrap();
        let seen = server.only(&format!("POST /api/sessions/{SESSION}/{route}"));
        assert_eq!(seen.body, body, "{route}");
    }
    let mut bench = Bench::new();
    bench.execute(&server, &["sessions", "create", "--cd", "/demo"]).unwrap();
    assert_eq!(bench.out.text(), format!("{SESSION}\n"));
    assert_eq!(server.only("POST /api/sessions").body, json!({"cwd": "/demo"}));
}
