//! The owner of the keys over a real store's thread.

use std::sync::Mutex;
use std::time::Duration;

use cm_core::error::{ErrorCode, Failure};
use cm_core::idempotency::{Fingerprint, IdempotencyKey};
use cm_core::restart::Policy;

use super::*;
use crate::handle::Handle;
use crate::store::{Faults, MemoryStore, Operation, Store, StoreHandle, store_spec};
use crate::supervisor::{StateCell, Strategy, Supervisor, SupervisorHandle};

struct Bench {
    keys: IdempotencyHandle,
    supervisor: SupervisorHandle,
    faults: Faults,
}

impl Bench {
    fn new() -> Self {
        let policy = Policy { backoff_start: Duration::from_millis(1), ..Policy::default() };
        let faults = Faults::default();
        let store = Mutex::new(Some(MemoryStore::with_faults(faults.clone())));
        let opener = Box::new(move || {
            let store = store.lock().unwrap().take().expect("a store that is opened once");
            Ok(Box::new(store) as Box<dyn Store>)
        });
        let (handle, actor) = (StoreHandle::default(), Handle::new());
        let specs = vec![
            store_spec(handle.clone(), policy, opener, &StateCell::default()),
            idempotency_spec(actor.clone(), handle, policy),
        ];
        let supervisor = Supervisor::start_tree("root", Strategy::RestForOne, specs);
        Self { keys: IdempotencyHandle::new(actor, Duration::from_secs(5)), supervisor, faults }
    }

    async fn begin(&self, asks: &str, may_repeat: bool) -> Result<Begun, Failure> {
        let key = IdempotencyKey::new(b"key").unwrap();
        let begin =
            async || self.keys.begin(key.clone(), Fingerprint(asks.to_owned()), may_repeat).await;
        for _ in 0..1000 {
            match begin().await {
                Err(failure) if failure.code == ErrorCode::RuntimeUnavailable => {
                    // Between two lives, or before the first.
                    tokio::task::yield_now().await;
                }
                told => return told,
            }
        }
        begin().await
    }

    async fn run(&self) -> Attempt {
        match self.begin("x", false).await {
            Ok(Begun::Run(attempt)) => attempt,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self) -> ErrorCode {
        match self.begin("x", false).await {
            Err(failure) => failure.code,
            Ok(begun) => panic!("{begun:?}"),
        }
    }
}

fn answer() -> KeptAnswer {
    KeptAnswer { status: 202, content_type: "application/json".to_owned(), body: "{}".into() }
}

#[actix::test]
async fn those_that_come_meanwhile_wait_and_get_the_answer_of_the_first() {
    let bench = Bench::new();
    let first = bench.run().await;
    let (one, two, other, ended) = tokio::join!(
        bench.begin("x", false),
        bench.begin("x", true),
        bench.begin("y", false),
        // Sent last, and taken in that order.
        first.end(Ended::Answered(answer())),
    );
    assert!(ended, "it is on the disk");
    for told in [one, two] {
        assert!(matches!(told, Ok(Begun::Replay(kept)) if kept == answer()));
    }
    assert_eq!(other.unwrap_err().code, ErrorCode::KeyReused);
}

#[actix::test]
async fn when_the_first_did_nothing_the_next_one_is_carried_out() {
    let bench = Bench::new();
    let first = bench.run().await;
    let (next, _) = tokio::join!(bench.begin("x", false), first.end(Ended::NothingDone));
    assert!(matches!(next, Ok(Begun::Run(_))));
}

#[actix::test]
async fn another_life_knows_what_was_stored_and_that_the_rest_is_not_known() {
    let bench = Bench::new();
    let first = bench.run().await;
    bench.supervisor.restart("idempotency").await.unwrap();
    assert_eq!(bench.refused().await, ErrorCode::OutcomeUnknown);
    // The request itself did not end with the one that kept its key.
    assert!(first.end(Ended::Answered(answer())).await);
    bench.supervisor.restart("idempotency").await.unwrap();
    assert!(matches!(bench.begin("x", false).await, Ok(Begun::Replay(kept)) if kept == answer()));
}

#[actix::test]
async fn what_may_be_repeated_is_carried_out_again_where_the_outcome_is_not_known() {
    let bench = Bench::new();
    drop(bench.run().await);
    assert_eq!(bench.refused().await, ErrorCode::OutcomeUnknown, "a panic says nothing");
    assert!(matches!(bench.begin("x", true).await, Ok(Begun::Run(_))));
}

#[actix::test]
async fn nothing_is_carried_out_before_it_is_stored_that_it_began() {
    let bench = Bench::new();
    assert!(bench.run().await.end(Ended::NothingDone).await);
    bench.faults.set(Operation::Apply, true);
    assert_eq!(bench.refused().await, ErrorCode::StoreUnavailable);
    bench.faults.set(Operation::Apply, false);
    drop(bench.run().await);
}

#[actix::test]
async fn an_answer_that_cannot_be_stored_is_given_and_not_repeated() {
    let bench = Bench::new();
    let first = bench.run().await;
    bench.faults.set(Operation::Sync, true);
    assert!(!first.end(Ended::Answered(answer())).await);
    bench.faults.set(Operation::Sync, false);
    assert_eq!(bench.refused().await, ErrorCode::AnswerNotKept);
}

#[actix::test]
async fn so_many_wait_and_no_more() {
    let bench = Bench::new();
    let first = bench.run().await;
    let waiting = futures_util::future::join_all((0..100).map(|_| bench.begin("x", false)));
    let (told, _) = tokio::join!(waiting, first.end(Ended::TooLong { status: 200 }));
    let count = |code| told.iter().filter(|told| matches!(told, Err(f) if f.code == code)).count();
    assert_eq!(count(ErrorCode::AnswerNotKept), 64);
    assert_eq!(count(ErrorCode::RequestInProgress), 36);
}
