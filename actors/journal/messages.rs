//! Messages to the journal, and what it tells workers.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::event::FrameBatch;
use cm_core::ids::{Epoch, Seq};
use serde::Serialize;
use tokio::sync::oneshot;

use super::segment::Segment;

/// Publishes frames in order. Sent by threads and the registry; answered by nobody.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PublishFrames {
    /// The frames.
    pub frames: FrameBatch,
    /// The key under which they were stored with the change that they tell of.
    pub staged: Option<Bytes>,
}

/// Makes a worker hear of new frames. Sent by each HTTP worker when it starts.
#[derive(Debug, Message)]
#[rtype(result = "Option<Attached>")]
pub struct AttachWorker(pub Recipient<FramesPublished>);

/// What a worker starts from.
#[derive(Debug)]
pub struct Attached {
    /// The head.
    pub head: Head,
    /// Ends when this journal does; a worker then attaches to the next one.
    pub life: oneshot::Receiver<()>,
    /// Everything that is in the ring.
    pub ring: Vec<Arc<Segment>>,
}

/// Tells a worker of new frames. Sent by the journal once per batch.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct FramesPublished(pub Arc<[Arc<Segment>]>);

/// Asks for the frames behind a number. Sent by a worker that noticed a gap.
#[derive(Debug, Message)]
#[rtype(result = "CaughtUp")]
pub struct CatchUp(pub Seq);

/// What a worker missed.
#[derive(Debug, Clone)]
pub struct CaughtUp {
    /// The last number that was given.
    pub head: Seq,
    /// The segments behind the worker's number; all that are left when it is not complete.
    pub segments: Vec<Arc<Segment>>,
    /// Whether nothing is missing before the first of them.
    pub complete: bool,
}

/// The newest number and the history it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Identity of the history.
    pub epoch: Epoch,
    /// The last number that was given.
    pub seq: Seq,
}

/// Asks for the head. Sent by routes.
#[derive(Debug, Message)]
#[rtype(result = "Option<Head>")]
pub(super) struct GetHead;

/// Asks for durable frames behind a position that the ring no longer reaches back to. Sent by
/// workers for one of their subscribers.
#[derive(Debug, Message)]
#[rtype(result = "History")]
pub(super) struct ReadHistory {
    /// Identity of the history that the position belongs to.
    pub(super) epoch: Epoch,
    /// The last number that the subscriber has had.
    pub(super) after: Seq,
}

/// A page of history.
#[derive(Debug, Clone)]
pub enum History {
    /// Durable frames.
    Frames {
        /// The frames, in order.
        segments: Vec<Arc<Segment>>,
        /// Everything durable up to this number is among them, or was before.
        upto: Seq,
    },
    /// What lies behind the position cannot be told.
    Reset {
        /// Why.
        reason: ResetReason,
    },
}

/// Why a subscriber has to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The position belongs to another history: the store was lost and restored.
    EpochChanged,
    /// The position is one that was never given.
    UnknownPosition,
    /// What lies behind the position is no longer kept.
    Trimmed,
    /// The manager ended without order; what it showed last may not have been kept.
    UncleanRestart,
    /// Some events could not be stored, or their record is damaged.
    Damaged,
    /// The subscriber fell further behind than the ring reaches back.
    Behind,
    /// The log of events does not answer.
    Unavailable,
}

impl ResetReason {
    /// The word that frames carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EpochChanged => "epoch_changed",
            Self::UnknownPosition => "unknown_position",
            Self::Trimmed => "trimmed",
            Self::UncleanRestart => "unclean_restart",
            Self::Damaged => "damaged",
            Self::Behind => "behind",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Ends the journal when its log is on the disk. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StopJournal;

/// Announces what was published since the last time. Sent by the journal to itself, so that
/// publications that are queued go together.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct AnnounceTick;
