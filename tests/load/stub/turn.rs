//! Plays a turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::lines::{self, EMITTED_AT, Ids};
use super::orders::Order;
use super::output::Output;
use crate::clock::monotonic_ns;

/// Bytes of prepared lines that go out in one write; at least 64 KiB, so that neither the stub
/// nor the reader is bound by system calls.
const BLOCK_BYTES: usize = 256 * 1024;

/// How often a turn that hangs looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(20);

/// What begins every turn: its start and the user's message.
pub(super) fn opening(ids: &Ids, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let turn = lines::turn(&ids.turn, "inProgress");
    lines::notify(&mut out, "turn/started", &json!({ "threadId": ids.thread, "turn": turn }));
    let content = json!([{ "type": "text", "text": text, "text_elements": [] }]);
    let user = json!({ "type": "userMessage", "id": lines::new_id(), "content": content });
    lines::item(&mut out, ids, "item/started", &user);
    lines::item(&mut out, ids, "item/completed", &user);
    out
}

/// What ends every turn.
pub(super) fn closing(ids: &Ids, interrupted: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let status = if interrupted { "interrupted" } else { "completed" };
    let turn = lines::turn(&ids.turn, status);
    lines::notify(&mut out, "turn/completed", &json!({ "threadId": ids.thread, "turn": turn }));
    out
}

/// Carries out the orders until they are done or the turn is interrupted.
pub(super) fn play(output: &Output, ids: &Ids, orders: &[Order], interrupted: &AtomicBool) {
    let turn = Turn { output, ids, interrupted };
    for order in orders {
        if turn.over() {
            return;
        }
        match *order {
            Order::Flood { count, bytes } => turn.flood(count, bytes),
            Order::Pace { rate, seconds } => turn.pace(rate, seconds),
            Order::Line { bytes } => turn.line(bytes),
            Order::Items { count, bytes } => turn.items(count, bytes),
            Order::Hang => {
                while !turn.over() {
                    std::thread::sleep(LOOK);
                }
            }
        }
    }
}

struct Turn<'a> {
    output: &'a Output,
    ids: &'a Ids,
    interrupted: &'a AtomicBool,
}

impl Turn<'_> {
    fn over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Emits a message around its deltas. The completed message repeats nothing of them: its
    /// size would be measured with theirs.
    fn message(&self, deltas: impl FnOnce(&str)) {
        let id = lines::new_id();
        let mut begin = Vec::new();
        lines::item(&mut begin, self.ids, "item/started", &lines::message(&id, ""));
        self.output.write(&begin);
        deltas(&id);
        let mut end = Vec::new();
        lines::item(&mut end, self.ids, "item/completed", &lines::message(&id, "all of it"));
        self.output.write(&end);
    }

    fn flood(&self, count: u64, bytes: usize) {
        self.message(|item| {
            let mut block = Vec::with_capacity(BLOCK_BYTES + 1024 + bytes);
            let mut in_block = 0;
            while in_block < count && block.len() < BLOCK_BYTES {
                let text = filler(in_block, bytes);
                lines::delta(&mut block, self.ids, item, &text);
                in_block += 1;
            }
            let mut left = count;
            while left > 0 && !self.over() {
                let now = left.min(in_block);
                let length = if now == in_block { block.len() } else { ends(&block, now) };
                if !self.output.write(&block[..length]) {
                    return;
                }
                left -= now;
            }
        });
    }

    fn pace(&self, rate: u64, seconds: u64) {
        self.message(|item| {
            let (began, interval) = (Instant::now(), Duration::from_secs(1) / narrow(rate));
            let mut line = Vec::with_capacity(512);
            for number in 0..rate * seconds {
                let due = began + interval * narrow(number);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if self.over() {
                    return;
                }
                line.clear();
                let text = format!("{EMITTED_AT}{}{EMITTED_AT}", monotonic_ns());
                lines::delta(&mut line, self.ids, item, &text);
                if !self.output.write(&line) {
                    return;
                }
            }
        });
    }

    fn line(&self, bytes: usize) {
        const MARK: &str = "MARK";
        let mut whole = Vec::new();
        let message = lines::message(&lines::new_id(), MARK);
        lines::item(&mut whole, self.ids, "item/completed", &message);
        let text = String::from_utf8_lossy(&whole).into_owned();
        let Some((head, tail)) = text.split_once(MARK) else { return };
        let filler = vec![b'x'; BLOCK_BYTES];
        let middle = bytes.saturating_sub(head.len() + tail.len());
        let full = std::iter::repeat_n(filler.as_slice(), middle / BLOCK_BYTES);
        let rest = &filler[..middle % BLOCK_BYTES];
        let pieces = std::iter::once(head.as_bytes()).chain(full).chain([rest, tail.as_bytes()]);
        self.output.write_all(pieces);
    }

    fn items(&self, count: u64, bytes: usize) {
        let text = "x".repeat(bytes);
        let mut block = Vec::new();
        for number in 0..count {
            let message = lines::message(&format!("msg_{number}_{}", self.ids.turn), &text);
            lines::item(&mut block, self.ids, "item/completed", &message);
            if block.len() >= BLOCK_BYTES || number + 1 == count {
                if self.over() || !self.output.write(&block) {
                    return;
                }
                block.clear();
            }
        }
    }
}

/// Text of a delta; it differs from line to line.
fn filler(number: u64, bytes: usize) -> String {
    let mut text = format!("word {number} ");
    while text.len() < bytes {
        text.push_str("of a long answer ");
    }
    text.truncate(bytes);
    text
}

/// Where the n-th line of a block ends.
fn ends(block: &[u8], lines: u64) -> usize {
    let nth = usize::try_from(lines).unwrap_or(usize::MAX).saturating_sub(1);
    memchr::memchr_iter(b'\n', block).nth(nth).map_or(block.len(), |end| end + 1)
}

/// Durations multiply by 32 bits; four billion of anything is beyond every scenario.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(u32::from(number > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filler_has_the_length_that_was_asked_for() {
        for bytes in [0, 1, 16, 512] {
            assert_eq!(filler(1_234, bytes).len(), bytes);
        }
    }

    #[test]
    fn a_block_is_cut_behind_a_line() {
        assert_eq!(ends(b"a\nbb\nccc\n", 2), 5);
        assert_eq!(ends(b"a\nbb\nccc\n", 9), 9);
    }
}
