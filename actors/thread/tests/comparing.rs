//! Threads that are to be compared with the runtime's history, and cannot be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cm_core::error::ErrorCode;
use cm_core::ids::Incarnation;
use cm_core::wire::SendMessage;

use super::super::messages::{Command, ToThread};
use super::super::passivation::LookForIdle;
use super::super::{SessionError, ThreadAction};
use super::bench::*;
use crate::store::MemoryStore;

fn message() -> SendMessage {
    SendMessage { text: "hello".to_owned(), ..SendMessage::default() }
}

fn code(error: &SessionError) -> ErrorCode {
    match error {
        SessionError::Failed(failure) => failure.code,
        other => panic!("{other:?}"),
    }
}

/// A thread with a turn that another client went on with, under the next child.
async fn behind(bench: &mut Bench) {
    bench.says(vec![turn_started(), turn_ended()]).await;
    bench.goes_down().await;
    bench.up_as(Incarnation(2)).await;
    let command = Command::Behind(i64::MAX);
    bench.registry.ask(ToThread { thread_id: thread(), command }, DEADLINE).await.unwrap();
}

#[test]
fn what_waits_for_a_comparison_is_refused_when_the_store_cannot_be_read() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::with(disk.clone(), Options::default()).await;
        behind(&mut bench).await;
        disk.unreadable.store(true, Ordering::Relaxed);
        let refused = bench.threads.send(&thread(), message()).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::Internal);
        for action in [ThreadAction::Compact, ThreadAction::RollBack { turns: 1 }] {
            let refused = bench.threads.act(&thread(), action).await.unwrap_err();
            assert_eq!(code(&refused), ErrorCode::Internal);
        }
    });
}

#[test]
fn what_waits_for_a_child_that_is_gone_is_refused_at_once() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started()]).await;
        bench.goes_down().await;
        // The bench's child takes no calls: as one that is gone and of which nobody was told yet.
        bench.up_as(Incarnation(2)).await;
        let refused = bench.threads.send(&thread(), message()).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::RuntimeUnavailable);
    });
}

#[test]
fn a_thread_that_is_behind_is_not_let_go_before_it_was_compared() {
    on_system(async {
        let options = Options { idle: Duration::from_millis(20), ..Options::default() };
        let stats = Arc::clone(&options.stats);
        let disk = Disk::default();
        let mut bench = Bench::with(disk.clone(), options).await;
        behind(&mut bench).await;
        let before = disk.read.load(Ordering::Relaxed);
        // It asks by itself, again and again: the bench's child takes no calls.
        while disk.read.load(Ordering::Relaxed) < before + 20 {
            bench.registry.ask(LookForIdle, DEADLINE).await.unwrap();
            bench.observed().await;
        }
        assert_eq!(count(&stats.passivated), 0);
        bench
            .registry
            .ask(
                crate::app_server::RuntimeEvent::Down(crate::app_server::RuntimeDown {
                    incarnation: Incarnation(2),
                    why: "gone".to_owned(),
                }),
                DEADLINE,
            )
            .await
            .unwrap();
        alive(&stats, 0).await;
    });
}
