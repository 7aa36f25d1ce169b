//! What to start, and why it could not be started.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything about a child that is decided before it runs.
#[derive(Clone)]
pub struct ChildSpec {
    /// The executable. Without a slash it is looked up in the child's own `PATH`.
    pub program: PathBuf,
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Working directory; `None` is ours.
    pub cwd: Option<PathBuf>,
    /// The complete environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Longest line of stdout that is passed on, in bytes; a longer one becomes an event.
    pub line_cap: usize,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of environment variables can be secrets, so only the names are shown.
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("ChildSpec")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .field("line_cap", &self.line_cap)
            .finish()
    }
}

/// Why a child was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("start {}: no such program", program.display())]
    NotFound {
        /// As given.
        program: PathBuf,
    },
    /// The program is there but cannot be executed: no permission, not a program, or a script
    /// whose interpreter is missing.
    #[error("start {}: not an executable program", program.display())]
    NotExecutable {
        /// As given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The working directory is missing, not a directory or not accessible.
    #[error("start {}: working directory {} cannot be entered", program.display(), cwd.display())]
    WorkingDirectory {
        /// As given.
        program: PathBuf,
        /// As given.
        cwd: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process did not start in time, for example from a file system that hangs. If it still
    /// starts later it is killed at once.
    #[error("start {} in time", program.display())]
    TimedOut {
        /// As given.
        program: PathBuf,
    },
    /// Anything else: no more processes, threads or descriptors.
    #[error("start {}", program.display())]
    Other {
        /// As given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
