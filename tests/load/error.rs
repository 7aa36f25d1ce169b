//! What keeps a measurement from being made.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The system refused something.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        cause: io::Error,
    },
    /// The manager did not start.
    #[error("start {}: {why}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What it did instead.
        why: String,
    },
    /// The manager answered something else than the scenario needs.
    #[error("{what} was answered {status}: {body}")]
    Answer {
        /// The request.
        what: String,
        /// The status.
        status: u16,
        /// The body, cut.
        body: String,
    },
    /// Something did not happen in time.
    #[error("not within {deadline:?}: {what}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
    },
}

impl LoadError {
    /// Names what a system call was for.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::System { what, cause }
    }
}
