//! A bounded reader of newline-delimited frames.
//!
//! `tokio_util`'s `LinesCodec` ends its stream after the first oversized line, so one bad line
//! would silence a child for good. This reader turns such a line into an event, skips to the next
//! newline and goes on.

use bytes::{Buf, Bytes, BytesMut};

/// Longest line that is passed on by default, in bytes (64 MiB).
pub const DEFAULT_LINE_CAP: usize = 64 * 1024 * 1024;

/// Capacity above which an empty buffer is given back, so that one big line does not pin memory.
const KEEP_CAPACITY: usize = 256 * 1024;

/// One frame of the child's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A complete line of valid UTF-8 without its line ending; never blank.
    Text(Bytes),
    /// A line over the cap. Its content was dropped.
    TooLong {
        /// Length of the whole line in bytes, without the newline.
        bytes: u64,
    },
    /// A complete line that is not UTF-8. Its content was dropped.
    NotUtf8 {
        /// Length of the line in bytes.
        bytes: u64,
    },
    /// Bytes after the last newline when the stream ended.
    Partial {
        /// How many bytes were cut off.
        bytes: u64,
    },
}

/// Splits a byte stream into [`Line`]s.
///
/// Feed bytes with [`LineReader::push`], take lines with [`LineReader::next_line`] until it
/// answers `None`, and call [`LineReader::finish`] once at the end of the stream. Memory is
/// bounded by the cap plus one push.
#[derive(Debug)]
pub struct LineReader {
    /// Bytes that no returned line has consumed.
    buffer: BytesMut,
    /// How far `buffer` is known to hold no newline, so that a long line is scanned once.
    scanned: usize,
    /// Longest line that is passed on.
    cap: usize,
    /// Bytes of the oversized line being skipped; `None` outside of one.
    skipping: Option<u64>,
}

impl LineReader {
    /// Makes a reader that passes on lines of at most `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, cap, skipping: None }
    }

    /// Appends what was read from the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        if let Some(skipped) = self.skipping.as_mut() {
            // Nothing of an oversized line is kept, whatever its length.
            match memchr::memchr(b'\n', rest) {
                Some(_) => {}
                None => {
                    *skipped += rest.len() as u64;
                    rest = &[];
                }
            }
        }
        self.buffer.extend_from_slice(rest);
    }

    /// The next complete line, or `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[self.scanned..]);
            let Some(offset) = newline else {
                self.scanned = self.buffer.len();
                if self.skipping.is_none() && self.buffer.len() > self.cap {
                    self.skipping = Some(self.buffer.len() as u64);
                    self.reset();
                } else if self.buffer.is_empty() && self.buffer.capacity() > KEEP_CAPACITY {
                    self.reset();
                }
                return None;
            };
            let end = self.scanned + offset;
            let line = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.scanned = 0;
            if let Some(skipped) = self.skipping.take() {
                return Some(Line::TooLong { bytes: skipped + line.len() as u64 });
            }
            let line = match line.last() {
                Some(b'\r') => line.slice(..line.len() - 1),
                _ => line,
            };
            if line.len() > self.cap {
                return Some(Line::TooLong { bytes: line.len() as u64 });
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(match std::str::from_utf8(&line) {
                Ok(_) => Line::Text(line),
                Err(_) => Line::NotUtf8 { bytes: line.len() as u64 },
            });
        }
    }

    /// What is left when the stream has ended.
    pub fn finish(&mut self) -> Option<Line> {
        if let Some(skipped) = self.skipping.take() {
            let bytes = skipped + self.buffer.len() as u64;
            self.reset();
            return Some(Line::TooLong { bytes });
        }
        if self.buffer.iter().all(u8::is_ascii_whitespace) {
            self.reset();
            return None;
        }
        let bytes = self.buffer.len() as u64;
        self.reset();
        Some(Line::Partial { bytes })
    }

    fn reset(&mut self) {
        self.buffer = BytesMut::new();
        self.scanned = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(reader: &mut LineReader, chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(line) = reader.next_line() {
                lines.push(line);
            }
        }
        lines.extend(reader.finish());
        lines
    }

    fn text(value: &str) -> Line {
        Line::Text(Bytes::copy_from_slice(value.as_bytes()))
    }

    #[test]
    fn a_character_split_over_reads_is_put_together() {
        let whole = "{\"t\":\"äöü🦀\"}\n".as_bytes();
        for cut in 0..whole.len() {
            let mut reader = LineReader::new(1024);
            let lines = read_all(&mut reader, &[&whole[..cut], &whole[cut..]]);
            assert_eq!(lines, vec![text("{\"t\":\"äöü🦀\"}")], "cut at {cut}");
        }
    }

    #[test]
    fn an_oversized_line_is_an_event_and_the_stream_goes_on() {
        let mut reader = LineReader::new(8);
        let lines = read_all(&mut reader, &[b"0123", b"456789", b"abc", b"def\nok\n"]);
        assert_eq!(lines, vec![Line::TooLong { bytes: 16 }, text("ok")]);
    }

    #[test]
    fn an_oversized_line_inside_one_read_is_an_event() {
        let mut reader = LineReader::new(4);
        let lines = read_all(&mut reader, &[b"a\n0123456\nb\n"]);
        assert_eq!(lines, vec![text("a"), Line::TooLong { bytes: 7 }, text("b")]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_an_event() {
        let mut reader = LineReader::new(64);
        let lines = read_all(&mut reader, &[b"\xff\xfe\nok\r\n\n \n"]);
        assert_eq!(lines, vec![Line::NotUtf8 { bytes: 2 }, text("ok")]);
    }

    #[test]
    fn half_a_line_at_the_end_is_reported() {
        let mut reader = LineReader::new(64);
        let lines = read_all(&mut reader, &[b"{}\n{\"id\":"]);
        assert_eq!(lines, vec![text("{}"), Line::Partial { bytes: 6 }]);
    }

    #[test]
    fn memory_stays_bounded_while_skipping() {
        let mut reader = LineReader::new(1024);
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..64 {
            reader.push(&chunk);
            assert_eq!(reader.next_line(), None);
            assert!(reader.buffer.capacity() <= 256 * 1024);
        }
        reader.push(b"\n{}\n");
        assert_eq!(reader.next_line(), Some(Line::TooLong { bytes: 64 * 64 * 1024 }));
        assert_eq!(reader.next_line(), Some(text("{}")));
    }

    proptest! {
        #[test]
        fn where_reads_are_cut_makes_no_difference(
            lines in prop::collection::vec("[a-zäé🦀 ]{0,24}", 0..12),
            cuts in prop::collection::vec(0usize..400, 0..10),
        ) {
            let whole: Vec<u8> = lines.iter().flat_map(|l| [l.as_bytes(), b"\n"].concat()).collect();
            let mut reference = LineReader::new(32);
            let expected = read_all(&mut reference, &[&whole]);
            let mut points: Vec<usize> = cuts.iter().map(|c| c % (whole.len() + 1)).collect();
            points.extend([0, whole.len()]);
            points.sort_unstable();
            let chunks: Vec<&[u8]> = points.windows(2).map(|w| &whole[w[0]..w[1]]).collect();
            let mut reader = LineReader::new(32);
            prop_assert_eq!(read_all(&mut reader, &chunks), expected);
        }
    }
}
