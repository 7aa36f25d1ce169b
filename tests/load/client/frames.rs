//! Frames of the stream in raw bytes: headers are read, payloads passed over.

use memchr::memmem::Finder;

/// FIN and the opcode of a close frame (RFC 6455 §5.5.1).
const CLOSE: u8 = 0x88;

/// Longest header of an unmasked frame.
const HEADER: usize = 10;

/// How much of a payload is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its type.
    Beginning,
    /// A whole delta.
    Delta,
}

impl Depth {
    fn bytes(self) -> usize {
        match self {
            Self::Beginning => 256,
            Self::Delta => 4096,
        }
    }
}

/// The most that is kept of one read for the next.
pub(super) const CARRY: usize = HEADER + 4096;

/// A frame as it was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// How the payload begins.
    pub(super) beginning: &'a [u8],
    /// The code of a close frame.
    pub(super) close: Option<u16>,
}

/// Finds the frames of one connection across its reads.
#[derive(Debug)]
pub(super) struct Scanner {
    depth: Depth,
    /// Bytes of the current payload that are still to come.
    skip: usize,
    /// What was not enough to tell; to be put in front of the next read.
    pub(super) carry: Vec<u8>,
}

impl Scanner {
    pub(super) fn new(depth: Depth) -> Self {
        Self { depth, skip: 0, carry: Vec::new() }
    }

    /// Scans what was read, the carry of the last scan in front of it.
    pub(super) fn scan(&mut self, mut data: &[u8], mut found: impl FnMut(Frame<'_>)) {
        self.carry.clear();
        loop {
            let passed = self.skip.min(data.len());
            data = &data[passed..];
            self.skip -= passed;
            let Some((header, payload)) = lengths(data) else { break };
            let shown = payload.min(self.depth.bytes());
            let Some(beginning) = data.get(header..header + shown) else { break };
            let close = (data[0] == CLOSE).then(|| match beginning {
                [high, low, ..] => u16::from_be_bytes([*high, *low]),
                // A close frame without a code.
                _ => 1005,
            });
            found(Frame { beginning, close });
            data = &data[header + shown..];
            self.skip = payload - shown;
        }
        self.carry.extend_from_slice(data);
    }
}

/// The lengths of the header and of the payload of the frame that data begins with.
fn lengths(data: &[u8]) -> Option<(usize, usize)> {
    match *data.get(1)? & 0x7f {
        126 => {
            let bytes = data.get(2..4)?.try_into().ok()?;
            Some((4, usize::from(u16::from_be_bytes(bytes))))
        }
        127 => {
            let bytes = data.get(2..10)?.try_into().ok()?;
            Some((10, usize::try_from(u64::from_be_bytes(bytes)).ok()?))
        }
        short => Some((2, usize::from(short))),
    }
}

/// What tells frames apart.
#[derive(Debug)]
pub(super) struct Marks {
    method: Finder<'static>,
    event: Finder<'static>,
    delta: Finder<'static>,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self {
            method: Finder::new("turn/completed\""),
            event: Finder::new("turn.completed\""),
            delta: Finder::new("\"delta\":\"@"),
        }
    }

    /// Whether a turn has ended: true for every frame of that notification.
    pub(super) fn is_end(&self, frame: &Frame<'_>) -> bool {
        self.method.find(frame.beginning).is_some() || self.event.find(frame.beginning).is_some()
    }

    /// When the line of a paced delta was emitted.
    pub(super) fn emitted_at(&self, frame: &Frame<'_>) -> Option<u64> {
        let begin = self.delta.find(frame.beginning)? + self.delta.needle().len();
        let rest = &frame.beginning[begin..];
        let digits = &rest[..memchr::memchr(b'@', rest)?];
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x81];
        match payload.len() {
            length @ 0..=125 => frame.push(u8::try_from(length).unwrap()),
            length @ 126..=65_535 => {
                frame.push(126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(
            sizes in prop::collection::vec(
                prop_oneof![0usize..300, 4_000usize..9_000, Just(70_000usize)],
                1..20,
            ),
            cuts in prop::collection::vec(1usize..5_000, 1..50),
        ) {
            let payload = |number: usize, size| vec![u8::try_from(number % 251).unwrap(); size];
            let payloads: Vec<_> =
                sizes.iter().enumerate().map(|(number, size)| payload(number, *size)).collect();
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            for depth in [Depth::Beginning, Depth::Delta] {
                let mut scanner = Scanner::new(depth);
                let mut found = Vec::new();
                let (mut at, mut cut) = (0, 0);
                while at < stream.len() {
                    let end = stream.len().min(at + cuts[cut % cuts.len()]);
                    let mut data = scanner.carry.clone();
                    prop_assert!(data.len() <= CARRY);
                    data.extend_from_slice(&stream[at..end]);
                    scanner.scan(&data, |frame| found.push(frame.beginning.to_vec()));
                    (at, cut) = (end, cut + 1);
                }
                let shown = |payload: &Vec<u8>| payload[..payload.len().min(depth.bytes())].to_vec();
                prop_assert_eq!(&found, &payloads.iter().map(shown).collect::<Vec<_>>());
                prop_assert!(scanner.carry.is_empty());
            }
        }
    }

    #[test]
    fn a_close_an_end_and_a_time_are_recognised() {
        let marks = Marks::new();
        let text = |text: &str| {
            let mut seen = (false, None);
            Scanner::new(Depth::Delta).scan(&frame(text.as_bytes()), |frame| {
                seen = (marks.is_end(&frame), marks.emitted_at(&frame));
            });
            seen
        };
        assert_eq!(text(r#"{"payload":{"method":"turn/completed"}}"#), (true, None));
        assert_eq!(text(r#"{"type":"app_server.turn.completed"}"#), (true, None));
        assert_eq!(text(r#"{"params":{"delta":"@1234@"}}"#), (false, Some(1234)));
        assert_eq!(text(r#"{"params":{"delta":"1234"}}"#), (false, None));
        let mut close = None;
        Scanner::new(Depth::Beginning).scan(b"\x88\x02\x03\xf5", |frame| close = frame.close);
        assert_eq!(close, Some(1013));
    }
}
