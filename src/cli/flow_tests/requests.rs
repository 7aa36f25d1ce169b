//! Approvals, questions and tool calls of a running turn.

use cm_core::error::exit;
use serde_json::{Value, json};

use super::bench::{Bench, SESSION, TURN, frame, message, note, server_with_turn, turn_ends};
use super::server::Step;

const DECIDE: &str = "POST /api/approvals/a1/decision";
const ANSWER: &str = "POST /api/tool-input/q1/decision";
const RESPOND: &str = "POST /api/tool-calls/t1/response";
const APPROVAL_PROMPT: &str = "[c]ancel turn: ";

fn approval(id: &str) -> Step {
    frame(
        "approval",
        &json!({
            "approvalId": id, "method": "item/commandExecution/requestApproval",
            "threadId": SESSION, "turnId": TURN, "itemId": "c",
            "summary": "Command approval required: touch x",
            "details": {"command": "touch x\r\u{1b}[1A\necho\u{200b} done", "cwd": "/demo",
                        "reason": format!("May I {id}?")},
            "createdAt": "2026-11-20T23:22:17.710Z", "status": "pending"
        }),
    )
}

fn question() -> Step {
    let questions: Value = json!([
        {"id": "pick", "header": "Pick", "question": "Which?", "isOther": true, "isSecret": false,
         "options": [{"label": "A", "description": "a"}, {"label": "B", "description": "b"}]},
        {"id": "why", "header": "", "question": "Why?", "isOther": false, "isSecret": false,
         "options": null}
    ]);
    frame(
        "tool_user_input_requested",
        &json!({
            "requestId": "q1", "method": "item/tool/requestUserInput", "threadId": SESSION,
            "turnId": TURN, "itemId": "i", "summary": "Tool input required (2 questions)",
            "questions": questions, "details": {}, "createdAt": "2026-11-20T23:22:17.710Z",
            "status": "pending"
        }),
    )
}

#[test]
fn yes_accepts_without_asking() {
    let server = server_with_turn(|| {
        vec![approval("a1"), Step::Await(DECIDE), turn_ends("completed", None)]
    });
    let mut bench = Bench::new();
    bench.run(&server, &["--yes"]).unwrap();
    assert_eq!(server.only(DECIDE).body, json!({"decision": "accept", "scope": "turn"}));
    assert!(bench.err.text().contains("accepted (--yes)"), "{}", bench.err.text());
}

#[test]
fn no_declines_and_that_is_a_success() {
    let server = server_with_turn(|| {
        vec![
            approval("a1"),
            Step::Await(DECIDE),
            question(),
            Step::Await(ANSWER),
            turn_ends("completed", None),
        ]
    });
    Bench::with_person(&[]).run(&server, &["--no"]).unwrap();
    assert_eq!(server.only(DECIDE).body["decision"], "decline");
    assert_eq!(server.only(ANSWER).body["decision"], "decline");
}

#[test]
fn without_a_terminal_it_declines_and_says_so() {
    let server = server_with_turn(|| {
        vec![
            approval("a1"),
            Step::Await(DECIDE),
            question(),
            Step::Await(ANSWER),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::new();
    let failure = bench.run(&server, &[]).unwrap_err();
    assert_eq!(server.only(DECIDE).body["decision"], "decline");
    assert_eq!((failure.code(), failure.exit_code()), ("nobody_to_ask", exit::DENIED));
    assert!(failure.to_string().starts_with("2 request(s)"), "{failure}");
    assert!(bench.err.text().contains("declined (no terminal to ask on)"), "{}", bench.err.text());
}

#[test]
fn an_approval_is_asked_with_everything_visible() {
    let server = server_with_turn(|| {
        vec![
            approval("a1"),
            Step::Await(DECIDE),
            message("m", "done"),
            turn_ends("completed", None),
        ]
    });
    let mut bench =
        Bench::with_person(&[(APPROVAL_PROMPT, "what?"), ("please answer y, a, n or c: ", "a")]);
    bench.run(&server, &["--quiet"]).unwrap();
    assert_eq!(server.only(DECIDE).body, json!({"decision": "accept", "scope": "session"}));
    assert_eq!(bench.out.text(), "done\n");
    insta::assert_snapshot!(bench.err.text());
}

#[test]
fn what_was_typed_before_the_question_approves_nothing() {
    let server = server_with_turn(|| {
        vec![approval("a1"), Step::Await(DECIDE), turn_ends("completed", None)]
    });
    let mut bench = Bench::with_hasty_person("y\ny\n", &[(APPROVAL_PROMPT, "n")]);
    bench.run(&server, &[]).unwrap();
    assert_eq!(server.only(DECIDE).body["decision"], "decline");
}

#[test]
fn a_file_change_is_asked_with_its_diff() {
    let server = server_with_turn(|| {
        let changes = json!([{"path": "/demo/a.txt", "kind": {"type": "update"},
                              "diff": "@@ -1 +1 @@\n-old\n+new\u{1b}[8m\n"}]);
        vec![
            note(
                "item/started",
                json!({"item": {"type": "fileChange", "id": "f",
                                                "changes": changes}}),
            ),
            frame(
                "approval",
                &json!({
                "approvalId": "a1", "method": "item/fileChange/requestApproval",
                "threadId": SESSION, "turnId": TURN, "itemId": "f",
                "summary": "File change approval required", "details": {"reason": null},
                "createdAt": "", "status": "pending"}),
            ),
            Step::Await(DECIDE),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::with_person(&[(APPROVAL_PROMPT, "n")]);
    bench.run(&server, &["--quiet"]).unwrap();
    assert_eq!(server.only(DECIDE).body["decision"], "decline");
    insta::assert_snapshot!(bench.err.text());
}

#[test]
fn a_decision_from_elsewhere_ends_the_question() {
    let server = server_with_turn(|| {
        let resolved = |id: &str| {
            frame(
                "approval_resolved",
                &json!({"approvalId": id, "status": "resolved",
                                               "decision": "decline", "scope": "turn"}),
            )
        };
        vec![
            approval("a1"),
            approval("a2"),
            resolved("a1"),
            Step::Await("POST /api/approvals/a2/decision"),
            turn_ends("completed", None),
        ]
    });
    // Only the second question is answered: the first one goes away by itself.
    let mut bench = Bench::with_person(&[(
        "reason: May I a2?\n[y]es once  [a]lways this session  [n]o  [c]ancel turn: ",
        "c",
    )]);
    bench.run(&server, &["--quiet"]).unwrap();
    assert!(bench.err.text().contains("(settled elsewhere: decline)"), "{}", bench.err.text());
    assert_eq!(server.only("POST /api/approvals/a2/decision").body["decision"], "cancel");
    assert!(!server.lines().iter().any(|line| line == DECIDE), "{:?}", server.lines());
}

#[test]
fn questions_are_answered_by_number_or_words() {
    let server =
        server_with_turn(|| vec![question(), Step::Await(ANSWER), turn_ends("completed", None)]);
    let mut bench = Bench::with_person(&[
        ("number, or your own words: ", "2"),
        ("your answer: ", "because, well"),
    ]);
    // A yes to everything is no answer to a question.
    bench.run(&server, &["--yes"]).unwrap();
    assert_eq!(
        server.only(ANSWER).body,
        json!({"decision": "accept", "answers": {
            "pick": {"answers": ["B"]}, "why": {"answers": ["because, well"]}}})
    );
}

#[test]
fn tool_calls_are_answered_with_a_no() {
    let server = server_with_turn(|| {
        vec![
            frame(
                "tool_call_requested",
                &json!({
                "requestId": "t1", "method": "item/tool/call", "threadId": SESSION,
                "turnId": TURN, "itemId": null, "callId": "c", "tool": "lookup",
                "arguments": {"q": 1}, "summary": "Tool call requested: lookup", "details": {},
                "createdAt": "", "status": "pending"}),
            ),
            Step::Await(RESPOND),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::new();
    bench.run(&server, &[]).unwrap();
    assert_eq!(server.only(RESPOND).body["success"], false);
    assert!(bench.err.text().contains("tool lookup: the command line cannot run it"));
}

#[test]
fn a_closed_keyboard_is_nobody() {
    let server = server_with_turn(|| {
        vec![approval("a1"), Step::Await(DECIDE), turn_ends("completed", None)]
    });
    let mut bench = Bench::new();
    let (keys, _) = std::io::pipe().unwrap();
    let keys = std::fs::File::from(std::os::fd::OwnedFd::from(keys));
    bench.terminal = Some(crate::terminal::Terminal::of_file(keys));
    let failure = bench.run(&server, &[]).unwrap_err();
    assert_eq!(failure.code(), "nobody_to_ask");
    assert_eq!(server.only(DECIDE).body["decision"], "decline");
}
