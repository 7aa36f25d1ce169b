//! What threads need to know of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cm_core::controls::{Controls, SandboxMode};

use crate::index::ListVersion;
use crate::metrics::SessionStats;
use crate::request::RequestPolicy;

/// What threads need to know of the configuration.
#[derive(Debug, Clone)]
pub struct ThreadConfig {
    /// Controls of new sessions.
    pub defaults: Controls,
    /// Whether clients are kept from changing them.
    pub defaults_locked: bool,
    /// Working directory of sessions that name none.
    pub default_cwd: PathBuf,
    /// What a writable workspace must not contain.
    pub cage: Cage,
    /// How long nothing happens in a thread before it is let go.
    pub idle: Duration,
    /// How often the runtime's lists are compared with what is stored, besides when the child starts;
    /// zero for never.
    pub sync: Duration,
    /// Bytes of items that are kept of a thread at the most.
    pub item_cap: u64,
    /// What happens to requests that nobody decides.
    pub policy: Arc<dyn RequestPolicy>,
    /// How long it is tried to store a request before it is declined.
    pub store_patience: Duration,
    /// Raised with each change of the lists.
    pub list_version: ListVersion,
    /// What is counted.
    pub stats: Arc<SessionStats>,
}

/// How long it is tried to store a request: a disk that is full for a moment costs no answer, and
/// the child does not wait for ever.
pub const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// The manager's own state, which no agent may write.
#[derive(Debug, Clone)]
pub struct Cage {
    /// The data directory and the child's CODEX_HOME, resolved.
    protected: Vec<PathBuf>,
    /// Folders that a `workspace-write` sandbox can write besides the workspace: `/tmp` and
    /// `$TMPDIR`, as codex has them by default.
    also_writable: Vec<PathBuf>,
}

/// Why a sandbox is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "A {} sandbox at {} could rewrite {}, where Codex Manager keeps its own state. Use another \
     --cd, the read-only sandbox, or move the state out with --data-dir (and CODEX_HOME).",
    .sandbox.as_str(), .writable.display(), .protected.display()
)]
pub struct CageError {
    sandbox: SandboxMode,
    writable: PathBuf,
    protected: PathBuf,
}

impl Cage {
    /// Makes a cage around folders; they are resolved as far as they exist.
    pub fn new(protected: &[PathBuf]) -> Self {
        let temporary = std::env::var_os("TMPDIR").map(PathBuf::from);
        Self::with_writable(protected, temporary.into_iter().chain([PathBuf::from("/tmp")]))
    }

    fn with_writable(protected: &[PathBuf], writable: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            protected: protected.iter().map(|path| resolve(path)).collect(),
            also_writable: writable.into_iter().map(|path| resolve(&path)).collect(),
        }
    }

    /// Whether an agent with these controls in this workspace could rewrite its own cage.
    ///
    /// `danger-full-access` cannot be caged; [`Cage::warning`] says so instead.
    ///
    /// # Errors
    ///
    /// [`CageError`] with the way out.
    pub fn check(&self, cwd: &Path, sandbox: SandboxMode) -> Result<(), CageError> {
        if sandbox != SandboxMode::WorkspaceWrite {
            return Ok(());
        }
        let workspace = resolve(cwd);
        for protected in &self.protected {
            for writable in std::iter::once(&workspace).chain(&self.also_writable) {
                // Either way round is unsafe: the state inside the workspace, or the workspace
                // inside the state.
                if protected.starts_with(writable) || writable.starts_with(protected) {
                    return Err(CageError {
                        sandbox,
                        writable: writable.clone(),
                        protected: protected.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// What is to be said about a sandbox that cannot protect the manager, nor keep commands from the
    /// network.
    pub fn warning(sandbox: SandboxMode) -> Option<String> {
        (sandbox == SandboxMode::DangerFullAccess).then(|| {
            "danger-full-access: commands of this session can change everything that the \
             manager's user can, the manager's own state included, and the network is open to them \
             whatever networkAccess says."
                .to_owned()
        })
    }
}

/// A path without links as far as it exists, the rest appended.
fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        if let Ok(resolved) = existing.canonicalize() {
            return missing.iter().rev().fold(resolved, |path, part| path.join(part));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return absolute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_workspace_may_not_contain_the_managers_state() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        let data = project.join(".data");
        std::fs::create_dir_all(&data).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        let cage = Cage::with_writable(&[data.clone(), data.join("codex-home")], []);
        assert!(cage.check(&project, SandboxMode::WorkspaceWrite).is_err());
        assert!(cage.check(&data.join("codex-home/x"), SandboxMode::WorkspaceWrite).is_err());
        assert!(cage.check(&project, SandboxMode::ReadOnly).is_ok());
        assert!(cage.check(&elsewhere, SandboxMode::WorkspaceWrite).is_ok());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&project, &link).unwrap();
        assert!(cage.check(&link, SandboxMode::WorkspaceWrite).is_err(), "through a link");
        let climbing = elsewhere.join("..").join("project");
        assert!(cage.check(&climbing, SandboxMode::WorkspaceWrite).is_err(), "through ..");
    }

    #[test]
    fn state_in_a_temporary_folder_is_writable_for_every_such_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let cage = Cage::with_writable(&[data], [folder.path().to_owned()]);
        let error = cage.check(Path::new("/usr"), SandboxMode::WorkspaceWrite).unwrap_err();
        assert!(error.to_string().contains("--data-dir"), "{error}");
    }
}
