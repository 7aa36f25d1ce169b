//! The wire: the bounded outbox, faults, parameters and requests to the client.

mod clock;
mod fault;
mod outbox;
mod requests;

pub(crate) use clock::{now_ms, now_s};
pub(crate) use fault::{Fault, parse_params, parse_thread_id};
pub(crate) use outbox::Outbox;
pub(crate) use requests::{Answer, Requests};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: every guarded value here is valid between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
