//! One decision per request; whoever comes later is told what was decided.

use std::path::Path;

use cm_testkit::app::{AppBuilder, StreamClient, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, read_json_lines, step};
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, create, embedded, refused, with_fake};

/// A running turn with one pending request.
struct Pending {
    app: TestApp,
    session: String,
    turn: String,
    stream: StreamClient,
    request: String,
    /// What the child was answered.
    record: std::path::PathBuf,
    _dir: TestDir,
}

impl Pending {
    /// Starts a turn whose first step asks, and waits for the event of the request.
    fn start(ask: impl FnOnce(&Path) -> Value, event: &str) -> Self {
        let dir = TestDir::new("record");
        let record = dir.join("answers");
        let turn = Behaviour::correct().turn([ask(&record), step::message("went on")]);
        let builder: AppBuilder = with_fake(FakeScript::starts([turn]));
        let app = builder.start();
        let session = create(&app);
        let mut stream = app.stream(Some(&session));
        let turn = begin(&app, &session);
        let payload = stream.wait_type(event, DEADLINE)["payload"].clone();
        let id = payload.get("approvalId").or_else(|| payload.get("requestId"));
        let request = text(id.expect("the event names the request"));
        let _dir = dir;
        Self { app, session, turn, stream, request, record, _dir }
    }

    fn approval() -> Self {
        Self::start(|record| step::command_approval("ls", record), "approval")
    }

    fn tool_call() -> Self {
        let params = json!({ "callId": "c1", "tool": "lookup", "arguments": { "q": 1 } });
        Self::start(|record| step::request("item/tool/call", params, record), "tool_call_requested")
    }

    fn question() -> Self {
        let question = json!({
            "id": "q1", "header": "Colour", "question": "Which?", "isOther": false,
            "isSecret": false,
            "options": [{ "label": "red", "description": "" }],
        });
        let params = json!({ "itemId": "i1", "questions": [question] });
        Self::start(
            |record| step::request("item/tool/requestUserInput", params, record),
            "tool_user_input_requested",
        )
    }

    fn answers(&self) -> Vec<Value> {
        read_json_lines(&self.record)
    }

    fn decide_as(&self, actor: &str, decision: &str) -> Reply {
        let path = format!("/api/approvals/{}/decision", self.request);
        let body = json!({ "decision": decision }).to_string();
        let actor = [("x-codex-actor", actor)];
        self.app.request("POST", &path, &actor, Some(body.as_bytes()))
    }

    fn post(&self, kind: &str, action: &str, body: Value) -> Reply {
        self.app.post(&format!("/api/{kind}/{}/{action}", self.request), body)
    }

    fn list(&self, kind: &str, query: &str) -> Vec<Value> {
        let path = format!("/api/sessions/{}/{kind}{query}", self.session);
        let reply = self.app.get(&path).expect_status(200);
        reply.body["data"].as_array().cloned().expect("a list")
    }
}

/// Asserts the shape in which a late answer to a question or a tool call is refused. Here
/// `requestId` is the agent's request, as in version 1, and it stands there once.
#[track_caller]
fn told(pending: &Pending, reply: &Reply, code: &str) {
    let body = &reply.body;
    assert_eq!((reply.status, &body["code"]), (404, &json!(code)), "{}", reply.text);
    assert_eq!(body["status"], "not_found");
    assert_eq!(body["requestId"], pending.request.as_str());
    assert_eq!(reply.text.matches("\"requestId\"").count(), 1, "{}", reply.text);
    assert!(reply.header("x-request-id").is_some());
    assert!(!text(&body["message"]).is_empty() && !text(&body["at"]).is_empty());
}

#[test]
fn of_four_decisions_at_once_one_wins_and_the_others_learn_which() {
    let mut pending = Pending::approval();
    let replies: Vec<(usize, Reply)> = std::thread::scope(|scope| {
        let pending = &pending;
        let callers: Vec<_> = (0..4)
            .map(|number| {
                let decision = if number % 2 == 0 { "accept" } else { "decline" };
                let actor = format!("person-{number}");
                scope.spawn(move || (number, pending.decide_as(&actor, decision)))
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("an answer")).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|(_, reply)| reply.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 3), "{replies:#?}");
    let (winner, reply) = won[0];
    assert_eq!(reply.body["status"], "ok");
    assert_eq!(reply.body["approvalId"], pending.request.as_str());
    assert_eq!(reply.body["threadId"], pending.session.as_str());
    let decision = if winner % 2 == 0 { "accept" } else { "decline" };
    for (_, reply) in lost {
        refused(reply, 409, "already_resolved");
        let body = &reply.body;
        assert_eq!(body["status"], "reconciled");
        assert_eq!(body["approvalId"], pending.request.as_str());
        assert_eq!(body["threadId"], pending.session.as_str());
        assert_eq!(body["decision"], decision);
        assert_eq!(body["by"], format!("person-{winner}"));
        assert!(!text(&body["at"]).is_empty());
    }
    let turn = pending.turn.clone();
    assert_eq!(turn_end(&mut pending.stream, &turn)["status"], "completed");
    let answers = pending.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["result"]["decision"], decision);
    // Long after, the answer is the same.
    let late = pending.decide_as("late", "cancel");
    refused(&late, 409, "already_resolved");
    assert_eq!(late.body["decision"], decision);
    let resolved = pending.stream.read(|frames| {
        let resolved = frames.iter().filter(|frame| frame["type"] == "approval_resolved");
        resolved.cloned().collect::<Vec<_>>()
    });
    assert_eq!(resolved.len(), 1, "{resolved:?}");
    assert_eq!(resolved[0]["payload"]["decision"], decision);
}

#[test]
fn races_end_the_same_way_every_time() {
    const ROUNDS: usize = 25;
    let dir = TestDir::new("record");
    let record = dir.join("answers");
    let ask = |_| step::command_approval("ls", &record);
    let turn = Behaviour::correct().turn((0..ROUNDS).map(ask));
    let app = with_fake(FakeScript::starts([turn])).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let turn = begin(&app, &session);
    for round in 0..ROUNDS {
        let payload = stream.wait_type("approval", DEADLINE)["payload"].clone();
        let path = format!("/api/approvals/{}/decision", text(&payload["approvalId"]));
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let decide = || scope.spawn(|| app.post(&path, json!({ "decision": "accept" })));
            let callers: Vec<_> = (0..4).map(|_| decide()).collect();
            let answers = callers.into_iter().map(|caller| caller.join().expect("an answer"));
            answers.collect()
        });
        let won = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(won, 1, "round {round}: {replies:#?}");
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            refused(reply, 409, "already_resolved");
        }
    }
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert_eq!(read_json_lines(&record).len(), ROUNDS);
}

#[test]
fn a_tool_call_is_answered_once() {
    let mut pending = Pending::tool_call();
    let first = pending.post("tool-calls", "response", json!({ "text": "42" }));
    first.expect_status(200);
    let second = pending.post("tool-calls", "response", json!({ "text": "43" }));
    told(&pending, &second, "already_decided");
    assert_eq!(second.body["decision"], "success");
    let turn = pending.turn.clone();
    assert_eq!(turn_end(&mut pending.stream, &turn)["status"], "completed");
    let answers = pending.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let items = json!([{ "type": "inputText", "text": "42" }]);
    assert_eq!(answers[0]["result"], json!({ "success": true, "contentItems": items }));
}

#[test]
fn of_two_answers_to_a_tool_call_at_once_one_wins() {
    let pending = Pending::tool_call();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let pending = &pending;
        let callers = ["a", "b"].map(|word| {
            scope.spawn(move || pending.post("tool-calls", "response", json!({ "text": word })))
        });
        callers.map(|caller| caller.join().expect("an answer")).into()
    });
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert!(statuses == [200, 404] || statuses == [200, 409], "{replies:#?}");
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        let code = reply.body["code"].as_str();
        let expected = if reply.status == 409 { "in_flight" } else { "already_decided" };
        assert_eq!(code, Some(expected), "{}", reply.text);
    }
}

#[test]
fn a_question_is_answered_once() {
    let mut pending = Pending::question();
    let shown = pending.list("tool-input", "");
    assert_eq!(shown[0]["questions"][0]["id"], "q1", "{shown:?}");
    let answer =
        |word: &str| json!({ "decision": "accept", "answers": { "q1": { "answers": [word] } } });
    pending.post("tool-input", "decision", answer("red")).expect_status(200);
    let second = pending.post("tool-input", "decision", answer("blue"));
    told(&pending, &second, "already_decided");
    assert_eq!(second.body["decision"], "accept");
    let turn = pending.turn.clone();
    assert_eq!(turn_end(&mut pending.stream, &turn)["status"], "completed");
    let answers = pending.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["result"], json!({ "answers": { "q1": { "answers": ["red"] } } }));
}

#[test]
fn a_decision_after_the_child_died_is_told_that_it_expired() {
    let mut pending = Pending::approval();
    let old = pending.app.kill_child();
    let gone = pending.stream.wait_type("approval_resolved", DEADLINE);
    assert_eq!(gone["payload"]["status"], "expired", "{gone}");
    pending.app.wait_new_child(old, DEADLINE);
    let late = pending.decide_as("late", "accept");
    refused(&late, 409, "expired");
    assert_eq!(late.body["status"], "reconciled");
    assert_eq!(late.body["decision"], Value::Null);
    assert_eq!(late.body["approvalId"], pending.request.as_str());
    assert_eq!(pending.list("approvals", ""), Vec::<Value>::new());
    let all = pending.list("approvals", "?status=all");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["status"], "expired");
    assert_eq!(all[0]["expiredReason"], "runtime_down");
    // The new child was told nothing about a question that it never asked.
    let answered =
        |message: &Value| message.get("result").is_some() || message.get("error").is_some();
    assert!(!pending.app.fake().received().iter().any(answered));
}

#[test]
fn a_tool_call_that_expired_says_so_in_its_own_shape() {
    let mut pending = Pending::tool_call();
    let path = format!("/api/sessions/{}/interrupt", pending.session);
    pending.app.request("POST", &path, &[], None).expect_status(200);
    let turn = pending.turn.clone();
    assert_eq!(turn_end(&mut pending.stream, &turn)["status"], "interrupted");
    pending.stream.wait_type("tool_call_resolved", DEADLINE);
    let late = pending.post("tool-calls", "response", json!({ "text": "late" }));
    told(&pending, &late, "expired");
    assert_eq!(late.body["decision"], Value::Null);
    let all = pending.list("tool-calls", "?status=all");
    assert_eq!(all[0]["expiredReason"], "turn_ended", "{all:?}");
}

#[test]
fn lists_show_what_is_pending_and_on_demand_everything() {
    let mut pending = Pending::approval();
    for query in ["", "?status=pending", "?status=all"] {
        let rows = pending.list("approvals", query);
        assert_eq!(rows.len(), 1, "{query}: {rows:?}");
        assert_eq!(rows[0]["approvalId"], pending.request.as_str());
        assert_eq!(rows[0]["status"], "pending");
        assert_eq!(rows[0]["turnId"], pending.turn.as_str());
    }
    let activity = |app: &TestApp, session: &str| {
        app.get(&format!("/api/sessions/{session}")).body["session"]["activity"].clone()
    };
    assert_eq!(activity(&pending.app, &pending.session), "waiting");
    // Who decided is kept for the record, up to a length.
    pending.decide_as(&"me".repeat(500), "decline").expect_status(200);
    let turn = pending.turn.clone();
    turn_end(&mut pending.stream, &turn);
    assert_eq!(pending.list("approvals", ""), Vec::<Value>::new());
    let all = pending.list("approvals", "?status=all");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["status"], "resolved");
    assert_eq!(all[0]["decision"], "decline");
    assert_eq!(all[0]["decidedBy"], "me".repeat(60));
    assert_eq!(activity(&pending.app, &pending.session), "idle");
    let path = format!("/api/sessions/{}/approvals?status=everything", pending.session);
    refused(&pending.app.get(&path), 400, "invalid_request");
}

#[test]
fn a_request_is_not_decided_through_another_familys_route() {
    let pending = Pending::approval();
    let wrong = pending.post("tool-calls", "response", json!({ "text": "42" }));
    assert_eq!((wrong.status, &wrong.body["code"]), (404, &json!("not_found")));
    let wrong = pending.post("tool-input", "decision", json!({ "decision": "accept" }));
    assert_eq!((wrong.status, &wrong.body["code"]), (404, &json!("not_found")));
    assert_eq!(pending.list("approvals", "").len(), 1, "it is still pending");
    pending.decide_as("me", "accept").expect_status(200);
}

#[test]
fn unknown_requests_do_not_exist() {
    let app = embedded().start();
    let decision = json!({ "decision": "accept" });
    let long = "a".repeat(300);
    for id in ["nope", "0", "__proto__", "..%2F..", "%00", long.as_str()] {
        for (path, body) in [
            (format!("/api/approvals/{id}/decision"), decision.clone()),
            (format!("/api/tool-input/{id}/decision"), decision.clone()),
            (format!("/api/tool-calls/{id}/response"), json!({ "text": "x" })),
        ] {
            let reply = app.post(&path, body);
            assert_eq!(reply.status, 404, "{path}: {}", reply.text);
            assert_eq!(reply.body["status"], "not_found", "{path}: {}", reply.text);
            assert_eq!(reply.body["code"], "not_found", "{path}: {}", reply.text);
        }
    }
}
