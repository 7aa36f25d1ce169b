//! The manager is killed at random moments while clients write everything that is promised to be
//! durable: what was acknowledged is there, numbers never come again, nothing is left running.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::mailbox::Mailbox;
use cm_testkit::process::wait_pid_gone;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::common::{DEADLINE, builder, choices, fake, question, rounds, tool_call};
use crate::ledger::{SessionLedger, check_all};
use crate::writers::{KINDS, Writer};

/// Clients that write at once.
const WRITERS: usize = 4;

/// Steps of a writer in a round at the most; a round ends much earlier.
const STEPS: usize = 400;

/// Longest life of the child after a SIGKILL of the manager, as promised.
const DEATH_WITH_PARENT: Duration = Duration::from_secs(1);

/// One history, over the lives of its managers.
pub(crate) struct History {
    dir: TestDir,
    choices: StdRng,
    ledgers: Vec<Vec<SessionLedger>>,
    /// The epoch of all lives.
    epoch: Option<Value>,
    /// The highest number that any subscriber has seen.
    seq: u64,
    /// Every kind of write that was acknowledged.
    seen: BTreeSet<&'static str>,
    /// The manager that was killed last; it knows what it has left behind.
    killed: Option<TestApp>,
}

impl History {
    pub(crate) fn new(test: &str) -> Self {
        Self {
            dir: TestDir::new(test),
            choices: choices(test),
            ledgers: vec![Vec::new(); WRITERS],
            epoch: None,
            seq: 0,
            seen: BTreeSet::new(),
            killed: None,
        }
    }

    /// A number out of a range.
    pub(crate) fn choose(&mut self, range: std::ops::Range<usize>) -> usize {
        self.choices.random_range(range)
    }

    /// Starts a manager on the history and checks that nothing is missing.
    pub(crate) fn start(&mut self, environment: &[(&str, &str)]) -> TestApp {
        let mut starting = builder()
            .runtime(fake(FakeScript::always(self.behaviour())))
            .data_dir(self.dir.join("data"));
        for (name, value) in environment {
            starting = starting.env(name, value);
        }
        let app = starting.start();
        if let Some(killed) = self.killed.take() {
            // The group of the last child was left to this start.
            killed.wait_no_descendants(DEADLINE);
        }
        check_all(&mut self.ledgers, &app);
        app
    }

    /// What the child does: every kind of request in turn, and a grandchild in the first turn.
    fn behaviour(&self) -> Behaviour {
        let record = self.dir.join("answers");
        let grandchild = [step::grandchild(&self.dir.join("grandchildren")), step::message("one")];
        let kinds = [
            vec![step::message("a short answer")],
            vec![step::command_approval("ls", &record), step::message("went on")],
            vec![step::request("item/tool/call", tool_call(), &record), step::message("thanks")],
            vec![step::request("item/tool/requestUserInput", question(), &record)],
        ];
        let first = Behaviour::correct().turn(grandchild);
        kinds.into_iter().cycle().take(WRITERS * STEPS).fold(first, Behaviour::turn)
    }

    /// Lets the clients write; `end` ends it, called when they write and told what they say.
    pub(crate) fn write(&mut self, app: &TestApp, end: impl FnOnce(&Mailbox<&'static str>)) {
        let mut stream = app.stream(None);
        let ready = stream.wait_type("ready", DEADLINE);
        let epoch = self.epoch.get_or_insert_with(|| ready["epoch"].clone());
        assert_eq!(ready["epoch"], *epoch, "the history is the same one");
        assert!(ready["seq"].as_u64() >= Some(self.seq), "{ready} after {}", self.seq);
        let acknowledged = Mailbox::new(0);
        std::thread::scope(|scope| {
            for (number, ledger) in self.ledgers.iter_mut().enumerate() {
                let choices = StdRng::seed_from_u64(self.choices.random());
                let (name, acknowledged) = (format!("writer-{number}"), &acknowledged);
                let writer = Writer { app, name, choices, ledger, acknowledged };
                scope.spawn(move || writer.run(STEPS));
            }
            end(&acknowledged);
        });
        acknowledged.read(|kinds| self.seen.extend(kinds));
        let _ = stream.wait_closed(DEADLINE);
        for frame in stream.frames().iter().skip(1) {
            let seq = frame["seq"].as_u64().expect("every frame has a number");
            assert!(seq > self.seq, "number {seq} comes again after {}", self.seq);
            self.seq = seq;
        }
    }

    /// Checks that a test has shown something of everything.
    #[track_caller]
    pub(crate) fn check_kinds(&self) {
        let missing: Vec<_> = KINDS.iter().filter(|kind| !self.seen.contains(*kind)).collect();
        assert!(missing.is_empty(), "nothing was shown of {missing:?}");
    }

    /// Takes a manager that has ended; the next start looks at what it has left behind.
    pub(crate) fn bury(&mut self, app: TestApp) {
        assert_eq!(app.kill().signal, Some(9));
        self.killed = Some(app);
    }
}

/// The child goes with its manager, which has just ended.
#[track_caller]
pub(crate) fn check_child_goes(child: u32) {
    let gone = Instant::now();
    wait_pid_gone(child, DEADLINE);
    let lived = gone.elapsed();
    assert!(lived <= DEATH_WITH_PARENT, "the child lived on for {lived:?}");
}

#[test]
fn a_manager_that_is_killed_while_it_writes_has_lost_nothing() {
    let mut history = History::new("manager_kills");
    for round in 0..rounds(10, 50) {
        println!("round {round}");
        let app = history.start(&[]);
        let child = app.child_pid().expect("a child");
        let enough = history.choose(1..120);
        let moment = Duration::from_micros(history.choose(0..5_000) as u64);
        history.write(&app, |acknowledged| {
            let so_many = |all: &[&str]| (all.len() >= enough).then_some(());
            acknowledged.wait(DEADLINE, so_many).expect("writers write");
            std::thread::sleep(moment);
            app.kill();
            check_child_goes(child);
        });
        history.bury(app);
    }
    history.start(&[]);
    history.check_kinds();
}
