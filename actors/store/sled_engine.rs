//! sled 0.34 as an engine.
//!
//! sled acknowledges before it is durable, and its `flush` is `sync_file_range` on Linux, which
//! promises nothing when the power fails. So what was flushed is then `fdatasync`ed through our
//! own handle on the database file. After an input or output error sled refuses every further
//! write, and reads that meet an unfinished split, until it is opened again. It panics on some
//! kinds of damage, when it is opened and when it reads: every call is guarded.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::engine::{Changes, Engine, EngineError, RawEntry};
use super::high_water::HighWater;
use super::scan::Scan;

/// Memory that sled may use for pages, in bytes; its own default is 1 GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Room that must be left on the disk for a write to begin. sled takes space in segments of 512 KiB
/// and needs some to open again; the rest is what others may take between the look and the write.
const ROOM_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes on the disk for each byte written: 1.7 were measured for long values.
const AMPLIFICATION: u64 = 2;

/// Bytes of the file that is written to see whether writing works: twice a segment.
const PROBE_BYTES: usize = 1024 * 1024;

/// How long threads of sled's own may hold the file of a database that was closed.
const RELEASE: Duration = Duration::from_secs(2);

/// sled in a directory.
pub struct SledEngine {
    path: PathBuf,
    /// `None` after an error, until it could be opened again.
    open: RwLock<Option<Open>>,
    high_water: HighWater,
}

struct Open {
    database: sled::Db,
    /// The database file, for `fdatasync`.
    file: File,
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => io_error(&error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// sled passes on what the system said, and makes up errors of its own when a file holds less, or
/// something else, than it should.
fn io_error(error: &std::io::Error) -> EngineError {
    use std::io::ErrorKind;
    let why = error.to_string();
    if why.contains("could not acquire lock") {
        return EngineError::InUse;
    }
    match (error.raw_os_error(), error.kind()) {
        // A file that sled refers to is gone.
        (_, ErrorKind::NotFound) => EngineError::Damaged(why),
        (Some(errno), _) => EngineError::System { errno: Some(errno), why },
        (None, kind) => match system_number(kind) {
            // sled clones its errors, which keeps their kind and loses their number.
            Some(errno) => EngineError::System { errno: Some(errno), why },
            None => EngineError::Damaged(why),
        },
    }
}

fn system_number(kind: std::io::ErrorKind) -> Option<i32> {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::StorageFull => Some(nix::libc::ENOSPC),
        ErrorKind::QuotaExceeded => Some(nix::libc::EDQUOT),
        ErrorKind::ReadOnlyFilesystem => Some(nix::libc::EROFS),
        ErrorKind::PermissionDenied => Some(nix::libc::EACCES),
        ErrorKind::FileTooLarge => Some(nix::libc::EFBIG),
        ErrorKind::WriteZero | ErrorKind::Interrupted => Some(nix::libc::EIO),
        // A number without a kind of its own, EIO among them.
        _ if format!("{kind:?}") == "Uncategorized" => Some(nix::libc::EIO),
        _ => None,
    }
}

/// Calls sled so that a panic in it is an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("for an unknown reason");
        // Some of sled's own texts are pages long.
        let why: String = why.chars().take(200).collect();
        Err(EngineError::Damaged(format!("sled panicked: {why}")))
    })
}

/// Removes snapshots that sled began and did not finish, because the disk was full or the process was
/// killed.
///
/// sled 0.34.7 takes such a file for its newest snapshot and the database for damaged (it passes over
/// another ending than the one that it writes). What a snapshot says is in the log, too.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), EngineError> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_database(path: &Path) -> Result<Open, EngineError> {
    remove_unfinished_snapshots(path)?;
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let database = guarded(|| Ok(config.open()?))?;
    let file_path = path.join("db");
    let file = File::open(&file_path)?;
    // Sessions hold source code and commands: for their owner's eyes only.
    std::fs::set_permissions(&file_path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Open { database, file })
}

impl SledEngine {
    /// Opens the database in a directory that exists; an empty one gets a new database.
    ///
    /// # Errors
    ///
    /// [`EngineError`].
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        Ok(Self {
            open: RwLock::new(Some(open_when_free(path)?)),
            high_water: HighWater::open(path)?,
            path: path.to_owned(),
        })
    }

    /// The number of the newest commit that is known to have been durable, as far as a note of it
    /// is there.
    pub(super) fn noted_commit(&self) -> Option<u64> {
        self.high_water.read()
    }

    /// Files that sled keeps outside of its log, which it does not sync: there should be none.
    pub(super) fn blobs(&self) -> usize {
        std::fs::read_dir(self.path.join("blobs")).map_or(0, Iterator::count)
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&Open) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or(EngineError::Closed)?;
        guarded(|| call(open))
    }

    /// Writes and syncs a file of its own beside the database, as much as opening the database may
    /// write and as far behind its end: a limit on the size of files counts there, too.
    fn probe(&self) -> Result<(), EngineError> {
        let path = self.path.join("probe");
        let probe = || {
            let file = File::create(&path)?;
            file.write_all_at(&vec![0_u8; PROBE_BYTES], self.bytes_on_disk())?;
            file.sync_all()
        };
        let probed = probe();
        // It is sparse; what is left of one is written over by the next.
        std::fs::remove_file(&path).ok();
        Ok(probed?)
    }
}

/// Opens a database as soon as sled's own threads have let go of it: a database that was closed a
/// moment ago may still be held by them.
fn open_when_free(path: &Path) -> Result<Open, EngineError> {
    let end = Instant::now() + RELEASE;
    loop {
        match open_database(path) {
            Err(EngineError::InUse) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Writes a file's own bytes over themselves and syncs it.
///
/// After a failed sync the system may count pages as clean that never reached the disk. What can be
/// read now is what the database will build on: writing it again makes it dirty, and the sync that
/// follows tells the truth.
fn write_again(path: &Path) -> Result<(), EngineError> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut buffer = vec![0_u8; 1 << 20];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        file.write_all_at(bytes, at)?;
        at += count as u64;
    }
    Ok(file.sync_all()?)
}

impl Engine for SledEngine {
    fn apply(&self, changes: Changes) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.with(|open| Ok(open.database.apply_batch(batch)?))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.with(|open| Ok(open.database.flush().map(|_| ())?))
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.with(|open| Ok(open.file.sync_data()?))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|open| Ok(open.database.get(key)?.map(|value| value.to_vec())))
    }

    fn page(&self, scan: &Scan) -> Result<Vec<RawEntry>, EngineError> {
        let Some(range) = scan.range() else {
            return Ok(Vec::new());
        };
        self.with(|open| {
            let mut range = open.database.range(range);
            let mut entries: Vec<RawEntry> = Vec::new();
            let mut bytes = 0;
            while entries.len() < scan.limit && (bytes < scan.max_bytes || entries.is_empty()) {
                let next = if scan.reverse { range.next_back() } else { range.next() };
                let Some(next) = next else { break };
                let (key, value) = next?;
                bytes += key.len() + value.len();
                entries.push((key.to_vec(), value.to_vec()));
            }
            Ok(entries)
        })
    }

    fn room(&self, bytes: usize) -> Result<(), EngineError> {
        let disk = nix::sys::statvfs::statvfs(&self.path).map_err(std::io::Error::from)?;
        let refuse = |errno: i32| {
            let error = std::io::Error::from_raw_os_error(errno);
            EngineError::System { errno: Some(errno), why: error.to_string() }
        };
        if disk.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
            return Err(refuse(nix::libc::EROFS));
        }
        #[expect(
            clippy::useless_conversion,
            reason = "the width of these numbers differs between systems"
        )]
        let free =
            u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
        let wanted = (bytes as u64).saturating_mul(AMPLIFICATION).saturating_add(ROOM_BYTES);
        if free < wanted {
            return Err(refuse(nix::libc::ENOSPC));
        }
        // A write that this limit ends in the middle leaves pages that cannot be read.
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).map_err(std::io::Error::from)?;
        if limit != RLIM_INFINITY && self.bytes_on_disk().saturating_add(wanted) > limit {
            return Err(refuse(nix::libc::EFBIG));
        }
        Ok(())
    }

    fn reopen(&self, unsynced: bool) -> Result<(), EngineError> {
        self.probe()?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = open.take() {
            // sled panics when the last sync at its closing fails.
            guarded(|| {
                drop(old);
                Ok(())
            })
            .ok();
        }
        if unsynced {
            write_again(&self.path.join("db"))?;
        }
        crate::failpoint::pass("store.reopen")?;
        *open = Some(open_when_free(&self.path)?);
        Ok(())
    }

    fn note_commit(&self, commit: u64) {
        self.high_water.write(commit);
    }

    fn bytes_on_disk(&self) -> u64 {
        std::fs::metadata(self.path.join("db")).map_or(0, |metadata| metadata.len())
    }
}
