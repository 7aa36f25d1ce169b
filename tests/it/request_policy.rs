//! Requests that nobody decides.

use cm_testkit::app::AppBuilder;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, read_json_lines, step};
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, over_runtimes, text, turn_end};
use crate::fake_app::{begin, create, with_fake};

over_runtimes!(a_turn_that_nobody_watches_ends_by_itself);

fn within(milliseconds: &str, policy: &str, builder: AppBuilder) -> AppBuilder {
    builder
        .env("CODEX_MANAGER_REQUEST_DEADLINE_MS", milliseconds)
        .env("CODEX_MANAGER_REQUEST_POLICY", policy)
}

fn a_turn_that_nobody_watches_ends_by_itself(kind: Kind) {
    let bench = Bench::start_with(kind, |builder| within("300", "decline", builder));
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = bench.send(&session, &[Act::Run("touch never")]);
    let asked = stream.wait_type("approval", DEADLINE)["payload"].clone();
    assert!(asked["deadlineAt"].is_string(), "{asked}");
    let resolved = stream.wait_type("approval_resolved", DEADLINE)["payload"].clone();
    assert_eq!(resolved["decision"], "decline", "{resolved}");
    turn_end(&mut stream, &turn);
    assert!(!bench.app.workspace().join("never").exists());
    let path = format!("/api/sessions/{session}/approvals?status=all&kinds=all");
    let all = bench.app.get(&path).expect_status(200).body["data"].clone();
    assert_eq!((&all[0]["decidedBy"], &all[0]["status"]), (&json!("policy"), &json!("resolved")));
    assert_eq!(all[0]["deadlineAt"], asked["deadlineAt"]);
    let late = bench.decide(&text(&asked["approvalId"]), json!({ "decision": "accept" }));
    assert_eq!((late.status, &late.body["by"]), (409, &json!("policy")), "{}", late.text);
    // A decision in time is a decision.
    let turn = bench.send(&session, &[Act::Run("touch yes")]);
    let asked = stream.wait_type("approval", DEADLINE)["payload"].clone();
    bench.decide(&text(&asked["approvalId"]), json!({ "decision": "accept" })).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(bench.app.workspace().join("yes").is_file());
}

#[test]
fn a_policy_that_cancels_stops_the_turn_of_whatever_was_asked() {
    let dir = TestDir::new("record");
    let record = dir.join("answers");
    let question = json!({ "questions": [{ "id": "q", "header": "h", "question": "?" }] });
    let call = json!({ "callId": "c", "tool": "lookup", "arguments": {} });
    let form = json!({ "mode": "form", "requestedSchema": { "type": "object" } });
    let more = json!({ "permissions": { "network": { "enabled": true } } });
    let behaviour = Behaviour::correct()
        .turn([step::command_approval("ls", &record), step::hang()])
        .turn([step::request("item/tool/requestUserInput", question, &record), step::hang()])
        .turn([step::request("item/tool/call", call, &record), step::hang()])
        .turn([step::request("mcpServer/elicitation/request", form, &record), step::hang()])
        .turn([step::request("item/permissions/requestApproval", more, &record), step::hang()]);
    let app = within("100", "cancel", with_fake(FakeScript::always(behaviour))).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    for _ in 0..5 {
        let turn = begin(&app, &session);
        assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
    }
    let answers = read_json_lines(&record);
    let results: Vec<&Value> = answers.iter().map(|answer| &answer["result"]).collect();
    assert_eq!(results.len(), 5, "{answers:?}");
    assert_eq!(results[0], &json!({ "decision": "cancel" }));
    assert_eq!(results[1], &json!({ "answers": {} }));
    assert_eq!(results[2]["success"], false);
    assert_eq!(results[3], &json!({ "action": "cancel", "content": null, "_meta": null }));
    assert_eq!(results[4], &json!({ "permissions": {}, "scope": "turn" }));
}

#[test]
fn without_a_policy_a_request_waits() {
    let dir = TestDir::new("record");
    let behaviour = Behaviour::correct().turn([step::command_approval("ls", &dir.join("answers"))]);
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    begin(&app, &session);
    let asked = stream.wait_type("approval", DEADLINE)["payload"].clone();
    assert_eq!(asked.get("deadlineAt"), None, "{asked}");
    let bad = app.get(&format!("/api/sessions/{session}/approvals?kinds=some"));
    assert_eq!(bad.status, 400, "{}", bad.text);
}

#[test]
fn a_deadline_without_a_policy_is_a_mistake_that_is_said_at_the_start() {
    let started = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_REQUEST_DEADLINE_MS", "100")
        .try_start();
    let exited = started.map(|_| ()).unwrap_err();
    assert!(exited.stderr.contains("CODEX_MANAGER_REQUEST_POLICY"), "{exited}");
}
