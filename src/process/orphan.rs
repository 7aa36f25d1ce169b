//! The durable list of live children, so that the next boot finds what a crash left behind.
//!
//! The direct child dies with the manager (see [`crate::die_with_parent`]); what it had started
//! may not. Each record therefore stands for a whole process group.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::exit::lock;
use crate::procfs::{self, ProcessIdentity};
use crate::sweep::{self, SweepOutcome, Swept};

/// Version of the file's format; a file of a later one is moved aside, not guessed at.
const FORMAT: u32 = 1;

/// Why the list of children could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file could not be read.
    #[error("read the list of child processes {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written; the old content is still in place.
    #[error("write the list of child processes {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    /// Start times count from boot, so the records of another boot mean nothing.
    boot_id: Option<String>,
    children: Vec<Record>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Record {
    child: ProcessIdentity,
    /// The session in which it was started: ours, and with it that of its whole group.
    session: u32,
}

/// A small file with the process groups of live children.
///
/// Only one process may use a file at a time; the lock on the data directory sees to that.
#[derive(Debug)]
pub struct OrphanLedger {
    path: PathBuf,
    /// Held from reading to writing, so that two threads do not lose each other's change.
    changing: Mutex<()>,
}

impl OrphanLedger {
    /// A ledger in this file, which need not exist; its directory must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), changing: Mutex::new(()) }
    }

    /// Adds a live child. On disk when this returns.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub fn record(&self, child: ProcessIdentity) -> Result<(), LedgerError> {
        let _changing = lock(&self.changing);
        let mut children = self.read()?;
        children.retain(|record| record.child.pid != child.pid);
        let session = nix::unistd::getsid(None).map_or(0, |id| id.as_raw().cast_unsigned());
        children.push(Record { child, session });
        self.write(children)
    }

    /// Removes a child that has ended. On disk when this returns.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub fn forget(&self, pid: u32) -> Result<(), LedgerError> {
        let _changing = lock(&self.changing);
        let mut children = self.read()?;
        let before = children.len();
        children.retain(|record| record.child.pid != pid);
        if children.len() == before {
            return Ok(());
        }
        self.write(children)
    }

    /// Kills what is left of every recorded child's group and forgets them all.
    ///
    /// To be called at boot, before the first child is started. A process that is not certainly
    /// ours is left alone: its number, start time and session must match, within this boot of the
    /// machine.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]. After a failed write the groups are dead all the same.
    pub fn sweep(&self) -> Result<Vec<Swept>, LedgerError> {
        let _changing = lock(&self.changing);
        let children = self.read()?;
        if children.is_empty() {
            return Ok(Vec::new());
        }
        let processes = procfs::all();
        let swept: Vec<Swept> = children
            .iter()
            .map(|record| sweep::sweep_one(record.child, record.session, &processes))
            .collect();
        for Swept { child, outcome } in &swept {
            if let SweepOutcome::Killed { processes } = outcome {
                tracing::warn!(pid = child.pid, processes, "killed what a crash left running");
            }
        }
        self.write(Vec::new())?;
        Ok(swept)
    }

    /// The records of this boot; the file's absence means none.
    fn read(&self) -> Result<Vec<Record>, LedgerError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(LedgerError::Read { path: self.path.clone(), source });
            }
        };
        match serde_json::from_slice::<Content>(&bytes) {
            Ok(content) if content.format == FORMAT => {
                let same_boot = content.boot_id == procfs::boot_id();
                Ok(if same_boot { content.children } else { Vec::new() })
            }
            _ => {
                self.move_aside();
                Ok(Vec::new())
            }
        }
    }

    /// A file that cannot be understood must not stop the manager, and is kept for a person.
    fn move_aside(&self) {
        let aside = sibling(&self.path, ".damaged");
        let moved = std::fs::rename(&self.path, &aside);
        tracing::warn!(
            path = %self.path.display(),
            moved = moved.is_ok(),
            "the list of child processes is damaged; starting with an empty one",
        );
    }

    fn write(&self, children: Vec<Record>) -> Result<(), LedgerError> {
        let content = Content { format: FORMAT, boot_id: procfs::boot_id(), children };
        serde_json::to_vec(&content)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes))
            .map_err(|source| LedgerError::Write { path: self.path.clone(), source })
    }
}

/// Replaces a file so that after a crash or a power loss it is either the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = sibling(path, ".tmp");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    // The mode above counts only for a file that was not there.
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(pid: u32) -> ProcessIdentity {
        ProcessIdentity { pid, start_time: 1 }
    }

    fn pids(ledger: &OrphanLedger) -> Vec<u32> {
        ledger.read().unwrap().iter().map(|record| record.child.pid).collect()
    }

    #[test]
    fn records_survive_the_process_and_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("children.json");
        let ledger = OrphanLedger::new(&path);
        ledger.record(stranger(10)).unwrap();
        ledger.record(stranger(11)).unwrap();
        ledger.forget(10).unwrap();
        ledger.forget(12).unwrap();
        assert_eq!(pids(&OrphanLedger::new(&path)), [11]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("children.json");
        for damaged in ["{\"format\":1,", "{\"format\":2,\"boot_id\":null,\"children\":[]}"] {
            std::fs::write(&path, damaged).unwrap();
            let ledger = OrphanLedger::new(&path);
            assert_eq!(ledger.sweep().unwrap(), []);
            ledger.record(stranger(10)).unwrap();
            assert_eq!(pids(&ledger), [10]);
            let aside = directory.path().join("children.json.damaged");
            assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
        }
    }

    #[test]
    fn records_of_another_boot_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("children.json");
        let own = procfs::identity_of(std::process::id()).unwrap();
        let record = Record { child: own, session: 0 };
        let boot_id = Some("another".to_owned());
        let content = Content { format: FORMAT, boot_id, children: vec![record] };
        std::fs::write(&path, serde_json::to_vec(&content).unwrap()).unwrap();
        assert_eq!(OrphanLedger::new(&path).sweep().unwrap(), []);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_a_missing_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = OrphanLedger::new(directory.path().join("children.json"));
        assert_eq!(ledger.sweep().unwrap(), []);
        let nowhere = OrphanLedger::new(directory.path().join("none/children.json"));
        assert!(matches!(nowhere.record(stranger(10)), Err(LedgerError::Write { .. })));
    }
}
