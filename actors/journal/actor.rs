//! The journal's actor.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::event::{Durability, FrameBatch};
use cm_core::ids::{Epoch, Seq};
use cm_core::restart::{ExitKind, Policy, Restart};
use serde_json::json;
use tokio::sync::oneshot;

use super::boot::{BLOCK, Origin, Reservation, begin, reserve};
use super::flow::Flow;
use super::handle::JournalHandle;
use super::log::{self, Log};
use super::messages::{
    AnnounceTick, AttachWorker, Attached, CatchUp, CaughtUp, FramesPublished, GetHead, Head,
    History, PublishFrames, ReadHistory, ResetReason, StopJournal,
};
use super::segment::{Segment, by_durability};
use super::uncertain::Uncertain;
use crate::clock;
use crate::metrics::StreamStats;
use crate::store::{StoreError, StoreHandle, WriteBatch, keys};
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started, StateCell};

/// Publications that may wait. Overflow rule: the frames are lost, which is never silent: every
/// worker is told that there is a gap.
const MAILBOX: usize = 16 * 1024;

/// When fewer numbers than this are left, the next block is reserved in the background.
const LOW_WATER: u64 = BLOCK / 10;

/// How long the log waits for room in the store's queue before it tries again.
const LOG_AGAIN: Duration = Duration::from_millis(20);

/// Bytes of one page of history.
const HISTORY_PAGE: usize = 1024 * 1024;

/// What the journal needs to know.
#[derive(Debug, Clone, Copy)]
pub struct JournalConfig {
    /// Bytes of frames that the ring keeps.
    pub ring_bytes: usize,
    /// Bytes of durable frames that are kept on the disk, for cursors that are older than the ring.
    pub log_bytes: u64,
}

/// The journal: it numbers frames, keeps them encoded once, and tells workers of them.
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
    /// Numbers up to this one belong to lives before this one.
    floor: Seq,
    /// Of those, the last one up to which the log is known to be complete.
    certain: Seq,
    /// What lives before this one showed and had no time to keep.
    uncertain: Uncertain,
    log: Log,
    ring: VecDeque<(i64, Arc<Segment>)>,
    ring_bytes: usize,
    /// Bytes that were published, over all lives.
    position: u64,
    /// Segments that workers have not been told of.
    unannounced: Vec<Arc<Segment>>,
    workers: Vec<Worker>,
    /// Shared with the handle: set when a publication was lost.
    lost: Arc<AtomicBool>,
    flow: Flow,
    stats: Arc<StreamStats>,
}

struct Worker {
    recipient: Recipient<FramesPublished>,
    /// Whether a message for it waits for room in its mailbox; it then asks for what it missed.
    nudged: Rc<Cell<bool>>,
    /// Dropped with the journal, which tells the worker to attach to the next one.
    _life: oneshot::Sender<()>,
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
                floor: Seq(0),
                certain: Seq(0),
                uncertain: Uncertain::default(),
                log: Log::new(config.log_bytes),
                ring: VecDeque::new(),
                ring_bytes: 0,
                position: handle.flow.position(),
                unannounced: Vec::new(),
                workers: Vec::new(),
                lost: Arc::clone(&handle.lost),
                flow: handle.flow.clone(),
                stats: handle.stats(),
            };
            let address = Journal::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                journal
            });
            handle.handle.fill(address.clone());
            let clear = handle.clone();
            Started::of(address, || StopJournal, move || clear.handle.clear())
        }),
    }
}

impl Journal {
    /// Numbers, keeps and announces frames.
    fn append(&mut self, frames: &FrameBatch, staged: Option<Bytes>, ctx: &mut Context<Self>) {
        let Some(epoch) = &self.epoch else { return };
        let follows = self.last;
        if frames.is_durable() || staged.is_some() {
            self.log.add(frames, Seq(follows.0 + 1), staged);
        }
        let last = &mut self.last;
        let segment = Segment::encode(frames, epoch, follows, self.position, || {
            last.0 += 1;
            *last
        });
        self.position += segment.bytes() as u64;
        self.flow.published(self.position);
        self.count(frames, segment.bytes());
        self.ring_bytes += segment.memory();
        let segment = Arc::new(segment);
        self.ring.push_back((clock::now_ms(), Arc::clone(&segment)));
        // The newest segment always stays: a worker must be able to read what it was told of.
        while self.ring_bytes > self.config.ring_bytes && self.ring.len() > 1 {
            if let Some((_, oldest)) = self.ring.pop_front() {
                self.ring_bytes -= oldest.memory();
            }
        }
        if self.unannounced.is_empty() {
            ctx.notify(AnnounceTick);
        }
        self.unannounced.push(segment);
        self.write_log(ctx);
    }

    fn count(&self, frames: &FrameBatch, bytes: usize) {
        for (durability, count) in by_durability(frames) {
            let counter = match durability {
                Durability::Ephemeral => &self.stats.frames_ephemeral,
                Durability::Recorded => &self.stats.frames_recorded,
                Durability::DurableFirst => &self.stats.frames_durable_first,
            };
            counter.fetch_add(count, Ordering::Relaxed);
        }
        self.stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Tells every worker of what was published since the last time.
    fn announce(&mut self, ctx: &mut Context<Self>) {
        // A test ends the journal here, with frames that have numbers and that no worker knows of.
        if let Err(error) = crate::failpoint::pass("journal.announce") {
            self.guard.will_end(ExitKind::Failed, error.to_string());
            return ctx.stop();
        }
        let segments: Arc<[Arc<Segment>]> = std::mem::take(&mut self.unannounced).into();
        let oldest = self.ring.front().map_or(0, |(at, _)| u64::try_from(*at).unwrap_or(0));
        self.stats.ring_bytes.store(self.ring_bytes as u64, Ordering::Relaxed);
        self.stats.ring_segments.store(self.ring.len() as u64, Ordering::Relaxed);
        self.stats.ring_oldest_ms.store(oldest, Ordering::Relaxed);
        self.stats.log_bytes.store(self.log.meta.bytes, Ordering::Relaxed);
        self.tell_workers(&segments, ctx);
    }

    fn tell_workers(&mut self, segments: &Arc<[Arc<Segment>]>, ctx: &mut Context<Self>) {
        let mut behind = Vec::new();
        self.workers.retain(|worker| {
            let told = worker.recipient.try_send(FramesPublished(Arc::clone(segments)));
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
                if let Some((_, newest)) = journal.ring.back() {
                    let newest: Arc<[Arc<Segment>]> = Arc::new([Arc::clone(newest)]);
                    journal.tell_workers(&newest, ctx);
                }
            }));
        }
    }

    /// Hands what waits for the log to the store at once, so that everything that is written
    /// afterwards is behind it. When the store's queue is full it waits here, with what comes.
    fn write_log(&mut self, ctx: &mut Context<Self>) {
        let Some((batch, upto)) = self.log.next_write() else { return };
        let ticket = match self.store.try_commit_following(batch) {
            Ok(ticket) => ticket,
            Err((batch, _)) => {
                self.log.put_back(batch, upto);
                ctx.run_later(LOG_AGAIN, |journal, ctx| journal.write_log(ctx));
                return;
            }
        };
        ctx.spawn(ticket.durable().into_actor(self).map(move |result, journal, ctx| {
            journal.log.wrote(upto, &result);
            journal.write_log(ctx);
            journal.trim_log(ctx);
        }));
    }

    /// Removes the oldest events when there are too many.
    fn trim_log(&mut self, ctx: &mut Context<Self>) {
        let Some(surplus) = self.log.surplus() else { return };
        self.log.trimming = true;
        let store = self.store.clone();
        let work = async move { store.read(move |store| log::oldest(store, surplus)).await };
        ctx.spawn(work.into_actor(self).map(|oldest, journal, ctx| {
            journal.log.trimming = false;
            match oldest {
                Ok(oldest) => journal.log.trim(oldest),
                Err(error) => tracing::error!(%error, "old events cannot be found for removal"),
            }
            journal.write_log(ctx);
        }));
    }

    fn reserve_ahead(&mut self, ctx: &mut Context<Self>) {
        let left = self.reserved.0.saturating_sub(self.last.0);
        if left >= LOW_WATER || self.reserving {
            return;
        }
        self.reserving = true;
        let work = reserve(self.store.clone()).into_actor(self);
        ctx.spawn(work.map(|result, journal, _| journal.reserved(result)));
    }

    fn reserved(&mut self, result: Result<Reservation, StoreError>) {
        self.reserving = false;
        match result {
            Ok(reservation) => self.reserved = reservation.upto,
            Err(error) => tracing::error!(%error, "the journal cannot reserve more numbers"),
        }
    }

    fn begun(&mut self, result: Result<Origin, StoreError>, ctx: &mut Context<Self>) {
        let origin = match result {
            Ok(origin) => origin,
            Err(error) => {
                tracing::error!(%error, "the journal cannot reserve numbers");
                self.guard.will_end(ExitKind::Failed, error.to_string());
                return ctx.stop();
            }
        };
        let Origin { numbers, log, certain, uncertain, staged } = origin;
        self.uncertain = uncertain;
        (self.epoch, self.last) = (Some(numbers.epoch), numbers.above);
        (self.reserved, self.floor, self.certain) = (numbers.upto, numbers.above, certain);
        (self.log.meta, self.log.written_upto) = (log, numbers.above);
        for (key, frames) in staged {
            tracing::info!(frames = frames.len(), "showing what a crash kept from being shown");
            self.append(&frames, Some(key), ctx);
        }
        self.trim_log(ctx);
    }

    /// Why what lies behind a position cannot be told, if that is so.
    fn refusal(&self, epoch: &Epoch, after: Seq) -> Option<ResetReason> {
        if self.epoch.as_ref() != Some(epoch) {
            return Some(ResetReason::EpochChanged);
        }
        if after > self.last {
            return Some(ResetReason::UnknownPosition);
        }
        // A life before showed frames that it had no time to keep, or never gave this number.
        let is_past = after > self.certain && after < self.floor;
        if is_past || self.uncertain.covers(after) {
            return Some(ResetReason::UncleanRestart);
        }
        (after < self.log.meta.from).then_some(ResetReason::Trimmed)
    }
}

impl Actor for Journal {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Nothing is published before its number is reserved: the mailbox waits.
        let work = begin(self.store.clone()).into_actor(self);
        ctx.wait(work.map(|result, journal, ctx| journal.begun(result, ctx)));
    }
}

impl Handler<PublishFrames> for Journal {
    type Result = ();

    fn handle(&mut self, publication: PublishFrames, ctx: &mut Self::Context) {
        let PublishFrames { frames, staged } = publication;
        if self.lost.swap(false, Ordering::AcqRel) {
            // A number that was never given makes every worker notice the gap, and an empty ring
            // makes sure that it cannot be closed.
            self.last = Seq(self.last.0 + 1);
            self.ring.clear();
            self.ring_bytes = 0;
            self.log.lose(self.last);
        }
        let wanted = frames.len() as u64;
        if self.last.0.saturating_add(wanted) > self.reserved.0 {
            let work = reserve(self.store.clone()).into_actor(self);
            ctx.wait(work.map(move |result, journal, ctx| {
                journal.reserved(result);
                if journal.last.0.saturating_add(wanted) <= journal.reserved.0 {
                    journal.append(&frames, staged, ctx);
                } else {
                    journal.lost.store(true, Ordering::Release);
                    tracing::error!(count = frames.len(), "frames lost: no numbers left");
                }
            }));
            return;
        }
        self.append(&frames, staged, ctx);
        self.reserve_ahead(ctx);
    }
}

impl Handler<AnnounceTick> for Journal {
    type Result = ();

    fn handle(&mut self, _: AnnounceTick, ctx: &mut Self::Context) {
        self.announce(ctx);
    }
}

impl Handler<AttachWorker> for Journal {
    type Result = MessageResult<AttachWorker>;

    fn handle(&mut self, attach: AttachWorker, _: &mut Self::Context) -> Self::Result {
        let Some(epoch) = self.epoch.clone() else {
            return MessageResult(None);
        };
        let (held, life) = oneshot::channel();
        self.workers.push(Worker { recipient: attach.0, nudged: Rc::default(), _life: held });
        let head = Head { epoch, seq: self.last };
        let ring = self.ring.iter().map(|(_, segment)| Arc::clone(segment)).collect();
        MessageResult(Some(Attached { head, life, ring }))
    }
}

impl Handler<CatchUp> for Journal {
    type Result = MessageResult<CatchUp>;

    fn handle(&mut self, CatchUp(after): CatchUp, _: &mut Self::Context) -> Self::Result {
        let oldest = self.ring.front().map_or(self.last, |(_, segment)| segment.follows);
        let complete = oldest <= after && after <= self.last;
        let newer = self.ring.iter().filter(|(_, segment)| !complete || segment.last() > after);
        let segments = newer.map(|(_, segment)| Arc::clone(segment)).collect();
        MessageResult(CaughtUp { head: self.last, segments, complete })
    }
}

impl Handler<ReadHistory> for Journal {
    type Result = ResponseActFuture<Self, History>;

    fn handle(&mut self, question: ReadHistory, _: &mut Self::Context) -> Self::Result {
        let ReadHistory { epoch, after } = question;
        if let Some(reason) = self.refusal(&epoch, after) {
            return Box::pin(actix::fut::ready(History::Reset { reason }));
        }
        // Records that are still on their way lie behind this, where the ring reaches.
        let upto = if self.log.is_written() { self.last } else { self.log.written_upto };
        let upto = upto.max(after);
        let store = self.store.clone();
        let work = async move {
            store.read(move |store| log::read(store, &epoch, after, upto, HISTORY_PAGE)).await
        };
        Box::pin(work.into_actor(self).map(move |page, journal: &mut Self, _| match page {
            // What was read may have been trimmed meanwhile.
            Ok(_) if after < journal.log.meta.from => {
                History::Reset { reason: ResetReason::Trimmed }
            }
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "events cannot be read");
                History::Reset { reason: ResetReason::Unavailable }
            }
        }))
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
            "logBytes": self.log.meta.bytes,
            "logFrom": self.log.meta.from,
            "workers": self.workers.len(),
        }))
    }
}

impl Handler<StopJournal> for Journal {
    type Result = ();

    fn handle(&mut self, _: StopJournal, ctx: &mut Self::Context) {
        let last = self.last;
        let ends_well = self.epoch.is_some();
        let mut end = WriteBatch::default();
        end.put(keys::LOG_END.to_vec(), last.0.to_be_bytes().to_vec());
        let store = self.store.clone();
        // One write may be on its way; the queue keeps the order.
        let rest = self.log.last_write();
        let work = async move {
            if !ends_well {
                return Ok(());
            }
            if let Some(rest) = rest {
                store.commit(rest).await?;
            }
            store.commit(end).await
        };
        ctx.wait(work.into_actor(self).map(|result: Result<(), StoreError>, _, ctx| {
            if let Err(error) = result {
                tracing::warn!(%error, "the log of events has no clean end");
            }
            ctx.stop();
        }));
    }
}
