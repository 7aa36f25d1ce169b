//! Building the command: process group, environment, pipes and die-with-parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::spec::{ChildSpec, SpawnError};

/// How often a program that another process still has open for writing is tried again.
const BUSY_ATTEMPTS: u32 = 20;

/// Pause before such a retry.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Makes the process that `command` starts die by SIGKILL as soon as its parent is gone.
///
/// The kernel watches the *thread* that spawns: when that thread ends, the child is killed, even
/// if the process lives on. Spawn from a thread that outlives the child. Only the direct child is
/// covered, not what it starts itself. Does nothing on systems other than Linux.
#[expect(unsafe_code, reason = "a parent-death signal can only be set between fork and exec")]
pub fn die_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::signal::Signal;

        let parent = nix::unistd::getpid();
        let set = move || -> io::Result<()> {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(errno_to_io)?;
            // The parent may have died before the signal was set; it would then never come.
            if nix::unistd::getppid() != parent {
                return Err(errno_to_io(Errno::ESRCH));
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes only system calls that are
        // async-signal-safe, and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(set);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Starts the process of `spec` as the leader of its own group, with all three streams piped.
///
/// Must be called on a thread that lives until the process is gone (see [`die_with_parent`]).
pub(crate) fn launch(spec: &ChildSpec) -> Result<std::process::Child, SpawnError> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    die_with_parent(&mut command);
    start_unless_busy(&mut command).map_err(|error| classify(spec, error))
}

/// Starts the command, trying again while the program's file is open for writing.
///
/// That state passes by itself: an installer is closing the file, or a process forked elsewhere
/// has not reached its exec yet and still holds the writer's descriptor.
fn start_unless_busy(command: &mut Command) -> io::Result<std::process::Child> {
    for _ in 1..BUSY_ATTEMPTS {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}

/// The system reports a missing directory, a missing program and a missing interpreter alike, so
/// the cause is looked up afterwards.
fn classify(spec: &ChildSpec, source: io::Error) -> SpawnError {
    let program = spec.program.clone();
    if let Some(cwd) = &spec.cwd
        && let Err(source) = enter(cwd)
    {
        return SpawnError::WorkingDirectory { program, cwd: cwd.clone(), source };
    }
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) if !spec.program.exists() => {
            SpawnError::NotFound { program }
        }
        Some(Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::EISDIR) => {
            SpawnError::NotExecutable { program, source }
        }
        _ => SpawnError::Other { program, source },
    }
}

fn enter(cwd: &Path) -> io::Result<()> {
    if !std::fs::metadata(cwd)?.is_dir() {
        return Err(errno_to_io(Errno::ENOTDIR));
    }
    access(cwd, AccessFlags::X_OK).map_err(errno_to_io)
}

pub(crate) fn errno_to_io(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
