//! The last lines of a child's stderr: what a person needs to see when it fails.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ChildStderr;
use std::sync::Mutex;

use crate::exit::{ExitWatch, lock};
use crate::readiness::{PipeReading, set_nonblocking};

/// How many lines are kept.
pub const STDERR_LINES: usize = 50;

/// Longest kept line in bytes, after escaping; the rest is dropped and `…` appended.
pub const STDERR_LINE_BYTES: usize = 2_000;

/// Bytes asked for by one read.
const READ_BYTES: usize = 16 * 1024;

/// Is handed each line of stderr as it is kept, on the thread that reads it.
///
/// While it runs stderr is not read; after a panic it is not called again.
pub type StderrCallback = Box<dyn FnMut(&str) + Send>;

/// A ring of the last lines, fed with raw bytes.
#[derive(Debug, Default)]
pub(crate) struct StderrTail {
    lines: VecDeque<String>,
    /// The beginning of the line that has no end yet.
    open: Vec<u8>,
    /// Whether some of the open line was dropped.
    cut: bool,
}

impl StderrTail {
    /// Takes bytes and answers the lines that they complete.
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        let mut completed = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            let content = if ended { &piece[..piece.len() - 1] } else { piece };
            // Escaping never shortens a text, so bytes beyond the limit cannot be shown.
            let room = STDERR_LINE_BYTES.saturating_sub(self.open.len());
            self.cut |= content.len() > room;
            self.open.extend_from_slice(&content[..content.len().min(room)]);
            if ended {
                completed.extend(self.end_line());
            }
        }
        completed
    }

    /// Ends the open line; blank ones are not kept.
    fn end_line(&mut self) -> Option<String> {
        let line = self.open_line();
        self.open.clear();
        self.cut = false;
        let line = line?;
        if self.lines.len() == STDERR_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        Some(line)
    }

    fn open_line(&self) -> Option<String> {
        let content = self.open.strip_suffix(b"\r").unwrap_or(&self.open);
        if content.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        Some(printable(content, self.cut))
    }

    /// The kept lines, oldest first, and what there is of the open one.
    pub(crate) fn snapshot(&self) -> Vec<String> {
        let open = self.open_line();
        let skipped = usize::from(open.is_some() && self.lines.len() == STDERR_LINES);
        self.lines.iter().skip(skipped).cloned().chain(open).collect()
    }
}

/// Text that can be shown in a terminal and a log: no control characters, bounded.
fn printable(content: &[u8], cut: bool) -> String {
    let mut shown = String::with_capacity(content.len());
    let mut cut = cut;
    for character in String::from_utf8_lossy(content).chars() {
        let before = shown.len();
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        if shown.len() > STDERR_LINE_BYTES {
            shown.truncate(before);
            cut = true;
            break;
        }
    }
    if cut {
        shown.push('…');
    }
    shown
}

/// Body of the stderr thread: reads until the end, whether or not anybody listens.
pub(crate) fn drain(
    mut pipe: ChildStderr,
    tail: &Mutex<StderrTail>,
    mut callback: Option<StderrCallback>,
    exit: &ExitWatch,
) {
    if let Err(error) = set_nonblocking(&pipe) {
        tracing::warn!(%error, "cannot read a child's stderr");
        return;
    }
    let mut reading = PipeReading::new();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(count @ 1..) = reading.read(&mut pipe, &mut buffer, exit) {
        let completed = lock(tail).push(&buffer[..count]);
        report(&mut callback, &completed);
    }
    let last = lock(tail).end_line();
    report(&mut callback, last.as_slice());
}

fn report(callback: &mut Option<StderrCallback>, lines: &[String]) {
    let Some(call) = callback else { return };
    let outcome = catch_unwind(AssertUnwindSafe(|| lines.iter().for_each(|line| call(line))));
    if outcome.is_err() {
        *callback = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let mut tail = StderrTail::default();
        for number in 0..1_000 {
            tail.push(format!("line {number}\r\n\n").as_bytes());
        }
        tail.push(b"half");
        let lines = tail.snapshot();
        assert_eq!(lines.len(), STDERR_LINES);
        assert_eq!(lines.first().map(String::as_str), Some("line 951"));
        assert_eq!(lines.last().map(String::as_str), Some("half"));
        assert_eq!(tail.push(b" more\nx"), ["half more"]);
    }

    #[test]
    fn a_long_line_is_cut_and_held_in_bounded_memory() {
        let mut tail = StderrTail::default();
        for _ in 0..100 {
            assert!(tail.push(&[b'a'; 10_000]).is_empty());
        }
        assert!(tail.open.capacity() < 8 * STDERR_LINE_BYTES);
        let lines = tail.push(b"\nnext\n");
        assert_eq!(lines[0], format!("{}…", "a".repeat(STDERR_LINE_BYTES)));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn control_characters_and_broken_utf8_are_made_visible() {
        let mut tail = StderrTail::default();
        let lines = tail.push(b"\x1b[31mred\x07\x00 \xff \xc3\xa4\n");
        assert_eq!(lines, ["\\u{1b}[31mred\\u{7}\\u{0} \u{fffd} ä"]);
        let escaped = tail.push(&[[0x1b; 1_999].as_slice(), b"\n"].concat());
        assert!(escaped[0].len() <= STDERR_LINE_BYTES + '…'.len_utf8());
    }
}
