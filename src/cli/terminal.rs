//! The person at the keyboard.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::console::{Console, Style};

/// Longest line that is read, in bytes. The rest of a longer one is dropped.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Lines that wait to be read. When there are more, reading the keyboard pauses.
const MAX_LINES: usize = 64;

/// Most reads that drop what was typed before a question. More than this is not a person.
const MAX_DRAINED_READS: usize = 1024;

/// How long a question that is answered with yes or no waits.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// What the keyboard brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed {
    /// A line without its end.
    Line(String),
    /// Nothing yet.
    Nothing,
    /// There will be nothing any more.
    Closed,
}

/// Lines that a person types, read by a thread of their own, so that events go on being shown and
/// an answer from elsewhere is noticed while a question stands.
pub(crate) struct Terminal {
    /// What to read, while nobody was asked yet. A command that runs in the background and asks
    /// nothing must not be stopped for reading the terminal.
    untouched: Option<File>,
    /// What the thread reads, once somebody was asked.
    lines: Option<Receiver<String>>,
}

impl Terminal {
    /// The terminal of this process, if there is one to ask on.
    ///
    /// That is standard input when it is a terminal. When standard input held the message, it is
    /// the controlling terminal. In all other cases nobody is there: a script that pipes something
    /// into the command does not expect to be asked.
    pub(crate) fn of_process(message_came_from_stdin: bool) -> Option<Self> {
        let file = if io::stdin().is_terminal() {
            File::from(io::stdin().as_fd().try_clone_to_owned().ok()?)
        } else if message_came_from_stdin && io::stderr().is_terminal() {
            File::open("/dev/tty").ok()?
        } else {
            return None;
        };
        Some(Self::of_file(file))
    }

    /// Reads lines from a terminal, or from a pipe in tests.
    pub(crate) fn of_file(file: File) -> Self {
        Self { untouched: Some(file), lines: None }
    }

    /// Reads lines from the given source.
    #[cfg(test)]
    fn of_reader(source: impl Read + Send + 'static) -> Self {
        Self { untouched: None, lines: Some(listen(source)) }
    }

    /// Drops what was typed before a question was shown: it cannot be an answer to it.
    pub(crate) fn forget_typed(&mut self) {
        if let Some(file) = &mut self.untouched {
            drain(file);
        }
        if let Some(lines) = &self.lines {
            while lines.try_recv().is_ok() {}
        }
    }

    /// The next line, if there is one. Never waits.
    pub(crate) fn typed(&mut self) -> Typed {
        match self.lines().try_recv() {
            Ok(line) => Typed::Line(line),
            Err(TryRecvError::Empty) => Typed::Nothing,
            Err(TryRecvError::Disconnected) => Typed::Closed,
        }
    }

    /// Waits for a line. `None` when there will be none, or not in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<String> {
        self.lines().recv_timeout(limit).ok()
    }

    fn lines(&mut self) -> &Receiver<String> {
        let file = self.untouched.take();
        self.lines.get_or_insert_with(|| match file {
            Some(file) => listen(file),
            // Without a sender the keyboard reads as closed.
            None => sync_channel(1).1,
        })
    }
}

/// Asks something that is answered with yes or no. No answer in time is a no.
pub(crate) fn confirmed(terminal: &mut Terminal, console: &mut Console, question: &str) -> bool {
    terminal.forget_typed();
    console.ask(question, Style::Bold);
    let answer = terminal.wait(ANSWER_LIMIT).unwrap_or_default();
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn listen(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(MAX_LINES);
    // The thread ends with the source or with the process: a blocking read of a terminal can not
    // be called off. If it cannot be started the sender is gone, which reads as closed.
    let _ = std::thread::Builder::new()
        .name("keyboard".to_owned())
        .spawn(move || read_lines(source, &sender));
    lines
}

/// Reads what is there without waiting for more.
fn drain(file: &mut File) {
    let mut buffer = [0_u8; 4096];
    for _ in 0..MAX_DRAINED_READS {
        let mut poll = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        let ready = nix::poll::poll(&mut poll, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if !ready || !matches!(file.read(&mut buffer), Ok(count) if count > 0) {
            return;
        }
    }
}

fn read_lines(source: impl Read, lines: &SyncSender<String>) {
    let mut reader = BufReader::new(source);
    loop {
        let mut bytes = Vec::new();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !bytes.ends_with(b"\n") && reader.skip_until(b'\n').is_err() {
            return;
        }
        let line = String::from_utf8_lossy(&bytes);
        if lines.send(line.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn lines_come_one_by_one_and_end() {
        let long = "x".repeat(100_000);
        let text = format!("y\r\n{long}\nlast");
        let mut terminal = Terminal::of_reader(io::Cursor::new(text.into_bytes()));
        assert_eq!(terminal.wait(LIMIT).as_deref(), Some("y"));
        assert_eq!(terminal.wait(LIMIT).map(|line| line.len()), Some(MAX_LINE_BYTES as usize));
        assert_eq!(terminal.wait(LIMIT).as_deref(), Some("last"));
        assert_eq!(terminal.wait(LIMIT), None);
        assert_eq!(terminal.typed(), Typed::Closed);
    }

    #[test]
    fn what_was_typed_before_a_question_is_no_answer() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut terminal = Terminal::of_file(File::from(std::os::fd::OwnedFd::from(reader)));
        writer.write_all(b"yes\nyes\n").unwrap();
        terminal.forget_typed();
        assert_eq!(terminal.typed(), Typed::Nothing);
        writer.write_all(b"no\n").unwrap();
        assert_eq!(terminal.wait(LIMIT).as_deref(), Some("no"));
        drop(writer);
        assert_eq!(terminal.wait(LIMIT), None);
    }
}
