//! What callers hold instead of an address.
//!
//! An address dies with its actor, and a dead address answers `Closed` for ever. A handle is
//! filled by the supervisor each time it starts a new incarnation and emptied when one ends, so
//! that a caller in between is told at once, and the next call reaches the new incarnation.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use arc_swap::ArcSwapOption;
use cm_core::error::{ErrorCode, Failure};

/// Why a call through a handle failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No incarnation is alive, or it ended before it answered.
    #[error("the actor is not running")]
    Unavailable,
    /// The mailbox is full; the message was not taken.
    #[error("the actor's mailbox is full")]
    Full,
    /// The deadline passed. The message may still be handled.
    #[error("the actor did not answer in time")]
    Timeout,
}

impl CallError {
    /// The failure as clients see it; `what` names the part that did not answer.
    pub fn failure(self, what: &str) -> Failure {
        match self {
            Self::Unavailable => Failure::new(
                ErrorCode::RuntimeUnavailable,
                format!("The {what} is not running at the moment; try again shortly."),
            ),
            Self::Full => Failure::new(
                ErrorCode::Overloaded,
                format!("The {what} has more to do than it can queue; try again shortly."),
            ),
            Self::Timeout => Failure::new(
                ErrorCode::DeadlineExceeded,
                format!("The {what} did not answer in time."),
            ),
        }
    }
}

/// A stable way to reach whatever incarnation of an actor is alive.
pub struct Handle<A: Actor> {
    address: Arc<ArcSwapOption<Addr<A>>>,
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self { address: Arc::clone(&self.address) }
    }
}

impl<A: Actor> Default for Handle<A> {
    fn default() -> Self {
        Self { address: Arc::new(ArcSwapOption::empty()) }
    }
}

impl<A: Actor> std::fmt::Debug for Handle<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("alive", &self.address.load().is_some()).finish()
    }
}

impl<A: Actor> Handle<A> {
    /// Makes an empty handle; a factory fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Points the handle at a new incarnation.
    pub fn fill(&self, address: Addr<A>) {
        self.address.store(Some(Arc::new(address)));
    }

    /// Empties the handle: callers are told at once that nobody is there.
    pub fn clear(&self) {
        self.address.store(None);
    }

    /// The living incarnation's address, for code that needs a `Recipient` of one message.
    pub(crate) fn address(&self) -> Option<Addr<A>> {
        self.address.load().as_deref().cloned()
    }

    /// Sends without waiting.
    ///
    /// # Errors
    ///
    /// [`CallError::Full`] when the mailbox is full, [`CallError::Unavailable`] when no
    /// incarnation is alive; the message was not taken then.
    pub fn tell<M>(&self, message: M) -> Result<(), CallError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let address = self.address.load();
        let Some(address) = address.as_ref() else {
            return Err(CallError::Unavailable);
        };
        address.try_send(message).map_err(|error| match error {
            SendError::Full(_) => CallError::Full,
            SendError::Closed(_) => CallError::Unavailable,
        })
    }

    /// Sends and waits for the answer until the deadline.
    ///
    /// # Errors
    ///
    /// [`CallError`]; on [`CallError::Timeout`] the message may still be handled.
    pub async fn ask<M>(&self, message: M, deadline: Duration) -> Result<M::Result, CallError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let address = self.address.load_full();
        let Some(address) = address else {
            return Err(CallError::Unavailable);
        };
        address.send(message).timeout(deadline).await.map_err(|error| match error {
            MailboxError::Closed => CallError::Unavailable,
            MailboxError::Timeout => CallError::Timeout,
        })
    }
}
