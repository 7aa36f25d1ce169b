//! Standard output for what was asked for, standard error for everything around it.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::options::ClientOptions;
use crate::visible::{one_line_json, visible, visible_line};

/// A way to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Dim,
    Bold,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    /// SGR parameters (ECMA-48 §8.3.117).
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Bold => Some("1"),
            Self::Red => Some("31"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Cyan => Some("36"),
        }
    }
}

/// One of the two outputs.
struct Sink {
    writer: Box<dyn Write>,
    /// Whether to use colours.
    colour: bool,
    /// Whether both outputs may meet on one screen.
    terminal: bool,
    /// Whether the last line is unfinished.
    mid_line: bool,
}

impl Sink {
    fn write(&mut self, text: &str, style: Style) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match style.code().filter(|_| self.colour) {
            Some(code) => write!(self.writer, "\x1b[{code}m{text}\x1b[0m")?,
            None => self.writer.write_all(text.as_bytes())?,
        }
        self.mid_line = !text.ends_with('\n');
        self.writer.flush()
    }
}

/// Where a command prints.
pub(crate) struct Console {
    out: Sink,
    err: Sink,
    /// Only what was asked for.
    pub(crate) quiet: bool,
    /// JSON for programs.
    pub(crate) json: bool,
}

impl Console {
    /// The process's own outputs.
    pub(crate) fn of_process(options: &ClientOptions) -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        let sink = |writer: Box<dyn Write>, terminal: bool| Sink {
            writer,
            colour: options.color.on(terminal, no_color.as_deref()),
            terminal,
            mid_line: false,
        };
        Self {
            out: sink(Box::new(io::stdout()), io::stdout().is_terminal()),
            err: sink(Box::new(io::stderr()), io::stderr().is_terminal()),
            quiet: options.quiet,
            json: options.json,
        }
    }

    /// Outputs of a test, without colours.
    #[cfg(test)]
    pub(crate) fn of_writers(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        let sink = |writer| Sink { writer, colour: false, terminal: false, mid_line: false };
        Self { out: sink(out), err: sink(err), quiet: false, json: false }
    }

    /// Writes to standard output. The text is safe already.
    pub(crate) fn out(&mut self, text: &str, style: Style) -> Result<(), Failure> {
        if self.err.mid_line && self.err.terminal {
            self.finish_err_line();
        }
        self.out.write(text, style).map_err(Failure::Output)
    }

    /// Writes a line to standard output. The text is safe already.
    pub(crate) fn out_line(&mut self, text: &str) -> Result<(), Failure> {
        self.out(&format!("{text}\n"), Style::Plain)
    }

    /// Writes a JSON value on one line to standard output.
    pub(crate) fn out_json(&mut self, value: &Value) -> Result<(), Failure> {
        let line = one_line_json(&value.to_string());
        self.out_line(&line)
    }

    /// Ends an unfinished line of standard output.
    pub(crate) fn finish_out_line(&mut self) -> Result<(), Failure> {
        if self.out.mid_line { self.out("\n", Style::Plain) } else { Ok(()) }
    }

    /// Whether notes are wanted.
    pub(crate) fn tells(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Writes around the answer, unless only the answer was asked for.
    ///
    /// Standard error that cannot be written is no reason to stop.
    pub(crate) fn aside(&mut self, text: &str, style: Style) {
        if self.tells() {
            self.err(text, style);
        }
    }

    /// Writes a line around the answer.
    pub(crate) fn note(&mut self, text: &str, style: Style) {
        if self.tells() {
            self.finish_err_line();
            self.err(&format!("{text}\n"), style);
        }
    }

    /// Writes output of a command around the answer, two columns in.
    pub(crate) fn aside_indented(&mut self, text: &str, style: Style) {
        let mut shown = String::with_capacity(text.len() + 16);
        let mut at_start = !self.err.mid_line;
        for line in text.split_inclusive('\n') {
            if at_start {
                shown.push_str("  ");
            }
            shown.push_str(line);
            at_start = line.ends_with('\n');
        }
        self.aside(&shown, style);
    }

    /// Ends an unfinished line of standard error.
    pub(crate) fn finish_err_line(&mut self) {
        if self.err.mid_line {
            self.err("\n", Style::Plain);
        }
    }

    /// Writes a question for a person, also where notes are not wanted.
    pub(crate) fn ask(&mut self, text: &str, style: Style) {
        self.err(text, style);
    }

    fn err(&mut self, text: &str, style: Style) {
        if self.out.mid_line && self.out.terminal && self.err.terminal {
            let _ = self.out.write("\n", Style::Plain);
        }
        let _ = self.err.write(text, style);
    }

    /// Tells a failure.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        if failure.is_closed_pipe() {
            return;
        }
        if self.json {
            let line = one_line_json(&failure.to_json().to_string());
            self.err(&format!("{line}\n"), Style::Plain);
            return;
        }
        self.finish_err_line();
        self.err("error: ", Style::Red);
        self.err(&format!("{}\n", visible(&failure.to_string())), Style::Plain);
        if let Some(detail) = failure.detail() {
            self.err(&format!("  {}\n", visible_line(&detail)), Style::Dim);
        }
        if let Some(hint) = failure.hint() {
            self.err(&format!("  hint: {hint}\n"), Style::Plain);
        }
    }
}
