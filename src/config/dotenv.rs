//! Reads `.env` files: `KEY=value`, `export KEY=value`, quotes, comments.

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Name of the variable.
    pub(super) name: String,
    /// Its value, quotes and escapes resolved.
    pub(super) value: String,
    /// Line on which it begins, counted from 1.
    pub(super) line: usize,
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DotEnv {
    /// Assignments in the order of the file; a later one wins.
    pub(super) assignments: Vec<Assignment>,
    /// Lines that are no assignment: number and reason. Other readers skip them, and so do we.
    pub(super) skipped: Vec<(usize, &'static str)>,
    /// A quote that is never closed: its line. What follows cannot be trusted.
    pub(super) unclosed: Option<usize>,
}

/// Reads the text of a `.env` file.
pub(super) fn parse(text: &str) -> DotEnv {
    let mut result = DotEnv::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let statement = first.trim();
        if statement.is_empty() || statement.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let Some((name, value)) = first.split_once('=') else {
            result.skipped.push((line, "no `=`"));
            (rest, line) = (after, line + 1);
            continue;
        };
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim);
        if !is_name(name) {
            result.skipped.push((line, "not a name before the `=`"));
            (rest, line) = (after, line + 1);
            continue;
        }
        let value = value.trim_start_matches([' ', '\t']);
        let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
            let value = unquoted(value).to_owned();
            result.assignments.push(Assignment { name: name.to_owned(), value, line });
            (rest, line) = (after, line + 1);
            continue;
        };
        // A quoted value may go on over several lines.
        let opening = first.len() - value.len();
        let quoted = &rest[opening + 1..];
        let Some((value, consumed)) = closed(quoted, quote) else {
            result.unclosed = Some(line);
            return result;
        };
        result.assignments.push(Assignment { name: name.to_owned(), value, line });
        let behind = &quoted[consumed..];
        line += quoted[..consumed].matches('\n').count() + 1;
        rest = behind.split_once('\n').map_or("", |(_, after)| after);
    }
    result
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// A value without quotes ends at a comment: a `#` at its start or behind white space.
fn unquoted(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let comment = [" #", "\t#"].iter().filter_map(|mark| value.find(mark)).min();
    value[..comment.unwrap_or(value.len())].trim()
}

/// The value up to its closing quote, and how many bytes it took with the quote.
fn closed(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, at + letter.len_utf8())),
            '\\' if quote == '"' => match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        let parsed = parse(text);
        parsed.assignments.into_iter().map(|one| (one.name, one.value, one.line)).collect()
    }

    #[test]
    fn assignments_in_every_spelling() {
        let text = "\u{feff}# comment\nPLAIN=one two # comment\r\nexport SHELL_STYLE = x\n\n\
            EMPTY=\nHASH=a#b\nSINGLE='a \\n # b'\nDOUBLE=\"a \\\"b\\\" \\n\" # c\n\
            LONG=\"first\nsecond\"\nLAST=z";
        let expected = [
            ("PLAIN", "one two", 2),
            ("SHELL_STYLE", "x", 3),
            ("EMPTY", "", 5),
            ("HASH", "a#b", 6),
            ("SINGLE", "a \\n # b", 7),
            ("DOUBLE", "a \"b\" \n", 8),
            ("LONG", "first\nsecond", 9),
            ("LAST", "z", 11),
        ];
        let expected: Vec<_> =
            expected.map(|(name, value, line)| (name.to_owned(), value.to_owned(), line)).into();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn what_is_no_assignment_is_skipped_with_its_line() {
        let parsed = parse("nonsense\n=x\n1A=x\nGOOD=1\nBAD NAME=2\n");
        let lines: Vec<usize> = parsed.skipped.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 5]);
        assert_eq!(parsed.assignments.len(), 1);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_noticed() {
        assert_eq!(parse("A=1\nB=\"open\nC=2").unclosed, Some(2));
        assert_eq!(parse("B='").unclosed, Some(1));
        assert_eq!(parse("B=\"\\").unclosed, Some(1));
    }
}
