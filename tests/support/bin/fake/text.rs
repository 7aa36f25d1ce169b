//! The text of long items, which the fake and the tests that read it back make alike.

use std::fmt::Write;

/// Bytes of one block of the text.
const BLOCK: usize = 64;

/// A text of exactly so many bytes: numbered blocks, so that a lost, doubled or moved piece shows,
/// each with characters that JSON escapes and one of two bytes.
pub(super) fn long_text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for number in 0..bytes / BLOCK {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{number:059}é\"\\");
    }
    text.extend(std::iter::repeat_n('.', bytes % BLOCK));
    text
}
