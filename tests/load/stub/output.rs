//! Stdout, in writes as large as the caller makes them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};

/// Bytes that the pipe is asked to hold: the most that an ordinary user may ask for.
const PIPE_BYTES: i32 = 1024 * 1024;

/// Stdout, shared by the turns. Every write holds whole lines.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Mutex<File>,
}

impl Output {
    /// Opens stdout and widens the pipe.
    pub(super) fn open() -> io::Result<Self> {
        let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        // A pipe that stays narrow, or no pipe at all, is slower but as correct.
        let _ = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Self { pipe: Mutex::new(pipe) })
    }

    /// Writes whole lines. Answers whether somebody still reads.
    pub(super) fn write(&self, lines: &[u8]) -> bool {
        self.write_all([lines])
    }

    /// Writes one line in pieces, so that it need not stand in memory.
    pub(super) fn write_all<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.into_iter().all(|piece| pipe.write_all(piece).is_ok())
    }
}
