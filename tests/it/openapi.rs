//! The description of the API, compared with what the program really answers.

use cm_testkit::app::TestApp;
use cm_testkit::http::Reply;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, text, turn_end};
use crate::fake_app::embedded;
use crate::security::{TOKEN, bearer, wait_ready_with_token, with_token};

/// The description as it is served.
pub(crate) struct Described(Value);

impl Described {
    pub(crate) fn read(app: &TestApp) -> Self {
        Self(app.get("/api/openapi.json").expect_status(200).body)
    }

    /// The schema of an operation's answer of one status, in the JSON Schema dialect of OpenAPI
    /// 3.1 (draft 2020-12), with formats checked.
    #[track_caller]
    fn answer(&self, verb: &str, path: &str, status: u16) -> Validator {
        let operation = &self.0["paths"][path][verb];
        let answer = &operation["responses"][status.to_string()];
        let schema = &answer["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{verb} {path} {status} is not described");
        self.validator(schema)
    }

    fn validator(&self, schema: &Value) -> Validator {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": self.0["components"],
            "allOf": [schema],
        });
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    /// Checks a real answer.
    #[track_caller]
    pub(crate) fn check(&self, verb: &str, path: &str, reply: &Reply) {
        let validator = self.answer(verb, path, reply.status);
        let wrong: Vec<String> = validator
            .iter_errors(&reply.body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{verb} {path} {}: {wrong:#?}\n{}", reply.status, reply.text);
    }

    /// Reads a route without parameters and checks what it answers.
    #[track_caller]
    fn read_and_check(&self, app: &TestApp, path: &str) {
        self.check("get", path, &app.get(path).expect_status(200));
    }
}

#[test]
fn what_is_answered_is_what_is_described() {
    let bench = Bench::start(Kind::Embedded);
    let app = &bench.app;
    let described = Described::read(app);
    let session = bench.session();
    let mut stream = app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch here"), Act::Say("done")]);
    let id = approval(&mut stream);
    let of_session = |rest: &str| format!("/api/sessions/{session}{rest}");

    let approvals = of_session("/approvals");
    let all = "/api/sessions/{id}/approvals";
    described.check("get", all, &app.get(&approvals).expect_status(200));
    for path in [
        "/api/sessions",
        "/api/requests",
        "/api/health",
        "/api/runtime",
        "/api",
        "/api/capabilities",
    ] {
        described.read_and_check(app, path);
    }
    let decide = |decision: &str| bench.decide(&id, json!({ "decision": decision }));
    let decision = "/api/approvals/{id}/decision";
    described.check("post", decision, &decide("accept").expect_status(200));
    described.check("post", decision, &decide("decline").expect_status(409));
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let resolved = app.get(&format!("{approvals}?status=all")).expect_status(200);
    assert_eq!(resolved.body["data"][0]["decision"], "accept");
    described.check("get", all, &resolved);

    let detail = app.get(&of_session("")).expect_status(200);
    described.check("get", "/api/sessions/{id}", &detail);
    let item = text(&detail.body["transcript"][0]["messageId"]);
    let item = app.get(&of_session(&format!("/items/{item}"))).expect_status(200);
    described.check("get", "/api/sessions/{id}/items/{item}", &item);
    let message = "/api/sessions/{id}/messages";
    let sent = app.post(&of_session("/messages"), json!({ "text": "/slow 30000 20 begun" }));
    described.check("post", message, &sent.expect_status(202));
    let interrupt = "/api/sessions/{id}/interrupt";
    let interrupted = bench.act(&session, "interrupt", json!({})).expect_status(200);
    described.check("post", interrupt, &interrupted);
    turn_end(&mut stream, &text(&interrupted.body["turnId"]));
    let idle = bench.act(&session, "interrupt", json!({})).expect_status(409);
    described.check("post", interrupt, &idle);
    let steered = bench.act(&session, "turns/none/steer", json!({ "input": "more" }));
    described.check("post", "/api/sessions/{id}/turns/{turn}/steer", &steered);

    for (action, body, status) in [
        ("rename", json!({ "title": "A name" }), 200),
        ("rename", json!({ "title": " " }), 400),
        ("messages", json!({ "text": 5 }), 400),
        ("session-controls", json!({ "scope": "session", "controls": new_controls() }), 200),
        ("settings", json!({ "scope": "session", "key": "colour", "value": null }), 200),
        ("approval-policy", json!({ "approvalPolicy": "never" }), 200),
        ("transcript/upsert", new_row(), 200),
        ("archive", json!({}), 200),
        ("messages", json!({ "text": "to the archive" }), 409),
        ("unarchive", json!({}), 200),
        ("resume", json!({}), 200),
    ] {
        let reply = bench.act(&session, action, body).expect_status(status);
        described.check("post", &format!("/api/sessions/{{id}}/{action}"), &reply);
    }
    let deleted = app.delete(&of_session("")).expect_status(200);
    described.check("delete", "/api/sessions/{id}", &deleted);
    described.check("get", "/api/sessions/{id}", &app.get(&of_session("")).expect_status(410));
    let job = "/api/orchestrator/jobs/{jobId}";
    described.check("get", job, &app.get("/api/orchestrator/jobs/a").expect_status(503));
    let unknown = app.get("/api/sessions/nope").expect_status(404);
    described.check("get", "/api/sessions/{id}", &unknown);
    described.check("get", "/api/sessions", &app.get("/api/sessions?limit=0").expect_status(400));
}

fn new_controls() -> Value {
    json!({
        "model": null, "approvalPolicy": "on-request", "networkAccess": "restricted",
        "filesystemSandbox": "read-only",
    })
}

fn new_row() -> Value {
    json!({
        "messageId": "note-1", "turnId": "none", "role": "system", "type": "note",
        "content": "A note.", "status": "complete",
    })
}

#[test]
fn questions_and_tool_calls_are_answered_as_described() {
    let bench = Bench::start(Kind::Embedded);
    let app = &bench.app;
    let described = Described::read(app);
    let body = json!({ "cwd": app.workspace(), "approvalPolicy": "never" });
    let created = app.post("/api/sessions", body).expect_status(200);
    described.check("post", "/api/sessions", &created);
    let session = bench.tool_session();
    let mut stream = app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Ask("Which?"), Act::Lookup]);
    for (event, list, act, body) in [
        ("tool_user_input_requested", "tool-input", "decision", json!({ "decision": "decline" })),
        ("tool_call_requested", "tool-calls", "response", json!({ "text": "found" })),
    ] {
        let id = text(&stream.wait_type(event, DEADLINE)["payload"]["requestId"]);
        let listed = app.get(&format!("/api/sessions/{session}/{list}")).expect_status(200);
        assert_eq!(listed.body["data"][0]["requestId"], id);
        described.check("get", &format!("/api/sessions/{{id}}/{list}"), &listed);
        let described_path = format!("/api/{list}/{{id}}/{act}");
        for status in [200, 404] {
            let reply = app.post(&format!("/api/{list}/{id}/{act}"), body.clone());
            described.check("post", &described_path, &reply.expect_status(status));
        }
    }
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
}

#[test]
fn what_the_server_itself_does_is_answered_as_described() {
    let app = with_token(embedded()).start();
    wait_ready_with_token(&app);
    let bearer = bearer();
    let headers = [("Authorization", bearer.as_str())];
    let reply = app.request("GET", "/api/openapi.json", &headers, None).expect_status(200);
    let described = Described(reply.body);
    let post = |path: &str, headers: &[(&str, &str)], body: Option<&str>| {
        app.request("POST", path, headers, body.map(str::as_bytes))
    };
    let right = json!({ "token": TOKEN }).to_string();
    let typed = [("Content-Type", "application/json"), headers[0]];
    for (path, headers, body, status) in [
        ("/api/login", &typed[..1], Some(right.as_str()), 200),
        ("/api/login", &typed[..1], Some(r#"{"token":"no"}"#), 401),
        ("/api/login", &typed[..1], Some("{}"), 400),
        ("/api/logout", &headers[..], None, 200),
        ("/api/logout", &[], None, 401),
        ("/api/stream/tickets", &headers[..], None, 200),
        ("/api/runtime/restart", &typed[..], Some("[]"), 400),
        ("/api/runtime/restart", &headers[..], None, 202),
    ] {
        described.check("post", path, &post(path, headers, body).expect_status(status));
    }
    let stream = app.request("GET", "/api/stream", &headers, None).expect_status(404);
    described.check("get", "/api/stream", &stream);
    let foreign = [headers[0], ("Host", "evil.example")];
    let refused = app.request("GET", "/api/health", &foreign, None).expect_status(403);
    described.check("get", "/api/health", &refused);
}

/// A schema that lets everything pass would make the checks above worthless.
#[test]
fn a_wrong_answer_would_be_noticed() {
    let app = embedded().start();
    let described = Described::read(&app);
    let health = app.get("/api/health").expect_status(200).body;
    let validator = described.answer("get", "/api/health", 200);
    assert!(validator.is_valid(&health));
    for (member, wrong) in [
        ("/codex/pid", json!("4711")),
        ("/codex/state", json!("dancing")),
        ("/timestamp", json!("yesterday")),
        ("/reasons", json!([{ "code": "a" }])),
        ("/auth", json!({})),
    ] {
        let mut changed = health.clone();
        *changed.pointer_mut(member).unwrap() = wrong;
        assert!(!validator.is_valid(&changed), "{member}");
    }
}

#[test]
fn the_page_shows_the_description_and_loads_nothing_from_elsewhere() {
    let app = with_token(embedded()).start();
    wait_ready_with_token(&app);
    let bearer = bearer();
    let get = |path: &str| app.request("GET", path, &[("Authorization", &bearer)], None);
    for path in ["/api/docs", "/api/docs/", "/api/docs/index.css"] {
        assert_eq!(app.get(path).status, 401, "{path}");
    }
    let moved = get("/api/docs").expect_status(308);
    assert_eq!(moved.header("location"), Some("docs/"));
    for file in ["", "index.html", "swagger-initializer.js", "swagger-ui-bundle.js"] {
        let reply = get(&format!("/api/docs/{file}")).expect_status(200);
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
    }
    let start = get("/api/docs/swagger-initializer.js").text;
    assert!(start.contains(r#""/api/openapi.json""#) && !start.contains("http"), "{start}");
    for file in ["nothing", "..%2f..%2fCargo.toml", "%00"] {
        assert_eq!(get(&format!("/api/docs/{file}")).status, 404, "{file}");
    }
}
