//! What the child is started with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use cm_process::StopDeadlines;

/// The program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `codex` or `embedded`.
    pub runtime: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Everything about the child that configuration decides.
#[derive(Clone)]
pub struct AppServerConfig {
    /// The program.
    pub program: Program,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its CODEX_HOME, for display.
    pub codex_home: PathBuf,
    /// Longest line that is passed on, in bytes.
    pub line_cap: usize,
    /// How long `initialize` and what belongs to it may take.
    pub initialize_timeout: Duration,
    /// How long a call may take, waiting for its turn included.
    pub call_timeout: Duration,
    /// The steps of a stop.
    pub stop: StopDeadlines,
    /// File that lists living children, for the sweep after a crash.
    pub ledger: PathBuf,
    /// Signed in with when the child needs an account and has none.
    pub api_key: Option<String>,
    /// Version of the manager, for `clientInfo`.
    pub version: String,
}

impl std::fmt::Debug for AppServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the key nor the environment belongs in a log.
        f.debug_struct("AppServerConfig")
            .field("program", &self.program)
            .field("cwd", &self.cwd)
            .field("codex_home", &self.codex_home)
            .finish_non_exhaustive()
    }
}
