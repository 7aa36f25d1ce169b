//! Operations that look at no body: one that is sent must be one that could be read. They are taken from
//! the served description, so none can be forgotten.

use crate::description::{Description, Operation};
use crate::fake_app::{create, embedded, refused};

/// A path of the operation that names nothing but the session: what is wrong with a body is said first.
fn path(operation: &Operation, session: &str) -> String {
    let mut path = operation.path.clone();
    for parameter in operation.parameters("path") {
        let name = parameter["name"].as_str().unwrap();
        let is_session = name == "id" && path.starts_with("/api/sessions/");
        let value = if is_session { session } else { "one" };
        path = path.replace(&format!("{{{name}}}"), value);
    }
    path
}

#[test]
fn a_body_that_is_not_looked_at_is_json_or_none() {
    let app = embedded().env("CODEX_MANAGER_MAX_BODY_BYTES", "64KiB").start();
    let session = create(&app);
    let all = Description::read(&app).operations().into_iter();
    let takes_none =
        |operation: &Operation| operation.verb != "GET" && operation.value["requestBody"].is_null();
    let operations: Vec<Operation> = all.filter(takes_none).collect();
    let deletes = operations.iter().filter(|operation| operation.verb == "DELETE").count();
    assert!(deletes >= 3 && operations.len() > deletes, "{operations:?}");
    let json = "application/json";
    let long = format!("[\"{}\"]", "a".repeat(64 * 1024));
    let deep = "[".repeat(1_000) + &"]".repeat(1_000);
    for operation in &operations {
        let path = path(operation, &session);
        for (kind, body, status, code) in [
            (json, "", 400, "request_failed"),
            (json, "{", 400, "request_failed"),
            (json, "{\"a\":1} more", 400, "request_failed"),
            (json, deep.as_str(), 400, "request_failed"),
            (json, long.as_str(), 413, "too_large"),
            ("application/xml", "<a/>", 415, "unsupported_media_type"),
            ("text/html", "{}", 415, "unsupported_media_type"),
        ] {
            let headers = [("Content-Type", kind)];
            let reply = app.request(&operation.verb, &path, &headers, Some(body.as_bytes()));
            println!("{} {kind}: {}", operation.name(), reply.status);
            refused(&reply, status, code);
        }
    }
    // None of them did anything, and any JSON is as good as none.
    for body in ["null", "[]", "{\"unknown\":1}", "7"] {
        let path = format!("/api/sessions/{session}/archive");
        app.request("POST", &path, &[("Content-Type", json)], Some(body.as_bytes()))
            .expect_status(200);
        app.request("POST", &path, &[], None).expect_status(200);
    }
    let path = format!("/api/sessions/{session}");
    let headers = [("Content-Type", json)];
    app.request("DELETE", &path, &headers, Some(b"{}")).expect_status(200);
}
