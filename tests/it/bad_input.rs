//! Whatever is sent, the answer is a 4xx that says what was wrong: never a 500, never a crash.

use cm_testkit::app::TestApp;
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::fake_app::{create, embedded, refused};

/// Ids that name nothing, as they stand in a path.
const STRANGE_IDS: [&str; 16] = [
    "nope",
    "0",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "..%5C..",
    "%00",
    "a%00b",
    "%",
    "%zz",
    "%ff%fe",
    "%F0%9F%98%80",
    "a%20b",
    "%0d%0aSet-Cookie:%20a=b",
    "__proto__",
    "constructor",
    "00000000-0000-7000-8000-000000000000",
];

/// A refusal in the shape of every error.
#[track_caller]
pub(crate) fn is_refusal(reply: &Reply, what: &str) {
    assert!((400..500).contains(&reply.status), "{what}: {} {}", reply.status, reply.text);
    for member in ["code", "message"] {
        let filled = reply.body[member].as_str().is_some_and(|text| !text.is_empty());
        assert!(filled, "{what}: no `{member}` in {}: {}", reply.status, reply.text);
    }
    assert!(reply.header("x-request-id").is_some(), "{what}");
}

fn post_raw(app: &TestApp, path: &str, body: &[u8]) -> Reply {
    app.request("POST", path, &[], Some(body))
}

/// The server still works after what was done to it.
#[track_caller]
pub(crate) fn still_works(app: &TestApp) {
    let session = create(app);
    assert_eq!(app.get(&format!("/api/sessions/{session}")).status, 200);
    assert!(!app.logs().contains("panicked"), "{}", app.logs());
}

/// Every route that takes a body, for an existing session.
fn routes_with_body(session: &str) -> Vec<String> {
    vec![
        "/api/sessions".to_owned(),
        format!("/api/sessions/{session}/messages"),
        format!("/api/sessions/{session}/rename"),
        format!("/api/sessions/{session}/resume"),
        format!("/api/sessions/{session}/interrupt"),
        format!("/api/sessions/{session}/turns/t/steer"),
        "/api/approvals/x/decision".to_owned(),
        "/api/tool-input/x/decision".to_owned(),
        "/api/tool-calls/x/response".to_owned(),
        "/api/runtime/restart".to_owned(),
        "/api/login".to_owned(),
    ]
}

#[test]
fn a_body_that_is_no_json_is_refused_everywhere() {
    let app = embedded().start();
    let session = create(&app);
    let deep = "[".repeat(300_000);
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"nul",
        b"{\"text\":\"a\"",
        b"{\"text\":\"a\"} trailing",
        b"{'text':'a'}",
        b"\xff\xfe\x00",
        b"{\"text\":\"\xff\"}",
        deep.as_bytes(),
    ];
    for path in routes_with_body(&session) {
        for body in bodies {
            let what = String::from_utf8_lossy(&body[..body.len().min(40)]);
            let reply = post_raw(&app, &path, body);
            assert_eq!(reply.status, 400, "{path} {what}: {}", reply.text);
            refused(&reply, 400, "request_failed");
        }
        for body in ["null", "[]", "\"text\"", "7", "true", " null "] {
            refused(&post_raw(&app, &path, body.as_bytes()), 400, "invalid_request");
        }
    }
    still_works(&app);
}

#[test]
fn json_of_the_wrong_shape_names_the_member() {
    let app = embedded().start();
    let session = create(&app);
    let create_path = "/api/sessions".to_owned();
    let messages = format!("/api/sessions/{session}/messages");
    let rename = format!("/api/sessions/{session}/rename");
    let resume = format!("/api/sessions/{session}/resume");
    let interrupt = format!("/api/sessions/{session}/interrupt");
    let steer = format!("/api/sessions/{session}/turns/t/steer");
    let approval = "/api/approvals/x/decision".to_owned();
    let tool_input = "/api/tool-input/x/decision".to_owned();
    let tool_call = "/api/tool-calls/x/response".to_owned();
    let tools = |count: usize| -> Value {
        (0..count)
            .map(|number| {
                let name = format!("t{number}");
                json!({ "name": name, "description": "d", "inputSchema": {} })
            })
            .collect()
    };
    let cases: [(&String, Value, &str); 35] = [
        (&create_path, json!({ "cwd": 5 }), "cwd"),
        (&create_path, json!({ "cwd": "" }), "cwd"),
        (&create_path, json!({ "model": ["m"] }), "model"),
        (&create_path, json!({ "approvalPolicy": "sometimes" }), "approvalPolicy"),
        (&create_path, json!({ "approvalPolicy": "Never" }), "approvalPolicy"),
        (&create_path, json!({ "filesystemSandbox": "none" }), "filesystemSandbox"),
        (&create_path, json!({ "networkAccess": true }), "networkAccess"),
        (&create_path, json!({ "dynamicTools": {} }), "dynamicTools"),
        (&create_path, json!({ "dynamicTools": [{ "name": "a" }] }), "dynamicTools"),
        (&create_path, json!({ "dynamicTools": tools(129) }), "dynamicTools"),
        (&create_path, json!({ "cwd": app.dir().join("missing") }), "cwd"),
        (&messages, json!({}), "text"),
        (&messages, json!({ "text": null }), "text"),
        (&messages, json!({ "text": "" }), "text"),
        (&messages, json!({ "text": " \n\t " }), "text"),
        (&messages, json!({ "text": 5 }), "text"),
        (&messages, json!({ "text": "a", "effort": "enormous" }), "effort"),
        (&messages, json!({ "text": "a", "approvalPolicy": "x" }), "approvalPolicy"),
        (&messages, json!({ "text": "a", "filesystemSandbox": 1 }), "filesystemSandbox"),
        (&rename, json!({}), "title"),
        (&rename, json!({ "title": "  " }), "title"),
        (&rename, json!({ "title": "a".repeat(201) }), "title"),
        (&rename, json!({ "title": { "a": 1 } }), "title"),
        (&resume, json!({ "dynamicTools": 1 }), "dynamicTools"),
        (&interrupt, json!({ "turnId": "" }), "turnId"),
        (&interrupt, json!({ "turnId": 5 }), "turnId"),
        (&steer, json!({}), "input"),
        (&steer, json!({ "input": " " }), "input"),
        (&approval, json!({}), "decision"),
        (&approval, json!({ "decision": "maybe" }), "decision"),
        (&approval, json!({ "decision": "accept", "scope": "ever" }), "scope"),
        (&tool_input, json!({ "decision": "accept", "answers": [] }), "answers"),
        (&tool_input, json!({ "decision": "accept", "answers": { "q": 1 } }), "answers"),
        (&tool_call, json!({ "success": "yes" }), "success"),
        (&tool_call, json!({ "contentItems": [{ "type": "video" }] }), "contentItems"),
    ];
    for (path, body, member) in cases {
        let reply = app.post(path, body.clone());
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text);
        refused(&reply, 400, "invalid_request");
        assert_eq!(reply.body["status"], "error");
        let named = &reply.body["issues"][0]["path"];
        assert_eq!(named[0], member, "{path} {body}: {}", reply.text);
    }
    still_works(&app);
}

#[test]
fn a_workspace_that_is_no_folder_is_refused() {
    let app = embedded().start();
    let file = app.dir().write("a-file", "x");
    let missing = app.dir().join("missing");
    let long = format!("/{}", "a".repeat(5000));
    for cwd in [
        file.to_str().expect("a text"),
        missing.to_str().expect("a text"),
        "/dev/null",
        "a\u{0}b",
        long.as_str(),
    ] {
        let reply = app.post("/api/sessions", json!({ "cwd": cwd }));
        is_refusal(&reply, cwd);
        assert_eq!(reply.status, 400, "{cwd}: {}", reply.text);
        assert_eq!(reply.body["issues"][0]["path"], json!(["cwd"]), "{cwd}: {}", reply.text);
    }
    still_works(&app);
}

#[test]
fn the_path_of_what_is_missing_goes_all_the_way() {
    let app = embedded().start();
    let tools = json!([{ "name": "a", "description": "d", "inputSchema": {} }, { "name": "b" }]);
    for (path, body, at) in [
        ("/api/projects", json!({}), json!(["name"])),
        (
            "/api/sessions",
            json!({ "dynamicTools": tools }),
            json!(["dynamicTools", "1", "description"]),
        ),
        ("/api/login", json!({}), json!(["token"])),
    ] {
        let reply = app.post(path, body);
        refused(&reply, 400, "invalid_request");
        assert_eq!(reply.body["issues"][0]["path"], at, "{path}: {}", reply.text);
    }
}

#[test]
fn values_at_the_limit_and_unknown_members_are_taken() {
    let app = embedded().start();
    let session = create(&app);
    let rename = format!("/api/sessions/{session}/rename");
    let title = "\u{1F600}".repeat(200);
    let renamed = app.post(&rename, json!({ "title": format!(" {title} ") }));
    assert_eq!(renamed.expect_status(200).body["session"]["title"], title);
    let body = json!({
        "cwd": app.workspace(), "__proto__": { "a": 1 }, "constructor": 1, "unknown": [[[]]],
    });
    app.post("/api/sessions", body).expect_status(200);
}

#[test]
fn deep_json_in_a_member_that_is_kept_is_refused_or_taken_and_never_fatal() {
    let app = embedded().start();
    for depth in [100, 1_000, 100_000] {
        let schema = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let tool = format!(r#"{{"name":"a","description":"d","inputSchema":{schema}}}"#);
        let workspace = json!(app.workspace());
        let kept = format!(r#"{{"cwd":{workspace},"dynamicTools":[{tool}]}}"#);
        let ignored = format!(r#"{{"cwd":{workspace},"unknown":{schema}}}"#);
        for body in [kept, ignored] {
            let reply = post_raw(&app, "/api/sessions", body.as_bytes());
            assert!(reply.status == 200 || reply.status == 400, "{depth}: {}", reply.text);
        }
    }
    still_works(&app);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let app = embedded().env("CODEX_MANAGER_MAX_BODY_BYTES", "64KiB").start();
    let session = create(&app);
    for path in routes_with_body(&session) {
        let body = json!({ "text": "a".repeat(64 * 1024) }).to_string();
        refused(&post_raw(&app, &path, body.as_bytes()), 413, "too_large");
    }
    let fits = json!({ "title": "a", "padding": "a".repeat(60 * 1024) });
    app.post(&format!("/api/sessions/{session}/rename"), fits).expect_status(200);
    still_works(&app);
}

#[test]
fn a_content_type_that_is_not_json_is_refused() {
    let app = embedded().start();
    let session = create(&app);
    for path in routes_with_body(&session) {
        for kind in ["text/html", "application/xml", "application/jsonp", "json", "*/*"] {
            let reply = app.request("POST", &path, &[("Content-Type", kind)], Some(b"{}"));
            refused(&reply, 415, "unsupported_media_type");
        }
    }
    let json = ("Content-Type", "Application/JSON; charset=utf-8");
    let reply = app.request("POST", "/api/sessions", &[json], Some(b"{"));
    refused(&reply, 400, "request_failed");
}

#[test]
fn ids_that_name_nothing_are_404_whatever_they_look_like() {
    let app = embedded().start();
    let long = "a".repeat(300);
    for id in STRANGE_IDS.into_iter().chain([long.as_str()]) {
        let gets = [format!("/api/sessions/{id}")];
        let posts = [
            (format!("/api/sessions/{id}/messages"), json!({ "text": "a" })),
            (format!("/api/sessions/{id}/rename"), json!({ "title": "a" })),
            (format!("/api/sessions/{id}/resume"), json!({})),
            (format!("/api/sessions/{id}/interrupt"), json!({})),
            (format!("/api/sessions/{id}/archive"), Value::Null),
            (format!("/api/sessions/{id}/unarchive"), Value::Null),
            (format!("/api/sessions/{id}/turns/t/steer"), json!({ "input": "a" })),
            (format!("/api/approvals/{id}/decision"), json!({ "decision": "accept" })),
            (format!("/api/tool-input/{id}/decision"), json!({ "decision": "accept" })),
            (format!("/api/tool-calls/{id}/response"), json!({ "text": "a" })),
        ];
        let mut replies: Vec<(String, Reply)> = Vec::new();
        for path in gets {
            let reply = app.get(&path);
            replies.push((path, reply));
        }
        for (path, body) in posts {
            let reply = match body {
                Value::Null => app.request("POST", &path, &[], None),
                body => app.post(&path, body),
            };
            replies.push((path, reply));
        }
        let path = format!("/api/sessions/{id}");
        let reply = app.delete(&path);
        replies.push((format!("DELETE {path}"), reply));
        for (path, reply) in replies {
            is_refusal(&reply, &path);
            assert_eq!(reply.status, 404, "{path}: {}", reply.text);
            assert_eq!(reply.header("set-cookie"), None);
        }
        // What no id can be is told so; else a session that does not exist has no requests, as in
        // version 1.
        let list = app.get(&format!("/api/sessions/{id}/approvals"));
        if ["%00", "a%00b", "%", "%zz", "%ff%fe"].contains(&id) {
            assert_eq!(list.status, 404, "{id}: {}", list.text);
            continue;
        }
        assert_eq!((list.status, &list.body["data"]), (200, &json!([])), "{id}: {}", list.text);
    }
    still_works(&app);
}

#[test]
fn turn_ids_that_name_nothing_are_refused() {
    let app = embedded().start();
    let session = create(&app);
    let long = "a".repeat(300);
    for id in STRANGE_IDS.into_iter().chain([long.as_str()]) {
        let path = format!("/api/sessions/{session}/turns/{id}/steer");
        is_refusal(&app.post(&path, json!({ "input": "a" })), &path);
        let path = format!("/api/sessions/{session}/interrupt");
        let reply = app.post(&path, json!({ "turnId": id }));
        if id == long {
            refused(&reply, 400, "invalid_request");
            continue;
        }
        assert_eq!(
            (reply.status, &reply.body["status"]),
            (409, &json!("no_active_turn")),
            "{}",
            reply.text
        );
    }
    still_works(&app);
}

#[test]
fn that_a_session_does_not_exist_is_said_before_that_the_body_is_wrong() {
    let app = embedded().start();
    let deleted = create(&app);
    app.delete(&format!("/api/sessions/{deleted}")).expect_status(200);
    for (id, status, word) in [("nope", 404, "not_found"), (deleted.as_str(), 410, "deleted")] {
        for action in ["messages", "rename", "resume", "interrupt", "turns/t/steer"] {
            let path = format!("/api/sessions/{id}/{action}");
            let bodies: [&[u8]; 4] = [
                b"{",
                b"[]",
                br#"{"text":1,"title":1,"input":1,"turnId":1,"dynamicTools":1}"#,
                b"",
            ];
            for body in bodies {
                let reply = post_raw(&app, &path, body);
                assert_eq!(
                    (reply.status, &reply.body["status"]),
                    (status, &json!(word)),
                    "{path}: {}",
                    reply.text
                );
                assert_eq!(reply.body["sessionId"], id);
            }
        }
    }
}

#[test]
fn unknown_routes_have_version_1s_shape() {
    let app = embedded().start();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/api/nope"),
        ("GET", "/api/sessions/"),
        ("GET", "/api/sessions/a/b/c"),
        ("GET", "/api/sessions/../health"),
        ("POST", "/api/health"),
        ("DELETE", "/api/sessions"),
        ("PATCH", "/api/sessions/x"),
        ("PUT", "/api/approvals/x/decision"),
        ("GET", "/api/runtime/restart"),
        ("BREW", "/api/health"),
        ("GET", "/API/health"),
    ] {
        let reply = app.request(method, path, &[], None);
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text);
        let body = &reply.body;
        assert_eq!(body["error"], "Not Found", "{}", reply.text);
        assert_eq!(body["statusCode"], 404);
        assert_eq!(body["message"], format!("Route {method}:{path} not found"));
        assert_eq!(body["code"], "not_found");
    }
    let plain = app.get("/api/stream");
    assert_eq!(plain.status, 404, "{}", plain.text);
}

#[test]
fn query_parameters_are_checked() {
    let app = embedded().start();
    let session = create(&app);
    for query in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=abc",
        "limit=",
        "limit=1.5",
        "limit=99999999999999999999",
        "archived=1",
        "archived=yes",
        "archived=",
        "cursor=",
    ] {
        let reply = app.get(&format!("/api/sessions?{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
        refused(&reply, 400, "invalid_request");
    }
    for query in
        ["limit=1", "limit=200", "archived=true", "archived=false", "unknown=1", "", "&&", "a&b"]
    {
        let reply = app.get(&format!("/api/sessions?{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    }
    // Whatever these mean, they are no failure of the server.
    let strange =
        ["cursor=zzz", "cursor=%00", "limit=%ff", "%ff=1", "limit=1&limit=2", "cursor=%", "%"];
    for query in
        strange.map(str::to_owned).into_iter().chain([format!("cursor={}", "a".repeat(5000))])
    {
        for path in ["/api/sessions".to_owned(), format!("/api/sessions/{session}/approvals")] {
            let reply = app.get(&format!("{path}?{query}"));
            if reply.status != 200 {
                is_refusal(&reply, &query);
            }
        }
    }
    still_works(&app);
}

#[test]
fn nonsense_on_the_stream_is_answered_and_harms_nothing() {
    use crate::common::DEADLINE;
    let app = embedded().start();
    let mut stream = app.stream(None);
    stream.wait_type("ready", DEADLINE);
    for text in [
        "{",
        "[]",
        "null",
        "7",
        "\"ping\"",
        "{\"type\":\"nope\"}",
        "{\"type\":5}",
        "{\"type\":\"subscribe\"}",
        "{\"type\":\"subscribe\",\"threadId\":\"\"}",
        "{\"type\":\"subscribe\",\"threadId\":7}",
    ] {
        stream.send_text(text);
        // Events of the runtime may come in between.
        let answer = stream.wait_type("error", DEADLINE);
        assert_eq!(answer["message"], "invalid websocket command", "{text}");
    }
    stream.send_binary(b"\xff\xfe");
    stream.wait_type("error", DEADLINE);
    stream.send(&json!({ "type": "ping" }));
    stream.wait_type("pong", DEADLINE);
    // A command over 64 KiB breaks the protocol; only this socket ends.
    stream.send_text(&"a".repeat(100 * 1024));
    let closed = stream.wait_closed(DEADLINE);
    assert!(matches!(closed.code, Some(1002 | 1009)), "{closed:?}");
    app.stream(None).wait_type("ready", DEADLINE);
    still_works(&app);
}
