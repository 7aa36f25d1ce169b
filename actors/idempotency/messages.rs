//! What the owner of the keys is told.

use actix::prelude::*;
use bytes::Bytes;
use cm_core::error::Failure;
use cm_core::idempotency::{Fingerprint, IdempotencyKey, Outcome};
use tokio::sync::oneshot;
use uuid::Uuid;

/// A request with a key comes. Sent by routes; answered when it is clear what it is told, which may
/// be when another one has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct BeginRequest {
    pub(super) key: IdempotencyKey,
    pub(super) fingerprint: Fingerprint,
    /// Whether it may be carried out again where it is not known how far the first one came.
    pub(super) may_repeat: bool,
    pub(super) reply: oneshot::Sender<Result<Told, Failure>>,
}

/// What a request is told.
#[derive(Debug)]
pub(super) enum Told {
    /// It is to be carried out; that it began is on the disk.
    Run(Uuid),
    /// The answer that the first one was given.
    Replay(KeptAnswer),
}

/// A request that was carried out has ended. Sent by the attempt; answered, where somebody waits,
/// with whether its answer is on the disk.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct RequestEnded {
    pub(super) key: IdempotencyKey,
    pub(super) attempt: Uuid,
    pub(super) ended: Ended,
    pub(super) reply: Option<oneshot::Sender<bool>>,
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It was carried out and answered so.
    Answered(KeptAnswer),
    /// It was carried out; its answer cannot be kept.
    TooLong {
        /// The HTTP status.
        status: u16,
    },
    /// Nothing was done, so that it may be tried again.
    NothingDone,
    /// It is not known whether it was carried out.
    Unknown {
        /// The HTTP status that it was answered with.
        status: u16,
    },
}

/// An answer as it is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

impl Ended {
    /// How it is stored; `None` where the key is forgotten instead.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Answered(answer) => Some(Outcome::Kept {
                status: answer.status,
                content_type: answer.content_type.clone(),
                bytes: answer.body.len() as u64,
            }),
            Self::TooLong { status } => Some(Outcome::NotKept { status: *status }),
            Self::Unknown { status } => Some(Outcome::Unknown { status: *status }),
            Self::NothingDone => None,
        }
    }
}
