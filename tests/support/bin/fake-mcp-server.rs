//! A small MCP server over stdin and stdout, for the real `codex`.
//!
//! Its tools: `echo` harms nobody, `write` says of itself that it destroys, so that `codex` asks
//! before it is called, `elicit` asks the user for a colour and gives back what was answered.
#![allow(clippy::panic, reason = "test support: a wrong line ends the server, which the test sees")]

use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// Id of the one request of ours; a call waits for its answer.
const ELICITATION: &str = "elicitation";

fn main() {
    let mut waiting = Value::Null;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { panic!("no JSON: {line}") };
        let id = &message["id"];
        match message["method"].as_str() {
            Some("initialize") => {
                let result = json!({
                    "protocolVersion": message["params"]["protocolVersion"],
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "tiny", "version": "1" },
                });
                answer(id, &result);
            }
            Some("tools/list") => answer(id, &json!({ "tools": tools() })),
            Some("tools/call") if message["params"]["name"] == "elicit" => {
                waiting = id.clone();
                send(&json!({
                    "jsonrpc": "2.0", "id": ELICITATION, "method": "elicitation/create",
                    "params": { "message": "What colour?", "requestedSchema": form() },
                }));
            }
            Some("tools/call") => {
                let said = format!("{} was called", message["params"]["name"]);
                answer(id, &content(&said));
            }
            // Of whatever else there may be, there is none here.
            Some(_) if !id.is_null() => answer(id, &json!({})),
            Some(_) => {}
            None if id == ELICITATION => {
                answer(&waiting, &content(&format!("answered {}", message["result"])));
            }
            None => {}
        }
    }
}

fn tools() -> Value {
    let tool = |name: &str, read_only: bool| {
        json!({
            "name": name, "description": name,
            "inputSchema": { "type": "object", "properties": {} },
            "annotations": { "readOnlyHint": read_only, "destructiveHint": !read_only },
        })
    };
    json!([tool("echo", true), tool("elicit", true), tool("write", false)])
}

fn form() -> Value {
    json!({
        "type": "object",
        "properties": {
            "colour": { "type": "string", "title": "Colour", "enum": ["red", "blue"] },
            "n": { "type": "integer", "minimum": 1 },
        },
        "required": ["colour"],
    })
}

fn content(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

fn answer(id: &Value, result: &Value) {
    send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

fn send(message: &Value) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{message}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
