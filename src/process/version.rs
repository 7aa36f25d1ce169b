//! Asking a `codex` binary for its version.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cm_core::compat::Version;
use cm_core::rpc::Line;

use crate::sink::{ChildExit, OutputSink, SinkState};
use crate::spawn::spawn;
use crate::spec::{ChildSpec, SpawnError};

/// Longest line of output that is looked at, in bytes.
const LINE_CAP: usize = 1024;

/// A path that can never be a directory. Every codex writes helper links into its home before it
/// looks at its arguments; with this home it says so on stderr and goes on.
const NO_HOME: &str = "/dev/null/codex-home";

/// Why the version is not known.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The binary could not be started.
    #[error("ask codex for its version")]
    Spawn(#[from] SpawnError),
    /// It did not answer in time and was killed.
    #[error("get the version of {} within {} ms", path.display(), deadline.as_millis())]
    TimedOut {
        /// The binary.
        path: PathBuf,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// It ended without a line that holds a version.
    #[error("read a version from {}: {said:?}", path.display())]
    Unreadable {
        /// The binary.
        path: PathBuf,
        /// The last thing it said on stdout or else stderr, possibly nothing.
        said: String,
    },
}

/// Runs `codex --version` and reads its answer, `codex-cli 0.169.0`.
///
/// Whatever the binary is, this returns soon after `deadline` and leaves no process behind. It
/// runs with PATH alone in its environment and touches nobody's codex home.
///
/// # Errors
///
/// [`VersionError`].
pub fn codex_version(path: &Path, deadline: Duration) -> Result<Version, VersionError> {
    let mut env = vec![(OsString::from("CODEX_HOME"), OsString::from(NO_HOME))];
    if let Some(search_path) = std::env::var_os("PATH") {
        env.push((OsString::from("PATH"), search_path));
    }
    let spec = ChildSpec {
        program: path.to_owned(),
        args: vec![OsString::from("--version")],
        cwd: None,
        env,
        line_cap: LINE_CAP,
    };
    let (answered, answer) = sync_channel(1);
    let listener = Listener { version: None, last: String::new(), answered };
    // Dropped on every way out, which kills whatever still runs.
    let child = spawn(spec, listener)?;
    child.stdin().close();
    match answer.recv_timeout(deadline) {
        Ok(Ok(version)) => Ok(version),
        Ok(Err(said)) => Err(VersionError::Unreadable { path: path.to_owned(), said }),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(VersionError::TimedOut { path: path.to_owned(), deadline })
        }
    }
}

/// Keeps the first version and the last line, whatever the amount of output.
struct Listener {
    version: Option<Version>,
    last: String,
    answered: SyncSender<Result<Version, String>>,
}

impl OutputSink for Listener {
    fn lines(&mut self, batch: Vec<Line>) -> SinkState {
        for line in batch {
            let Line::Text(bytes) = line else { continue };
            let text = String::from_utf8_lossy(&bytes);
            self.version = self.version.or_else(|| Version::find(&text));
            self.last = text.into_owned();
        }
        SinkState::Open
    }

    fn ended(&mut self, exit: ChildExit) {
        let said = || match (self.last.is_empty(), exit.stderr_tail.last()) {
            (true, Some(complaint)) => complaint.clone(),
            _ => self.last.clone(),
        };
        let answer = self.version.filter(|_| exit.code == Some(0)).ok_or_else(said);
        // The one value fits; if the asker has left, nobody misses it.
        let _ = self.answered.try_send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEADLINE, Lifeline, script};

    #[test]
    fn the_version_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let codex = script(
            &directory.path().join("codex"),
            "echo WARNING: 9.9.9 >&2; test \"$1\" = --version && echo codex-cli 0.169.0",
        );
        assert_eq!(codex_version(&codex, DEADLINE).unwrap(), Version::new(0, 169, 0));
    }

    #[test]
    fn a_program_that_is_no_codex_is_reported_with_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        for (body, expected) in [
            ("echo hello", "hello"),
            ("echo broken >&2; exit 1", "broken"),
            ("echo codex-cli 1.2.3; exit 1", "codex-cli 1.2.3"),
            ("exit 0", ""),
        ] {
            let codex = script(&directory.path().join("codex"), body);
            match codex_version(&codex, DEADLINE) {
                Err(VersionError::Unreadable { said, .. }) => assert_eq!(said, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        let missing = codex_version(&directory.path().join("none"), DEADLINE);
        assert!(matches!(missing, Err(VersionError::Spawn(SpawnError::NotFound { .. }))));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let lifeline = Lifeline::new(directory.path());
        let body = format!("exec 3>'{}'; echo x >&3; exec sleep 60", lifeline.path().display());
        let codex = script(&directory.path().join("codex"), &body);
        let asking = std::thread::spawn(move || codex_version(&codex, Duration::from_millis(300)));
        assert!(matches!(asking.join().unwrap(), Err(VersionError::TimedOut { .. })));
        lifeline.assert_dead();
    }
}
