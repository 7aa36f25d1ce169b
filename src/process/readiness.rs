//! Waiting for a pipe and for the end of the child at the same time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::ExitWatch;
use crate::launch::errno_to_io;

/// How long a pipe that something else holds open is still read after the child has ended.
pub(crate) const DRAIN_TIME: Duration = Duration::from_millis(500);

/// How much is then still read, in bytes: the largest pipe that an unprivileged process may make
/// (`/proc/sys/fs/pipe-max-size`), so nothing that the child itself wrote is lost.
const DRAIN_BYTES: usize = 1024 * 1024;

/// Makes reads and writes on our end of a pipe answer `WouldBlock` instead of waiting.
pub(crate) fn set_nonblocking(pipe: impl AsFd) -> io::Result<()> {
    let fd = pipe.as_fd();
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(errno_to_io)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(errno_to_io)?;
    Ok(())
}

/// Waits until `pipe` can be written or its reader is gone.
///
/// Answers false when the child ended first.
pub(crate) fn wait_writable(pipe: BorrowedFd<'_>, exit: &ExitWatch) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::POLLOUT), exit_fd(exit)];
    // The child's own end is one of the two events, so this wait is as bounded as the child.
    poll_retrying(&mut fds, PollTimeout::NONE) && !exit.is_over()
}

/// Decides how long a pipe of the child is read: for ever while the child lives, and then only
/// for what it left behind.
#[derive(Debug)]
pub(crate) struct PipeReading {
    /// What is still allowed after the end of the child; `None` while it lives.
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    /// Waiting time left. Time that a receiver takes is not counted: its back-pressure must not
    /// cost lines.
    time: Duration,
    /// Bytes left, because a process that escaped the group could write for ever.
    bytes: usize,
}

impl PipeReading {
    pub(crate) fn new() -> Self {
        Self { drain: None }
    }

    /// Reads the next bytes; 0 when the pipe has ended or no more is to be read.
    pub(crate) fn read(
        &mut self,
        pipe: &mut (impl io::Read + AsFd),
        buffer: &mut [u8],
        exit: &ExitWatch,
    ) -> io::Result<usize> {
        loop {
            if self.drain.is_none() && exit.is_over() {
                self.drain = Some(Drain { time: DRAIN_TIME, bytes: DRAIN_BYTES });
            }
            let allowed = match &self.drain {
                Some(drain) if drain.bytes == 0 => return Ok(0),
                Some(drain) => buffer.len().min(drain.bytes),
                None => buffer.len(),
            };
            match pipe.read(&mut buffer[..allowed]) {
                Ok(count) => {
                    if let Some(drain) = &mut self.drain {
                        drain.bytes -= count;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(pipe.as_fd(), exit) {
                        return Ok(0);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for bytes; false when there is no point in waiting any longer.
    fn wait(&mut self, pipe: BorrowedFd<'_>, exit: &ExitWatch) -> bool {
        let Some(drain) = &mut self.drain else {
            let mut fds = [PollFd::new(pipe, PollFlags::POLLIN), exit_fd(exit)];
            return poll_retrying(&mut fds, PollTimeout::NONE);
        };
        if drain.time < Duration::from_millis(1) {
            return false;
        }
        let started = Instant::now();
        let timeout = PollTimeout::try_from(drain.time).unwrap_or(PollTimeout::ZERO);
        let waited = poll_retrying(&mut [PollFd::new(pipe, PollFlags::POLLIN)], timeout);
        drain.time = drain.time.saturating_sub(started.elapsed());
        waited
    }
}

fn exit_fd(exit: &ExitWatch) -> PollFd<'_> {
    // No flag is asked for: the end of the child closes the other end, and a hang-up is always
    // reported.
    PollFd::new(exit.as_fd(), PollFlags::empty())
}

/// False on an error of `poll` itself, which leaves nothing to wait for.
fn poll_retrying(fds: &mut [PollFd<'_>], timeout: PollTimeout) -> bool {
    match poll(fds, timeout) {
        // The callers look again at what they wait for, so an interrupted wait is just early.
        Ok(_) | Err(Errno::EINTR) => true,
        Err(_) => false,
    }
}
