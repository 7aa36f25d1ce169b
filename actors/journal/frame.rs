//! Frames as they lie in the ring.

use std::sync::Arc;

use actix::prelude::*;
use bytes::{BufMut, Bytes, BytesMut};
use cm_core::event::{Audience, FrameBody};
use cm_core::ids::{Epoch, Seq};

/// A numbered frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its number.
    pub seq: Seq,
    /// Who receives it.
    pub audience: Audience,
    /// A whole WebSocket text frame (RFC 6455 §5.2), unmasked, header included.
    pub websocket: Bytes,
    /// Where the JSON text begins in [`Frame::websocket`].
    pub header: usize,
}

impl Frame {
    /// Numbers and encodes a body.
    pub fn encode(body: &FrameBody, epoch: &Epoch, seq: Seq) -> Self {
        let text = body.numbered(epoch, seq);
        let (websocket, header) = text_frame(text.as_bytes());
        Self { seq, audience: body.audience.clone(), websocket, header }
    }

    /// The JSON text.
    pub fn json(&self) -> &[u8] {
        self.websocket.get(self.header..).unwrap_or_default()
    }

    /// Whether a subscriber with this filter receives it.
    pub fn reaches(&self, filter: Option<&str>) -> bool {
        match (&self.audience, filter) {
            (Audience::Everyone, _) | (_, None) => true,
            (Audience::Thread(thread), Some(filter)) => thread.as_str() == filter,
            (Audience::Unfiltered, Some(_)) => false,
        }
    }
}

/// Puts a WebSocket text frame's header in front of a payload; answers the header's length too.
pub fn text_frame(payload: &[u8]) -> (Bytes, usize) {
    /// FIN and the opcode of a text frame.
    const FIN_TEXT: u8 = 0x81;
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(FIN_TEXT);
    match payload.len() {
        length @ 0..=125 => frame.put_u8(u8::try_from(length).unwrap_or(125)),
        length @ 126..=65_535 => {
            frame.put_u8(126);
            frame.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    let header = frame.len();
    frame.put_slice(payload);
    (frame.freeze(), header)
}

/// Frames that were published together.
#[derive(Debug)]
pub struct Segment {
    /// The last number before this segment; a worker that has another one as its last asks for
    /// what it missed.
    pub follows: Seq,
    /// The frames, in order; never empty.
    pub frames: Vec<Frame>,
    /// Bytes of all frames.
    pub bytes: usize,
}

impl Segment {
    /// The number of the last frame.
    pub fn last(&self) -> Seq {
        self.frames.last().map_or(self.follows, |frame| frame.seq)
    }
}

/// Tells a worker of new frames. Sent by the journal once per batch.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct NewSegment(pub Arc<Segment>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_rfc_6455() {
        assert_eq!(text_frame(b"hi").0.as_ref(), b"\x81\x02hi");
        let medium = vec![b'x'; 126];
        assert_eq!(&text_frame(&medium).0[..4], b"\x81\x7e\x00\x7e");
        let large = vec![b'x'; 65_536];
        let (frame, header) = text_frame(&large);
        assert_eq!(&frame[..10], b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
        assert_eq!((header, frame.len()), (10, 65_546));
    }
}
