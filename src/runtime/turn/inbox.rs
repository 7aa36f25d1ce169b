//! What reaches a running turn from outside, and how it waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wire::{Answer, lock};

/// Bytes of command output that wait for the turn; beyond this the reader of the pipe waits, so
/// the command does too (overflow rule: wait).
const OUTPUT_BYTES: usize = 256 * 1024;

/// A user message: its content as sent, and its text.
#[derive(Debug, Clone)]
pub(crate) struct UserInput {
    pub(crate) content: Vec<Value>,
    pub(crate) text: String,
    /// `clientUserMessageId`, echoed on the item.
    pub(crate) client_id: Option<String>,
}

/// Everything a turn waits for, behind one lock and one condition.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    interrupted: bool,
    /// Steering, bounded by whoever pushes.
    inputs: VecDeque<UserInput>,
    /// The answer to the one open request.
    answer: Option<Answer>,
    command: CommandState,
}

/// The running command, or the last one.
#[derive(Default)]
struct CommandState {
    /// Tells this command's threads from a late one of an earlier command.
    number: u64,
    output: Vec<u8>,
    output_closed: bool,
    /// The direct child has exited (and is not reaped yet).
    exited: bool,
}

/// Why a pause ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Elapsed,
    Steered,
    Interrupted,
}

/// What a command did.
#[derive(Debug)]
pub(crate) enum CommandEvent {
    Output(Vec<u8>),
    /// Nothing can follow: the pipe is closed, or the wait is over.
    OutputClosed,
    Exited,
    TimedOut,
    Interrupted,
}

impl Inbox {
    /// Asks the turn to end.
    pub(crate) fn interrupt(&self) {
        self.change(|state| state.interrupted = true);
    }

    /// Adds a steering message; the caller keeps to the bound.
    pub(crate) fn push_input(&self, input: UserInput) {
        self.change(|state| state.inputs.push_back(input));
    }

    pub(crate) fn queued_inputs(&self) -> usize {
        lock(&self.state).inputs.len()
    }

    pub(crate) fn take_input(&self) -> Option<UserInput> {
        lock(&self.state).inputs.pop_front()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        lock(&self.state).interrupted
    }

    pub(crate) fn put_answer(&self, answer: Answer) {
        self.change(|state| state.answer = Some(answer));
    }

    /// Waits for the answer to the open request, without a deadline as the protocol has it; an
    /// interrupt ends the wait with `None`.
    pub(crate) fn wait_for_answer(&self) -> Option<Answer> {
        let mut state = lock(&self.state);
        loop {
            if state.interrupted {
                return None;
            }
            if let Some(answer) = state.answer.take() {
                return Some(answer);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits, unless something else wants the turn's attention first.
    pub(crate) fn pause(&self, duration: Duration) -> Pause {
        let deadline = Instant::now() + duration;
        let mut state = lock(&self.state);
        loop {
            if state.interrupted {
                return Pause::Interrupted;
            }
            if !state.inputs.is_empty() {
                return Pause::Steered;
            }
            match self.wait_until(state, deadline) {
                Some(guard) => state = guard,
                None => return Pause::Elapsed,
            }
        }
    }

    /// Begins a command and forgets the one before; its threads report under this number.
    pub(crate) fn begin_command(&self) -> u64 {
        let command = &mut lock(&self.state).command;
        *command = CommandState { number: command.number + 1, ..CommandState::default() };
        command.number
    }

    /// Takes output from the pipe's reader; `false` when nobody wants more.
    pub(crate) fn push_output(&self, number: u64, bytes: &[u8]) -> bool {
        let mut state = lock(&self.state);
        loop {
            let command = &mut state.command;
            if command.number != number || command.output_closed {
                return false;
            }
            if command.output.len() <= OUTPUT_BYTES {
                command.output.extend_from_slice(bytes);
                self.changed.notify_all();
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more output will come, or none is wanted.
    pub(crate) fn close_output(&self, number: u64) {
        self.change_command(number, |command| command.output_closed = true);
    }

    /// The direct child has exited.
    pub(crate) fn set_exited(&self, number: u64) {
        self.change_command(number, |command| command.exited = true);
    }

    fn change_command(&self, number: u64, apply: impl FnOnce(&mut CommandState)) {
        self.change(|state| {
            if state.command.number == number {
                apply(&mut state.command);
            }
        });
    }

    /// The next event of a running command.
    pub(crate) fn wait_for_command(&self, deadline: Instant) -> CommandEvent {
        let mut state = lock(&self.state);
        loop {
            if state.interrupted {
                return CommandEvent::Interrupted;
            }
            // Before output, so that a flood cannot outlive its deadline.
            if Instant::now() >= deadline {
                return CommandEvent::TimedOut;
            }
            if !state.command.output.is_empty() {
                self.changed.notify_all();
                return CommandEvent::Output(std::mem::take(&mut state.command.output));
            }
            if state.command.exited {
                return CommandEvent::Exited;
            }
            state = match self.wait_until(state, deadline) {
                Some(guard) => guard,
                None => return CommandEvent::TimedOut,
            };
        }
    }

    /// Output that was still on its way when the command ended.
    pub(crate) fn wait_for_rest(&self, deadline: Instant) -> CommandEvent {
        let mut state = lock(&self.state);
        loop {
            if !state.command.output.is_empty() {
                self.changed.notify_all();
                return CommandEvent::Output(std::mem::take(&mut state.command.output));
            }
            if state.command.output_closed {
                return CommandEvent::OutputClosed;
            }
            state = match self.wait_until(state, deadline) {
                Some(guard) => guard,
                None => return CommandEvent::OutputClosed,
            };
        }
    }

    /// Waits for the direct child to exit; `false` at the deadline.
    pub(crate) fn wait_for_exit(&self, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        while !state.command.exited {
            state = match self.wait_until(state, deadline) {
                Some(guard) => guard,
                None => return false,
            };
        }
        true
    }

    fn change(&self, apply: impl FnOnce(&mut State)) {
        apply(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits for a change; `None` once the deadline has passed.
    fn wait_until<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Option<MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let waited = self.changed.wait_timeout(state, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}
