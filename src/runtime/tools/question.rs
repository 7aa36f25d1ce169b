//! `/ask` and `/call`: questions to the user, and tools that the client runs.

use serde_json::{Value, json};

use super::approval::brief;
use crate::turn::{Stop, Turn, complete, dynamic_tool_call};
use crate::wire::{lock, now_ms};

/// Asks one question. As in codex it has no item of its own.
pub(crate) fn ask(turn: &mut Turn, question: &str, options: &[String]) -> Result<String, Stop> {
    const QUESTION_ID: &str = "answer";
    let option = |label: &String| json!({ "label": label, "description": label });
    let options: Vec<Value> = options.iter().map(option).collect();
    turn.status(&["waitingOnUserInput"]);
    let params = json!({
        "itemId": format!("call_{}", uuid::Uuid::now_v7().simple()),
        "questions": [{
            "id": QUESTION_ID, "header": "Question", "question": question, "isOther": true,
            "isSecret": false, "options": (!options.is_empty()).then_some(options),
        }],
        "isBlocking": false, "autoResolutionMs": null,
    });
    let answer = turn.ask("item/tool/requestUserInput", params)?;
    turn.status(&[]);
    let answers = answer.as_ref().ok();
    let answers = answers.and_then(|result| result["answers"][QUESTION_ID]["answers"].as_array());
    Ok(match answers {
        Some(answers) => {
            let answers: Vec<String> = answers.iter().map(brief).collect();
            format!("- ask “{question}”: {}", answers.join(", "))
        }
        None => format!("- ask “{question}”: not answered"),
    })
}

/// Calls a tool that the client declared at `thread/start`.
pub(crate) fn call(turn: &mut Turn, name: &str, arguments: &Value) -> Result<String, Stop> {
    let declared = lock(&turn.thread.state).meta.dynamic_tools.clone();
    let Some((namespace, tool)) = find(&declared, name) else {
        return Ok(format!("- call {name}: no such tool is declared on this thread"));
    };
    let mut item = dynamic_tool_call(namespace.as_deref(), &tool, arguments);
    turn.item_started(&item);
    let started = now_ms();
    let params = json!({
        "callId": item["id"], "namespace": namespace, "tool": tool, "arguments": arguments,
    });
    let answer = turn.ask("item/tool/call", params)?;
    let result = answer.ok().filter(|result| result["contentItems"].is_array());
    // codex's words for an answer that is an error or cannot be read.
    let failed = json!([{ "type": "inputText", "text": "dynamic tool request failed" }]);
    let success = result.as_ref().is_some_and(|result| result["success"] == true);
    let content = result.map_or(failed, |mut result| result["contentItems"].take());
    let texts: Vec<String> = content.as_array().into_iter().flatten().map(content_text).collect();
    complete(
        &mut item,
        json!({
            "status": if success { "completed" } else { "failed" }, "contentItems": content,
            "success": success, "durationMs": now_ms().saturating_sub(started),
        }),
    );
    turn.item_completed(&item);
    let word = if success { "answered" } else { "failed" };
    Ok(format!("- call {name}: {word}: {}", texts.join(" ")))
}

fn content_text(item: &Value) -> String {
    match item["text"].as_str() {
        Some(text) => brief(&json!(text)),
        None => format!("[{}]", item["type"].as_str().unwrap_or("unknown")),
    }
}

/// Finds `tool` or `namespace.tool` among the declared specs, tagged (0.155 and later) or not.
fn find(declared: &[Value], name: &str) -> Option<(Option<String>, String)> {
    for spec in declared {
        let Some(spec_name) = spec["name"].as_str() else {
            continue;
        };
        if spec["type"] == "namespace" {
            let tools = spec["tools"].as_array().into_iter().flatten();
            let mut names = tools.filter_map(|tool| tool["name"].as_str());
            let inner = name.strip_prefix(spec_name).and_then(|rest| rest.strip_prefix('.'));
            if let Some(found) = names.find(|tool| Some(*tool) == inner) {
                return Some((Some(spec_name.to_owned()), found.to_owned()));
            }
        } else if spec_name == name {
            let namespace = spec["namespace"].as_str().map(str::to_owned);
            return Some((namespace, name.to_owned()));
        }
    }
    None
}
