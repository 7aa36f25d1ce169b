//! Makes terminal-control characters visible, so that nothing that came from a server, a model or
//! a command can move the cursor, hide text or rewrite what was printed before.

/// Text of several lines. Line breaks and tabs stay; `\r\n` becomes a line break.
pub(crate) fn visible(text: &str) -> String {
    escape(text, true, false)
}

/// Text that a person decides upon. Also shows characters that take no room on the screen, such
/// as zero-width spaces, because they make two different commands look alike.
pub(crate) fn visible_strict(text: &str) -> String {
    escape(text, true, true)
}

/// Text that must stay on one line: titles, paths, ids.
pub(crate) fn visible_line(text: &str) -> String {
    escape(text, false, true)
}

/// JSON text on one line, with the same value.
///
/// Raw control characters can stand only between the tokens of valid JSON, where a space means the
/// same; all others stand inside of strings, where an escape means the same.
pub(crate) fn one_line_json(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character < ' ' {
            line.push(' ');
        } else if is_control(character) || reorders(character) {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(character);
        }
    }
    line
}

fn escape(text: &str, keep_lines: bool, strict: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let kept = match character {
            '\n' => keep_lines,
            '\t' => true,
            '\r' if keep_lines && characters.peek() == Some(&'\n') => continue,
            _ => {
                let hidden = strict && takes_no_room(character);
                !(is_control(character) || reorders(character) || hidden)
            }
        };
        if kept {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// C0, DEL and C1: what terminals act upon.
fn is_control(character: char) -> bool {
    character.is_control()
}

/// Separators that terminals break lines at and marks that turn the direction of writing.
fn reorders(character: char) -> bool {
    matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a width of their own.
fn takes_no_room(character: char) -> bool {
    matches!(
        character,
        '\u{00ad}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2064}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\x1b[2Jb\x07\u{9b}1m"), "a\\u{1b}[2Jb\\u{7}\\u{9b}1m");
        assert_eq!(visible("one\r\ntwo\rthree\tfour\n"), "one\ntwo\\rthree\tfour\n");
        assert_eq!(visible("safe\u{202e}gpj"), "safe\\u{202e}gpj");
        assert_eq!(visible_line("a\nb"), "a\\nb");
        assert_eq!(visible("größe 👨\u{200d}👩"), "größe 👨\u{200d}👩");
        assert_eq!(visible_strict("rm\u{200b} x"), "rm\\u{200b} x");
    }

    #[test]
    fn json_keeps_its_value_on_one_line() {
        let text = "{\"a\":\r\n \"x\u{9b}\u{202e}\u{7f}\"}";
        let line = one_line_json(text);
        assert_eq!(line, "{\"a\":   \"x\\u009b\\u202e\\u007f\"}");
        let before: serde_json::Value = serde_json::from_str(text).unwrap();
        let after: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(before, after);
    }
}
