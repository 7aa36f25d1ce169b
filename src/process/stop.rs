//! The graceful stop: close stdin, then SIGTERM, then SIGKILL, each after its deadline.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::exit::{ExitWatch, Group};
use crate::stdin::StdinWriter;

/// How long each step of a graceful stop may take. After SIGKILL there is nothing to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopDeadlines {
    /// From the closing of stdin until SIGTERM.
    pub after_stdin_close: Duration,
    /// From SIGTERM until SIGKILL.
    pub after_sigterm: Duration,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPhase {
    /// No stop was asked for.
    Running,
    /// Stdin is being closed.
    StdinClosed,
    /// SIGTERM was sent.
    Terminating,
    /// SIGKILL was sent.
    Killed,
    /// The child has ended.
    Gone,
}

/// What can happen during a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopInput {
    /// A stop is asked for.
    Begin,
    /// The wait of the last step has passed.
    TimedOut,
    /// The child has ended.
    Gone,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// Nothing.
    Nothing,
    /// Close the child's stdin after what is queued.
    CloseStdin,
    /// SIGTERM to the group.
    Terminate,
    /// SIGKILL to the group.
    Kill,
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopStep {
    /// Do this.
    pub action: StopAction,
    /// Then wait this long for the end before the next [`StopInput::TimedOut`]; `None`: done.
    pub wait: Option<Duration>,
}

/// The stop as a pure state machine: inputs in, steps out, no clock and no process.
#[derive(Debug, Clone, Copy)]
pub struct StopSequence {
    phase: StopPhase,
    deadlines: StopDeadlines,
}

impl StopSequence {
    /// A sequence that has not begun.
    pub fn new(deadlines: StopDeadlines) -> Self {
        Self { phase: StopPhase::Running, deadlines }
    }

    /// How far it has come.
    pub fn phase(&self) -> StopPhase {
        self.phase
    }

    /// Takes one input. An input that does not fit the phase changes nothing.
    pub fn apply(&mut self, input: StopInput) -> StopStep {
        let (phase, action, wait) = match (self.phase, input) {
            (_, StopInput::Gone) => (StopPhase::Gone, StopAction::Nothing, None),
            (StopPhase::Running, StopInput::Begin) => {
                let wait = self.deadlines.after_stdin_close;
                (StopPhase::StdinClosed, StopAction::CloseStdin, Some(wait))
            }
            (StopPhase::StdinClosed, StopInput::TimedOut) => {
                let wait = self.deadlines.after_sigterm;
                (StopPhase::Terminating, StopAction::Terminate, Some(wait))
            }
            (StopPhase::Terminating, StopInput::TimedOut) => {
                (StopPhase::Killed, StopAction::Kill, None)
            }
            (phase, _) => (phase, StopAction::Nothing, None),
        };
        self.phase = phase;
        StopStep { action, wait }
    }
}

/// Body of the stop thread; ends when the child has ended or was sent SIGKILL.
pub(crate) fn drive(
    deadlines: StopDeadlines,
    group: &Group,
    stdin: &StdinWriter,
    exit: &ExitWatch,
) {
    let mut sequence = StopSequence::new(deadlines);
    let mut input = StopInput::Begin;
    loop {
        let step = sequence.apply(input);
        match step.action {
            StopAction::Nothing => {}
            StopAction::CloseStdin => stdin.close(),
            StopAction::Terminate => group.signal(Signal::SIGTERM),
            StopAction::Kill => group.signal(Signal::SIGKILL),
        }
        let Some(wait) = step.wait else { return };
        let gone = exit.wait_at_most(wait);
        input = if gone { StopInput::Gone } else { StopInput::TimedOut };
    }
}

/// What a stop thread needs of a child; shared so that it outlives the handle.
#[derive(Debug, Clone)]
pub(crate) struct StopParts {
    pub(crate) group: Arc<Group>,
    pub(crate) stdin: StdinWriter,
    pub(crate) exit: Arc<ExitWatch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: StopDeadlines = StopDeadlines {
        after_stdin_close: Duration::from_secs(1),
        after_sigterm: Duration::from_secs(2),
    };

    fn step(action: StopAction, wait: Option<u64>) -> StopStep {
        StopStep { action, wait: wait.map(Duration::from_secs) }
    }

    #[test]
    fn a_child_that_ignores_everything_is_killed() {
        let mut sequence = StopSequence::new(DEADLINES);
        assert_eq!(sequence.apply(StopInput::Begin), step(StopAction::CloseStdin, Some(1)));
        assert_eq!(sequence.apply(StopInput::TimedOut), step(StopAction::Terminate, Some(2)));
        assert_eq!(sequence.apply(StopInput::TimedOut), step(StopAction::Kill, None));
        assert_eq!(sequence.apply(StopInput::TimedOut), step(StopAction::Nothing, None));
        assert_eq!(sequence.phase(), StopPhase::Killed);
        assert_eq!(sequence.apply(StopInput::Gone), step(StopAction::Nothing, None));
        assert_eq!(sequence.phase(), StopPhase::Gone);
    }

    #[test]
    fn a_child_that_goes_gets_no_further_signal() {
        for steps in 0..3 {
            let mut sequence = StopSequence::new(DEADLINES);
            sequence.apply(StopInput::Begin);
            for _ in 0..steps {
                sequence.apply(StopInput::TimedOut);
            }
            sequence.apply(StopInput::Gone);
            for input in [StopInput::TimedOut, StopInput::Begin] {
                assert_eq!(sequence.apply(input), step(StopAction::Nothing, None));
                assert_eq!(sequence.phase(), StopPhase::Gone);
            }
        }
    }

    #[test]
    fn nothing_happens_before_the_beginning_and_it_begins_once() {
        let mut sequence = StopSequence::new(DEADLINES);
        assert_eq!(sequence.apply(StopInput::TimedOut), step(StopAction::Nothing, None));
        assert_eq!(sequence.phase(), StopPhase::Running);
        sequence.apply(StopInput::Begin);
        assert_eq!(sequence.apply(StopInput::Begin), step(StopAction::Nothing, None));
        assert_eq!(sequence.phase(), StopPhase::StdinClosed);
    }
}
