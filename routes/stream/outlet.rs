//! What one subscriber is written: control frames first, then what it missed, then frames from its
//! cursor on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::Error;
use bytes::Bytes;
use cm_actors::journal::{Head, Interest, ResetReason, Segment, text_frame};
use cm_actors::metrics::StreamStats;
use cm_core::ids::Seq;
use futures_util::Stream;
use serde_json::json;
use tokio::sync::Notify;

use super::close;
use super::hub::HEARTBEAT_COMMENT;
use super::progress::Progress;
use super::resume::Position;
use super::ring::{Encoding, Piece, Ring, Taken};

/// Control frames that may wait. Overflow rule: the socket is closed with 1008, since it sends
/// commands faster than it reads the answers.
const MAX_CONTROL: usize = 64;

/// A line slower than this, in bytes per second, counts as stuck.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// Where a subscriber stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It reads the ring.
    Live,
    /// What it missed is being fetched for it: nothing is taken from the ring meanwhile.
    Resuming,
    /// A close frame is queued: nothing comes after it.
    Closing,
    /// The end was handed to the connection.
    Ended,
}

/// What a subscriber's actor and its body share; both live on the same worker.
#[derive(Debug)]
pub(super) struct Outlet {
    ring: Rc<RefCell<Ring>>,
    stats: Arc<StreamStats>,
    encoding: Encoding,
    /// The last number that this subscriber has had.
    cursor: Seq,
    /// The only session it wants to hear of; its hub changes it.
    pub(super) filter: Option<String>,
    /// Whether it wants each thing once.
    single: bool,
    /// Whether it gave a position: then it is told `reset` instead of being closed.
    pub(super) resumable: bool,
    control: VecDeque<Bytes>,
    /// How many of these are answers to commands.
    answers: usize,
    /// Frames of before the ring.
    backlog: VecDeque<Arc<Segment>>,
    stage: Stage,
    /// Raised when it is to go on from elsewhere: what is being fetched for it is void then.
    generation: u64,
    /// Where it is to go on once what is being fetched has been given up.
    pub(super) wanted: Option<Position>,
    /// Whether something is being fetched for it.
    pub(super) fetching: bool,
    /// Tells whoever fetches what was missed that all of it was taken.
    drained: Rc<Notify>,
    /// Wakes the body; `None` while the connection cannot be written.
    waker: Option<Waker>,
    /// Bytes that the connection was given when it last asked.
    handed_out: u64,
    /// When the connection last asked for something to write, or was told that there is something.
    asked_at: Instant,
    /// How much it took lately.
    progress: Progress,
}

impl Outlet {
    pub(super) fn new(
        ring: Rc<RefCell<Ring>>,
        stats: Arc<StreamStats>,
        encoding: Encoding,
        filter: Option<String>,
        single: bool,
    ) -> Self {
        let cursor = ring.borrow().head;
        Self {
            ring,
            stats,
            encoding,
            cursor,
            filter,
            single,
            resumable: false,
            control: VecDeque::new(),
            answers: 0,
            backlog: VecDeque::new(),
            stage: Stage::Live,
            generation: 0,
            wanted: None,
            fetching: false,
            drained: Rc::default(),
            waker: None,
            handed_out: 0,
            asked_at: Instant::now(),
            progress: Progress::default(),
        }
    }

    /// Whether nothing more is written.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Ended)
    }

    /// Whether what was fetched was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Told when what was fetched was taken, or when it is over.
    pub(super) fn drained(&self) -> Rc<Notify> {
        Rc::clone(&self.drained)
    }

    /// Changes what it hears of; answers what it heard of before.
    pub(super) fn set_filter(&mut self, filter: Option<String>) -> Option<String> {
        self.pass_to_head();
        std::mem::replace(&mut self.filter, filter)
    }

    /// A subscriber that waits is woken for what concerns it alone: up to the head, nothing did.
    pub(super) fn pass_to_head(&mut self) {
        if self.is_idle() && self.stage == Stage::Live {
            self.cursor = self.ring.borrow().head;
        }
    }

    /// Says that the connection lives, when it has nothing else to say.
    pub(super) fn heartbeat(&mut self) {
        if self.encoding == Encoding::ServerSentEvents && self.is_idle() {
            self.push(HEARTBEAT_COMMENT);
        }
    }

    /// The head as it is now.
    pub(super) fn head(&self) -> Head {
        let ring = self.ring.borrow();
        Head { epoch: ring.epoch.clone(), seq: ring.head }
    }

    /// Answers a ping.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if self.may_answer() {
            self.push(close::pong(payload));
        }
    }

    /// Counts an answer; one too many closes the socket instead. What the client did not ask for
    /// does not count.
    fn may_answer(&mut self) -> bool {
        // Answers are written in the order of their commands, so they are gone with the queue.
        self.answers = if self.control.is_empty() { 1 } else { self.answers + 1 };
        let too_many = self.answers > MAX_CONTROL;
        if too_many {
            self.close(close::POLICY, "too many unread answers");
        }
        !too_many
    }

    /// Queues a control frame: an answer to a command of the client.
    pub(super) fn control(&mut self, value: &serde_json::Value) {
        if self.may_answer() {
            self.say(value);
        }
    }

    /// Queues a frame that the client did not ask for; there are few of them.
    pub(super) fn say(&mut self, value: &serde_json::Value) {
        let text = value.to_string();
        self.push(match self.encoding {
            Encoding::WebSocket => text_frame(text.as_bytes()),
            Encoding::ServerSentEvents => Bytes::from(format!("data: {text}\n\n")),
        });
    }

    /// Queues bytes as they are.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.is_over() {
            return;
        }
        self.pass_to_head();
        self.control.push_back(bytes);
        self.wake();
    }

    /// Queues the end; nothing is written after it.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if self.is_over() {
            return;
        }
        self.stage = Stage::Closing;
        self.generation += 1;
        self.backlog.clear();
        self.drained.notify_waiters();
        if self.encoding == Encoding::WebSocket {
            self.control.push_back(close::frame(code, reason));
        }
        self.wake();
    }

    /// Begins to serve what was missed behind a position.
    pub(super) fn resume_from(&mut self, after: Seq) {
        if self.is_over() {
            return;
        }
        self.resumable = true;
        self.generation += 1;
        self.cursor = after;
        self.stats.replays.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let within = self.ring.borrow().reaches(after);
        self.stage = if within { Stage::Live } else { Stage::Resuming };
        self.backlog.clear();
        self.drained.notify_waiters();
        self.wake();
    }

    /// What is fetched now is for this generation.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes nothing from the ring until the journal has answered for the position.
    pub(super) fn await_history(&mut self) {
        if self.stage == Stage::Live {
            self.stage = Stage::Resuming;
        }
    }

    /// Whether what it missed is to be fetched.
    pub(super) fn is_resuming(&self) -> bool {
        self.stage == Stage::Resuming
    }

    /// Adds a page of what was missed; the cursor follows as it is taken.
    pub(super) fn add_backlog(&mut self, segments: Vec<Arc<Segment>>) {
        self.backlog.extend(segments);
        self.wake();
    }

    /// Everything missed up to a number was taken.
    pub(super) fn caught_up(&mut self, upto: Seq) {
        self.cursor = self.cursor.max(upto);
    }

    /// Goes on with the ring.
    pub(super) fn go_live(&mut self) {
        if self.stage == Stage::Resuming {
            self.stage = Stage::Live;
            self.wake();
        }
    }

    /// Starts over at the head, and says so.
    pub(super) fn reset(&mut self, reason: ResetReason) {
        if self.is_over() {
            return;
        }
        let (epoch, head) = {
            let ring = self.ring.borrow();
            (ring.epoch.clone(), ring.head)
        };
        self.stats.resets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.generation += 1;
        self.wanted = None;
        self.backlog.clear();
        self.drained.notify_waiters();
        self.cursor = head;
        self.stage = Stage::Live;
        let frame = json!({
            "type": "reset",
            "threadId": null,
            "epoch": epoch,
            "seq": head,
            "reason": reason.as_str(),
        });
        match self.encoding {
            Encoding::WebSocket => self.say(&frame),
            // A client that reconnects goes on from the head.
            Encoding::ServerSentEvents => {
                self.push(Bytes::from(format!("id: {epoch}:{head}\ndata: {frame}\n\n")));
            }
        }
    }

    /// Wakes the body if it waits for something to write.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.asked_at = Instant::now();
            waker.wake();
        }
    }

    /// Wakes the body for frames that begin behind a number. A body that waits has passed over
    /// everything up to there.
    pub(super) fn wake_for(&mut self, follows: Seq) {
        if let Some(waker) = self.waker.take() {
            if self.stage == Stage::Live && self.control.is_empty() {
                self.cursor = self.cursor.max(follows);
            }
            self.asked_at = Instant::now();
            waker.wake();
        }
    }

    /// Whether it waits for something to write and has had everything.
    fn is_idle(&self) -> bool {
        self.waker.is_some()
    }

    /// Whether it is far behind and yet worth waiting for.
    pub(super) fn deserves_patience(&mut self, now: Instant) -> bool {
        let ring = self.ring.borrow();
        let behind = if self.is_idle() { 0 } else { ring.behind(self.cursor) };
        self.stats.lagged(behind);
        let (position, half) = (ring.position, ring.half());
        // Whoever has fallen out has lost already, and seems to move with the end of the ring.
        let reaches = ring.reaches(self.cursor);
        drop(ring);
        let keeps_up = self.progress.note(now, position, position.saturating_sub(behind));
        self.stage == Stage::Live && reaches && behind > half && keeps_up
    }

    /// Whether there is something to write that the connection has not asked for.
    pub(super) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        let has_work = !self.control.is_empty()
            || !self.backlog.is_empty()
            || self.cursor < self.ring.borrow().head
            || self.stage == Stage::Ended;
        // A large piece may take its time on a slow line.
        let patience = patience + Duration::from_secs(self.handed_out / SLOWEST_BYTES_PER_SECOND);
        has_work && self.waker.is_none() && now.duration_since(self.asked_at) > patience
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        self.asked_at = Instant::now();
        if let Some(frame) = self.control.pop_front() {
            if self.stage == Stage::Closing && self.control.is_empty() {
                self.stage = Stage::Ended;
            }
            return Poll::Ready(Some(frame));
        }
        if self.is_over() {
            return Poll::Ready(None);
        }
        if let Some(bytes) = self.take_backlog() {
            return Poll::Ready(Some(bytes));
        }
        let taken = match self.stage {
            Stage::Live => {
                let interest = Interest { filter: self.filter.as_deref(), single: self.single };
                self.ring.borrow().take(&mut self.cursor, interest, self.encoding)
            }
            _ => Taken::Nothing,
        };
        match taken {
            Taken::Bytes(bytes) => Poll::Ready(Some(bytes)),
            Taken::Nothing => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Taken::Gap if self.resumable => {
                self.reset(ResetReason::Behind);
                self.poll(context)
            }
            Taken::Gap => {
                self.stats.gap_closes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.close(close::TRY_AGAIN, "stream_gap");
                self.poll(context)
            }
        }
    }

    /// Takes from what was missed; the same pieces, cut in the same way, as from the ring.
    fn take_backlog(&mut self) -> Option<Bytes> {
        if self.backlog.is_empty() {
            return None;
        }
        let epoch = self.ring.borrow().epoch.clone();
        let interest = Interest { filter: self.filter.as_deref(), single: self.single };
        let mut piece = Piece::new(self.encoding, &epoch);
        let mut full = None;
        while full.is_none() {
            let Some(segment) = self.backlog.front() else { break };
            full = piece.add(segment, &mut self.cursor, interest);
            if full.is_none() || self.cursor >= segment.last() {
                self.backlog.pop_front();
            }
        }
        if self.backlog.is_empty() {
            self.drained.notify_waiters();
        }
        full.or_else(|| piece.bytes())
    }
}

/// The body of a subscriber's answer.
pub(super) struct OutletBody(pub(super) Rc<RefCell<Outlet>>);

impl Stream for OutletBody {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut outlet = self.0.borrow_mut();
        let polled = outlet.poll(context);
        if let Poll::Ready(Some(bytes)) = &polled {
            outlet.handed_out = bytes.len() as u64;
        }
        polled.map(|bytes| bytes.map(Ok))
    }
}

impl Drop for OutletBody {
    fn drop(&mut self) {
        // The connection is gone: whoever fetches for it has nobody left to fetch for.
        self.0.borrow_mut().close(close::GOING_AWAY, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::event::{Audience, Durability, FrameBatch};
    use cm_core::ids::Epoch;

    fn segment(after: &Ring, bytes: usize) -> Arc<Segment> {
        let mut batch = FrameBatch::default();
        let payload = "x".repeat(bytes);
        batch.push("t", &Audience::Everyone, None, Durability::Ephemeral, &payload).unwrap();
        let seq = Seq(after.head.0 + 1);
        Arc::new(Segment::encode(&batch, &after.epoch, after.head, after.position, || seq))
    }

    /// How often a subscriber is waited for while a hundred segments pass through a ring of twenty.
    fn waits(mut takes: impl FnMut(usize, &mut Outlet)) -> usize {
        let ring = Ring::new(Epoch::parse("e").unwrap(), Seq(0), Vec::new(), 20_000);
        let ring = Rc::new(RefCell::new(ring));
        let mut outlet =
            Outlet::new(Rc::clone(&ring), Arc::default(), Encoding::WebSocket, None, false);
        let start = Instant::now();
        let step = |step: usize| {
            let next = segment(&ring.borrow(), 1_000);
            assert!(ring.borrow_mut().push(next));
            takes(step, &mut outlet);
            outlet.deserves_patience(start + Duration::from_millis(step as u64 * 50))
        };
        (1..=100).map(step).filter(|waited_for| *waited_for).count()
    }

    #[test]
    fn who_had_nothing_to_read_for_long_has_its_time_when_there_is_something() {
        let ring = Ring::new(Epoch::parse("e").unwrap(), Seq(0), Vec::new(), 20_000);
        let ring = Rc::new(RefCell::new(ring));
        let mut outlet =
            Outlet::new(Rc::clone(&ring), Arc::default(), Encoding::WebSocket, None, false);
        let context = Context::from_waker(std::task::Waker::noop());
        while outlet.poll(&context).is_ready() {}
        let (now, patience) = (Instant::now(), Duration::from_secs(10));
        outlet.asked_at = now.checked_sub(2 * patience).unwrap();
        let next = segment(&ring.borrow(), 10);
        assert!(ring.borrow_mut().push(next));
        outlet.wake_for(Seq(0));
        assert!(!outlet.is_stuck(Instant::now(), patience), "it was woken just now");
        assert!(outlet.is_stuck(Instant::now() + 2 * patience, patience));
    }

    #[test]
    fn who_reads_nothing_is_never_waited_for_and_who_nearly_keeps_up_is() {
        assert_eq!(waits(|_, _| {}), 0);
        // Twelve segments behind, and no further.
        let waits = waits(|step, outlet| outlet.cursor = Seq((step as u64).saturating_sub(12)));
        assert!(waits > 50, "{waits}");
    }
}
