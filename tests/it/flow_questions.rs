//! Questions to a person and calls of a program's tools.

use serde_json::json;

use crate::common::{Act, Bench, DEADLINE, Kind, over_runtimes, rows, text, turn_end};

over_runtimes!(
    an_answer_reaches_the_agent,
    a_declined_question_lets_the_turn_go_on,
    a_tool_call_is_answered_by_the_client,
    a_failed_tool_call_is_told_as_such,
    blanks_around_the_name_of_a_tool_are_nothing,
);

fn an_answer_reaches_the_agent(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Ask("Which colour?"), Act::Say("thank you")]);
    let asked = stream.wait_type("tool_user_input_requested", DEADLINE)["payload"].clone();
    let id = text(&asked["requestId"]);
    assert_eq!(asked["method"], "item/tool/requestUserInput");
    assert_eq!(asked["turnId"], turn);
    assert_eq!(asked["summary"], "Tool input required (1 question)");
    let question = &asked["questions"][0];
    assert_eq!(question["question"], "Which colour?");
    let labels: Vec<_> =
        question["options"].as_array().unwrap().iter().map(|o| &o["label"]).collect();
    assert_eq!(labels[..2], ["Red", "Blue"]);
    let listed = bench.app.get(&format!("/api/sessions/{session}/tool-input")).expect_status(200);
    assert_eq!(listed.body, json!({ "data": [asked] }));

    let path = format!("/api/tool-input/{id}/decision");
    let mut answers = json!({});
    answers[text(&question["id"])] = json!({ "answers": ["Blue"] });
    let body = json!({ "decision": "accept", "answers": answers });
    let reply = bench.app.post(&path, body.clone()).expect_status(200);
    assert_eq!(reply.body, json!({ "status": "ok", "requestId": id, "threadId": session }));
    let resolved = stream.wait_type("tool_user_input_resolved", DEADLINE);
    let expected = json!({ "requestId": id, "status": "resolved", "decision": "accept" });
    assert_eq!(resolved["payload"], expected);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    agent_got(&bench, &session, "Blue");
    let again = bench.app.post(&path, body).expect_status(404).body;
    assert_eq!(
        (&again["status"], &again["code"]),
        (&json!("not_found"), &json!("already_decided"))
    );
    let detail = bench.detail(&session);
    assert_eq!(rows(&detail, "tool_input.resolved")[0]["content"], "Tool input resolved (accept)");
}

fn a_declined_question_lets_the_turn_go_on(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Ask("Which colour?"), Act::Say("as you like")]);
    let asked = stream.wait_type("tool_user_input_requested", DEADLINE);
    let path = format!("/api/tool-input/{}/decision", text(&asked["payload"]["requestId"]));
    bench.app.post(&path, json!({ "decision": "decline" })).expect_status(200);
    let resolved = stream.wait_type("tool_user_input_resolved", DEADLINE);
    assert_eq!(resolved["payload"]["decision"], "decline");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
}

fn a_tool_call_is_answered_by_the_client(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.tool_session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Lookup, Act::Say("found")]);
    let asked = stream.wait_type("tool_call_requested", DEADLINE)["payload"].clone();
    let id = text(&asked["requestId"]);
    assert_eq!((&asked["tool"], &asked["arguments"]), (&json!("lookup"), &json!({ "key": "k" })));
    assert_eq!(asked["turnId"], turn);
    assert_eq!(asked["summary"], "Tool call requested: lookup");
    let listed = bench.app.get(&format!("/api/sessions/{session}/tool-calls")).expect_status(200);
    assert_eq!(listed.body, json!({ "data": [asked] }));

    let path = format!("/api/tool-calls/{id}/response");
    let reply = bench.app.post(&path, json!({ "text": "the value of k" })).expect_status(200);
    assert_eq!(reply.body, json!({ "status": "ok", "requestId": id, "threadId": session }));
    let resolved = stream.wait_type("tool_call_resolved", DEADLINE);
    let expected = json!({ "requestId": id, "status": "resolved", "success": true });
    assert_eq!(resolved["payload"], expected);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    agent_got(&bench, &session, "the value of k");
    let detail = bench.detail(&session);
    let row = rows(&detail, "tool_call.resolved")[0];
    assert_eq!(row["content"], "Tool call resolved (success=true)");
}

fn blanks_around_the_name_of_a_tool_are_nothing(kind: Kind) {
    let bench = Bench::start(kind);
    let tool = json!({
        "name": "  lookup\n", "description": " Looks something up. ",
        "inputSchema": { "type": "object", "properties": { "key": { "type": "string" } } },
    });
    let session = bench.session_with(json!({ "dynamicTools": [tool] }));
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Lookup, Act::Say("thank you")]);
    let asked = stream.wait_type("tool_call_requested", DEADLINE)["payload"].clone();
    assert_eq!(asked["tool"], "lookup");
    let path = format!("/api/tool-calls/{}/response", text(&asked["requestId"]));
    bench.app.post(&path, json!({ "text": "found" })).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    // The same, said again with the next message, is no other tool.
    let message = json!({ "text": bench.kind.message(&[Act::Say("on")]), "dynamicTools": [tool] });
    bench.act(&session, "messages", message).expect_status(202);
}

fn a_failed_tool_call_is_told_as_such(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.tool_session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Lookup, Act::Say("a pity")]);
    let asked = stream.wait_type("tool_call_requested", DEADLINE);
    let path = format!("/api/tool-calls/{}/response", text(&asked["payload"]["requestId"]));
    let items = json!([{ "type": "inputText", "text": "no such key" }]);
    bench.app.post(&path, json!({ "success": false, "contentItems": items })).expect_status(200);
    let resolved = stream.wait_type("tool_call_resolved", DEADLINE);
    assert_eq!(resolved["payload"]["success"], false);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    agent_got(&bench, &session, "no such key");
}

/// What was answered reached the agent: the scripted model sees it in what codex sends, the
/// embedded agent repeats it in its report.
#[track_caller]
fn agent_got(bench: &Bench, session: &str, answer: &str) {
    if bench.kind.is_codex() {
        let has = |request: &cm_testkit::model::ModelRequest| {
            request.body["input"].to_string().contains(answer)
        };
        bench.model().wait_for(has, DEADLINE);
    } else {
        let detail = bench.detail(session);
        let said = rows(&detail, "agentMessage");
        assert!(said.iter().any(|row| text(&row["content"]).contains(answer)), "{detail}");
    }
}
