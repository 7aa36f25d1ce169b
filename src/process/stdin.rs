//! Writing to a child without ever waiting for it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ChildStdin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use crate::exit::{ExitWatch, lock};
use crate::readiness::{set_nonblocking, wait_writable};

/// How many writes may wait for the child, the one being written included.
pub const STDIN_QUEUE_COUNT: usize = 256;

/// How many bytes may wait for the child, the write in progress included (64 MiB).
pub const STDIN_QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Why a write was refused. Nothing of it reaches the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StdinError {
    /// The child does not read fast enough and the queue is at its bound: refuse or try later.
    #[error("write to the child: its input queue is full")]
    Full,
    /// The child has ended or closed its stdin, or [`StdinWriter::close`] was called.
    #[error("write to the child: its input is closed")]
    Closed,
    /// One write is larger than the whole queue may be, so it can never be taken.
    #[error("write to the child: {bytes} bytes exceed the limit of {STDIN_QUEUE_BYTES}")]
    TooLarge {
        /// Size of the refused write.
        bytes: usize,
    },
}

/// Hands bytes to the thread that writes a child's stdin. Clones share one queue.
#[derive(Clone)]
pub struct StdinWriter {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<QueueState>,
    /// Signalled when there is something to write or the phase changes.
    changed: Condvar,
}

struct QueueState {
    /// What waits, oldest first; the front stays until it is written, so that it is counted.
    writes: VecDeque<Bytes>,
    /// Sum of the lengths in `writes`.
    bytes: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is queued is still written, then the pipe is closed.
    Closing,
    Closed,
}

impl StdinWriter {
    pub(crate) fn new() -> Self {
        let state = QueueState { writes: VecDeque::new(), bytes: 0, phase: Phase::Open };
        Self { queue: Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Queues bytes, in the order of the calls. Never waits.
    ///
    /// # Errors
    ///
    /// [`StdinError`]; overflow refuses the new write and keeps what is queued.
    pub fn write(&self, bytes: impl Into<Bytes>) -> Result<(), StdinError> {
        let bytes: Bytes = bytes.into();
        let mut state = lock(&self.queue.state);
        if state.phase != Phase::Open {
            return Err(StdinError::Closed);
        }
        if bytes.len() > STDIN_QUEUE_BYTES {
            return Err(StdinError::TooLarge { bytes: bytes.len() });
        }
        let total = state.bytes + bytes.len();
        if state.writes.len() >= STDIN_QUEUE_COUNT || total > STDIN_QUEUE_BYTES {
            return Err(StdinError::Full);
        }
        state.bytes = total;
        state.writes.push_back(bytes);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Closes the child's stdin once everything queued is written. Later writes are refused.
    pub fn close(&self) {
        let mut state = lock(&self.queue.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.queue.changed.notify_one();
        }
    }

    /// Drops what is queued: there is nobody left to read it.
    pub(crate) fn abandon(&self) {
        let mut state = lock(&self.queue.state);
        state.phase = Phase::Closed;
        state.writes = VecDeque::new();
        state.bytes = 0;
        self.queue.changed.notify_one();
    }

    /// The oldest write, waiting for one; `None` when there will be no more.
    fn front(&self) -> Option<Bytes> {
        let mut state = lock(&self.queue.state);
        loop {
            if let Some(bytes) = state.writes.front() {
                return Some(bytes.clone());
            }
            if state.phase != Phase::Open {
                return None;
            }
            // The end of the child abandons the queue, so this wait is as bounded as the child.
            state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pop_front(&self) {
        let mut state = lock(&self.queue.state);
        if let Some(bytes) = state.writes.pop_front() {
            state.bytes -= bytes.len();
        }
    }
}

impl fmt::Debug for StdinWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is queued may hold secrets and megabytes.
        let state = lock(&self.queue.state);
        f.debug_struct("StdinWriter")
            .field("writes", &state.writes.len())
            .field("bytes", &state.bytes)
            .field("phase", &state.phase)
            .finish()
    }
}

/// Body of the writer thread: writes what is queued until the queue is closed or the child goes.
pub(crate) fn serve(writer: &StdinWriter, mut pipe: ChildStdin, exit: &ExitWatch) {
    let outcome = set_nonblocking(&pipe).and_then(|()| {
        while let Some(bytes) = writer.front() {
            write_all(&mut pipe, &bytes, exit)?;
            writer.pop_front();
        }
        Ok(())
    });
    // After an error the pipe is useless, and after the last write nothing follows: either way
    // later writes must be refused.
    writer.abandon();
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::warn!(%error, "cannot write to a child's stdin");
    }
}

fn write_all(pipe: &mut ChildStdin, bytes: &[u8], exit: &ExitWatch) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match pipe.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A process that escaped the group may hold the reading end open for ever.
                if !wait_writable(pipe.as_fd(), exit) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_by_count() {
        let writer = StdinWriter::new();
        for _ in 0..STDIN_QUEUE_COUNT {
            writer.write(&b"x"[..]).unwrap();
        }
        assert_eq!(writer.write(&b"x"[..]), Err(StdinError::Full));
        writer.pop_front();
        writer.write(&b"x"[..]).unwrap();
    }

    #[test]
    fn the_queue_is_bounded_by_bytes() {
        let writer = StdinWriter::new();
        let half = Bytes::from(vec![0; STDIN_QUEUE_BYTES / 2]);
        writer.write(half.clone()).unwrap();
        writer.write(half).unwrap();
        assert_eq!(writer.write(&b"x"[..]), Err(StdinError::Full));
        writer.pop_front();
        writer.write(&b"x"[..]).unwrap();
        let bytes = STDIN_QUEUE_BYTES + 1;
        assert_eq!(writer.write(vec![0; bytes]), Err(StdinError::TooLarge { bytes }));
    }

    #[test]
    fn closing_keeps_what_is_queued_and_refuses_more() {
        let writer = StdinWriter::new();
        writer.write(&b"last"[..]).unwrap();
        writer.close();
        assert_eq!(writer.write(&b"late"[..]), Err(StdinError::Closed));
        assert_eq!(writer.front().as_deref(), Some(&b"last"[..]));
        writer.pop_front();
        assert_eq!(writer.front(), None);
    }
}
