//! Sessions before their first turn: what each action answers, and what becomes of them when the
//! runtime that has them is gone.

use std::fs;

use cm_testkit::app::Frame;
use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, approval, is_notification, over_runtimes, rows, text, turn_end,
};

over_runtimes!(
    a_session_that_the_runtime_lost_before_its_first_turn_gets_another_thread,
    a_session_that_had_a_turn_never_gets_another_thread,
    what_each_action_answers_before_the_first_turn,
);

/// The runtime forgets every thread, and is started again.
fn lose_threads(bench: &Bench) {
    let home = bench.app.codex_home();
    let child = bench.app.kill_child();
    bench.app.wait_new_child(child, DEADLINE);
    for kept in fs::read_dir(&home).expect("the runtime's home") {
        let path = kept.expect("an entry").path();
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("a folder that can be removed");
        }
    }
    let child = bench.app.kill_child();
    bench.app.wait_new_child(child, DEADLINE);
    bench.app.wait_ready(DEADLINE);
}

/// Ids of all sessions that are listed.
fn listed(bench: &Bench) -> Vec<String> {
    let list = bench.app.get("/api/sessions").expect_status(200).body;
    list["data"].as_array().into_iter().flatten().map(|row| text(&row["sessionId"])).collect()
}

fn a_session_that_the_runtime_lost_before_its_first_turn_gets_another_thread(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    bench.act(&session, "rename", json!({ "title": "Mine" })).expect_status(200);
    assert_eq!(bench.detail(&session)["session"].get("runtimeThreadId"), None);
    lose_threads(&bench);
    assert_eq!(listed(&bench), [session.as_str()]);

    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch here"), Act::Say("after all")]);
    let id = approval(&mut stream);
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let of_session = |frame: &Frame| frame["threadId"] == json!(session);
    let told = stream.frames();
    let told = told.iter().filter(|frame| is_notification(frame, "turn/started"));
    assert!(told.clone().count() > 0 && told.clone().all(of_session), "{:?}", stream.frames());

    let detail = bench.detail(&session);
    let thread = text(&detail["session"]["runtimeThreadId"]);
    assert_ne!(thread, session);
    assert_eq!(detail["thread"]["id"], json!(thread));
    assert_eq!(detail["session"]["title"], "Mine");
    let said = rows(&detail, "session.thread.recreated");
    assert_eq!(said.len(), 1, "{detail}");
    assert!(text(&said[0]["content"]).contains(&thread), "{said:?}");
    assert_eq!(rows(&detail, "agentMessage")[0]["content"], "after all");
    assert_eq!(listed(&bench), [session.as_str()], "the thread is no session of its own");
    let asked = bench.app.get(&format!("/api/sessions/{session}/approvals")).expect_status(200);
    assert_eq!(asked.body["data"], json!([]));

    // From now on it is a session like others.
    bench.app.restart();
    bench.complete_turn(&session, &[Act::Say("and again")]);
    let detail = bench.detail(&session);
    assert_eq!(text(&detail["session"]["runtimeThreadId"]), thread);
    let said: Vec<&Value> =
        rows(&detail, "agentMessage").iter().map(|row| &row["content"]).collect();
    assert_eq!(
        (said.first(), said.last()),
        (Some(&&json!("after all")), Some(&&json!("and again")))
    );
    assert_eq!(listed(&bench), [session.as_str()]);
    let fork = bench.act(&session, "fork", json!({})).expect_status(200).body;
    assert_eq!(fork["sourceSessionId"], json!(session));
    bench.app.delete(&format!("/api/sessions/{session}")).expect_status(200);
    assert_eq!(listed(&bench), [text(&fork["session"]["sessionId"])]);
}

fn a_session_that_had_a_turn_never_gets_another_thread(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("said")]);
    lose_threads(&bench);
    let path = format!("/api/sessions/{session}/messages");
    let message = kind.message(&[Act::Say("more")]);
    let refused = bench.app.post(&path, json!({ "text": message })).expect_status(404).body;
    assert_eq!(refused["code"], "not_found", "{refused}");
    let detail = bench.detail(&session);
    assert_eq!(detail["session"].get("runtimeThreadId"), None);
    assert_eq!(rows(&detail, "agentMessage")[0]["content"], "said");
    assert_eq!(rows(&detail, "session.thread.recreated").len(), 0);
}

/// Right after it was made, behind a restart of the child, and behind one of the manager. A session
/// has a name from the start, with which these versions write it to their disk.
fn what_each_action_answers_before_the_first_turn(kind: Kind) {
    let mut bench = Bench::start(kind);
    let of_codex = if kind.is_codex() { (200, "") } else { (501, "method_not_supported") };
    let rolled_back = if kind.is_codex() { (409, "invalid_state") } else { of_codex };
    let actions = [
        ("interrupt", json!({}), (409, "invalid_state")),
        ("turns/t/steer", json!({ "input": "more" }), (409, "conflict")),
        ("rollback", json!({ "numTurns": 1 }), rolled_back),
        ("fork", json!({}), (200, "")),
        ("compact", json!({}), of_codex),
        ("review", json!({}), of_codex),
        ("archive", json!({}), (200, "")),
        ("unarchive", json!({}), (200, "")),
        ("background-terminals/clean", json!({}), (200, "")),
        ("resume", json!({}), (200, "")),
        ("rename", json!({ "title": "Named" }), (200, "")),
        ("approval-policy", json!({ "approvalPolicy": "untrusted" }), (200, "")),
    ];
    for life in ["new", "of a child that is gone", "of a manager that is gone"] {
        let sessions: Vec<String> = actions.iter().map(|_| bench.session()).collect();
        match life {
            "new" => {}
            "of a child that is gone" => {
                let child = bench.app.kill_child();
                bench.app.wait_new_child(child, DEADLINE);
                bench.app.wait_ready(DEADLINE);
            }
            _ => bench.app.restart(),
        }
        for ((action, body, expected), session) in actions.iter().zip(&sessions) {
            let reply = bench.act(session, action, body.clone());
            let code = reply.body["code"].as_str().unwrap_or_default();
            assert_eq!((reply.status, code), *expected, "{life}: {action}: {}", reply.text);
        }
        let session = bench.session();
        assert_eq!(bench.detail(&session)["session"]["materialized"], false, "{life}");
        bench.complete_turn(&session, &[Act::Say("hello")]);
        let detail = bench.detail(&session);
        assert_eq!(detail["session"]["materialized"], true, "{life}");
        assert_eq!(detail["session"].get("runtimeThreadId"), None, "{life}");
    }
}
