//! Threads that are let go, and that nothing is lost by it.

use std::sync::Arc;
use std::time::Duration;

use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use serde_json::json;

use super::super::passivation::LookForIdle;
use super::bench::*;
use crate::store::MemoryStore;

fn impatient() -> Options {
    Options { idle: Duration::from_millis(20), ..Options::default() }
}

#[test]
fn a_thread_in_which_nothing_happens_is_let_go_and_comes_back_as_it_was() {
    on_system(async {
        let options = impatient();
        let stats = Arc::clone(&options.stats);
        let bench = Bench::with(MemoryStore::default(), options).await;
        bench.says(vec![turn_started(), turn_ended()]).await;
        alive(&stats, 0).await;
        assert_eq!(count(&stats.passivated), 1);
        assert_eq!(bench.observed().await["alive"], 0);
        let detail = bench.detail().await;
        assert_eq!(detail.thread["turns"][0]["status"], "completed");
        // It is remembered that the child has it loaded.
        bench.threads.requests(&thread(), &[RequestFamily::Approval], false).await.unwrap();
        assert_eq!(bench.observed().await["threads"]["t"]["loaded"], true);
        // What the child says again about its past is no news.
        bench.says(vec![turn_started(), turn_ended()]).await;
        assert_eq!(bench.detail().await.thread["turns"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn what_is_loaded_is_forgotten_with_the_child() {
    on_system(async {
        let options = impatient();
        let stats = Arc::clone(&options.stats);
        let mut bench = Bench::with(MemoryStore::default(), options).await;
        bench.says(vec![turn_started(), turn_ended()]).await;
        alive(&stats, 0).await;
        bench.goes_down().await;
        bench.up_as(cm_core::ids::Incarnation(2)).await;
        bench.threads.requests(&thread(), &[RequestFamily::Approval], false).await.unwrap();
        assert_eq!(bench.observed().await["threads"]["t"]["loaded"], false);
    });
}

#[test]
fn a_thread_with_something_unfinished_is_kept() {
    on_system(async {
        let options = impatient();
        let stats = Arc::clone(&options.stats);
        let mut bench = Bench::with(MemoryStore::default(), options).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        let other = json!({ "threadId": "t2", "turn": { "id": "u", "status": "completed" } });
        bench.says(vec![notification("turn/completed", &other)]).await;
        alive(&stats, 1).await;
        assert_eq!(count(&stats.passivated), 1);
        assert_eq!((stats.threads_alive.get(), stats.requests_pending.get()), (1, 1));
        bench.says(vec![turn_ended()]).await;
        bench.frame("approval_resolved").await;
        alive(&stats, 0).await;
        assert_eq!(stats.requests_pending.get(), 0);
    });
}

/// The thread has nothing to do when it is asked, and a message is on its way to it already.
#[test]
fn a_thread_to_which_something_was_sent_since_it_was_asked_is_kept() {
    on_system(async {
        let options = Options::default();
        let stats = Arc::clone(&options.stats);
        let bench = Bench::with(MemoryStore::default(), options).await;
        bench.says(vec![turn_started(), turn_ended()]).await;
        for _ in 0..5 {
            // The registry sees both before the thread answers.
            bench.registry.tell(LookForIdle).unwrap();
            let id = thread();
            let asked = bench.threads.requests(&id, &[RequestFamily::Approval], false);
            assert_eq!(asked.await, Ok(Vec::new()));
            assert_eq!(bench.observed().await["alive"], 1);
            assert_eq!(count(&stats.passivated), 0);
        }
        bench.registry.tell(LookForIdle).unwrap();
        alive(&stats, 0).await;
    });
}

/// Words of the child and questions of clients, at any moment of letting go: each arrives once.
#[test]
fn no_message_is_lost_between_letting_go_and_use() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 600;
    on_system(async {
        let options = Options { idle: Duration::from_millis(3), ..Options::default() };
        let stats = Arc::clone(&options.stats);
        let mut bench = Bench::with(MemoryStore::default(), options).await;
        let id = |number: usize| ThreadId::parse(&format!("t{}", number % THREADS)).unwrap();
        let said = |round: usize| {
            let thread = id(round);
            let item = json!({ "id": format!("i{round}"), "type": "plan", "text": "x" });
            let params = json!({ "threadId": thread, "turnId": "u", "item": item });
            notification("item/completed", &params)
        };
        for number in 0..THREADS {
            bench.says(vec![said(number)]).await;
        }
        let child = async {
            for round in THREADS..ROUNDS {
                bench.says(vec![said(round)]).await;
                pause(round).await;
            }
        };
        let asks = |seed: usize| {
            let threads = &bench.threads;
            async move {
                for round in 0..ROUNDS {
                    let id = id(round * seed);
                    let asked = threads.requests(&id, &[RequestFamily::Approval], false);
                    assert_eq!(asked.await, Ok(Vec::new()), "round {round} of {seed}");
                    pause(round * seed).await;
                }
            }
        };
        tokio::join!(child, asks(5), asks(7));
        assert!(count(&stats.passivated) > 20, "{} threads were let go", count(&stats.passivated));
        let mut rows = 0;
        for number in 0..THREADS {
            let detail = bench.threads.detail(&id(number)).await.unwrap();
            let detail: cm_core::wire::SessionDetail = serde_json::from_slice(&detail).unwrap();
            rows += detail.transcript.len();
        }
        assert_eq!(rows, ROUNDS);
        for _ in 0..ROUNDS {
            bench.frame("app_server.item.completed").await;
        }
        alive(&stats, 0).await;
        assert_eq!(bench.observed().await["panics"], 0);
    });
}

/// Pauses of many lengths around the idle time, also none.
async fn pause(round: usize) {
    let length = u64::try_from(round * 7_919 % 97).unwrap();
    if length < 30 {
        tokio::time::sleep(Duration::from_micros(length * 250)).await;
    }
}
