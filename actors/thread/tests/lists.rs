//! Lists of sessions.

use std::sync::Arc;

use cm_core::ids::ThreadId;
use cm_core::wire::SessionList;
use serde_json::json;

use super::bench::{
    Bench, Disk, Options, approval_request, count, notification, on_system, thread, turn_ended,
    turn_started,
};
use crate::index::ListQuery;
use crate::store::{MemoryStore, Store, WriteBatch, put_thread, read_thread};

/// The titles of a list, newest first.
async fn titles(bench: &Bench, archived: bool) -> Vec<String> {
    let query = ListQuery { archived, limit: 100, ..ListQuery::default() };
    let page = bench.threads.list(query).await.unwrap();
    let page: SessionList = serde_json::from_slice(&page).unwrap();
    page.data.into_iter().map(|session| format!("{} {}", session.title, session.activity)).collect()
}

#[test]
fn lists_follow_what_the_child_says_and_are_read_anew_with_the_registry() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let name = |name: &str| {
            notification("thread/name/updated", &json!({"threadId": "t", "threadName": name}))
        };
        bench.says(vec![name("One"), turn_started()]).await;
        assert_eq!(titles(&bench, false).await, ["One running"]);
        bench.says(vec![approval_request(0)]).await;
        // Whoever was shown the request finds it in the list.
        bench.frame("approval").await;
        assert_eq!(titles(&bench, false).await, ["One waiting"]);
        bench.goes_down().await;
        bench.frame("approval_resolved").await;
        assert_eq!(titles(&bench, false).await, ["One idle"]);
        bench.says(vec![notification("thread/archived", &json!({"threadId": "t"}))]).await;
        assert!(titles(&bench, false).await.is_empty());
        assert_eq!(titles(&bench, true).await, ["One idle"]);
        // The next registry knows what was stored.
        bench.supervisor.restart("threads").await.unwrap();
        bench.supervisor.tree().await.unwrap();
        assert_eq!(titles(&bench, true).await, ["One idle"]);
    });
}

/// The registry alone was restarted, and the thread's actor is not alive.
#[test]
fn what_the_runtime_says_of_a_thread_with_another_id_is_its_sessions() {
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        bench.says(vec![turn_started(), turn_ended()]).await;
        bench.detail().await;
        drop(bench);
        let mut record = read_thread(&disk, &thread()).unwrap().unwrap().record;
        record.runtime_id = Some(ThreadId::parse("other").unwrap());
        let mut batch = WriteBatch::default();
        put_thread(&mut batch, &record).unwrap();
        disk.commit(&[batch]).unwrap();

        let mut bench = Bench::new(disk).await;
        assert_eq!(titles(&bench, false).await.len(), 1);
        bench.says(vec![notification("item/plan", &json!({ "threadId": "other" }))]).await;
        assert_eq!(bench.frame("app_server.item.plan").await["threadId"], "t");
        assert_eq!(titles(&bench, false).await.len(), 1, "it is no session of its own");
    });
}

#[test]
fn a_thread_that_panicked_is_rebuilt_and_listed_as_before() {
    on_system(async {
        let options = Options::default();
        let stats = Arc::clone(&options.stats);
        let bench = Bench::with(MemoryStore::default(), options).await;
        bench.says(vec![turn_started()]).await;
        assert_eq!(titles(&bench, false).await, ["New chat running"]);
        assert_eq!(stats.threads_alive.get(), 1);
        bench.says(vec![notification("test/panic", &json!({"threadId": "t"}))]).await;
        // Asked after its rebuilding, which is the registry's own doing.
        bench.threads.detail(&thread()).await.unwrap();
        assert_eq!((count(&stats.panics), stats.threads_alive.get()), (1, 1));
        assert_eq!(titles(&bench, false).await, ["New chat running"]);
    });
}
