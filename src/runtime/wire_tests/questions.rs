//! Questions to the user and tools of the client.

use serde_json::{Value, json};

use super::client::{Client, closing};

#[test]
fn a_question_is_asked_and_its_answer_reported() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    client.start(&thread, "/ask Which? | A | B\n/ask free");
    let request = client.wait("item/tool/requestUserInput");
    let question = &request["params"]["questions"][0];
    assert_eq!(question["question"], "Which?");
    assert_eq!(question["options"][1], json!({ "label": "B", "description": "B" }));
    client.answer(&request, json!({ "answers": { "answer": { "answers": ["B"] } } }));
    let request = client.wait("item/tool/requestUserInput");
    assert_eq!(request["params"]["questions"][0]["options"], Value::Null);
    client.answer(&request, json!({ "answers": {} }));
    let turn = client.finished();
    assert!(closing(&turn).contains("ask “Which?”: B"), "{turn}");
    assert!(closing(&turn).contains("ask “free”: not answered"), "{turn}");
    let outline = client.outline(from);
    let at = outline.iter().position(|word| word.ends_with("waitingOnUserInput")).unwrap();
    assert_eq!(
        outline[at..at + 5],
        [
            "thread/status/changed waitingOnUserInput",
            "item/tool/requestUserInput",
            "serverRequest/resolved",
            "thread/status/changed active",
            "thread/tokenUsage/updated",
        ]
    );
}

#[test]
fn declared_tools_are_called_and_unknown_ones_are_not() {
    let mut client = Client::new();
    let schema = json!({ "type": "object" });
    let tool = |name: &str| json!({ "type": "function", "name": name, "description": "", "inputSchema": schema });
    let namespace =
        json!({ "type": "namespace", "name": "cp", "description": "", "tools": [tool("inner")] });
    let thread = client.thread(json!({ "dynamicTools": [tool("lookup"), namespace] }));
    client.start(
        &thread,
        "/call lookup {\"q\":1}\n/call cp.inner\n/call lookup {}\n/call inner {}\n/call lookup {}",
    );
    let request = client.wait("item/tool/call");
    assert_eq!(request["params"]["arguments"], json!({ "q": 1 }));
    assert_eq!(request["params"]["namespace"], Value::Null);
    let says = |text: &str, success: bool| json!({ "contentItems": [{ "type": "inputText", "text": text }], "success": success });
    client.answer(&request, says("found it", true));
    let request = client.wait("item/tool/call");
    assert_eq!(
        (&request["params"]["namespace"], &request["params"]["tool"]),
        (&json!("cp"), &json!("inner"))
    );
    client.answer(&request, says("nope", false));
    let request = client.wait("item/tool/call");
    client
        .line(&json!({ "id": request["id"], "error": { "code": -1, "message": "x" } }).to_string());
    let request = client.wait("item/tool/call");
    client.answer(&request, json!({ "contentItems": "odd", "success": true }));
    let turn = client.finished();
    let text = closing(&turn);
    assert!(text.contains("call lookup: answered: found it"), "{text}");
    assert!(text.contains("call cp.inner: failed: nope"), "{text}");
    assert_eq!(text.matches("call lookup: failed: dynamic tool request failed").count(), 2);
    assert!(text.contains("call inner: no such tool"), "{text}");
    let items = client.history(&thread)[0]["items"].clone();
    let calls = items.as_array().unwrap().iter().filter(|i| i["type"] == "dynamicToolCall");
    let statuses: Vec<&Value> = calls.map(|item| &item["status"]).collect();
    assert_eq!(statuses, ["completed", "failed", "failed", "failed"]);
    // codex does not follow the answer to a tool call with `serverRequest/resolved`.
    assert!(!client.outline(0).iter().any(|word| word == "serverRequest/resolved"));
}
