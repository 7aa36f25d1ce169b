//! What ends turns and requests, and what a panic costs.

use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use serde_json::json;

use super::super::*;
use super::bench::*;
use crate::store::{MemoryStore, Store, WriteBatch, keys};

#[test]
fn a_thread_that_panics_over_a_batch_loses_nothing_and_is_rebuilt() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let item = json!({"threadId": "t", "turnId": "u", "item": {"id": "i", "type": "plan"}});
        bench.says(vec![turn_started(), notification("item/started", &item)]).await;
        bench.frame("app_server.item.started").await;
        let poison = notification("test/panic", &json!({"threadId": "t"}));
        let after = notification("item/after", &json!({"threadId": "t"}));
        bench.says(vec![poison, after]).await;
        assert_eq!(bench.frame("app_server.test.panic").await["threadId"], "t");
        bench.frame("app_server.item.after").await;
        // Rebuilt from the store, in the same life of the child: its turn still runs.
        let detail = bench.detail().await;
        assert_eq!(detail.thread["turns"][0]["status"], "inProgress");
        assert_eq!(detail.transcript[0].message_id, "i");
        let tree = bench.supervisor.tree().await.unwrap();
        assert_eq!(tree.children[2].observed["panics"], 1);
    });
}

#[test]
fn the_end_of_a_turn_survives_a_panic_over_the_same_batch() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started()]).await;
        let ended = json!({"threadId": "t", "turn": {"id": "u", "status": "completed"}});
        let poison = || notification("test/panic", &json!({"threadId": "t"}));
        bench.says(vec![poison(), notification("turn/completed", &ended)]).await;
        bench.frame("app_server.turn.completed").await;
        let detail = bench.detail().await;
        assert_eq!(detail.thread["turns"][0]["status"], "completed");
        let next = json!({ "threadId": "t", "turn": { "id": "v" } });
        bench.says(vec![notification("turn/started", &next)]).await;
        bench.says(vec![poison(), notification("turn/failed", &next)]).await;
        bench.frame("app_server.turn.failed").await;
        assert_eq!(bench.detail().await.thread["turns"][1]["status"], "failed");
    });
}

#[test]
fn a_request_is_on_the_disk_before_it_is_shown() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        let shown = bench.frame("approval").await;
        let id = shown["payload"]["approvalId"].as_str().unwrap().to_owned();
        let family = &[RequestFamily::Approval];
        let stored = bench.threads.requests(&thread(), family, true).await.unwrap();
        assert_eq!(stored[0].id.as_str(), id);
        assert_eq!(bench.threads.requests(&thread(), family, false).await.unwrap().len(), 1);
    });
}

#[test]
fn a_request_that_cannot_be_stored_is_declined_and_the_stream_says_so() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::refusing(b"r\0")).await;
        bench.says(vec![turn_started()]).await;
        bench.frame("notification").await;
        bench.says(vec![approval_request(0)]).await;
        let declined = bench.frame("request_declined").await;
        assert_eq!(declined["payload"]["code"], "store_unavailable");
        let family = &[RequestFamily::Approval];
        assert!(bench.threads.requests(&thread(), family, false).await.unwrap().is_empty());
    });
}

#[test]
fn when_the_child_is_gone_its_turns_and_requests_end() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        bench.goes_down().await;
        let ended = bench.frame("app_server.turn.completed").await;
        assert_eq!(ended["payload"]["params"]["turn"]["status"], "interrupted");
        assert_eq!(bench.frame("approval_resolved").await["payload"]["status"], "expired");
        let detail = bench.detail().await;
        assert_eq!(detail.thread["turns"][0]["status"], "interrupted");
        assert_eq!(detail.session.activity, "idle");
    });
}

#[test]
fn the_end_of_a_turn_expires_its_requests_only() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let other = json!({"threadId": "t", "turn": {"id": "v"}});
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        bench.says(vec![notification("turn/started", &other)]).await;
        let ended = json!({"threadId": "t", "turn": {"id": "v", "status": "completed"}});
        bench.says(vec![notification("turn/completed", &ended)]).await;
        bench.frame("app_server.turn.completed").await;
        let family = &[RequestFamily::Approval];
        assert_eq!(bench.threads.requests(&thread(), family, false).await.unwrap().len(), 1);
        let ended = json!({"threadId": "t", "turn": {"id": "u", "status": "completed"}});
        bench.says(vec![notification("turn/completed", &ended)]).await;
        assert_eq!(bench.frame("approval_resolved").await["payload"]["status"], "expired");
    });
}

#[test]
fn a_damaged_session_keeps_no_other_one_from_its_share() {
    on_system(async {
        let disk = Disk::default();
        let mut damaged = WriteBatch::default();
        damaged.put(keys::thread(&thread()), b"damaged".to_vec());
        disk.commit(&[damaged]).unwrap();
        let mut bench = Bench::new(disk).await;
        let other = json!({ "threadId": "t2", "turn": { "id": "v" } });
        bench.says(vec![turn_started(), notification("turn/started", &other)]).await;
        assert_eq!(bench.frame("app_server.turn.started").await["threadId"], "t");
        assert_eq!(bench.frame("turn_adopted").await["payload"]["turnId"], "v");
        let observed = bench.observed().await;
        assert_eq!((observed["alive"].as_u64(), observed["panics"].as_u64()), (Some(1), Some(0)));
    });
}

#[test]
fn an_unfinished_session_is_settled_beside_a_damaged_one() {
    on_system(async {
        let disk = Disk::default();
        let first = Bench::new(disk.clone()).await;
        let other = json!({ "threadId": "t2", "turn": { "id": "v" } });
        first.says(vec![turn_started(), notification("turn/started", &other)]).await;
        first.detail().await;
        drop(first);
        let mut damaged = WriteBatch::default();
        damaged.put(keys::thread(&thread()), b"damaged".to_vec());
        disk.commit(&[damaged]).unwrap();
        let bench = Bench::new(disk).await;
        let snapshots = bench.threads.snapshots(None).await.unwrap();
        // Only what was settled at the start shows here although nothing runs in it.
        let settled: Vec<&str> = snapshots.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(settled, ["t2"]);
    });
}

#[test]
fn a_session_that_does_not_exist_is_not_found() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        let missing = ThreadId::parse("__proto__").unwrap();
        let answer = bench.threads.detail(&missing).await;
        assert_eq!(answer.unwrap_err(), SessionError::NotFound(missing));
    });
}
