//! The supervisor with real actors on a real system.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::ActorContext;
use actix::{Actor, Context, Handler, Message, MessageResult};
use cm_core::ids::Incarnation;
use cm_core::restart::{ExitKind, Policy, Restart};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::*;
use crate::handle::{CallError, Handle};

const DEADLINE: Duration = Duration::from_secs(5);

/// What a test hears, in order.
type Heard = (&'static str, u64);

struct Worker {
    guard: ExitGuard,
    /// Whether it ignores being asked to end.
    stubborn: bool,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
enum Do {
    Panic,
    Fail,
    End,
}

impl Handler<Do> for Worker {
    type Result = ();

    fn handle(&mut self, what: Do, ctx: &mut Self::Context) {
        match what {
            Do::Panic => panic!("as asked"),
            Do::Fail => {
                self.guard.will_end(ExitKind::Failed, "as asked");
                ctx.stop();
            }
            Do::End if self.stubborn => {}
            Do::End => ctx.stop(),
        }
    }
}

impl Handler<Observe> for Worker {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(json!({ "seen": self.guard.incarnation().0 }))
    }
}

fn quick() -> Policy {
    Policy {
        backoff_start: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        intensity: 1_000,
        ..Policy::default()
    }
}

struct Bench {
    heard: Receiver<Heard>,
    tell: Sender<Heard>,
}

impl Bench {
    fn new() -> Self {
        let (tell, heard) = channel(256);
        Self { heard, tell }
    }

    fn child(&self, name: &'static str, policy: Policy) -> (ChildSpec, Handle<Worker>) {
        self.child_that(name, policy, Restart::Permanent, false)
    }

    fn child_that(
        &self,
        name: &'static str,
        policy: Policy,
        restart: Restart,
        stubborn: bool,
    ) -> (ChildSpec, Handle<Worker>) {
        let handle = Handle::new();
        let filled = handle.clone();
        let tell = self.tell.clone();
        let spec = ChildSpec {
            name,
            restart,
            policy,
            shutdown: Duration::from_millis(50),
            watch: None,
            start: Box::new(move |guard| {
                tell.try_send((name, guard.incarnation().0)).unwrap();
                let address = Worker { guard, stubborn }.start();
                filled.fill(address.clone());
                let stop = address.clone();
                let clear = filled.clone();
                Started {
                    stop: Box::new(move || stop.try_send(Do::End).unwrap_or_default()),
                    observe: observer(address),
                    clear: Box::new(move || clear.clear()),
                }
            }),
        };
        (spec, handle)
    }

    async fn next(&mut self) -> Heard {
        timeout(DEADLINE, self.heard.recv()).await.expect("a start in time").expect("a start")
    }

    async fn expect(&mut self, wanted: &[Heard]) {
        for start in wanted {
            assert_eq!(self.next().await, *start);
        }
    }
}

fn on_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

#[test]
fn a_child_that_panics_is_rebuilt_and_reached_through_its_handle() {
    on_system(async {
        let mut bench = Bench::new();
        let (spec, handle) = bench.child("one", quick());
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        bench.expect(&[("one", 1)]).await;
        handle.tell(Do::Panic).unwrap();
        bench.expect(&[("one", 2)]).await;
        assert_eq!(handle.ask(Observe, DEADLINE).await.unwrap(), json!({ "seen": 2 }));
        let tree = supervisor.tree().await.unwrap();
        assert_eq!(tree.children[0].incarnation, Incarnation(2));
        assert_eq!(tree.children[0].restarts, 1);
        assert_eq!(tree.children[0].last_exit.as_deref(), Some("panicked"));
        assert_eq!(tree.children[0].observed, json!({ "seen": 2 }));
    });
}

#[test]
fn between_two_lives_a_caller_is_told_at_once() {
    on_system(async {
        let mut bench = Bench::new();
        let slow = Policy { backoff_start: Duration::from_secs(60), ..quick() };
        let slow = Policy { backoff_max: Duration::from_secs(60), ..slow };
        let (spec, handle) = bench.child("one", slow);
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        bench.expect(&[("one", 1)]).await;
        let asked = handle.ask(Do::Fail, DEADLINE).await;
        assert!(matches!(asked, Ok(()) | Err(CallError::Unavailable)));
        // The tree is asked behind the report of the end.
        assert_eq!(supervisor.tree().await.unwrap().children[0].state, "backoff");
        assert_eq!(handle.tell(Do::End), Err(CallError::Unavailable));
        assert_eq!(supervisor.restart("one").await.unwrap(), Some(Incarnation(1)));
        bench.expect(&[("one", 2)]).await;
        assert_eq!(supervisor.restart("nobody").await.unwrap(), None);
    });
}

#[test]
fn rest_for_one_restarts_what_stands_behind() {
    on_system(async {
        let mut bench = Bench::new();
        let specs = ["one", "two", "three"].map(|name| bench.child(name, quick()));
        let handles: Vec<_> = specs.iter().map(|(_, handle)| handle.clone()).collect();
        let specs = specs.into_iter().map(|(spec, _)| spec).collect();
        let _supervisor = Supervisor::start_tree("test", Strategy::RestForOne, specs);
        bench.expect(&[("one", 1), ("two", 1), ("three", 1)]).await;
        handles[1].tell(Do::Panic).unwrap();
        bench.expect(&[("two", 2), ("three", 2)]).await;
        handles[0].tell(Do::Fail).unwrap();
        bench.expect(&[("one", 2), ("two", 3), ("three", 3)]).await;
    });
}

#[test]
fn a_restart_by_hand_takes_what_stands_behind_along() {
    on_system(async {
        let mut bench = Bench::new();
        let specs = ["one", "two"].map(|name| bench.child(name, quick()).0);
        let supervisor = Supervisor::start_tree("test", Strategy::RestForOne, specs.into());
        bench.expect(&[("one", 1), ("two", 1)]).await;
        supervisor.restart("one").await.unwrap();
        bench.expect(&[("one", 2), ("two", 2)]).await;
        assert_eq!(supervisor.tree().await.unwrap().children[0].restarts, 1);
    });
}

#[test]
fn a_factory_that_panics_is_tried_again() {
    on_system(async {
        let mut bench = Bench::new();
        let (mut spec, _handle) = bench.child("one", quick());
        let mut first = true;
        let mut start = spec.start;
        spec.start = Box::new(move |guard| {
            assert!(!std::mem::take(&mut first), "as the test asked");
            start(guard)
        });
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        bench.expect(&[("one", 2)]).await;
        let tree = supervisor.tree().await.unwrap();
        assert_eq!(tree.children[0].last_exit.as_deref(), Some("panicked"));
    });
}

#[test]
fn one_for_one_leaves_the_others_alone() {
    on_system(async {
        let mut bench = Bench::new();
        let (first, handle) = bench.child("one", quick());
        let (second, _kept) = bench.child("two", quick());
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![first, second]);
        bench.expect(&[("one", 1), ("two", 1)]).await;
        handle.tell(Do::Panic).unwrap();
        bench.expect(&[("one", 2)]).await;
        assert_eq!(supervisor.tree().await.unwrap().children[1].incarnation, Incarnation(1));
    });
}

#[test]
fn a_child_that_ends_too_often_is_failed_until_somebody_restarts_it() {
    on_system(async {
        let mut bench = Bench::new();
        let (spec, handle) = bench.child("one", Policy { intensity: 2, ..quick() });
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        for life in 1..=3 {
            bench.expect(&[("one", life)]).await;
            handle.tell(Do::Fail).unwrap();
        }
        let node = loop {
            let node = supervisor.tree().await.unwrap().children.remove(0);
            if node.state != "running" && node.state != "backoff" {
                break node;
            }
        };
        assert_eq!(node.state, "failed");
        assert_eq!(node.last_exit.as_deref(), Some("as asked"));
        supervisor.restart("one").await.unwrap();
        bench.expect(&[("one", 4)]).await;
        assert_eq!(supervisor.tree().await.unwrap().children[0].state, "running");
    });
}

#[test]
fn a_failed_child_is_probed() {
    on_system(async {
        let mut bench = Bench::new();
        let probe_after = Duration::from_millis(5);
        let (spec, handle) = bench.child("one", Policy { intensity: 0, probe_after, ..quick() });
        let _supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        bench.expect(&[("one", 1)]).await;
        handle.tell(Do::Fail).unwrap();
        bench.expect(&[("one", 2)]).await;
    });
}

#[test]
fn a_transient_child_that_ends_in_order_stays_ended() {
    on_system(async {
        let mut bench = Bench::new();
        let (spec, handle) = bench.child_that("one", quick(), Restart::Transient, false);
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, vec![spec]);
        bench.expect(&[("one", 1)]).await;
        handle.tell(Do::Panic).unwrap();
        bench.expect(&[("one", 2)]).await;
        handle.ask(Do::End, DEADLINE).await.unwrap();
        assert_eq!(supervisor.tree().await.unwrap().children[0].state, "stopped");
    });
}

#[test]
fn the_last_child_is_stopped_first_and_a_stubborn_one_is_given_up_on() {
    on_system(async {
        let mut bench = Bench::new();
        let stopped: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let specs = ["one", "two", "three"].map(|name| {
            let (mut spec, _handle) =
                bench.child_that(name, quick(), Restart::Permanent, name == "two");
            let stopped = Arc::clone(&stopped);
            spec.watch = Some(Box::new(move |state: &ChildState| {
                if state.state == "stopped" {
                    stopped.lock().unwrap().push(name);
                }
            }));
            spec
        });
        let supervisor = Supervisor::start_tree("test", Strategy::OneForOne, specs.into());
        bench.expect(&[("one", 1), ("two", 1), ("three", 1)]).await;
        supervisor.shut_down(DEADLINE).await.unwrap();
        assert_eq!(*stopped.lock().unwrap(), ["three", "two", "one"]);
        assert!(bench.heard.try_recv().is_err(), "nothing is started any more");
    });
}

#[test]
fn a_nested_supervisor_is_a_child_like_any_other() {
    on_system(async {
        let mut bench = Bench::new();
        let (leaf, handle) = bench.child("leaf", quick());
        let leaf = RefCell::new(Some(leaf));
        let nested = ChildSpec {
            name: "nested",
            restart: Restart::Permanent,
            policy: quick(),
            shutdown: Duration::from_secs(1),
            watch: None,
            start: Box::new(move |guard| {
                let specs = leaf.borrow_mut().take().into_iter().collect();
                Supervisor::start_nested("nested", Strategy::RestForOne, specs, Some(guard)).1
            }),
        };
        let supervisor = Supervisor::start_tree("root", Strategy::OneForOne, vec![nested]);
        bench.expect(&[("leaf", 1)]).await;
        handle.tell(Do::Panic).unwrap();
        bench.expect(&[("leaf", 2)]).await;
        let tree = supervisor.tree().await.unwrap();
        assert_eq!(tree.children[0].children[0].incarnation, Incarnation(2));
        assert_eq!(tree.children[0].observed, Value::Null);
        supervisor.shut_down(DEADLINE).await.unwrap();
        assert_eq!(handle.tell(Do::End), Err(CallError::Unavailable));
    });
}
