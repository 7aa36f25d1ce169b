//! What a caller may set, and why the runtime may fail as a whole.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cm_core::rpc::DEFAULT_LINE_CAP;

/// How to run the embedded app-server.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// CODEX_HOME. Threads are kept under `embedded/threads` inside it; file changes never
    /// reach into it.
    pub home: PathBuf,
    /// Version that `userAgent` and `cliVersion` carry.
    pub version: String,
    /// Bounds; the defaults fit a single user.
    pub limits: Limits,
}

impl RuntimeOptions {
    /// Options with the default [`Limits`].
    pub fn new(home: impl Into<PathBuf>, version: impl Into<String>) -> Self {
        Self { home: home.into(), version: version.into(), limits: Limits::default() }
    }
}

/// Every bound of the runtime.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a command may run before its process group is killed. Default 120 s.
    pub command_time: Duration,
    /// Bytes of a command's output that are streamed and kept. Default 1 MiB, as in codex.
    pub command_output_bytes: usize,
    /// Turns that may run at once; one more is refused as overloaded. Default 64.
    pub concurrent_turns: usize,
    /// Threads kept loaded; the one idle for longest is unloaded for one more. Default 1,000.
    pub loaded_threads: usize,
    /// Steering inputs waiting for one turn; one more is refused as overloaded. Default 64.
    pub queued_inputs: usize,
    /// Longest line read from the client, in bytes; longer ones are dropped. Default 64 MiB.
    pub line_bytes: usize,
    /// Bytes waiting to be written; beyond this the producer waits. Default 8 MiB.
    pub outbox_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_time: Duration::from_secs(120),
            command_output_bytes: 1024 * 1024,
            concurrent_turns: 64,
            loaded_threads: 1_000,
            queued_inputs: 64,
            line_bytes: DEFAULT_LINE_CAP,
            outbox_bytes: 8 * 1024 * 1024,
        }
    }
}

/// Why the embedded app-server could not run. Each message completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The directory for threads cannot be used.
    #[error("open the thread directory {path}: {source}")]
    Home {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard input broke. End of input is not an error.
    #[error("read standard input: {0}")]
    Read(io::Error),
    /// The writer thread could not be started.
    #[error("start the writer thread: {0}")]
    Writer(io::Error),
}
