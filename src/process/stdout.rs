//! Reading a child's stdout: batches of lines for the sink, then the one final report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ChildStdout;

use cm_core::rpc::{Line, LineReader};

use crate::exit::ExitWatch;
use crate::readiness::{PipeReading, set_nonblocking};
use crate::sink::{ChildExit, OutputSink, SinkState};

/// Bytes asked for by one read.
const READ_BYTES: usize = 128 * 1024;

/// Size that the pipe is given: the largest that an unprivileged process may ask for
/// (`/proc/sys/fs/pipe-max-size`). A child in a flood then waits less often for its reader.
#[cfg(target_os = "linux")]
const PIPE_BYTES: i32 = 1024 * 1024;

/// Makes room in the pipe; where that is not allowed, its own size does.
fn widen(pipe: &ChildStdout) {
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{FcntlArg, fcntl};
        if let Err(error) = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)) {
            tracing::debug!(%error, "a pipe keeps its size");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}

/// A sink whose panics do not reach the reading thread, which must live as long as the child.
pub(crate) struct GuardedSink {
    /// `None` once the receiver is gone for good.
    sink: Option<Box<dyn OutputSink>>,
    state: SinkState,
}

impl GuardedSink {
    pub(crate) fn new(sink: Box<dyn OutputSink>) -> Self {
        Self { sink: Some(sink), state: SinkState::Open }
    }

    /// A sink for a child that nobody waited for.
    pub(crate) fn absent() -> Self {
        Self { sink: None, state: SinkState::Gone }
    }

    fn lines(&mut self, batch: Vec<Line>) {
        if batch.is_empty() || self.state == SinkState::Gone {
            return;
        }
        let Some(sink) = &mut self.sink else { return };
        let taken = catch_unwind(AssertUnwindSafe(|| sink.lines(batch)));
        self.state = taken.unwrap_or_else(|_| {
            tracing::error!("a receiver of child output panicked");
            SinkState::Gone
        });
    }

    pub(crate) fn ended(&mut self, exit: ChildExit) {
        let Some(mut sink) = self.sink.take() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| sink.ended(exit))).is_err() {
            tracing::error!("a receiver of child output panicked at the end");
        }
    }
}

/// Reads until stdout ends, or until the child is gone and what it left is read.
pub(crate) fn pump(
    mut pipe: ChildStdout,
    line_cap: usize,
    sink: &mut GuardedSink,
    exit: &ExitWatch,
) {
    if let Err(error) = set_nonblocking(&pipe) {
        tracing::error!(%error, "cannot read a child's stdout");
        return;
    }
    widen(&pipe);
    let mut lines = LineReader::new(line_cap);
    let mut reading = PipeReading::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reading.read(&mut pipe, &mut buffer, exit) {
            Ok(0) => break,
            Ok(count) if sink.state == SinkState::Open => {
                lines.push(&buffer[..count]);
                sink.lines(std::iter::from_fn(|| lines.next_line()).collect());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cannot read a child's stdout");
                break;
            }
        }
    }
    sink.lines(lines.finish().into_iter().collect());
}
