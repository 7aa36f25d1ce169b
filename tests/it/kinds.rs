//! Kinds of request that version 1 did not know, over the fake child: how they are shown, what
//! decides them, and what the child is answered.

use cm_testkit::app::{StreamClient, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, read_json_lines, step};
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::common::{DEADLINE, rows, text, turn_end};
use crate::fake_app::{begin, create, refused, with_fake};
use crate::openapi::Described;

/// A turn in which the child asks something.
struct Asked {
    app: TestApp,
    session: String,
    turn: String,
    stream: StreamClient,
    /// The payload of the event that told of it.
    request: Value,
    dir: TestDir,
}

impl Asked {
    fn start(method: &str, params: Value) -> Self {
        Self::start_and_then(method, params, step::message("went on"))
    }

    /// [`Asked::start`] with what the child does when it was answered.
    fn start_and_then(method: &str, params: Value, then: Value) -> Self {
        let dir = TestDir::new("record");
        let ask = step::request(method, params, &dir.join("answers"));
        let turn = Behaviour::correct().turn([ask, then]);
        let builder = with_fake(FakeScript::starts([turn]));
        let app = builder.env("CODEX_MANAGER_AUTH_REFRESH_TIMEOUT_MS", "3000").start();
        let session = create(&app);
        let mut stream = app.stream(Some(&session));
        stream.wait_type("ready", DEADLINE);
        let turn = begin(&app, &session);
        let request = stream.wait_type("request_pending", DEADLINE)["payload"].clone();
        Self { app, session, turn, stream, request, dir }
    }

    fn id(&self) -> String {
        text(&self.request["requestId"])
    }

    fn decide(&self, body: Value) -> Reply {
        self.app.post(&text(&self.request["answerHref"]), body)
    }

    /// Decides, and answers what the child got, whose turn then ends so.
    #[track_caller]
    fn decided(&mut self, body: Value, status: &str) -> Value {
        let session = &self.request["threadId"];
        let reply = self.decide(body).expect_status(200);
        let expected = json!({ "status": "ok", "approvalId": self.id(), "threadId": session });
        assert_eq!(reply.body, expected);
        let turn = self.turn.clone();
        assert_eq!(turn_end(&mut self.stream, &turn)["status"], status);
        self.answer()
    }

    #[track_caller]
    fn answer(&self) -> Value {
        let answers = read_json_lines(&self.dir.join("answers"));
        assert_eq!(answers.len(), 1, "{answers:?}");
        let mut answer = answers[0].clone();
        answer.as_object_mut().unwrap().remove("id");
        answer
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let reply = self.app.get(path).expect_status(200);
        reply.body["data"].as_array().cloned().expect("a list")
    }

    fn approvals(&self, query: &str) -> Vec<Value> {
        self.list(&format!("/api/sessions/{}/approvals{query}", self.session))
    }

    /// Asserts that a decision does not fit, by the member that is wrong.
    #[track_caller]
    fn misfit(&self, body: Value, path: &[&str]) {
        let reply = self.decide(body);
        refused(&reply, 400, "invalid_request");
        assert_eq!(reply.body["issues"][0]["path"], json!(path), "{}", reply.text);
    }
}

fn elicitation() -> Asked {
    let form = json!({
        "type": "object", "required": ["colour"],
        "properties": { "colour": { "type": "string", "enum": ["red", "blue"] } },
    });
    let params = json!({
        "serverName": "tiny", "mode": "form", "message": "What colour?", "_meta": null,
        "requestedSchema": form,
    });
    Asked::start("mcpServer/elicitation/request", params)
}

fn mcp_tool() -> Asked {
    mcp_tool_and_then(step::message("went on"))
}

fn mcp_tool_and_then(then: Value) -> Asked {
    let meta = json!({ "codex_approval_kind": "mcp_tool_call", "persist": ["session"] });
    let params = json!({
        "serverName": "tiny", "mode": "form", "message": "Allow write?", "_meta": meta,
        "requestedSchema": { "type": "object", "properties": {} },
    });
    Asked::start_and_then("mcpServer/elicitation/request", params, then)
}

fn profile() -> Value {
    json!({ "network": { "enabled": true }, "fileSystem": { "read": ["/a"], "write": ["/b"] } })
}

fn permissions() -> Asked {
    permissions_and_then(step::message("went on"))
}

fn permissions_and_then(then: Value) -> Asked {
    let params = json!({ "itemId": "i1", "reason": "to build", "permissions": profile() });
    Asked::start_and_then("item/permissions/requestApproval", params, then)
}

#[test]
fn a_new_kind_is_shown_where_it_is_asked_for_and_only_there() {
    let mut asked = elicitation();
    let request = &asked.request;
    assert_eq!((&request["kind"], &request["status"]), (&json!("elicitation"), &json!("pending")));
    assert_eq!(request["threadId"], asked.session.as_str());
    assert_eq!(request["turnId"], asked.turn.as_str());
    assert_eq!(request["summary"], "tiny asks: What colour?");
    assert_eq!(request["details"]["message"], "What colour?");
    assert!(asked.approvals("").is_empty(), "version 1's list stays what it was");
    assert!(asked.approvals("?status=all").is_empty());
    let listed = asked.approvals("?kinds=all");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0]["approvalId"], &listed[0]["kind"]),
        (&request["requestId"], &request["kind"])
    );
    assert!(asked.list("/api/requests").is_empty());
    assert_eq!(asked.list("/api/requests?kinds=all"), std::slice::from_ref(request));
    assert_eq!(asked.app.get("/api/requests?kinds=some").status, 400);
    let version_1 = asked.stream.read(|frames| {
        frames.iter().any(|frame| frame["type"] == "approval" || frame["type"] == "server_request")
    });
    assert!(!version_1, "version 1's events stay what they were");
    let detail = asked.app.get(&format!("/api/sessions/{}", asked.session)).body;
    assert_eq!(detail["session"]["activity"], "waiting");
    let row = rows(&detail, "elicitation.request")[0];
    assert_eq!(row["content"], "tiny asks: What colour?");

    asked.misfit(json!({ "decision": "accept" }), &["content", "colour"]);
    asked.misfit(
        json!({ "decision": "accept", "content": { "colour": "green" } }),
        &["content", "colour"],
    );
    asked.misfit(
        json!({ "decision": "accept", "scope": "session", "content": { "colour": "red" } }),
        &["scope"],
    );
    assert_eq!(asked.approvals("?kinds=all"), listed, "it still waits");
    let body = json!({ "decision": "accept", "content": { "colour": "blue" } });
    let answer = asked.decided(body.clone(), "completed");
    let result = json!({ "action": "accept", "content": { "colour": "blue" }, "_meta": null });
    assert_eq!(answer, json!({ "result": result }));
    let resolved = asked.stream.read(|frames| {
        let resolved = frames.iter().find(|frame| frame["type"] == "request_resolved");
        resolved.map(|frame| frame["payload"].clone())
    });
    let expected = json!({
        "requestId": asked.id(), "kind": "elicitation", "status": "resolved",
        "decision": "accept", "scope": "turn",
    });
    assert_eq!(resolved, Some(expected));
    let late = asked.decide(body);
    refused(&late, 409, "already_resolved");
    assert_eq!((&late.body["status"], &late.body["by"]), (&json!("reconciled"), &json!("user")));
    // Even an answer that would not have fitted is told what was decided.
    refused(&asked.decide(json!({ "decision": "accept" })), 409, "already_resolved");
    assert!(asked.list("/api/requests?kinds=all").is_empty());
    let all = asked.approvals("?kinds=all&status=all");
    assert_eq!((&all[0]["decision"], &all[0]["status"]), (&json!("accept"), &json!("resolved")));
    let detail = asked.app.get(&format!("/api/sessions/{}", asked.session)).body;
    let row = rows(&detail, "elicitation.resolved")[0];
    assert_eq!(row["content"], "Elicitation resolved (accept)");
}

#[test]
fn what_the_child_is_answered_is_what_it_can_read() {
    let decline = json!({ "decision": "decline" });
    let cancel = json!({ "decision": "cancel" });
    let action = |action: &str, content: Value, meta: Value| json!({ "result": { "action": action, "content": content, "_meta": meta } });
    let refused = |word: &str| action(word, Value::Null, Value::Null);
    assert_eq!(elicitation().decided(decline.clone(), "completed"), refused("decline"));
    // An MCP server has a word of its own for it; the turn goes on.
    assert_eq!(elicitation().decided(cancel.clone(), "completed"), refused("cancel"));

    let mut tool = mcp_tool();
    assert_eq!(tool.request["kind"], "mcp_tool_approval");
    assert_eq!(tool.request["summary"], "MCP tool approval required: Allow write?");
    tool.misfit(json!({ "decision": "accept", "scope": "always" }), &["scope"]);
    let session = json!({ "decision": "accept", "scope": "session" });
    let persist = json!({ "persist": "session" });
    assert_eq!(tool.decided(session, "completed"), action("accept", json!({}), persist));
    assert_eq!(mcp_tool().decided(decline, "completed"), refused("decline"));
    let mut tool = mcp_tool_and_then(step::hang());
    tool.decide(cancel).expect_status(200);
    let turn = tool.turn.clone();
    assert_eq!(turn_end(&mut tool.stream, &turn)["status"], "interrupted");
}

#[test]
fn permissions_are_granted_whole_or_in_part_and_never_more() {
    let mut asked = permissions();
    assert_eq!(
        (&asked.request["kind"], &asked.request["itemId"]),
        (&json!("permissions"), &json!("i1"))
    );
    assert_eq!(asked.request["summary"], "Permissions required: to build");
    let more = json!({ "fileSystem": { "write": ["/"] } });
    asked.misfit(json!({ "decision": "accept", "permissions": more }), &["permissions"]);
    asked.misfit(json!({ "decision": "accept", "content": {} }), &["content"]);
    let null = asked.decide(json!({ "decision": "accept", "permissions": null }));
    refused(&null, 400, "invalid_request");
    let answer = asked.decided(json!({ "decision": "accept", "scope": "session" }), "completed");
    let result = json!({ "permissions": profile(), "scope": "session" });
    assert_eq!(answer, json!({ "result": result }));

    let part = json!({ "fileSystem": { "read": ["/a"] } });
    let some = json!({ "decision": "accept", "permissions": part });
    let result = json!({ "permissions": part, "scope": "turn" });
    assert_eq!(permissions().decided(some, "completed"), json!({ "result": result }));

    let nothing = json!({ "result": { "permissions": {}, "scope": "turn" } });
    let decline = json!({ "decision": "decline" });
    assert_eq!(permissions().decided(decline, "completed"), nothing);
    let mut cancelled = permissions_and_then(step::hang());
    cancelled.decide(json!({ "decision": "cancel" })).expect_status(200);
    let turn = cancelled.turn.clone();
    assert_eq!(turn_end(&mut cancelled.stream, &turn)["status"], "interrupted");
}

/// What the runtime asks for itself: no session, one more turn beside it.
fn auth_refresh() -> Asked {
    let params = json!({ "threadId": null, "turnId": null, "reason": "unauthorized",
        "previousAccountId": "account-1" });
    Asked::start("account/chatgptAuthTokens/refresh", params)
}

const TOKEN: &str = "token-that-nobody-may-see";

#[test]
fn fresh_tokens_reach_the_runtime_and_nothing_else() {
    let mut asked = auth_refresh();
    assert_eq!(
        (&asked.request["kind"], &asked.request["threadId"]),
        (&json!("auth_refresh"), &Value::Null)
    );
    assert!(asked.request["deadlineAt"].is_string(), "{}", asked.request);
    assert_eq!(asked.list("/api/requests?kinds=all"), std::slice::from_ref(&asked.request));
    let described = Described::read(&asked.app);
    let all = asked.app.get("/api/requests?kinds=all").expect_status(200);
    described.check("get", "/api/requests", &all);
    assert!(asked.approvals("?kinds=all").is_empty());
    asked.misfit(json!({ "decision": "accept" }), &["tokens"]);
    let tokens = |token: &str| json!({ "accessToken": token, "chatgptAccountId": "account-1" });
    let blank = json!({ "decision": "accept", "tokens": tokens(" ") });
    asked.misfit(blank, &["tokens", "accessToken"]);
    let body = json!({ "decision": "accept", "tokens": tokens(TOKEN) });
    let answer = asked.decided(body.clone(), "completed");
    let result = json!({
        "accessToken": TOKEN, "chatgptAccountId": "account-1", "chatgptPlanType": null,
    });
    assert_eq!(answer, json!({ "result": result }));
    let late = asked.decide(body);
    refused(&late, 409, "already_resolved");
    described.check("post", "/api/approvals/{id}/decision", &late);
    assert_eq!(late.body["threadId"], Value::Null);

    assert!(!asked.stream.read(|frames| format!("{frames:?}").contains(TOKEN)));
    assert!(!late.text.contains(TOKEN));
    assert!(!asked.app.logs().contains(TOKEN));
    let data = asked.app.data_dir();
    let exited = asked.app.terminate();
    assert!(!exited.stderr.contains(TOKEN));
    let mut folders = vec![data];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
            assert!(!found, "{}", path.display());
            read += bytes.len();
        }
    }
    assert!(read > 0);
}

#[test]
fn tokens_that_nobody_brings_are_an_error_for_the_runtime() {
    let mut asked = auth_refresh();
    let turn = asked.turn.clone();
    assert_eq!(turn_end(&mut asked.stream, &turn)["status"], "completed");
    let answer = asked.answer();
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert!(answer.get("result").is_none());
    let late = asked.decide(json!({ "decision": "decline" }));
    refused(&late, 409, "already_resolved");
    assert_eq!(late.body["by"], "policy");
}

#[test]
fn what_the_runtime_asked_for_itself_ends_with_it() {
    let mut asked = auth_refresh();
    asked.app.kill_child();
    let resolved = asked.stream.wait_type("request_resolved", DEADLINE)["payload"].clone();
    assert_eq!(
        (&resolved["kind"], &resolved["status"]),
        (&json!("auth_refresh"), &json!("expired"))
    );
    refused(&asked.decide(json!({ "decision": "decline" })), 409, "expired");

    let mut asked = auth_refresh();
    asked.app.kill();
    asked.app.restart();
    let late = asked.decide(json!({ "decision": "decline" }));
    refused(&late, 409, "expired");
    assert!(asked.list("/api/requests?kinds=all").is_empty());
}

#[test]
fn a_question_of_an_old_runtime_about_an_mcp_tool_is_shown_as_such() {
    let dir = TestDir::new("record");
    let options = ["Approve Once", "Approve this Session", "Deny"];
    let options: Vec<Value> =
        options.iter().map(|label| json!({ "label": label, "description": "" })).collect();
    let question = json!({
        "id": "mcp_tool_call_approval_call_1", "header": "Approve?", "isOther": false,
        "isSecret": false, "question": "Allow tiny to run write?", "options": options,
    });
    let params = json!({ "itemId": "i1", "questions": [question] });
    let ask = step::request("item/tool/requestUserInput", params, &dir.join("answers"));
    let app =
        with_fake(FakeScript::always(Behaviour::correct().version("0.106.0").turn([ask]))).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    let asked = stream.wait_type("tool_user_input_requested", DEADLINE)["payload"].clone();
    assert_eq!(asked["summary"], "MCP tool approval required: Allow tiny to run write?");
    let listed = app.get("/api/requests").expect_status(200).body["data"][0].clone();
    assert_eq!(
        (&listed["kind"], &listed["requestId"]),
        (&json!("tool_input"), &asked["requestId"])
    );
    let answers = json!({ "mcp_tool_call_approval_call_1": { "answers": ["Approve Once"] } });
    let body = json!({ "decision": "accept", "answers": answers });
    app.post(&text(&listed["answerHref"]), body).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let answer = read_json_lines(&dir.join("answers"));
    assert_eq!(answer[0]["result"], json!({ "answers": answers }));
}

#[test]
fn an_unknown_request_is_answered_with_an_error() {
    let dir = TestDir::new("record");
    let ask = step::request("currentTime/read", json!({}), &dir.join("answers"));
    let app = with_fake(FakeScript::always(Behaviour::correct().turn([ask]))).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    stream.wait_type("server_request", DEADLINE);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert_eq!(read_json_lines(&dir.join("answers"))[0]["error"]["code"], -32601);
}

/// A request that no turn is named in waits on when a turn ends; the runtime says when it is over.
#[test]
fn what_an_mcp_server_asks_outside_of_turns_outlives_them() {
    let params = json!({
        "turnId": null, "serverName": "tiny", "mode": "url", "message": "Log in",
        "url": "https://example.com/x", "elicitationId": "e1", "_meta": null,
    });
    let ask = step::request_only("mcpServer/elicitation/request", params);
    let behaviour = Behaviour::correct()
        .turn([ask, step::message("over")])
        .turn([step::notify("serverRequest/resolved", json!({ "requestId": 0 }))]);
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    let asked = stream.wait_type("request_pending", DEADLINE)["payload"].clone();
    assert_eq!(asked["summary"], "tiny asks to open https://example.com/x: Log in");
    turn_end(&mut stream, &turn);
    let listed = app.get("/api/requests?kinds=all").expect_status(200).body["data"].clone();
    assert_eq!(listed, json!([asked]));
    begin(&app, &session);
    let resolved = stream.wait_type("request_resolved", DEADLINE)["payload"].clone();
    assert_eq!(resolved["status"], "expired", "{resolved}");
}
