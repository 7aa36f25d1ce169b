//! The handshake, method discovery, lines that are no calls.

use serde_json::{Value, json};

use super::client::Client;
use crate::Limits;

#[test]
fn nothing_works_before_initialize_and_initialize_works_once() {
    let root = tempfile::tempdir().unwrap();
    let mut client = Client::raw(root.path(), Limits::default());
    assert_eq!(client.refused("thread/list", json!({})), "Not initialized");
    let incomplete = json!({ "clientInfo": { "name": "x" } });
    assert_eq!(
        client.refused("initialize", incomplete),
        "Invalid request: missing field `version`"
    );
    let answer = client.initialize();
    let agent = answer["userAgent"].as_str().unwrap();
    assert!(agent.starts_with("tester/1.2.3 (linux; "), "{agent}");
    assert!(agent.ends_with(") embedded (codex-manager; 1.2.3)"), "{agent}");
    assert_eq!(answer["codexHome"], json!(client.home));
    assert_eq!(
        (&answer["platformFamily"], &answer["platformOs"]),
        (&json!("unix"), &json!("linux"))
    );
    let complete = json!({ "clientInfo": { "name": "x", "version": "1" } });
    assert_eq!(client.refused("initialize", complete), "Already initialized");
    client.stop();
}

#[test]
fn an_unknown_method_lists_every_method() {
    let mut client = Client::new();
    let message = client.refused("nope/nope", json!({}));
    let start = "Invalid request: unknown variant `nope/nope`, expected one of `initialize`, ";
    assert!(message.starts_with(start), "{message}");
    let methods: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    for method in ["thread/start", "turn/steer", "turn/interrupt", "account/read", "model/list"] {
        assert!(methods.contains(&method), "{method} in {message}");
    }
    for method in methods.iter().filter(|method| **method != "initialize") {
        let answer = client.call(method, Value::Null);
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told == "Invalid request: missing field `params`", "{method}: {told}");
    }
}

#[test]
fn bad_lines_are_dropped_and_the_stream_goes_on() {
    let mut client = Client::new();
    for line in [
        "nonsense",
        "[]",
        "{\"id\":1.5,\"method\":\"thread/list\"}",
        "{}",
        "\u{0}",
        "",
        "{\"id\":null,\"method\":\"thread/list\"}",
        "{\"id\":4242,\"result\":{}}",
        "{\"id\":\"x\",\"result\":{}}",
        "{\"method\":\"bogus/notification\"}",
    ] {
        client.line(line);
    }
    let before = client.messages.len();
    client.line(r#"{"id":"text","method":"thread/loaded/list","params":{}}"#);
    client.receive();
    assert_eq!(client.messages[before]["id"], "text");
    assert_eq!(client.messages[before]["result"], json!({ "data": [], "nextCursor": null }));
    client.ok("account/read", json!({ "bogus": 1 }));
}

#[test]
fn a_line_over_the_limit_is_dropped() {
    let mut client = Client::with_limits(Limits { line_bytes: 1_000, ..Limits::default() });
    client.line(&"x".repeat(200_000));
    let account = client.ok("account/read", json!({}));
    assert_eq!(
        (&account["account"], &account["requiresOpenaiAuth"]),
        (&Value::Null, &json!(false))
    );
}

#[test]
fn parameters_are_checked_in_the_words_of_codex() {
    let mut client = Client::new();
    let unknown = "0199a213-81c0-7800-8aa1-bbab2a035a53";
    for (method, params, message) in [
        (
            "thread/read",
            json!({ "threadId": 5 }),
            "Invalid request: invalid type: integer `5`, expected a string".to_owned(),
        ),
        (
            "thread/read",
            json!({ "threadId": "x" }),
            "invalid thread id: invalid character: ".to_owned(),
        ),
        ("thread/read", json!({ "threadId": unknown }), format!("thread not loaded: {unknown}")),
        (
            "thread/resume",
            json!({ "threadId": unknown }),
            format!("no rollout found for thread id {unknown}"),
        ),
        ("thread/resume", json!({ "threadId": "bad" }), "invalid session id: invalid ".to_owned()),
        (
            "turn/start",
            json!({ "threadId": unknown, "input": [] }),
            format!("thread not found: {unknown}"),
        ),
        (
            "thread/start",
            json!({ "approvalPolicy": "on-failure" }),
            "Invalid request: unknown variant `on-failure`, expected one of `untrusted`, \
             `on-request`, `granular`, `never`"
                .to_owned(),
        ),
        (
            "thread/start",
            json!({ "permissions": ":workspace", "sandbox": "read-only" }),
            "`permissions` cannot be combined with `sandbox`".to_owned(),
        ),
    ] {
        // The rest of an id error is worded by the UUID library and differs between its versions.
        let refused = client.refused(method, params);
        assert!(refused.starts_with(&message), "{method}: {refused}");
    }
    let thread = client.thread(json!({}));
    let input = json!([{ "type": "text", "text": "x".repeat(1_048_577) }]);
    let answer = client.call("turn/start", json!({ "threadId": thread, "input": input }));
    assert_eq!(answer["error"]["code"], -32602);
    assert_eq!(answer["error"]["data"]["input_error_code"], "input_too_large");
}

#[test]
fn notifications_can_be_opted_out_of_and_experiments_need_a_capability() {
    let root = tempfile::tempdir().unwrap();
    let mut client = Client::raw(root.path(), Limits::default());
    client.ok(
        "initialize",
        json!({
            "clientInfo": { "name": "x", "version": "1" },
            "capabilities": { "optOutNotificationMethods": ["item/agentMessage/delta", "bogus"] },
        }),
    );
    assert_eq!(
        client.refused("thread/start", json!({ "dynamicTools": [] })),
        "thread/start.dynamicTools requires experimentalApi capability"
    );
    let thread = client.thread(json!({}));
    client.turn(&thread, "/say hi");
    let outline = client.outline(0);
    assert!(outline.iter().any(|word| word == "item/completed agentMessage"));
    assert!(!outline.iter().any(|word| word == "item/agentMessage/delta"), "{outline:?}");
    client.stop();
}
