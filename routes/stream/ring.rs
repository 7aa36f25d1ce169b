//! A worker's view of the ring: shared segments, no copies.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cm_actors::journal::{Interest, Segment};
use cm_core::ids::{Epoch, Seq};

/// Bytes that one write takes at the most, unless a single frame is larger.
pub(super) const WRITE_BYTES: usize = 64 * 1024;

/// From so many bytes on, a piece goes out as it lies in the ring instead of being put together
/// with what follows.
const DIRECT_BYTES: usize = 16 * 1024;

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As WebSocket text frames.
    WebSocket,
    /// As server-sent events with their position as id.
    ServerSentEvents,
}

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Bytes to write; the cursor has moved.
    Bytes(Bytes),
    /// Nothing that the subscriber wants; the cursor is at the head.
    Nothing,
    /// The ring no longer reaches back to the cursor.
    Gap,
}

/// The segments that this worker knows of.
#[derive(Debug)]
pub(super) struct Ring {
    segments: VecDeque<Arc<Segment>>,
    memory: usize,
    capacity: usize,
    /// The history that the numbers belong to.
    pub(super) epoch: Epoch,
    /// The last number.
    pub(super) head: Seq,
    /// Bytes that the journal had published up to the head.
    pub(super) position: u64,
}

impl Ring {
    pub(super) fn new(
        epoch: Epoch,
        head: Seq,
        segments: Vec<Arc<Segment>>,
        capacity: usize,
    ) -> Self {
        let mut ring =
            Self { segments: VecDeque::new(), memory: 0, capacity, epoch, head, position: 0 };
        ring.restart(head, segments);
        ring
    }

    /// Adds a segment. Answers `false`, and adds nothing, when something before it is missing.
    pub(super) fn push(&mut self, segment: Arc<Segment>) -> bool {
        if segment.last() <= self.head {
            return true;
        }
        if segment.follows != self.head {
            return false;
        }
        self.head = segment.last();
        self.position = segment.position + segment.bytes() as u64;
        self.memory += segment.memory();
        self.segments.push_back(segment);
        while self.memory > self.capacity && self.segments.len() > 1 {
            if let Some(oldest) = self.segments.pop_front() {
                self.memory -= oldest.memory();
            }
        }
        true
    }

    /// Forgets everything: what is missing cannot be had any more. Cursors find a gap.
    pub(super) fn restart(&mut self, head: Seq, segments: Vec<Arc<Segment>>) {
        self.memory = segments.iter().map(|segment| segment.memory()).sum();
        self.segments = segments.into();
        self.head = head;
        self.position =
            self.segments.back().map_or(0, |newest| newest.position + newest.bytes() as u64);
    }

    /// Whether the ring reaches back to a cursor.
    pub(super) fn reaches(&self, cursor: Seq) -> bool {
        cursor >= self.head || self.segments.front().is_some_and(|oldest| oldest.follows <= cursor)
    }

    /// Bytes that were published behind a cursor.
    pub(super) fn behind(&self, cursor: Seq) -> u64 {
        if cursor >= self.head {
            return 0;
        }
        let first = self.segments.partition_point(|segment| segment.last() <= cursor);
        self.segments.get(first).map_or(0, |segment| self.position - segment.position)
    }

    /// Half of what the ring may hold, in bytes.
    pub(super) fn half(&self) -> u64 {
        self.capacity as u64 / 2
    }

    /// Takes what a subscriber has not had, as one piece.
    pub(super) fn take(
        &self,
        cursor: &mut Seq,
        interest: Interest<'_>,
        encoding: Encoding,
    ) -> Taken {
        if *cursor >= self.head {
            return Taken::Nothing;
        }
        if !self.reaches(*cursor) {
            return Taken::Gap;
        }
        let first = self.segments.partition_point(|segment| segment.last() <= *cursor);
        let mut piece = Piece::new(encoding, &self.epoch);
        for segment in self.segments.iter().skip(first) {
            if let Some(full) = piece.add(segment, cursor, interest) {
                return Taken::Bytes(full);
            }
        }
        match piece.bytes() {
            Some(bytes) => Taken::Bytes(bytes),
            None => Taken::Nothing,
        }
    }
}

/// What one write takes.
pub(super) struct Piece<'a> {
    encoding: Encoding,
    epoch: &'a Epoch,
    bytes: BytesMut,
}

impl<'a> Piece<'a> {
    pub(super) fn new(encoding: Encoding, epoch: &'a Epoch) -> Self {
        Self { encoding, epoch, bytes: BytesMut::new() }
    }

    /// What was put together; `None` when there is nothing.
    pub(super) fn bytes(self) -> Option<Bytes> {
        (!self.bytes.is_empty()).then(|| self.bytes.freeze())
    }

    /// Adds what a subscriber wants of a segment and moves its cursor. Answers the piece when it
    /// is full; the cursor then stands behind its last frame.
    pub(super) fn add(
        &mut self,
        segment: &Segment,
        cursor: &mut Seq,
        interest: Interest<'_>,
    ) -> Option<Bytes> {
        if self.encoding == Encoding::WebSocket {
            loop {
                let Some((part, last)) = segment.piece_if_whole(*cursor, interest, WRITE_BYTES)
                else {
                    break;
                };
                if !self.bytes.is_empty() && self.bytes.len() + part.len() > WRITE_BYTES {
                    return Some(self.bytes.split().freeze());
                }
                *cursor = last;
                if self.bytes.is_empty() && part.len() >= DIRECT_BYTES {
                    return Some(part);
                }
                self.bytes.put_slice(&part);
            }
        }
        for place in segment.wanted(*cursor, interest) {
            let size = segment.websocket(place).len();
            if self.bytes.len() + size > WRITE_BYTES && !self.bytes.is_empty() {
                return Some(self.bytes.split().freeze());
            }
            *cursor = place.seq;
            match self.encoding {
                Encoding::WebSocket if size > WRITE_BYTES => {
                    return Some(segment.websocket_bytes(place));
                }
                Encoding::WebSocket => self.bytes.put_slice(segment.websocket(place)),
                Encoding::ServerSentEvents => self.event(place.seq, segment.json(place)),
            }
        }
        *cursor = segment.last();
        None
    }

    /// One server-sent event. A frame's JSON never holds a line break.
    fn event(&mut self, seq: Seq, json: &[u8]) {
        let id = format!("id: {}:{seq}\ndata: ", self.epoch);
        self.bytes.put_slice(id.as_bytes());
        self.bytes.put_slice(json);
        self.bytes.put_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::event::{Audience, Durability, FrameBatch};
    use cm_core::ids::ThreadId;

    const ALL: Interest<'_> = Interest { filter: None, single: false };

    fn epoch() -> Epoch {
        Epoch::parse("e").unwrap()
    }

    fn segment(follows: u64, threads: &[&str], size: usize) -> Arc<Segment> {
        let mut batch = FrameBatch::default();
        for thread in threads {
            let audience = Audience::Thread(ThreadId::parse(thread).unwrap());
            let payload = "x".repeat(size);
            batch.push("t", &audience, None, Durability::Ephemeral, &payload).unwrap();
        }
        let mut seq = follows;
        Arc::new(Segment::encode(&batch, &epoch(), Seq(follows), 0, || {
            seq += 1;
            Seq(seq)
        }))
    }

    fn ring(capacity: usize) -> Ring {
        Ring::new(epoch(), Seq(10), Vec::new(), capacity)
    }

    fn take(ring: &Ring, cursor: &mut Seq, filter: Option<&str>) -> Taken {
        ring.take(cursor, Interest { filter, ..ALL }, Encoding::WebSocket)
    }

    fn frames_in(taken: &Taken) -> usize {
        let Taken::Bytes(bytes) = taken else { panic!("{taken:?}") };
        bytes.iter().filter(|byte| **byte == 0x81).count()
    }

    #[test]
    fn a_cursor_gets_each_frame_once_and_in_order() {
        let mut ring = ring(1 << 20);
        assert!(ring.push(segment(10, &["a", "b"], 4)));
        assert!(ring.push(segment(12, &["a"], 4)));
        let mut cursor = Seq(10);
        assert_eq!(frames_in(&take(&ring, &mut cursor, None)), 3);
        assert_eq!(cursor, Seq(13));
        assert_eq!(take(&ring, &mut cursor, None), Taken::Nothing);
        let mut filtered = Seq(10);
        assert_eq!(frames_in(&take(&ring, &mut filtered, Some("b"))), 1);
        assert_eq!(filtered, Seq(13), "frames of others are passed over");
        let mut events = Seq(11);
        let taken = ring.take(&mut events, ALL, Encoding::ServerSentEvents);
        let Taken::Bytes(bytes) = taken else { panic!() };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("id: e:12\ndata: {\"seq\":12,"), "{text}");
        assert_eq!(text.matches("\n\n").count(), 2);
    }

    #[test]
    fn who_falls_off_the_ring_is_told() {
        let mut ring = ring(1_000);
        let mut cursor = Seq(10);
        for follows in 10..20 {
            assert!(ring.push(segment(follows, &["a"], 200)));
        }
        assert!(!ring.reaches(cursor));
        assert_eq!(take(&ring, &mut cursor, None), Taken::Gap);
    }

    #[test]
    fn a_missing_segment_is_noticed() {
        let mut ring = ring(1 << 20);
        assert!(ring.push(segment(10, &["a"], 4)));
        assert!(!ring.push(segment(12, &["a"], 4)));
        assert!(ring.push(segment(10, &["a"], 4)), "a repeated one is not news");
        assert_eq!(ring.head, Seq(11));
    }

    #[test]
    fn after_a_restart_old_cursors_find_a_gap_and_new_ones_go_on() {
        let mut ring = ring(1 << 20);
        ring.push(segment(10, &["a"], 4));
        let mut old = Seq(10);
        ring.restart(Seq(21), vec![segment(20, &["a"], 4)]);
        assert_eq!(take(&ring, &mut old, None), Taken::Gap);
        let mut new = ring.head;
        assert!(ring.push(segment(21, &["a"], 4)));
        assert!(matches!(take(&ring, &mut new, None), Taken::Bytes(_)));
    }

    #[test]
    fn a_write_is_bounded_but_a_large_frame_passes() {
        for filter in [None, Some("a")] {
            let mut ring = ring(1 << 24);
            ring.push(segment(10, &["a"; 100], 2_000));
            ring.push(segment(110, &["b"], 10));
            ring.push(segment(111, &["a"], 200_000));
            let mut cursor = Seq(10);
            let mut sizes = Vec::new();
            while let Taken::Bytes(bytes) = take(&ring, &mut cursor, filter) {
                sizes.push(bytes.len());
            }
            assert_eq!(cursor, Seq(112));
            assert!(sizes.iter().rev().skip(1).all(|size| *size <= WRITE_BYTES), "{sizes:?}");
            assert!(sizes.last().is_some_and(|size| *size > 200_000));
        }
    }
}
