//! How routes reach the owner of the keys.

use std::time::Duration;

use cm_core::error::{ErrorCode, Failure};
use cm_core::idempotency::{Fingerprint, IdempotencyKey};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::actor::Idempotency;
use super::messages::{BeginRequest, Ended, KeptAnswer, RequestEnded, Told};
use crate::handle::Handle;

/// How long an answer waits for its place on the disk: what the store itself may take, and a little.
const STORED: Duration = Duration::from_secs(35);

/// A stable way to reach the owner of the keys.
#[derive(Debug, Clone)]
pub struct IdempotencyHandle {
    actor: Handle<Idempotency>,
    deadline: Duration,
}

/// What a request with a key is told.
#[derive(Debug)]
pub enum Begun {
    /// It is to be carried out.
    Run(Attempt),
    /// The answer that the first one was given.
    Replay(KeptAnswer),
}

impl IdempotencyHandle {
    /// Makes a handle; `deadline` bounds how long a request waits for another one with its key.
    pub fn new(actor: Handle<Idempotency>, deadline: Duration) -> Self {
        Self { actor, deadline }
    }

    /// Announces a request. One that comes while another one with its key runs waits for that.
    ///
    /// # Errors
    ///
    /// A failure when it is not to be carried out: another one has the key, what came of the first
    /// one is not known or not kept, or that it began cannot be stored.
    pub async fn begin(
        &self,
        key: IdempotencyKey,
        fingerprint: Fingerprint,
        may_repeat: bool,
    ) -> Result<Begun, Failure> {
        let (reply, told) = oneshot::channel();
        let begin = BeginRequest { key: key.clone(), fingerprint, may_repeat, reply };
        let down = |error: crate::handle::CallError| error.failure("keeper of idempotency keys");
        self.actor.tell(begin).map_err(down)?;
        match tokio::time::timeout(self.deadline, told).await {
            Ok(Ok(Ok(Told::Run(id)))) => {
                let actor = self.actor.clone();
                Ok(Begun::Run(Attempt { key, id, actor, has_ended: false }))
            }
            Ok(Ok(Ok(Told::Replay(answer)))) => Ok(Begun::Replay(answer)),
            Ok(Ok(Err(failure))) => Err(failure),
            Ok(Err(_)) => Err(down(crate::handle::CallError::Unavailable)),
            Err(_) => Err(in_progress()),
        }
    }
}

/// What a request is told that waited in vain for another one with its key.
pub(super) fn in_progress() -> Failure {
    Failure::new(
        ErrorCode::RequestInProgress,
        "The first request with this idempotency key still runs; try again later.",
    )
}

/// A request that is being carried out. Dropped without an end, which is what a panic does, it
/// leaves behind that it is not known how far it came.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    key: IdempotencyKey,
    id: Uuid,
    actor: Handle<Idempotency>,
    has_ended: bool,
}

impl Attempt {
    /// Says how the request ended; answers whether that is on the disk. Where it is not, a
    /// repetition is told that the outcome is not known.
    pub async fn end(mut self, ended: Ended) -> bool {
        let (reply, stored) = oneshot::channel();
        self.tell(ended, Some(reply));
        matches!(tokio::time::timeout(STORED, stored).await, Ok(Ok(true)))
    }

    fn tell(&mut self, ended: Ended, reply: Option<oneshot::Sender<bool>>) {
        self.has_ended = true;
        let (key, attempt) = (self.key.clone(), self.id);
        let ended = RequestEnded { key, attempt, ended, reply };
        if let Err(error) = self.actor.tell(ended) {
            tracing::warn!(%error, "the end of a request with an idempotency key is not kept");
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.tell(Ended::Unknown { status: 500 }, None);
        }
    }
}
