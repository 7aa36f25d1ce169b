//! What the scenarios share: the program, and a flood that is measured.

use std::time::{Duration, Instant};

use super::table::Sizes;
use crate::client::{HttpConnection, Outcome, Pace, Readers, Subscriber, View};
use crate::error::LoadError;
use crate::manager::{Manager, Program};
use crate::process::Stopwatch;

/// Longest turn. Version 1 would take a tenth of it for the largest one.
pub(super) const TURN_DEADLINE: Duration = Duration::from_secs(600);

/// Deltas before those that count, so that every path has been taken once.
const WARM_UP: u64 = 500;

/// A subscriber that reads whatever is there.
pub(super) const GOOD: Subscriber = Subscriber { pace: Pace::Full, latency: false };

/// What is measured, and how it is looked at.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The program.
    pub(crate) program: Program,
    /// How often a subscriber gets each notification.
    pub(crate) view: View,
}

/// A manager with one session and subscribers.
pub(super) struct Stage {
    pub(super) manager: Manager,
    pub(super) readers: Readers,
    pub(super) connection: HttpConnection,
    session: String,
    /// Turns begun by this stage, each of which ends once for every subscriber.
    turns: u64,
    frames_per_event: u64,
}

/// What a turn cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// From the message to the last frame of the subscribers that were waited for.
    pub(super) seconds: f64,
    /// CPU of the manager.
    pub(super) manager_cpu: f64,
    /// CPU of the stub.
    pub(super) child_cpu: f64,
    /// CPU of this process, the clients.
    pub(super) client_cpu: f64,
}

impl Bench {
    /// Starts a manager, makes a session, connects subscribers and plays a short turn.
    ///
    /// # Errors
    ///
    /// When any of it fails.
    pub(super) fn stage(&self, subscribers: &[Subscriber]) -> Result<Stage, LoadError> {
        let manager = Manager::start(&self.program)?;
        let session = manager.sessions(1)?.remove(0);
        let readers = Readers::open(manager.address(), self.view, subscribers)?;
        let connection = manager.connect()?;
        let frames_per_event = self.view.frames_per_event();
        let mut stage = Stage { manager, readers, connection, session, turns: 0, frames_per_event };
        stage.turn(&flood(WARM_UP, 16), subscribers.len())?;
        Ok(stage)
    }
}

/// The order for a flood.
pub(super) fn flood(count: u64, bytes: usize) -> String {
    format!("flood count={count} bytes={bytes}")
}

/// As many good subscribers as the sizes say.
pub(super) fn good(sizes: Sizes) -> Vec<Subscriber> {
    vec![GOOD; sizes.subscribers]
}

impl Stage {
    /// Plays a turn and waits until the first `count` subscribers have seen its end.
    ///
    /// # Errors
    ///
    /// When they do not in time.
    pub(super) fn turn(&mut self, text: &str, count: usize) -> Result<Cost, LoadError> {
        let pids = [self.manager.pid(), self.manager.child_pid()?, std::process::id()];
        self.turns += 1;
        let watch = Stopwatch::start(&pids);
        self.manager.send(&mut self.connection, &self.session, text)?;
        if !self.readers.wait(count, self.turns * self.frames_per_event, TURN_DEADLINE) {
            return Err(self.manager.late("the end of the turn for everybody", TURN_DEADLINE));
        }
        let seconds = watch.seconds(None);
        let cpu = watch.cpu_seconds();
        Ok(Cost { seconds, manager_cpu: cpu[0], child_cpu: cpu[1], client_cpu: cpu[2] })
    }

    /// Goes on in another session.
    pub(super) fn move_to(&mut self, session: String) {
        self.session = session;
    }

    /// Waits until the session's turn has ended for the manager, whoever still listens.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub(super) fn await_idle(&mut self) -> Result<(), LoadError> {
        // From the list: the session itself may be as long as what was sent in it.
        let path = "/api/sessions?limit=200";
        let began = Instant::now();
        loop {
            let answer = self.connection.get(path)?.expect(200, path)?;
            let sessions = answer.body["data"].as_array().cloned().unwrap_or_default();
            let mine = sessions.iter().find(|row| row["sessionId"] == self.session.as_str());
            if mine.is_some_and(|row| row["activity"] == "idle") {
                return Ok(());
            }
            if began.elapsed() > TURN_DEADLINE {
                return Err(self.manager.late("the session's idleness", TURN_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Frames of all subscribers.
pub(super) fn frames(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|outcome| outcome.frames).sum()
}

/// Subscribers that were disconnected.
pub(super) fn closed(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().filter(|outcome| outcome.closed.is_some()).count() as u64
}

/// A part of a whole; 0 when there is no whole.
pub(super) fn per(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// KiB as MiB.
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
