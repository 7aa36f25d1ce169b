//! Where a child's output goes.

use cm_core::rpc::Line;

/// Whether anybody still wants the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkState {
    /// The batch was taken.
    Open,
    /// Nobody listens any more. The rest is read and thrown away, so that the child never blocks
    /// on a full pipe.
    Gone,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChildExit {
    /// Exit code, when the process ended by itself.
    pub code: Option<i32>,
    /// Number of the signal that ended it.
    ///
    /// Both are `None` when somebody else in this process collected the exit status.
    pub signal: Option<i32>,
    /// The last lines of stderr, oldest first, with control characters escaped.
    pub stderr_tail: Vec<String>,
}

/// Receives one child's output on the thread that reads it.
///
/// A panic in either method counts as [`SinkState::Gone`].
pub trait OutputSink: Send {
    /// Takes the lines of one read, in order; never empty.
    ///
    /// May block: the pipe is then not read, which is how back-pressure reaches the child.
    fn lines(&mut self, batch: Vec<Line>) -> SinkState;

    /// Called exactly once, and last: stdout has ended and the process was reaped.
    ///
    /// Also called after [`OutputSink::lines`] answered [`SinkState::Gone`].
    fn ended(&mut self, exit: ChildExit);
}
