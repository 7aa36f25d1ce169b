//! What ends turns and requests, and what a panic costs.

use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use serde_json::json;

use super::super::*;
use super::bench::*;
use crate::store::MemoryStore;

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
        let poison = notification("test/panic", &json!({"threadId": "t"}));
        bench.says(vec![poison, notification("turn/completed", &ended)]).await;
        bench.frame("app_server.turn.completed").await;
        let detail = bench.detail().await;
        assert_eq!(detail.thread["turns"][0]["status"], "completed");
    });
}

#[test]
fn a_request_is_on_the_disk_before_it_is_shown() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        let shown = bench.frame("approval").await;
        let id = shown["payload"]["approvalId"].as_str().unwrap().to_owned();
        let family = RequestFamily::Approval;
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
        let family = RequestFamily::Approval;
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
        let family = RequestFamily::Approval;
        assert_eq!(bench.threads.requests(&thread(), family, false).await.unwrap().len(), 1);
        let ended = json!({"threadId": "t", "turn": {"id": "u", "status": "completed"}});
        bench.says(vec![notification("turn/completed", &ended)]).await;
        assert_eq!(bench.frame("approval_resolved").await["payload"]["status"], "expired");
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
