//! Subagents: sessions that the agent of another session starts.

use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, read_json_lines, step};
use cm_testkit::model::{call_in, hold, prompt, run, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Bench, DEADLINE, Kind, text, turn_end};
use crate::fake_app::{begin, create, with_fake};

#[test]
fn what_a_subagent_of_codex_asks_is_seen_and_decided_with_its_parent() {
    subagent_asks(Kind::CodexNew);
}

#[test]
fn what_a_subagent_of_an_older_codex_asks_is_seen_and_decided_with_its_parent() {
    subagent_asks(Kind::CodexOld);
}

fn subagent_asks(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let task = prompt("a task", [run("touch by-the-child"), say("the child is done")]);
    let spawn = call_in("multi_agent_v1", "spawn_agent", json!({ "message": task }));
    let steps = [spawn, hold("parent", "the parent waits ", "and is done")];
    let turn = bench.send_text(&session, &prompt("go", steps));

    let frame = stream.wait_type("approval", DEADLINE);
    let asked = &frame["payload"];
    let child = text(&asked["threadId"]);
    assert_ne!(child, session);
    assert_eq!(frame["threadId"], child.as_str());
    let list = |path: &str| bench.app.get(path).expect_status(200).body["data"].clone();
    for of_parent in ["approvals", "approvals?kinds=all"] {
        let shown = list(&format!("/api/sessions/{session}/{of_parent}"));
        assert_eq!(shown, json!([asked]), "as on the parent's stream");
    }
    let questions = list(&format!("/api/sessions/{session}/tool-input"));
    assert_eq!(questions, json!([]));
    assert_eq!(list(&format!("/api/sessions/{child}/approvals")), json!([asked]));
    assert_eq!(bench.detail(&session)["subagents"], json!([child]));
    assert_eq!(bench.detail(&child)["session"]["parentSessionId"], session.as_str());

    let accept = json!({ "decision": "accept" });
    bench.decide(&text(&asked["approvalId"]), accept).expect_status(200);
    let resolved = stream.wait_type("approval_resolved", DEADLINE);
    assert_eq!(resolved["threadId"], child.as_str());
    bench.model().open_gate("parent");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let created = bench.app.workspace().join("by-the-child");
    wait_until("the subagent's command has run", DEADLINE, || created.is_file());
}

/// A notification of an item of the session's turn.
fn item(item: Value) -> Value {
    step::notify("item/completed", json!({ "item": item }))
}

/// Something that the child says of a subagent's thread.
fn of(thread: &str, params: Value) -> Value {
    let mut params = params;
    params["threadId"] = json!(thread);
    params["turnId"] = json!(format!("turn-of-{thread}"));
    params
}

#[test]
fn every_way_to_name_a_subagent_links_it_and_the_link_is_kept() {
    let dir = TestDir::new("record");
    let record = dir.join("answers");
    let spawned = json!({
        "type": "collabAgentToolCall", "id": "i1", "tool": "spawnAgent", "status": "completed",
        "receiverThreadIds": ["first"],
    });
    let started = json!({
        "type": "subAgentActivity", "id": "i2", "kind": "started", "agentThreadId": "second",
    });
    let steps = [
        item(spawned),
        step::notify("turn/started", of("first", json!({ "turn": { "id": "turn-of-first" } }))),
        // A subagent's subagent: it is under both.
        step::notify("item/completed", of("first", json!({ "item": started }))),
        step::notify("turn/started", of("second", json!({ "turn": { "id": "turn-of-second" } }))),
        step::notify(
            "thread/started",
            json!({ "threadId": "third", "thread": { "id": "third", "parentThreadId": "first" } }),
        ),
        step::message("started"),
        step::request(
            "item/permissions/requestApproval",
            of(
                "second",
                json!({
                    "itemId": "i3", "reason": "to build", "permissions": { "network": { "enabled": true } },
                }),
            ),
            &record,
        ),
    ];
    let behaviour = Behaviour::correct().turn(steps);
    let mut app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some("first"));
    stream.wait_type("ready", DEADLINE);
    begin(&app, &session);
    // The subscriber of the parent is told.
    let asked = stream.wait_type("request_pending", DEADLINE)["payload"].clone();
    assert_eq!(asked["threadId"], "second");
    for (above, expected) in [("first", 1), (session.as_str(), 1), ("second", 1), ("third", 0)] {
        let path = format!("/api/sessions/{above}/approvals?kinds=all");
        let listed = app.get(&path).expect_status(200).body["data"].clone();
        assert_eq!(listed.as_array().map(Vec::len), Some(expected), "{above}: {listed}");
    }
    app.post(&text(&asked["answerHref"]), json!({ "decision": "decline" })).expect_status(200);
    stream.wait_type("request_resolved", DEADLINE);
    wait_until("an answer", DEADLINE, || !read_json_lines(&record).is_empty());
    assert_eq!(read_json_lines(&record)[0]["result"]["permissions"], json!({}));

    for round in ["while it runs", "after a restart"] {
        let detail = |id: &str| app.get(&format!("/api/sessions/{id}")).expect_status(200).body;
        assert_eq!(detail(&session)["subagents"], json!(["first"]), "{round}");
        // Two threads tell of these two: the order in which that is heard is nobody's.
        let of_first = detail("first")["subagents"].clone();
        let orders = [json!(["second", "third"]), json!(["third", "second"])];
        assert!(orders.contains(&of_first), "{round}: {of_first}");
        for (child, parent) in
            [("first", session.as_str()), ("second", "first"), ("third", "first")]
        {
            assert_eq!(detail(child)["session"]["parentSessionId"], parent, "{child} {round}");
        }
        assert_eq!(detail(&session)["session"].get("parentSessionId"), None);
        if round == "while it runs" {
            app.terminate();
            app.restart();
        }
    }
}
