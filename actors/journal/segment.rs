//! Numbered frames as they lie in the ring.

use bytes::{BufMut, Bytes, BytesMut};
use cm_core::event::{Audience, Content, Durability, FrameBatch};
use cm_core::ids::{Epoch, Seq};

/// Longest header of a WebSocket frame that a server sends (RFC 6455 §5.2).
const LONGEST_HEADER: usize = 10;

/// Longest decimal of a [`Seq`].
const LONGEST_SEQ: usize = 20;

/// Where a frame lies in its segment, and what it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its number.
    pub seq: Seq,
    /// Where its WebSocket frame begins.
    start: usize,
    /// Where its JSON text begins.
    json: usize,
    /// Where it ends.
    end: usize,
    /// Who receives it, as an index into the audiences.
    audience: usize,
    /// What it says beside the frames before it.
    pub content: Content,
}

/// Frames that were published together, numbered and encoded once, in one piece of memory.
#[derive(Debug)]
pub struct Segment {
    /// The last number before this segment; a worker that has another one as its last asks for
    /// what it missed.
    pub follows: Seq,
    /// Bytes that were published before this segment, in this life of the journal: by the
    /// difference one sees how far a cursor is behind.
    pub position: u64,
    /// Whole WebSocket text frames (RFC 6455 §5.2), unmasked, one behind the other.
    text: Bytes,
    places: Vec<Place>,
    audiences: Vec<Audience>,
}

/// Which frames a subscriber wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest<'a> {
    /// The only session to hear of.
    pub filter: Option<&'a str>,
    /// Whether each thing is wanted once, instead of as often as version 1 says it.
    pub single: bool,
}

impl Segment {
    /// Numbers and encodes the frames of a batch; `numbers` gives each its number, in order.
    pub fn encode(
        batch: &FrameBatch,
        epoch: &Epoch,
        follows: Seq,
        position: u64,
        mut numbers: impl FnMut() -> Seq,
    ) -> Self {
        // An epoch is made of letters and digits, so it needs no escaping.
        let epoch = format!(",\"epoch\":\"{epoch}\",");
        const SEQ: &[u8] = b"{\"seq\":";
        let around = LONGEST_HEADER + SEQ.len() + LONGEST_SEQ + epoch.len();
        let mut text = BytesMut::with_capacity(batch.bytes() + batch.len() * around);
        let mut places = Vec::with_capacity(batch.len());
        let mut digits = itoa::Buffer::new();
        for frame in batch.frames() {
            let seq = numbers();
            let number = digits.format(seq.0).as_bytes();
            let start = text.len();
            let length = SEQ.len() + number.len() + epoch.len() + frame.tail.len();
            put_header(&mut text, length);
            let json = text.len();
            text.put_slice(SEQ);
            text.put_slice(number);
            text.put_slice(epoch.as_bytes());
            text.put_slice(frame.tail);
            let (end, audience, content) = (text.len(), frame.audience, frame.content);
            places.push(Place { seq, start, json, end, audience, content });
        }
        let audiences = batch.audiences().to_vec();
        Self { follows, position, text: text.freeze(), places, audiences }
    }

    /// The number of the last frame.
    pub fn last(&self) -> Seq {
        self.places.last().map_or(self.follows, |place| place.seq)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Memory that it takes, its index included.
    pub fn memory(&self) -> usize {
        self.text.len() + self.places.len() * size_of::<Place>() + size_of::<Self>()
    }

    /// Frames.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Who receives anything of it.
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Whether a subscriber wants every frame of it. That is found out once per segment, not per
    /// frame.
    fn wanted_whole(&self, interest: Interest<'_>) -> bool {
        let own = !interest.single || self.places.iter().all(|place| place.content == Content::Own);
        own && self.audiences.iter().all(|audience| audience.reaches(interest.filter))
    }

    /// WebSocket frames behind a number in one piece that shares this segment's memory, and the
    /// number of the last of them; `None` when a subscriber does not want every frame.
    ///
    /// The piece has at most `max_bytes`, unless its one frame has more.
    pub fn piece_if_whole(
        &self,
        after: Seq,
        interest: Interest<'_>,
        max_bytes: usize,
    ) -> Option<(Bytes, Seq)> {
        if !self.wanted_whole(interest) {
            return None;
        }
        let first = self.places.partition_point(|place| place.seq <= after);
        let start = self.places.get(first)?.start;
        let behind =
            self.places.partition_point(|place| place.end - start.min(place.end) <= max_bytes);
        let last = self.places.get(behind.max(first + 1) - 1)?;
        Some((self.text.slice(start..last.end), last.seq))
    }

    /// The frames behind a number that a subscriber wants.
    pub fn wanted<'a>(
        &'a self,
        after: Seq,
        interest: Interest<'a>,
    ) -> impl Iterator<Item = &'a Place> {
        let first = self.places.partition_point(|place| place.seq <= after);
        let reached: Vec<bool> =
            self.audiences.iter().map(|audience| audience.reaches(interest.filter)).collect();
        self.places.iter().skip(first).filter(move |place| {
            let reaches = reached.get(place.audience).copied().unwrap_or(false);
            reaches && (!interest.single || place.content == Content::Own)
        })
    }

    /// A frame as a whole WebSocket frame, header included.
    pub fn websocket(&self, place: &Place) -> &[u8] {
        self.text.get(place.start..place.end).unwrap_or_default()
    }

    /// A frame as a whole WebSocket frame that shares this segment's memory.
    pub fn websocket_bytes(&self, place: &Place) -> Bytes {
        self.text.slice(place.start..place.end)
    }

    /// A frame's JSON text.
    pub fn json(&self, place: &Place) -> &[u8] {
        self.text.get(place.json..place.end).unwrap_or_default()
    }

    /// Every frame's JSON text, in order.
    pub fn all_json(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| self.json(place))
    }
}

/// Counts the frames of a batch by their durability.
pub(super) fn by_durability(batch: &FrameBatch) -> [(Durability, u64); 3] {
    let mut counts =
        [(Durability::Ephemeral, 0), (Durability::Recorded, 0), (Durability::DurableFirst, 0)];
    for frame in batch.frames() {
        for (durability, count) in &mut counts {
            *count += u64::from(*durability == frame.durability);
        }
    }
    counts
}

/// Puts a WebSocket text frame's header in front of a payload.
pub fn text_frame(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + LONGEST_HEADER);
    put_header(&mut frame, payload.len());
    frame.put_slice(payload);
    frame.freeze()
}

/// Writes the header of an unmasked, unfragmented text frame (RFC 6455 §5.2).
fn put_header(frame: &mut BytesMut, length: usize) {
    /// FIN and the opcode of a text frame.
    const FIN_TEXT: u8 = 0x81;
    frame.put_u8(FIN_TEXT);
    match length {
        0..=125 => frame.put_u8(u8::try_from(length).unwrap_or(125)),
        126..=65_535 => {
            frame.put_u8(126);
            frame.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::ids::ThreadId;
    use serde_json::{Value, json};

    #[test]
    fn headers_are_those_of_rfc_6455() {
        assert_eq!(text_frame(b"hi").as_ref(), b"\x81\x02hi");
        let medium = vec![b'x'; 126];
        assert_eq!(&text_frame(&medium)[..4], b"\x81\x7e\x00\x7e");
        let large = vec![b'x'; 65_536];
        let frame = text_frame(&large);
        assert_eq!(&frame[..10], b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
        assert_eq!(frame.len(), 65_546);
    }

    fn segment() -> Segment {
        let mut batch = FrameBatch::default();
        let thread = |id| Audience::Thread(ThreadId::parse(id).unwrap());
        for (kind, audience) in
            [("one", thread("a")), ("two", thread("b")), ("three", Audience::Everyone)]
        {
            batch.push(kind, &audience, None, Durability::Recorded, &json!({"n": kind})).unwrap();
        }
        let mut seq = 9;
        let epoch = Epoch::parse("e1").unwrap();
        Segment::encode(&batch, &epoch, Seq(9), 0, || {
            seq += 1;
            Seq(seq)
        })
    }

    fn kinds(segment: &Segment, after: u64, filter: Option<&str>) -> Vec<String> {
        let interest = Interest { filter, single: false };
        let texts = segment.wanted(Seq(after), interest).map(|place| segment.json(place));
        texts
            .map(|text| serde_json::from_slice::<Value>(text).unwrap()["type"].to_string())
            .collect()
    }

    #[test]
    fn frames_carry_their_numbers_in_front_and_reach_whom_they_are_for() {
        let segment = segment();
        let first: Value = serde_json::from_slice(segment.all_json().next().unwrap()).unwrap();
        let wanted = json!({"seq": 10, "epoch": "e1", "type": "one", "threadId": "a", "payload": {"n": "one"}});
        assert_eq!(first, wanted);
        assert_eq!((segment.last(), segment.len()), (Seq(12), 3));
        assert_eq!(kinds(&segment, 0, None).len(), 3);
        assert_eq!(kinds(&segment, 10, None).len(), 2);
        assert_eq!(kinds(&segment, 0, Some("b")), ["\"two\"", "\"three\""]);
    }

    #[test]
    fn a_segment_that_is_wanted_whole_is_one_piece() {
        let segment = segment();
        let all = Interest { filter: None, single: false };
        let (rest, last) = segment.piece_if_whole(Seq(10), all, usize::MAX).unwrap();
        assert_eq!(rest.iter().filter(|byte| **byte == 0x81).count(), 2);
        assert_eq!(last, Seq(12));
        let (one, last) = segment.piece_if_whole(Seq(9), all, 1).unwrap();
        assert_eq!(one.iter().filter(|byte| **byte == 0x81).count(), 1);
        assert_eq!(last, Seq(10), "a piece has a frame at least");
        assert_eq!(segment.piece_if_whole(Seq(12), all, 1), None);
        let filtered = Interest { filter: Some("a"), single: false };
        assert_eq!(segment.piece_if_whole(Seq(0), filtered, 1), None);
    }
}
