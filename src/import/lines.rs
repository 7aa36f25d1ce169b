//! A long file line by line, in bounded memory.

use std::io::{self, BufRead};

/// Longest line that is read, in bytes. Overflow rule: it is passed over and counted. A line that
/// somebody said something in is far shorter.
const MOST_LINE_BYTES: usize = 16 << 20;

/// Calls `visit` with each line as long as it answers true; says how many lines were too long or no
/// UTF-8.
pub(super) fn each_line(
    mut reader: impl BufRead,
    mut visit: impl FnMut(&str) -> bool,
) -> io::Result<usize> {
    let mut line = Vec::new();
    let mut passed_over = 0;
    loop {
        line.clear();
        let is_too_long = match take_line(&mut reader, &mut line)? {
            Taken::End => return Ok(passed_over),
            Taken::Whole => false,
            Taken::TooLong => true,
        };
        match std::str::from_utf8(&line) {
            Ok(text) if !is_too_long => {
                if !visit(text) {
                    return Ok(passed_over);
                }
            }
            _ => passed_over += 1,
        }
    }
}

enum Taken {
    Whole,
    TooLong,
    End,
}

fn take_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Taken> {
    let mut taken = Taken::End;
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Ok(taken);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let consumed = end.map_or(buffer.len(), |end| end + 1);
        match line.len() + piece.len() > MOST_LINE_BYTES {
            true => {
                line.clear();
                taken = Taken::TooLong;
            }
            false if matches!(taken, Taken::TooLong) => {}
            false => {
                line.extend_from_slice(piece);
                taken = Taken::Whole;
            }
        }
        reader.consume(consumed);
        if end.is_some() {
            return Ok(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<String>, usize) {
        let mut lines = Vec::new();
        let mut visit = |line: &str| {
            lines.push(line.chars().take(9).collect());
            true
        };
        let passed_over = each_line(io::BufReader::with_capacity(7, bytes), &mut visit).unwrap();
        (lines, passed_over)
    }

    #[test]
    fn lines_are_read_whole_and_the_last_one_needs_no_end() {
        assert_eq!(read(b"one\n\nthree three\nlast").0, ["one", "", "three thr", "last"]);
        assert_eq!(read(b""), (Vec::new(), 0));
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_passed_over() {
        let long = [&vec![b'x'; MOST_LINE_BYTES + 1][..], b"\nshort\n\xff\n"].concat();
        assert_eq!(read(&long), (vec!["short".to_owned()], 2));
    }

    #[test]
    fn reading_ends_when_enough_is_known() {
        let mut seen = 0;
        each_line(&b"a\nb\nc\n"[..], |_| {
            seen += 1;
            seen < 2
        })
        .unwrap();
        assert_eq!(seen, 2);
    }
}
