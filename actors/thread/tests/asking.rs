//! Requests on their way to the disk, and what becomes of them when a life is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cm_core::ids::{Incarnation, RequestId};
use cm_core::request::{
    Decision, ExpiryReason, REQUEST_RECORD_VERSION, Refusal, RequestFamily, RequestKind,
    RequestRecord, RequestState,
};
use cm_core::rpc::RpcId;
use cm_core::wire::{ApprovalDecision, ApprovalScope, DecideApproval};
use serde_json::json;
use tokio::time::timeout;

use super::super::*;
use super::bench::*;
use crate::store::{MemoryStore, OpenMark, Store, WriteBatch, put_open, put_request, read_thread};

#[test]
fn a_disk_that_is_full_for_a_moment_costs_no_answer() {
    on_system(async {
        let disk = Disk::default();
        let full = disk.full.clone();
        let mut bench = Bench::new(disk).await;
        bench.says(vec![turn_started()]).await;
        bench.frame("turn_adopted").await;
        full.store(true, Ordering::Relaxed);
        bench.says(vec![approval_request(0)]).await;
        // The thread goes on meanwhile.
        let after = notification("item/after", &json!({ "threadId": "t" }));
        bench.says(vec![after]).await;
        bench.frame("app_server.item.after").await;
        assert!(bench.pending().await.is_empty(), "it is not shown before it is stored");
        full.store(false, Ordering::Relaxed);
        let shown = bench.frame("approval").await;
        let pending = bench.pending().await;
        assert_eq!(pending.len(), 1);
        assert_eq!(shown["payload"]["approvalId"], pending[0].id.as_str());
    });
}

#[test]
fn a_request_whose_turn_ends_while_the_disk_is_full_is_forgotten() {
    on_system(async {
        let disk = Disk::default();
        let full = disk.full.clone();
        let mut bench = Bench::new(disk).await;
        bench.says(vec![turn_started()]).await;
        bench.frame("turn_adopted").await;
        full.store(true, Ordering::Relaxed);
        bench.says(vec![approval_request(0)]).await;
        bench.says(vec![turn_ended()]).await;
        bench.frame("app_server.turn.completed").await;
        // One that is asked later is declined when its time is over; the first one's was before.
        let turn = json!({ "threadId": "t", "turn": { "id": "later" } });
        let params = json!({ "threadId": "t", "turnId": "later", "itemId": "i", "command": "x" });
        let asks = request(1, "item/commandExecution/requestApproval", &params);
        bench.says(vec![notification("turn/started", &turn), asks]).await;
        let declined = bench.frame("request_declined").await;
        assert_eq!(declined["payload"]["details"]["turnId"], "later", "{declined}");
    });
}

#[test]
fn the_end_of_a_request_is_stored_when_there_is_room_again() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        disk.full.store(true, Ordering::Relaxed);
        bench.says(vec![turn_ended()]).await;
        bench.frame("approval_resolved").await;
        // Whatever is written tries first what waits, so this ends when the record waits too.
        let waits = async {
            while disk.requests_refused.load(Ordering::Relaxed) == 0 {
                bench.threads.rename(&thread(), "Mine".to_owned()).await.unwrap_err();
            }
        };
        timeout(DEADLINE, waits).await.expect("a record that waits");
        disk.full.store(false, Ordering::Relaxed);
        bench.threads.rename(&thread(), "Mine".to_owned()).await.unwrap();
        let all =
            bench.threads.requests(&thread(), &[RequestFamily::Approval], true).await.unwrap();
        assert_eq!((all.len(), all[0].status()), (1, "expired"));
    });
}

#[test]
fn a_request_is_marked_as_unfinished_until_its_end_is_stored() {
    on_system(async {
        let unmarked = Arc::<AtomicUsize>::default();
        let disk = Disk::watched(&unmarked);
        let mut bench = Bench::new(disk.clone()).await;
        bench.says(vec![turn_started(), approval_request(0), approval_request(1)]).await;
        bench.frame("approval").await;
        bench.says(vec![turn_ended()]).await;
        // Stored behind both ends: each lets the thread forget its request.
        let marked = || read_thread(&disk, &thread()).unwrap().unwrap().mark.is_some();
        let ended = async {
            loop {
                let committed = disk.committed.notified();
                if !marked() {
                    return;
                }
                committed.await;
            }
        };
        timeout(DEADLINE, ended).await.expect("nothing is unfinished");
        let all =
            bench.threads.requests(&thread(), &[RequestFamily::Approval], true).await.unwrap();
        assert!(all.iter().all(RequestRecord::is_closed), "{all:?}");
        assert_eq!(all.len(), 2);
        assert_eq!(unmarked.load(Ordering::Relaxed), 0, "times that it was not marked");
    });
}

#[test]
fn a_request_that_is_said_twice_is_one_request() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0), approval_request(0)]).await;
        bench.frame("approval").await;
        bench.says(vec![approval_request(0)]).await;
        assert_eq!(bench.pending().await.len(), 1);
        bench.says(vec![approval_request(1)]).await;
        assert_eq!(bench.pending().await.len(), 2);
    });
}

#[test]
fn long_params_are_shown_short_and_kept_whole() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let arguments = "x".repeat(2 << 20);
        let params = json!({
            "threadId": "t", "turnId": "u", "callId": "c", "tool": "paste", "arguments": arguments,
        });
        let whole = params.to_string();
        bench.says(vec![turn_started(), request(0, "item/tool/call", &params)]).await;
        let shown = bench.frame("tool_call_requested").await;
        assert_eq!(shown["payload"]["tool"], "paste");
        assert_eq!(shown["payload"]["arguments"]["truncated"], true);
        let id = RequestId::parse(shown["payload"]["requestId"].as_str().unwrap()).unwrap();
        assert_eq!(bench.threads.request_params(id).await.unwrap(), whole.as_bytes());
        let none = RequestId::from_random([1; 16]);
        let missing = bench.threads.request_params(none.clone()).await;
        assert_eq!(missing, Err(SessionError::NoRequest(none)));
    });
}

fn decision() -> Decision {
    Decision {
        label: "accept".to_owned(),
        scope: Some("turn".to_owned()),
        success: None,
        result: Some(json!({ "decision": "accept" })),
        by: "me".to_owned(),
        at: "then".to_owned(),
    }
}

fn claimed() -> RequestRecord {
    RequestRecord {
        version: REQUEST_RECORD_VERSION,
        id: RequestId::from_random([7; 16]),
        kind: RequestKind::CommandApproval,
        method: "item/commandExecution/requestApproval".to_owned(),
        thread_id: Some(thread()),
        turn_id: Some("u".to_owned()),
        item_id: None,
        call_id: None,
        incarnation: LIFE,
        rpc_id: RpcId::Number(0),
        params: json!({}),
        params_bytes: None,
        created_at: "then".to_owned(),
        created_ms: 1,
        ended_ms: None,
        deadline_at: None,
        deadline_ms: None,
        ordinal: 5,
        state: RequestState::Deciding { decision: decision() },
    }
}

/// The manager died between the claim and the answer. The new manager's first child has the same
/// number as the old one's, and may ask with the same id: nothing reaches it.
#[test]
fn a_claim_that_outlived_the_manager_expires_with_what_was_decided() {
    on_system(async {
        let disk = Disk::default();
        let first = Bench::new(disk.clone()).await;
        first.says(vec![turn_started(), turn_ended()]).await;
        first.detail().await;
        drop(first);
        let record = claimed();
        let mut batch = WriteBatch::default();
        put_request(&mut batch, &record).unwrap();
        let mark = OpenMark {
            boot: "another".to_owned(),
            incarnation: Some(Incarnation(1)),
            turns: Some(Vec::new()),
            requests: vec![record.id.clone()],
            recover: false,
        };
        put_open(&mut batch, &thread(), &mark).unwrap();
        disk.commit(&[batch]).unwrap();

        let bench = Bench::new(disk).await;
        let family = &[RequestFamily::Approval];
        let all = bench.threads.requests(&thread(), family, true).await.unwrap();
        assert_eq!((all.len(), all[0].status()), (1, "expired"));
        assert_eq!(all[0].decision(), Some(&decision()));
        let input = DecisionInput::Approval(Box::new(DecideApproval::of(
            ApprovalDecision::Decline,
            ApprovalScope::Turn,
        )));
        let late = bench.threads.decide(record.id, input, "late".to_owned()).await;
        let Err(SessionError::Refused { refusal, .. }) = late else { panic!("{late:?}") };
        let Refusal::Expired { reason, decision: told, .. } = refusal else {
            panic!("{refusal:?}")
        };
        assert_eq!(reason, ExpiryReason::ManagerRestarted);
        assert_eq!(told.as_deref(), Some(&decision()));
    });
}

/// There is no child in this test, so that no answer ever reaches it.
#[test]
fn a_claim_that_cannot_reach_the_child_stays_claimed_and_ends_with_what_was_decided() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        let id = bench.pending().await[0].id.clone();
        let decide = |decision| {
            let body = DecideApproval::of(decision, ApprovalScope::Turn);
            DecisionInput::Approval(Box::new(body))
        };
        let first = decide(ApprovalDecision::Accept);
        let first = bench.threads.decide(id.clone(), first, "first".to_owned()).await;
        assert!(matches!(first, Err(SessionError::Failed(_))), "{first:?}");
        let told = |answer: Result<_, SessionError>| {
            let Err(SessionError::Refused { refusal, .. }) = answer else { panic!("{answer:?}") };
            match refusal {
                Refusal::InFlight(decision) | Refusal::Decided(decision) => decision.by,
                Refusal::Expired { decision, .. } => decision.map(|it| it.by).unwrap_or_default(),
            }
        };
        let late = || {
            bench.threads.decide(id.clone(), decide(ApprovalDecision::Decline), "late".to_owned())
        };
        assert_eq!(told(late().await), "first");
        // Also after the thread was rebuilt.
        bench.says(vec![notification("test/panic", &json!({ "threadId": "t" }))]).await;
        assert_eq!(told(late().await), "first");
        bench.goes_down().await;
        bench.frame("approval_resolved").await;
        assert_eq!(
            told(
                bench
                    .threads
                    .decide(id.clone(), decide(ApprovalDecision::Decline), "late".to_owned())
                    .await
            ),
            "first"
        );
        let all =
            bench.threads.requests(&thread(), &[RequestFamily::Approval], true).await.unwrap();
        assert_eq!(all[0].status(), "expired");
        assert_eq!(all[0].decision().map(|decision| decision.label.as_str()), Some("accept"));
    });
}

#[test]
fn a_panic_is_told_until_a_turn_ends_well() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started()]).await;
        bench.says(vec![notification("test/panic", &json!({ "threadId": "t" }))]).await;
        let problem = bench.frame("session_problem").await;
        assert_eq!(problem["payload"]["problem"]["code"], "degraded");
        let detail = bench.detail().await;
        assert_eq!(detail.session.problem.map(|problem| problem.code).as_deref(), Some("degraded"));
        assert_eq!(bench.observed().await["degraded"]["t"]["panics"], 1);
        bench.says(vec![turn_ended()]).await;
        for reason in ["problem", "problem_solved"] {
            let updated = bench.frame("session_updated").await;
            assert_eq!(updated["payload"]["reason"], reason, "{updated}");
        }
        assert_eq!(bench.detail().await.session.problem, None);
    });
}

#[test]
fn what_was_refused_for_want_of_room_is_stored_when_there_is_room() {
    on_system(async {
        let disk = Disk::default();
        let full = disk.full.clone();
        let mut bench = Bench::new(disk.clone()).await;
        bench.says(vec![turn_started()]).await;
        bench.frame("turn_adopted").await;
        full.store(true, Ordering::Relaxed);
        let refused = bench.threads.rename(&thread(), "Mine".to_owned()).await.unwrap_err();
        let SessionError::Failed(failure) = refused else { panic!("{refused:?}") };
        assert_eq!(failure.code, cm_core::error::ErrorCode::StoreUnavailable);
        full.store(false, Ordering::Relaxed);
        // The same again is no news to the actor; answered, it is on the disk all the same.
        bench.threads.rename(&thread(), "Mine".to_owned()).await.unwrap();
        let stored = read_thread(&disk, &thread()).unwrap().unwrap();
        assert_eq!(stored.record.shown_title(), "Mine");
    });
}
