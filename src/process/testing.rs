//! Helpers of this crate's tests: real children, and events to wait for.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use cm_core::rpc::Line;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::sink::{ChildExit, OutputSink, SinkState};
use crate::spec::ChildSpec;

/// How long a test waits for what must happen; generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A shell child: `script` sees `args` as `$1`, `$2`, …
pub(crate) fn shell(script: &str, args: &[&Path]) -> ChildSpec {
    let mut all = vec!["-c".into(), script.into(), "sh".into()];
    all.extend(args.iter().map(|arg| arg.as_os_str().to_owned()));
    ChildSpec {
        program: "/bin/sh".into(),
        args: all,
        cwd: None,
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        line_cap: 1024 * 1024,
    }
}

/// Makes an executable shell script.
///
/// Another process writes it: a child that a parallel test forks meanwhile would inherit our
/// descriptor, and a file open for writing cannot be executed.
pub(crate) fn script(path: &Path, body: &str) -> PathBuf {
    let made = Command::new("/bin/sh")
        .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", body])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
    path.to_owned()
}

pub(crate) fn text(value: &str) -> Line {
    Line::Text(value.to_owned().into())
}

/// What a sink was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Lines(Vec<Line>),
    Ended(ChildExit),
}

/// A sink that passes on what it is told, waiting for the test to take it.
#[derive(Debug)]
pub(crate) struct Recorder {
    told: SyncSender<Told>,
    /// What to answer to each batch.
    answer: SinkState,
}

impl Recorder {
    pub(crate) fn new() -> (Self, Recording) {
        Self::answering(SinkState::Open)
    }

    pub(crate) fn answering(answer: SinkState) -> (Self, Recording) {
        let (told, recording) = sync_channel(1);
        (Self { told, answer }, Recording(recording))
    }
}

impl OutputSink for Recorder {
    fn lines(&mut self, batch: Vec<Line>) -> SinkState {
        match self.told.send(Told::Lines(batch)) {
            Ok(()) => self.answer,
            Err(_) => SinkState::Gone,
        }
    }

    fn ended(&mut self, exit: ChildExit) {
        let _ = self.told.send(Told::Ended(exit));
    }
}

/// The test's end of a [`Recorder`].
#[derive(Debug)]
pub(crate) struct Recording(Receiver<Told>);

impl Recording {
    pub(crate) fn next(&self) -> Told {
        self.0.recv_timeout(DEADLINE).expect("the child says something")
    }

    /// Waits until the child has printed exactly these lines next, in however many reads.
    pub(crate) fn expect_lines(&self, expected: &[Line]) {
        let mut lines = Vec::new();
        while lines.len() < expected.len() {
            match self.next() {
                Told::Lines(batch) => lines.extend(batch),
                Told::Ended(exit) => panic!("ended early after {lines:?}: {exit:?}"),
            }
        }
        assert_eq!(lines, expected);
    }

    /// Everything up to the end; fails unless the end is reported once and last.
    pub(crate) fn to_end(&self) -> (Vec<Line>, ChildExit) {
        let mut lines = Vec::new();
        let exit = loop {
            match self.next() {
                Told::Lines(batch) => {
                    assert!(!batch.is_empty());
                    lines.extend(batch);
                }
                Told::Ended(exit) => break exit,
            }
        };
        // The sink is dropped after its last call, which ends the channel.
        assert!(matches!(self.0.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected)));
        (lines, exit)
    }

    /// Whether the sink was dropped without having been called.
    pub(crate) fn told_nothing(&self) -> Result<(), Told> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(told) => Err(told),
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => panic!("the sink was kept"),
        }
    }

    /// As [`Recording::to_end`], for a child that prints nothing.
    pub(crate) fn end(&self) -> ChildExit {
        let (lines, exit) = self.to_end();
        assert_eq!(lines, []);
        exit
    }
}

/// A named pipe that processes hold open for writing: it ends when the last of them is dead.
#[derive(Debug)]
pub(crate) struct Lifeline {
    path: PathBuf,
    reader: File,
}

impl Lifeline {
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("lifeline");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let mut options = File::options();
        let reader = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        Self { path, reader }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a line from a holder: it holds the pipe now.
    pub(crate) fn wait_for_line(&self) -> String {
        let mut said = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        let mut byte = [0];
        loop {
            match (&self.reader).read(&mut byte) {
                Ok(1) if byte[0] == b'\n' => return String::from_utf8(said).unwrap(),
                Ok(1) => said.push(byte[0]),
                // Nobody has opened the pipe yet; only its opening wakes `poll`.
                Ok(_) => self.poll(deadline),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.poll(deadline),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until nobody holds the pipe any more.
    pub(crate) fn assert_dead(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut rest = [0; 64];
        loop {
            match (&self.reader).read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.poll(deadline),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn poll(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited too long for the holder of a lifeline");
        let mut fds = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
    }
}
