//! Where a store lies, who holds it, and how one directory takes another's place.
//!
//! Below the data directory: `store/` the database, `store.lock` who holds it, `exports/`,
//! `store.damaged-<time>/` what was moved aside, and while a store is being built or replaced
//! `store.new/` and `store.old/`. A store is built in `store.new`, made durable, and renamed; so
//! `store/` is always a whole one, and its absence beside any of the others means that it was lost.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::backend::StoreError;
use crate::clock;

/// How long a directory may still be held by a process that was killed: a child that it was just
/// starting has its files until it runs its own program.
const RELEASE: Duration = Duration::from_secs(1);

/// A data directory whose store this process holds, until this is dropped.
#[derive(Debug)]
pub struct StoreFolder {
    data_dir: PathBuf,
    _lock: Flock<File>,
}

/// Makes errors about a path.
pub(super) fn unusable(path: &Path, why: impl std::fmt::Display) -> StoreError {
    StoreError::Open { path: path.to_owned(), why: why.to_string() }
}

impl StoreFolder {
    /// Takes hold of a data directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] when another process holds it, [`StoreError::Open`] when it cannot be
    /// used.
    pub fn lock(data_dir: &Path) -> Result<Self, StoreError> {
        Self::lock_waiting(data_dir, || std::thread::sleep(Duration::from_millis(5)))
    }

    fn lock_waiting(data_dir: &Path, mut wait: impl FnMut()) -> Result<Self, StoreError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(|error| unusable(data_dir, error))?;
        let path = data_dir.join("store.lock");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unusable(&path, error))?;
        let end = Instant::now() + RELEASE;
        let mut file = file;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { data_dir: data_dir.to_owned(), _lock: lock }),
                Err((held, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < end => {
                    file = held;
                    wait();
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(StoreError::InUse(data_dir.to_owned()));
                }
                Err((_, error)) => return Err(unusable(&path, error)),
            }
        }
    }

    /// Whether a data directory has anything of a store: the lock, the database, or what is left of
    /// one.
    pub fn is_begun(data_dir: &Path) -> bool {
        let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| {
            ["store", "store.lock", "store.new", "store.old", "exports"]
                .iter()
                .any(|it| name == *it)
                || name.as_encoded_bytes().starts_with(b"store.damaged-")
        })
    }

    /// The database's directory.
    pub fn store(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// The directory of the exports.
    pub fn exports(&self) -> PathBuf {
        self.data_dir.join("exports")
    }

    fn built(&self) -> PathBuf {
        self.data_dir.join("store.new")
    }

    fn replaced(&self) -> PathBuf {
        self.data_dir.join("store.old")
    }

    /// Whether anything says that there was a store once.
    pub(super) fn has_traces(&self) -> bool {
        let entries = std::fs::read_dir(&self.data_dir).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names
            .any(|name| name == "exports" || name.as_encoded_bytes().starts_with(b"store.damaged-"))
    }

    /// Where the database is that [`StoreFolder::finish`] would leave.
    pub(super) fn current(&self) -> PathBuf {
        match !self.store().exists() && self.replaced().exists() {
            // The old one was moved away, so the new one was whole.
            true if self.built().exists() => self.built(),
            true => self.replaced(),
            false => self.store(),
        }
    }

    /// Goes on with what a process was doing that ended in the middle of it.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        let error = |error| unusable(&self.data_dir, error);
        if !self.store().exists() && self.replaced().exists() {
            std::fs::rename(self.current(), self.store()).map_err(error)?;
            self.sync().map_err(error)?;
        }
        remove(&self.built()).and_then(|()| remove(&self.replaced())).map_err(error)
    }

    /// An empty directory to build a store in.
    pub(super) fn build(&self) -> Result<PathBuf, StoreError> {
        let path = self.built();
        remove(&path)
            .and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(&path))
            .map_err(|error| unusable(&path, error))?;
        Ok(path)
    }

    /// Puts what was built in the place of the store. It must be durable and closed.
    pub(super) fn swap(&self) -> Result<(), StoreError> {
        let swap = || {
            sync_files(&self.built())?;
            if self.store().exists() {
                std::fs::rename(self.store(), self.replaced())?;
            }
            std::fs::rename(self.built(), self.store())?;
            self.sync()?;
            remove(&self.replaced())
        };
        swap().map_err(|error| unusable(&self.data_dir, error))
    }

    /// Moves the store aside and answers where it is.
    pub(super) fn move_aside(&self) -> Result<PathBuf, StoreError> {
        let time: String = clock::now_iso().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let aside = self.data_dir.join(format!("store.damaged-{time}"));
        std::fs::rename(self.store(), &aside)
            .and_then(|()| self.sync())
            .map_err(|error| unusable(&self.store(), error))?;
        Ok(aside)
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.data_dir)?.sync_all()
    }
}

/// Makes the files of a directory, and their names, durable.
fn sync_files(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_let_go_a_moment_later_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let mut held = Some(StoreFolder::lock(place.path()).unwrap());
        let mut waits = 0;
        let taken = StoreFolder::lock_waiting(place.path(), || {
            waits += 1;
            held.take();
        });
        assert!(taken.is_ok() && waits == 1, "{taken:?} after {waits}");
        let refused = StoreFolder::lock(place.path());
        assert!(matches!(refused, Err(StoreError::InUse(_))), "{refused:?}");
    }
}
