//! What comes in between while a turn runs: an interrupt, a steer, another message.

use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, approval, notified, over_runtimes, rows, text, turn_end,
};

over_runtimes!(
    an_interrupt_ends_a_turn_that_streams,
    an_interrupt_expires_a_pending_approval,
    a_steer_reaches_the_running_turn,
    a_message_joins_the_running_turn,
    what_does_not_run_cannot_be_interrupted_or_steered,
);

fn an_interrupt_ends_a_turn_that_streams(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    assert_eq!(bench.detail(&session)["session"]["activity"], "running");
    let reply = bench.act(&session, "interrupt", json!({})).expect_status(200);
    assert_eq!(reply.body, json!({ "status": "ok", "sessionId": session, "turnId": turn }));
    let ended = turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "interrupted", "{ended}");
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["activity"], "idle");
    assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted");
    let begun = rows(&detail, "agentMessage");
    assert!(begun.iter().all(|row| row["status"] == "canceled"), "{begun:?}");
    bench.complete_turn(&session, &[Act::Say("the next turn")]);
}

fn an_interrupt_expires_a_pending_approval(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let file = bench.app.workspace().join("never");
    let turn = bench.send(&session, &[Act::Run("touch never")]);
    let id = approval(&mut stream);
    bench.act(&session, "interrupt", json!({ "turnId": turn })).expect_status(200);
    let mut ends = stream.wait_type("approval_resolved", DEADLINE)["payload"].clone();
    ends.as_object_mut().unwrap().retain(|name, _| name == "approvalId" || name == "status");
    assert_eq!(ends, json!({ "approvalId": id, "status": "expired" }));
    let interrupted = stream.read(|all| {
        all.iter().any(|frame| frame["payload"]["params"]["turn"]["status"] == "interrupted")
    });
    if !interrupted {
        assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
    }
    check_expired(&bench, &session, &id);
    assert!(!file.exists());
    bench.complete_turn(&session, &[Act::Say("the next turn")]);
}

/// An expired approval is not pending, is still explained, and cannot be decided.
#[track_caller]
pub(crate) fn check_expired(bench: &Bench, session: &str, approval: &str) {
    let pending = bench.app.get(&format!("/api/sessions/{session}/approvals")).expect_status(200);
    assert_eq!(pending.body, json!({ "data": [] }));
    let path = format!("/api/sessions/{session}/approvals?status=all");
    let all = bench.app.get(&path).expect_status(200).body;
    assert_eq!(all["data"][0]["approvalId"], approval, "{all}");
    assert_eq!(all["data"][0]["status"], "expired", "{all}");
    let refused = bench.decide(approval, json!({ "decision": "accept" })).expect_status(409).body;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("reconciled"), &json!("expired")));
    let detail = bench.detail(session);
    let row = rows(&detail, "approval.resolved");
    assert_eq!(row[0]["content"], "Approval expired", "{row:?}");
}

fn a_steer_reaches_the_running_turn(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    let more = kind.message(&[Act::Say("steered words")]);
    let reply = bench.act(&session, &format!("turns/{turn}/steer"), json!({ "input": more }));
    let body = reply.expect_status(200).body;
    assert_eq!((&body["status"], &body["sessionId"]), (&json!("ok"), &json!(session)), "{body}");
    assert_eq!(body["result"]["actionType"], "turn.steer", "{body}");
    assert_eq!(body["result"]["status"], "performed", "{body}");
    assert_eq!(body["result"]["details"], json!({ "threadId": session, "turnId": turn }));
    bench.release();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let detail = bench.detail(&session);
    both_were_said(&detail, &turn, &more);
    let late = bench.act(&session, &format!("turns/{turn}/steer"), json!({ "input": "late" }));
    assert!((400..500).contains(&late.status), "{} {}", late.status, late.text);
}

fn a_message_joins_the_running_turn(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    let more = kind.message(&[Act::Say("steered words")]);
    assert_eq!(bench.send_text(&session, &more), turn, "it joins");
    bench.release();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let detail = bench.detail(&session);
    both_were_said(&detail, &turn, &more);
    assert_eq!(detail["thread"]["turns"].as_array().unwrap().len(), 1);
    let next = bench.complete_turn(&session, &[Act::Say("the next turn")]);
    assert_ne!(next, turn);
}

/// Both messages and the answer to the second are rows of the one turn.
#[track_caller]
fn both_were_said(detail: &Value, turn: &str, more: &str) {
    let asked = rows(detail, "userMessage");
    assert_eq!(asked.len(), 2, "{detail}");
    assert_eq!(asked[1]["content"], more);
    assert!(asked.iter().all(|row| row["turnId"] == turn), "{asked:?}");
    let said = rows(detail, "agentMessage");
    let last = said.last().unwrap();
    assert!(text(&last["content"]).contains("steered words"), "{said:?}");
    assert_eq!(last["status"], "complete");
}

fn what_does_not_run_cannot_be_interrupted_or_steered(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let turn = bench.complete_turn(&session, &[Act::Say("over")]);
    let none = bench.act(&session, "interrupt", json!({})).expect_status(409).body;
    assert_eq!((&none["status"], &none["sessionId"]), (&json!("no_active_turn"), &json!(session)));
    let named = bench.act(&session, "interrupt", json!({ "turnId": turn })).expect_status(409).body;
    assert_eq!(named["status"], "no_active_turn");
}
