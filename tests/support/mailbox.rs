//! What arrived, in order, with waits that end when it arrives instead of after a pause.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An ordered record with one producer side and any number of waiters.
///
/// Nothing is removed, so that a failure can show everything that was seen. Memory is bounded by
/// the byte limit: the mailbox that would pass it keeps what it has, drops what follows and
/// closes with a reason, so a waiter fails loudly instead of missing an entry.
#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Largest sum of entry sizes, in bytes.
    byte_limit: usize,
}

#[derive(Debug)]
struct State<T> {
    entries: Vec<T>,
    bytes: usize,
    /// Why nothing will follow; `None` while the producer lives.
    closed: Option<String>,
}

/// Why a wait ended without what it waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("nothing that matches within {0:?}")]
    Deadline(Duration),
    /// The producer is gone.
    #[error("nothing will follow: {0}")]
    Closed(String),
}

impl<T> Mailbox<T> {
    /// An empty mailbox that keeps at most `byte_limit` bytes of entries.
    pub fn new(byte_limit: usize) -> Self {
        let state = State { entries: Vec::new(), bytes: 0, closed: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), byte_limit }
    }

    /// Appends an entry of `size` bytes; answers whether it was kept.
    pub fn push(&self, entry: T, size: usize) -> bool {
        let mut state = self.lock();
        if state.closed.is_some() {
            return false;
        }
        let kept = state.bytes + size <= self.byte_limit;
        if kept {
            state.bytes += size;
            state.entries.push(entry);
        } else {
            state.closed = Some(format!("more than {} bytes arrived", self.byte_limit));
        }
        self.changed.notify_all();
        kept
    }

    /// Says that nothing will follow. The first reason stays.
    pub fn close(&self, reason: impl Into<String>) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| reason.into());
        self.changed.notify_all();
    }

    /// Why nothing will follow, or `None` while the producer lives.
    pub fn closed(&self) -> Option<String> {
        self.lock().closed.clone()
    }

    /// How many entries have arrived.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at everything that has arrived.
    pub fn read<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.lock().entries)
    }

    /// Waits until `look`, called with everything that has arrived, answers `Some`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] when the deadline passes or nothing will follow.
    pub fn wait<R>(
        &self,
        deadline: Duration,
        mut look: impl FnMut(&[T]) -> Option<R>,
    ) -> Result<R, WaitError> {
        let end = Instant::now() + deadline;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state.entries) {
                return Ok(found);
            }
            if let Some(reason) = &state.closed {
                return Err(WaitError::Closed(reason.clone()));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WaitError::Deadline(deadline));
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the producer's end and answers its reason.
    ///
    /// # Errors
    ///
    /// [`WaitError::Deadline`] when it is still there.
    pub fn wait_closed(&self, deadline: Duration) -> Result<String, WaitError> {
        match self.wait::<()>(deadline, |_| None) {
            Err(WaitError::Closed(reason)) => Ok(reason),
            Err(other) => Err(other),
            Ok(()) => Err(WaitError::Deadline(deadline)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A test that panics inside `look` must not hide what the others wait for.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_waiter_is_woken_by_what_arrives_and_by_the_end() {
        let mailbox = Arc::new(Mailbox::new(64));
        let producer = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            producer.push("a", 1);
            producer.push("b", 1);
            producer.close("done");
        });
        let deadline = Duration::from_secs(10);
        let found = mailbox.wait(deadline, |all| all.contains(&"b").then_some(all.len()));
        assert_eq!(found, Ok(2));
        assert_eq!(mailbox.wait_closed(deadline), Ok("done".to_owned()));
        let missing = mailbox.wait(deadline, |all| all.contains(&"c").then_some(()));
        assert_eq!(missing, Err(WaitError::Closed("done".to_owned())));
        thread.join().expect("producer");
    }

    #[test]
    fn an_entry_over_the_limit_closes_the_mailbox() {
        let mailbox = Mailbox::new(10);
        assert!(mailbox.push("small", 5));
        assert!(!mailbox.push("large", 6));
        assert!(mailbox.closed().is_some_and(|reason| reason.contains("10 bytes")));
        assert_eq!(mailbox.len(), 1);
    }
}
