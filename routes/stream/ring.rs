//! A worker's view of the ring: shared segments, no copies.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cm_actors::journal::Segment;
use cm_core::ids::{Epoch, Seq};

/// Bytes that one write takes at the most, unless a single frame is larger.
const WRITE_BYTES: usize = 64 * 1024;

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
    bytes: usize,
    capacity: usize,
    /// The history that the numbers belong to.
    pub(super) epoch: Epoch,
    /// The last number.
    pub(super) head: Seq,
}

impl Ring {
    pub(super) fn new(
        epoch: Epoch,
        head: Seq,
        segments: Vec<Arc<Segment>>,
        capacity: usize,
    ) -> Self {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self { segments: segments.into(), bytes, capacity, epoch, head }
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
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
        while self.bytes > self.capacity && self.segments.len() > 1 {
            if let Some(oldest) = self.segments.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
        true
    }

    /// Forgets everything: what is missing cannot be had any more. Cursors find a gap.
    pub(super) fn restart(&mut self, head: Seq, segments: Vec<Arc<Segment>>) {
        self.bytes = segments.iter().map(|segment| segment.bytes).sum();
        self.segments = segments.into();
        self.head = head;
    }

    /// Takes what a subscriber with this filter has not had, as one piece.
    pub(super) fn take(&self, cursor: &mut Seq, filter: Option<&str>) -> Taken {
        if *cursor >= self.head {
            return Taken::Nothing;
        }
        let reaches = self.segments.front().is_some_and(|oldest| oldest.follows <= *cursor);
        if !reaches {
            return Taken::Gap;
        }
        let first = self.segments.partition_point(|segment| segment.last() <= *cursor);
        let mut piece = BytesMut::new();
        for segment in self.segments.iter().skip(first) {
            for frame in &segment.frames {
                if frame.seq <= *cursor {
                    continue;
                }
                if frame.reaches(filter) {
                    let full = piece.len() + frame.websocket.len() > WRITE_BYTES;
                    if full && !piece.is_empty() {
                        return Taken::Bytes(piece.freeze());
                    }
                    if full {
                        // A large frame goes out as it lies in the ring.
                        *cursor = frame.seq;
                        return Taken::Bytes(frame.websocket.clone());
                    }
                    piece.extend_from_slice(&frame.websocket);
                }
                *cursor = frame.seq;
            }
        }
        if piece.is_empty() { Taken::Nothing } else { Taken::Bytes(piece.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_actors::journal::Frame;
    use cm_core::event::{Audience, Durability, FrameBody};
    use cm_core::ids::ThreadId;

    fn epoch() -> Epoch {
        Epoch::parse("e").unwrap()
    }

    fn segment(follows: u64, threads: &[&str], size: usize) -> Arc<Segment> {
        let frames: Vec<Frame> = threads
            .iter()
            .zip(follows + 1..)
            .map(|(thread, seq)| {
                let audience = Audience::Thread(ThreadId::parse(thread).unwrap());
                let payload = "x".repeat(size);
                let durability = Durability::Ephemeral;
                let body = FrameBody::new("t", audience, None, durability, &payload).unwrap();
                Frame::encode(&body, &epoch(), Seq(seq))
            })
            .collect();
        let bytes = frames.iter().map(|frame| frame.websocket.len()).sum();
        Arc::new(Segment { follows: Seq(follows), frames, bytes })
    }

    fn ring(capacity: usize) -> Ring {
        Ring::new(epoch(), Seq(10), Vec::new(), capacity)
    }

    #[test]
    fn a_cursor_gets_each_frame_once_and_in_order() {
        let mut ring = ring(1 << 20);
        assert!(ring.push(segment(10, &["a", "b"], 4)));
        assert!(ring.push(segment(12, &["a"], 4)));
        let mut cursor = Seq(10);
        let Taken::Bytes(bytes) = ring.take(&mut cursor, None) else { panic!() };
        assert_eq!(bytes.iter().filter(|byte| **byte == 0x81).count(), 3);
        assert_eq!(cursor, Seq(13));
        assert_eq!(ring.take(&mut cursor, None), Taken::Nothing);
        let mut filtered = Seq(10);
        let Taken::Bytes(bytes) = ring.take(&mut filtered, Some("b")) else { panic!() };
        assert_eq!(bytes.iter().filter(|byte| **byte == 0x81).count(), 1);
        assert_eq!(filtered, Seq(13), "frames of others are passed over");
    }

    #[test]
    fn who_falls_off_the_ring_is_told() {
        let mut ring = ring(300);
        let mut cursor = Seq(10);
        for follows in 10..20 {
            assert!(ring.push(segment(follows, &["a"], 100)));
        }
        assert_eq!(ring.take(&mut cursor, None), Taken::Gap);
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
        assert_eq!(ring.take(&mut old, None), Taken::Gap);
        let mut new = ring.head;
        assert!(ring.push(segment(21, &["a"], 4)));
        assert!(matches!(ring.take(&mut new, None), Taken::Bytes(_)));
    }

    #[test]
    fn a_write_is_bounded_but_a_large_frame_passes() {
        let mut ring = ring(1 << 24);
        ring.push(segment(10, &["a"; 100], 2_000));
        ring.push(segment(110, &["a"], 200_000));
        let mut cursor = Seq(10);
        let mut sizes = Vec::new();
        while let Taken::Bytes(bytes) = ring.take(&mut cursor, None) {
            sizes.push(bytes.len());
        }
        assert_eq!(cursor, Seq(111));
        assert!(sizes.iter().rev().skip(1).all(|size| *size <= WRITE_BYTES), "{sizes:?}");
        assert!(sizes.last().is_some_and(|size| *size > 200_000));
    }
}
