//! The directives and how they are read out of a message.

/// One directive, as shown by `/help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectiveHelp {
    /// How to write it.
    pub usage: &'static str,
    /// What it does.
    pub effect: &'static str,
}

const fn help(usage: &'static str, effect: &'static str) -> DirectiveHelp {
    DirectiveHelp { usage, effect }
}

/// Every directive that the guided agent understands: one per line, carried out in order.
pub const DIRECTIVES: &[DirectiveHelp] = &[
    help("/run <shell command>", "runs a command in the workspace, after an approval"),
    help("/write <path>", "writes the following lines, up to /end, to a file, after an approval"),
    help("/delete <path>", "deletes a file, after an approval"),
    help("/ask <question> | option | option…", "asks you a question, with or without options"),
    help("/call <tool> <json>", "calls a tool that the client declared (tool or namespace.tool)"),
    help("/think <text>", "shows reasoning"),
    help("/plan step; step; step", "shows a plan"),
    help("/say <text>", "answers with exactly this text"),
    help("/slow <n> <ms> [text]", "streams an answer in n pieces, one every ms milliseconds"),
    help("/flood <n> <bytes>", "streams n pieces of this size as fast as possible"),
    help("/fail <message>", "ends the turn with this error"),
    help("/help", "lists the directives"),
];

/// A directive that was understood, or what to say about one that was not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Run(String),
    Write {
        path: String,
        content: String,
    },
    Delete(String),
    Ask {
        question: String,
        options: Vec<String>,
    },
    Call {
        tool: String,
        arguments: serde_json::Value,
    },
    Think(String),
    Plan(Vec<String>),
    Say(String),
    Slow {
        pieces: usize,
        every_ms: u64,
        text: String,
    },
    Flood {
        pieces: usize,
        bytes: usize,
    },
    Fail(String),
    Help,
    /// A message without any directive.
    Plain(String),
    /// A line that looks like a directive and is none.
    Wrong(String),
}

/// Pieces of one `/slow` or `/flood`.
const MAX_PIECES: usize = 1_000_000;
/// Milliseconds between two pieces of `/slow`.
const MAX_EVERY_MS: u64 = 60_000;
/// Bytes of one piece of `/flood`.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Bytes of a whole `/flood`; its completed item repeats all of it in one line.
pub(super) const MAX_FLOOD_BYTES: usize = 16 * 1024 * 1024;

/// Reads a message. Lines that are no directive count only when there is no directive at all.
pub(super) fn parse(text: &str) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim().strip_prefix('/') else {
            continue;
        };
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let argument = argument.trim();
        let directive = match word {
            "write" if !argument.is_empty() => {
                let mut content = String::new();
                for line in lines.by_ref().take_while(|line| line.trim_end() != "/end") {
                    content.push_str(line);
                    content.push('\n');
                }
                Some(Directive::Write { path: argument.to_owned(), content })
            }
            _ => one_line(word, argument),
        };
        directives.push(directive.unwrap_or_else(|| Directive::Wrong(line.trim().to_owned())));
    }
    // A path or a stray slash in prose is not an attempt at a directive.
    if directives.iter().all(|directive| matches!(directive, Directive::Wrong(_)))
        && !text.trim_start().starts_with('/')
    {
        return vec![Directive::Plain(text.to_owned())];
    }
    directives
}

fn one_line(word: &str, argument: &str) -> Option<Directive> {
    let text = argument.to_owned();
    let present = !argument.is_empty();
    match word {
        "run" if present => Some(Directive::Run(text)),
        "delete" if present => Some(Directive::Delete(text)),
        "ask" if present => {
            let mut parts = argument.split('|').map(str::trim).filter(|part| !part.is_empty());
            let question = parts.next()?.to_owned();
            Some(Directive::Ask { question, options: parts.map(str::to_owned).collect() })
        }
        "call" if present => {
            let (tool, json) = argument.split_once(char::is_whitespace).unwrap_or((argument, "{}"));
            let arguments = serde_json::from_str(json).ok()?;
            Some(Directive::Call { tool: tool.to_owned(), arguments })
        }
        "think" if present => Some(Directive::Think(text)),
        "plan" if present => {
            let steps = argument.split(';').map(str::trim).filter(|step| !step.is_empty());
            Some(Directive::Plan(steps.map(str::to_owned).collect()))
        }
        "say" => Some(Directive::Say(text)),
        "fail" if present => Some(Directive::Fail(text)),
        "help" => Some(Directive::Help),
        "slow" => {
            let mut parts = argument.splitn(3, char::is_whitespace);
            let pieces = parts.next()?.parse::<usize>().ok()?.clamp(1, MAX_PIECES);
            let every_ms = parts.next()?.parse::<u64>().ok()?.min(MAX_EVERY_MS);
            let text = parts.next().unwrap_or("slow").to_owned();
            Some(Directive::Slow { pieces, every_ms, text })
        }
        "flood" => {
            let (pieces, bytes) = argument.split_once(char::is_whitespace)?;
            let bytes = bytes.trim().parse::<usize>().ok()?.clamp(1, MAX_PIECE_BYTES);
            let pieces = pieces.parse::<usize>().ok()?.clamp(1, MAX_PIECES);
            Some(Directive::Flood { pieces: pieces.min(MAX_FLOOD_BYTES / bytes), bytes })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_in_order_and_prose_around_them_is_left_out() {
        let found = parse("please\n/think hm\n/write a/b.txt\none\n /run x\n/end\n/plan a; b ;\n");
        let write = Directive::Write { path: "a/b.txt".into(), content: "one\n /run x\n".into() };
        let plan = Directive::Plan(vec!["a".into(), "b".into()]);
        assert_eq!(found, vec![Directive::Think("hm".into()), write, plan]);
    }

    #[test]
    fn bounds_hold_for_any_number() {
        let huge = format!("/flood {} {}", usize::MAX, usize::MAX);
        let [Directive::Flood { pieces, bytes }] = parse(&huge)[..] else { panic!("no flood") };
        assert!(pieces * bytes <= MAX_FLOOD_BYTES);
        assert_eq!(
            parse("/flood 99999999999999999999999 1"),
            vec![Directive::Wrong("/flood 99999999999999999999999 1".into())]
        );
    }

    #[test]
    fn a_path_in_prose_is_plain_text_and_an_unknown_directive_is_named() {
        assert!(matches!(parse("look at\n/etc/hosts please")[..], [Directive::Plain(_)]));
        assert!(matches!(parse("")[..], [Directive::Plain(_)]));
        assert_eq!(parse("/dance"), vec![Directive::Wrong("/dance".into())]);
        assert_eq!(parse("/call t {bad"), vec![Directive::Wrong("/call t {bad".into())]);
    }

    #[test]
    fn every_directive_in_the_table_is_understood() {
        for help in DIRECTIVES {
            let example = help.usage.replace("<json>", "{}").replace("<n>", "2");
            let example = example.replace("<ms>", "1").replace("<bytes>", "1");
            assert!(!matches!(parse(&example)[..], [Directive::Wrong(_)]), "{example}");
        }
    }
}
