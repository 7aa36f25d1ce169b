//! The journal's actor.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use cm_core::event::FrameBody;
use cm_core::ids::{Epoch, Seq};
use cm_core::restart::{ExitKind, Policy, Restart};
use serde_json::json;
use tokio::sync::oneshot;

use super::frame::{Frame, NewSegment, Segment};
use crate::handle::{CallError, Handle};
use crate::store::{StoreError, StoreHandle, WriteBatch, keys};
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started, StateCell};

/// Publications that may wait. Overflow rule: the frames are lost, which is never silent: every
/// worker is told that there is a gap.
const MAILBOX: usize = 16 * 1024;

/// How many numbers are reserved on the disk at once.
const BLOCK: u64 = 1_000_000;

/// When fewer numbers than this are left, the next block is reserved in the background.
const LOW_WATER: u64 = BLOCK / 10;

/// What the journal needs to know.
#[derive(Debug, Clone, Copy)]
pub struct JournalConfig {
    /// Bytes of frames that the ring keeps.
    pub ring_bytes: usize,
}

/// The journal.
pub struct Journal {
    config: JournalConfig,
    store: StoreHandle,
    guard: ExitGuard,
    /// Identity of the history, once read from the store.
    epoch: Option<Epoch>,
    /// The last number that was given.
    last: Seq,
    /// The highest number that is reserved on the disk.
    reserved: Seq,
    /// Whether a reservation is on its way.
    reserving: bool,
    ring: VecDeque<Arc<Segment>>,
    ring_bytes: usize,
    workers: Vec<Worker>,
    /// Shared with the handle: set when a publication was lost.
    lost: Arc<AtomicBool>,
}

struct Worker {
    recipient: Recipient<NewSegment>,
    /// Whether a message for it waits for room in its mailbox; it then asks for what it missed.
    nudged: Rc<Cell<bool>>,
    /// Dropped with the journal, which tells the worker to attach to the next one.
    _life: oneshot::Sender<()>,
}

/// How actors and workers reach the journal.
#[derive(Debug, Clone, Default)]
pub struct JournalHandle {
    handle: Handle<Journal>,
    lost: Arc<AtomicBool>,
}

/// Publishes frames in order. Sent by threads and the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Publish(pub Vec<FrameBody>);

/// Makes a worker hear of new frames. Sent by each HTTP worker when it starts.
#[derive(Debug, Message)]
#[rtype(result = "Option<Attached>")]
pub struct Attach(pub Recipient<NewSegment>);

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
struct GetHead;

impl JournalHandle {
    /// Publishes frames in order.
    ///
    /// When the journal cannot take them, they are lost, and every subscriber is told so as soon
    /// as the journal takes anything again.
    pub fn publish(&self, frames: Vec<FrameBody>) {
        if frames.is_empty() {
            return;
        }
        let count = frames.len();
        if let Err(error) = self.handle.tell(Publish(frames)) {
            self.lost.store(true, Ordering::Release);
            tracing::error!(count, %error, "frames could not be published");
        }
    }

    /// The newest number and the history it belongs to; `None` while the journal starts.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within a second.
    pub async fn head(&self) -> Result<Option<Head>, CallError> {
        self.handle.ask(GetHead, Duration::from_secs(1)).await
    }

    /// Makes a worker hear of new frames.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within five seconds.
    pub async fn attach(
        &self,
        worker: Recipient<NewSegment>,
    ) -> Result<Option<Attached>, CallError> {
        self.handle.ask(Attach(worker), Duration::from_secs(5)).await
    }

    /// The frames behind a number, as far as the ring reaches back.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within five seconds.
    pub async fn catch_up(&self, after: Seq) -> Result<CaughtUp, CallError> {
        self.handle.ask(CatchUp(after), Duration::from_secs(5)).await
    }
}

/// The spec of the journal. `state` is kept current with its supervision.
pub fn journal_spec(
    handle: JournalHandle,
    store: StoreHandle,
    policy: Policy,
    config: JournalConfig,
    state: &StateCell,
) -> ChildSpec {
    ChildSpec {
        name: "journal",
        restart: Restart::Permanent,
        policy,
        shutdown: Duration::from_millis(500),
        watch: Some(state.watcher()),
        start: Box::new(move |guard| {
            let journal = Journal {
                config,
                store: store.clone(),
                guard,
                epoch: None,
                last: Seq(0),
                reserved: Seq(0),
                reserving: false,
                ring: VecDeque::new(),
                ring_bytes: 0,
                workers: Vec::new(),
                lost: Arc::clone(&handle.lost),
            };
            let address = Journal::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                journal
            });
            handle.handle.fill(address.clone());
            let clear = handle.clone();
            Started::of(address, || Stop, move || clear.handle.clear())
        }),
    }
}

/// What the store says about numbers, after reserving a block.
struct Reservation {
    epoch: Epoch,
    /// Numbers above this one are ours.
    above: Seq,
    /// Numbers up to this one are ours.
    upto: Seq,
}

/// Reads epoch and numbers, and reserves the next block durably.
async fn reserve(store: StoreHandle) -> Result<Reservation, StoreError> {
    let (epoch, above) = store
        .read(|store| {
            let epoch = store.get(keys::EPOCH)?;
            let reserved = store.get(keys::SEQ_RESERVED)?;
            Ok((epoch, reserved))
        })
        .await?;
    let mut batch = WriteBatch::default();
    let damaged = |key: &[u8], why: String| StoreError::Record { key: keys::readable(key), why };
    let epoch = match epoch {
        Some(bytes) => Epoch::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|error| damaged(keys::EPOCH, error.to_string()))?,
        None => {
            let epoch = Epoch::from_random(rand::random());
            batch.put(keys::EPOCH.to_vec(), epoch.as_str().as_bytes().to_vec());
            epoch
        }
    };
    let above = match above {
        Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice())
            .map(u64::from_be_bytes)
            .map_err(|error| damaged(keys::SEQ_RESERVED, error.to_string()))?,
        None => 0,
    };
    let upto = above.saturating_add(BLOCK);
    batch.put(keys::SEQ_RESERVED.to_vec(), upto.to_be_bytes().to_vec());
    store.commit(batch).await?;
    Ok(Reservation { epoch, above: Seq(above), upto: Seq(upto) })
}

impl Journal {
    /// Numbers, keeps and announces frames.
    fn append(&mut self, bodies: &[FrameBody], ctx: &mut Context<Self>) {
        let Some(epoch) = self.epoch.clone() else {
            return;
        };
        let follows = self.last;
        let mut frames = Vec::with_capacity(bodies.len());
        for body in bodies {
            self.last = Seq(self.last.0 + 1);
            frames.push(Frame::encode(body, &epoch, self.last));
        }
        let bytes = frames.iter().map(|frame| frame.websocket.len()).sum();
        let segment = Arc::new(Segment { follows, frames, bytes });
        self.ring_bytes += bytes;
        self.ring.push_back(Arc::clone(&segment));
        // The newest segment always stays: a worker must be able to read what it was told of.
        while self.ring_bytes > self.config.ring_bytes && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= oldest.bytes;
            }
        }
        self.announce(&segment, ctx);
    }

    /// Tells every worker of a segment.
    fn announce(&mut self, segment: &Arc<Segment>, ctx: &mut Context<Self>) {
        let mut behind = Vec::new();
        self.workers.retain(|worker| {
            let told = worker.recipient.try_send(NewSegment(Arc::clone(segment)));
            match told {
                Ok(()) => true,
                Err(SendError::Closed(_)) => false,
                Err(SendError::Full(message)) => {
                    // One message that waits for room is enough: what was skipped meanwhile the
                    // worker notices by the number of the newest segment, which follows it.
                    if !worker.nudged.replace(true) {
                        behind.push((worker.recipient.send(message), Rc::clone(&worker.nudged)));
                    }
                    true
                }
            }
        });
        for (request, nudged) in behind {
            let nudge = async move {
                // A worker that is gone is forgotten at the next announcement.
                request.await.ok();
                nudged.set(false);
            };
            ctx.spawn(nudge.into_actor(self).map(|(), journal, ctx| {
                if let Some(newest) = journal.ring.back().cloned() {
                    journal.announce(&newest, ctx);
                }
            }));
        }
    }

    fn reserve_ahead(&mut self, ctx: &mut Context<Self>) {
        let left = self.reserved.0.saturating_sub(self.last.0);
        if left >= LOW_WATER || self.reserving {
            return;
        }
        self.reserving = true;
        let work = reserve(self.store.clone()).into_actor(self).map(Self::reserved);
        ctx.spawn(work);
    }

    fn reserved(
        result: Result<Reservation, StoreError>,
        journal: &mut Self,
        ctx: &mut Context<Self>,
    ) {
        journal.reserving = false;
        match result {
            Ok(reservation) => {
                if journal.epoch.is_none() {
                    journal.epoch = Some(reservation.epoch);
                    journal.last = reservation.above;
                }
                journal.reserved = reservation.upto;
            }
            Err(error) if journal.epoch.is_none() => {
                tracing::error!(%error, "the journal cannot reserve numbers");
                journal.guard.will_end(ExitKind::Failed, error.to_string());
                ctx.stop();
            }
            Err(error) => tracing::error!(%error, "the journal cannot reserve more numbers"),
        }
    }
}

impl Actor for Journal {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Nothing is published before its number is reserved: the mailbox waits.
        self.reserving = true;
        ctx.wait(reserve(self.store.clone()).into_actor(self).map(Self::reserved));
    }
}

impl Handler<Publish> for Journal {
    type Result = ();

    fn handle(&mut self, Publish(bodies): Publish, ctx: &mut Self::Context) {
        if self.lost.swap(false, Ordering::AcqRel) {
            // A number that was never given makes every worker notice the gap, and an empty ring
            // makes sure that it cannot be closed.
            self.last = Seq(self.last.0 + 1);
            self.ring.clear();
            self.ring_bytes = 0;
        }
        let wanted = bodies.len() as u64;
        if self.last.0.saturating_add(wanted) > self.reserved.0 {
            let work = reserve(self.store.clone()).into_actor(self);
            ctx.wait(work.map(move |result, journal, ctx| {
                Self::reserved(result, journal, ctx);
                if journal.last.0.saturating_add(wanted) <= journal.reserved.0 {
                    journal.append(&bodies, ctx);
                } else {
                    journal.lost.store(true, Ordering::Release);
                    tracing::error!(count = bodies.len(), "frames lost: no numbers left");
                }
            }));
            return;
        }
        self.append(&bodies, ctx);
        self.reserve_ahead(ctx);
    }
}

impl Handler<Attach> for Journal {
    type Result = MessageResult<Attach>;

    fn handle(&mut self, Attach(recipient): Attach, _: &mut Self::Context) -> Self::Result {
        let Some(epoch) = self.epoch.clone() else {
            return MessageResult(None);
        };
        let (held, life) = oneshot::channel();
        self.workers.push(Worker { recipient, nudged: Rc::default(), _life: held });
        let head = Head { epoch, seq: self.last };
        MessageResult(Some(Attached { head, life, ring: self.ring.iter().cloned().collect() }))
    }
}

impl Handler<CatchUp> for Journal {
    type Result = MessageResult<CatchUp>;

    fn handle(&mut self, CatchUp(after): CatchUp, _: &mut Self::Context) -> Self::Result {
        let oldest = self.ring.front().map_or(self.last, |segment| segment.follows);
        let complete = oldest <= after && after <= self.last;
        let newer = self.ring.iter().filter(|segment| !complete || segment.last() > after);
        let segments = newer.cloned().collect();
        MessageResult(CaughtUp { head: self.last, segments, complete })
    }
}

impl Handler<GetHead> for Journal {
    type Result = MessageResult<GetHead>;

    fn handle(&mut self, _: GetHead, _: &mut Self::Context) -> Self::Result {
        let seq = self.last;
        MessageResult(self.epoch.clone().map(|epoch| Head { epoch, seq }))
    }
}

impl Handler<Observe> for Journal {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(json!({
            "epoch": self.epoch,
            "seq": self.last,
            "reserved": self.reserved,
            "ringBytes": self.ring_bytes,
            "ringSegments": self.ring.len(),
            "workers": self.workers.len(),
        }))
    }
}

/// Ends the journal. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Journal {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
