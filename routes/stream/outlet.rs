//! What one socket writes: control frames first, then frames from its cursor on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::Error;
use bytes::Bytes;
use cm_core::ids::Seq;
use futures_util::Stream;

use super::ring::{Ring, Taken};

/// Control frames that may wait. Overflow rule: the socket is closed with 1008, since it sends
/// commands faster than it reads the answers.
const MAX_CONTROL: usize = 64;

/// A line slower than this, in bytes per second, counts as stuck.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// Close codes (RFC 6455 §7.4).
pub(super) mod close {
    /// The server goes away.
    pub(in crate::stream) const GOING_AWAY: u16 = 1001;
    /// The client broke a rule.
    pub(in crate::stream) const POLICY: u16 = 1008;
    /// Try again later: the client fell behind.
    pub(in crate::stream) const TRY_AGAIN: u16 = 1013;
}

/// What a socket's actor and its body share; both live on the same worker.
#[derive(Debug)]
pub(super) struct Outlet {
    ring: Rc<RefCell<Ring>>,
    /// The last number that this subscriber has had.
    cursor: Seq,
    /// The only session it wants to hear of.
    pub(super) filter: Option<String>,
    control: VecDeque<Bytes>,
    /// Set when a close frame is queued: nothing comes after it.
    closing: bool,
    /// Set when the close frame was handed to the connection.
    ended: bool,
    /// Wakes the body; `None` while the connection cannot be written.
    waker: Option<Waker>,
    /// Bytes that the connection was given when it last asked.
    handed_out: u64,
    /// When the connection last asked for something to write.
    pub(super) asked_at: Instant,
}

impl Outlet {
    pub(super) fn new(ring: Rc<RefCell<Ring>>, filter: Option<String>) -> Self {
        let cursor = ring.borrow().head;
        Self {
            ring,
            cursor,
            filter,
            control: VecDeque::new(),
            closing: false,
            ended: false,
            waker: None,
            handed_out: 0,
            asked_at: Instant::now(),
        }
    }

    /// Queues a control frame.
    pub(super) fn control(&mut self, frame: Bytes) {
        if self.closing {
            return;
        }
        if self.control.len() >= MAX_CONTROL {
            return self.close(close::POLICY, "too many unread answers");
        }
        self.control.push_back(frame);
        self.wake();
    }

    /// Queues a close frame; nothing is written after it.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if self.closing {
            return;
        }
        self.closing = true;
        self.control.push_back(close_frame(code, reason));
        self.wake();
    }

    /// Wakes the body if it waits for something to write.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether there is something to write that the connection has not asked for.
    pub(super) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        let has_work = !self.control.is_empty() || self.cursor < self.ring.borrow().head;
        let has_work = has_work || self.ended;
        // A large piece may take its time on a slow line.
        let patience = patience + Duration::from_secs(self.handed_out / SLOWEST_BYTES_PER_SECOND);
        has_work && self.waker.is_none() && now.duration_since(self.asked_at) > patience
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        self.asked_at = Instant::now();
        if let Some(frame) = self.control.pop_front() {
            self.ended = self.closing && self.control.is_empty();
            return Poll::Ready(Some(frame));
        }
        if self.ended || self.closing {
            return Poll::Ready(None);
        }
        let taken = self.ring.borrow().take(&mut self.cursor, self.filter.as_deref());
        match taken {
            Taken::Bytes(bytes) => Poll::Ready(Some(bytes)),
            Taken::Nothing => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Taken::Gap => {
                self.close(close::TRY_AGAIN, "stream_gap");
                self.poll(context)
            }
        }
    }
}

/// The body of a socket's answer.
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

/// A close frame (RFC 6455 §5.5.1): two bytes of code and a short reason.
pub(super) fn close_frame(code: u16, reason: &str) -> Bytes {
    /// FIN and the opcode of a close frame.
    const FIN_CLOSE: u8 = 0x88;
    // A control frame's payload is at most 125 bytes; our reasons are short words.
    let reason = reason.get(..reason.len().min(100)).unwrap_or_default().as_bytes();
    let mut frame = Vec::with_capacity(reason.len() + 4);
    frame.push(FIN_CLOSE);
    frame.push(u8::try_from(reason.len() + 2).unwrap_or(2));
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame.into()
}

/// A pong frame with the ping's payload.
pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    /// FIN and the opcode of a pong frame.
    const FIN_PONG: u8 = 0x8a;
    let payload = payload.get(..payload.len().min(125)).unwrap_or_default();
    let mut frame = Vec::with_capacity(payload.len() + 2);
    frame.push(FIN_PONG);
    frame.push(u8::try_from(payload.len()).unwrap_or(0));
    frame.extend_from_slice(payload);
    frame.into()
}
