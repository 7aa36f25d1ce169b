//! Turns that nobody has to answer: order, content, failure, steering.

use serde_json::{Value, json};

use super::client::{Client, closing};
use crate::{DIRECTIVES, Limits};

#[test]
fn a_plain_turn_says_what_the_guide_is_in_codexs_order() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    let turn = client.turn(&thread, "please write my thesis");
    let text = closing(&turn);
    assert!(text.starts_with("I am Codex Manager's built-in guide, not a language model."));
    assert!(text.contains("please write my thesis"));
    assert!(DIRECTIVES.iter().all(|help| text.contains(help.usage)));

    let mut outline = client.outline(from);
    assert!(outline.iter().filter(|word| *word == "item/agentMessage/delta").count() > 3);
    outline.dedup();
    let expected = [
        "thread/started",
        "answer",
        "thread/status/changed active",
        "turn/started",
        "item/started userMessage",
        "item/completed userMessage",
        "item/started agentMessage",
        "item/agentMessage/delta",
        "item/completed agentMessage",
        "thread/tokenUsage/updated",
        "thread/status/changed idle",
        "turn/completed",
    ];
    let skip = usize::from(outline[0] != "thread/started");
    assert_eq!(outline, expected[skip..]);

    let streamed: String = client
        .messages
        .iter()
        .filter(|message| message["method"] == "item/agentMessage/delta")
        .filter_map(|message| message["params"]["delta"].as_str())
        .collect();
    assert_eq!(streamed, text);
    let emitted = client.messages.iter().filter(|message| message.get("method").is_some());
    assert!(emitted.into_iter().all(|message| message["emittedAtMs"].is_u64()));
    assert_eq!(turn["itemsView"], "summary");
    assert_eq!(client.history(&thread)[0]["items"].as_array().unwrap().len(), 2);
}

#[test]
fn a_thread_is_echoed_with_its_settings_and_the_model_is_not_pretended() {
    let mut client = Client::new();
    let params = json!({
        "cwd": client.workspace, "model": "gpt-6", "sandbox": "workspace-write",
        "approvalPolicy": "untrusted", "config": { "sandbox_workspace_write.network_access": true },
    });
    let started = client.ok("thread/start", params);
    assert_eq!(started["approvalPolicy"], "untrusted");
    assert_eq!(
        started["sandbox"],
        json!({
            "type": "workspaceWrite", "writableRoots": [], "networkAccess": true,
            "excludeTmpdirEnvVar": false, "excludeSlashTmp": false,
        })
    );
    assert_eq!(
        (&started["model"], &started["modelProvider"]),
        (&json!("codex-manager-guide"), &json!("embedded"))
    );
    assert!(client.wait("warning")["params"]["message"].as_str().unwrap().contains("gpt-6"));
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    // Settings of a turn stay for the thread.
    client.ok(
        "turn/start",
        json!({
            "threadId": thread, "input": [{ "type": "text", "text": "/say x" }],
            "approvalPolicy": "never", "sandboxPolicy": { "type": "dangerFullAccess" },
        }),
    );
    client.finished();
    let resumed = client.ok("thread/resume", json!({ "threadId": thread }));
    assert_eq!(resumed["approvalPolicy"], "never");
    assert_eq!(resumed["sandbox"], json!({ "type": "dangerFullAccess" }));
}

#[test]
fn thinking_and_planning_are_shown() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    let turn = client.turn(&thread, "/think deep thoughts\n/plan one; two");
    assert!(closing(&turn).contains("plan: 2 steps"));
    let outline = client.outline(from);
    let at = outline.iter().position(|word| word == "item/started reasoning").unwrap();
    assert_eq!(
        outline[at..at + 6],
        [
            "item/started reasoning",
            "item/reasoning/summaryPartAdded",
            "item/reasoning/summaryTextDelta",
            "item/completed reasoning",
            "thread/tokenUsage/updated",
            "turn/plan/updated",
        ]
    );
    let plan = client.messages.iter().find(|m| m["method"] == "turn/plan/updated").unwrap();
    assert_eq!(
        plan["params"]["plan"],
        json!([
            { "step": "one", "status": "pending" }, { "step": "two", "status": "pending" },
        ])
    );
}

#[test]
fn a_failing_turn_ends_with_its_error_and_the_next_one_works() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    let turn = client.turn(&thread, "/fail out of luck");
    assert_eq!(
        (&turn["status"], &turn["error"]["message"]),
        (&json!("failed"), &json!("out of luck"))
    );
    let outline = client.outline(from);
    assert_eq!(
        outline[outline.len() - 3..],
        ["thread/status/changed systemError", "error", "turn/completed"]
    );
    let read = client.ok("thread/read", json!({ "threadId": thread }));
    assert_eq!(read["thread"]["status"], json!({ "type": "systemError" }));
    assert_eq!(closing(&client.turn(&thread, "/say again")), "again");
    assert_eq!(client.history(&thread)[0]["error"]["message"], "out of luck");
}

#[test]
fn steering_joins_the_running_turn() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let turn = client.start(&thread, "/slow 100000 50 tick\n/say first done");
    client.wait("item/agentMessage/delta");
    let input = json!([{ "type": "text", "text": "/say steered", "text_elements": [] }]);
    let steer = |expected: &str, input: &Value| json!({ "threadId": thread, "expectedTurnId": expected, "input": input });
    assert_eq!(
        client.refused("turn/steer", steer("wrong", &input)),
        format!("expected active turn id `wrong` but found `{turn}`")
    );
    assert_eq!(client.refused("turn/steer", steer(&turn, &json!([]))), "input must not be empty");
    assert_eq!(client.ok("turn/steer", steer(&turn, &input)), json!({ "turnId": turn }));
    let finished = client.finished();
    assert_eq!(closing(&finished), "steered");
    // The slow message was abandoned, what followed it was not.
    let items = client.history(&thread)[0]["items"].clone();
    let texts: Vec<_> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["text"].as_str().or_else(|| item["content"][0]["text"].as_str()).unwrap())
        .collect();
    assert_eq!(
        texts,
        ["/slow 100000 50 tick\n/say first done", "/say steered", "first done", "steered"]
    );
    assert_eq!(client.refused("turn/steer", steer(&turn, &input)), "no active turn to steer");
}

#[test]
fn turn_start_on_a_running_turn_steers_it_and_answers_its_id() {
    let mut client = Client::with_limits(Limits { queued_inputs: 1, ..Limits::default() });
    let thread = client.thread(json!({}));
    let turn = client.start(&thread, "/ask really?");
    let question = client.wait("item/tool/requestUserInput");
    assert_eq!(client.start(&thread, "/say second"), turn);
    // The bound on waiting inputs holds.
    let full = json!({ "threadId": thread, "input": [{ "type": "text", "text": "third" }] });
    assert_eq!(client.call("turn/start", full)["error"]["code"], -32001);
    client.answer(&question, json!({ "answers": { "answer": { "answers": ["yes"] } } }));
    assert!(closing(&client.finished()).contains("yes"));
}

#[test]
fn too_many_turns_at_once_are_refused_as_overloaded() {
    let mut client = Client::with_limits(Limits { concurrent_turns: 1, ..Limits::default() });
    let (first, second) = (client.thread(json!({})), client.thread(json!({})));
    let turn = client.start(&first, "/ask wait");
    client.wait("item/tool/requestUserInput");
    let params = json!({ "threadId": second, "input": [{ "type": "text", "text": "x" }] });
    assert_eq!(client.call("turn/start", params.clone())["error"]["code"], -32001);
    client.interrupt(&first, &turn);
    client.finished();
    // The slot comes back right behind the end of the turn.
    while client.call("turn/start", params.clone()).get("error").is_some() {}
    assert_eq!(client.finished()["status"], "completed");
}

#[test]
fn a_flood_arrives_whole_and_a_slow_client_costs_no_memory() {
    let mut client = Client::with_limits(Limits { outbox_bytes: 1_000, ..Limits::default() });
    let thread = client.thread(json!({}));
    let turn = client.turn(&thread, "/flood 5000 100");
    assert_eq!(closing(&turn).len(), 500_000);
    let deltas = client.messages.iter().filter(|m| m["method"] == "item/agentMessage/delta");
    assert_eq!(deltas.count(), 5_000);
}
