//! Exports: the whole store as lines of JSON, readable without this program.
//!
//! ```text
//! {"codexManagerExport":1,"format":1,"epoch":"…","seqReserved":2000000,"startedAt":"…","program":"…"}
//! {"key":"t%00thread-1","json":{…}}        a value that is JSON, exactly as it is stored
//! {"key":"m%00epoch","text":"…"}           a value that is UTF-8
//! {"key":"m%00seq","hex":"…"}              any other value
//! {"key":"o%00thread-1","removed":true}    removed while the export was written
//! {"end":{"records":3,"damaged":0,"commit":45,"upTo":"…"},"crc32":"…"}
//! ```
//!
//! In keys every byte that is no printable ASCII, and `%`, is written as `%` and two hexadecimal
//! digits. A later line of a key overrides an earlier one. The checksum covers every byte before
//! the last line, and what stands behind `"end":` in it.
//!
//! The store goes on being written meanwhile: the export is walked in slices, then the keys that
//! were written since are added until few are left, and those while no commit runs. So it is the
//! store as it was after one commit, the one whose number it names.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::backend::{Store, StoreError, Visitor};
use super::{format, keys};
use crate::clock;

/// Version of the form of the file.
pub(super) const EXPORT_VERSION: u64 = 1;

/// Exports that are kept.
const KEEP: usize = 3;

/// Bytes that are read in one go; a reader of the store waits no longer than for these.
const SLICE: usize = 256 * 1024;

/// Pause between slices of an export beside the work, so that it takes a part of one core only.
const PAUSE: Duration = Duration::from_millis(2);

/// Keys that are added while no commit runs.
const LAST_KEYS: usize = 32;

/// Rounds of catching up before commits are stopped for however many keys there are.
const ROUNDS: usize = 20;

/// Where exports go, and how often.
#[derive(Debug, Clone)]
pub struct ExportPlan {
    /// The directory; it is made when the first one is written.
    pub folder: PathBuf,
    /// Version of the program, for the first line.
    pub program: String,
    /// Time between two, when something was written in between.
    pub every: Duration,
    running: Arc<AtomicBool>,
}

impl ExportPlan {
    /// Makes a plan.
    pub fn new(folder: PathBuf, program: &str, every: Duration) -> Self {
        Self { folder, program: program.to_owned(), every, running: Arc::default() }
    }
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// The file or its folder cannot be written.
    #[error("the export cannot be written: {0}")]
    File(#[from] std::io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There was no time for it.
    #[error("there was not enough time")]
    Time,
}

/// What can be exported.
pub(super) trait Source {
    /// Reads one value.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// As `Upkeep::walk`.
    fn walk_on(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// As `Upkeep::settle`, until it is done.
    fn settle_all(&self, visit: &mut Visitor<'_>) -> Result<u64, StoreError>;

    /// As `Upkeep::watch`.
    fn watch_keys(&self, on: bool);
}

impl Source for &dyn Store {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(key)
    }

    fn walk_on(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.walk(after, bytes, visit)
    }

    fn settle_all(&self, visit: &mut Visitor<'_>) -> Result<u64, StoreError> {
        for _ in 0..ROUNDS {
            if let Some(commit) = self.settle(LAST_KEYS, visit)? {
                return Ok(commit);
            }
            self.catch_up(visit)?;
        }
        Ok(self.settle(usize::MAX, visit)?.unwrap_or_else(|| self.last_commit()))
    }

    fn watch_keys(&self, on: bool) {
        self.watch(on);
    }
}

/// Writes an export on a thread of its own, unless one is being written.
pub(super) fn start(store: &Arc<dyn Store>, plan: ExportPlan) {
    if plan.running.swap(true, Ordering::AcqRel) {
        return;
    }
    let store = Arc::clone(store);
    let running = Arc::clone(&plan.running);
    let spawned = std::thread::Builder::new().name("store-export".to_owned()).spawn(move || {
        run_at(store.as_ref(), &plan, None, PAUSE);
        plan.running.store(false, Ordering::Release);
    });
    if let Err(error) = spawned {
        running.store(false, Ordering::Release);
        tracing::warn!(%error, "the store's export cannot be started");
    }
}

/// Writes an export if the newest one is older than the store; gives up at the deadline.
pub(super) fn run(store: &dyn Store, plan: &ExportPlan, deadline: Option<Instant>) {
    if !plan.running.swap(true, Ordering::AcqRel) {
        run_at(store, plan, deadline, Duration::ZERO);
        plan.running.store(false, Ordering::Release);
    }
}

fn run_at(store: &dyn Store, plan: &ExportPlan, deadline: Option<Instant>, pause: Duration) {
    if newest_commit(&plan.folder) == Some(store.last_commit()) {
        return;
    }
    match write(&store, &plan.folder, &plan.program, deadline, pause) {
        Ok(path) => tracing::info!(path = %path.display(), "the store was exported"),
        Err(error @ ExportError::Time) => {
            tracing::info!(%error, "the store was not exported at the stop");
        }
        Err(error) => tracing::warn!(%error, "the store could not be exported"),
    }
}

/// The exports in a folder, newest first.
pub(super) fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| commit_of(path).is_some()).collect();
    found.sort_by_key(|path| std::cmp::Reverse((commit_of(path), path.clone())));
    found
}

/// The number of the newest commit that is in an export of this folder.
pub(super) fn newest_commit(folder: &Path) -> Option<u64> {
    list(folder).first().and_then(|path| commit_of(path))
}

/// `store-<commit>-<time>.jsonl`
fn commit_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let middle = name.strip_prefix("store-")?.strip_suffix(".jsonl")?;
    middle.split_once('-')?.0.parse().ok()
}

/// Counts and sums what goes through it.
struct Summing<W> {
    inner: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes an export into a folder and answers its path; removes all but the newest ones.
pub(super) fn write<S: Source>(
    source: &S,
    folder: &Path,
    program: &str,
    deadline: Option<Instant>,
    pause: Duration,
) -> Result<PathBuf, ExportError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let partial = folder.join("store.partial");
    source.watch_keys(true);
    let written = write_file(source, &partial, program, deadline, pause);
    source.watch_keys(false);
    let commit = written.inspect_err(|_| {
        // What is left is written over by the next one.
        std::fs::remove_file(&partial).ok();
    })?;
    let time: String = clock::now_iso().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let path = folder.join(format!("store-{commit:012}-{time}.jsonl"));
    std::fs::rename(&partial, &path)?;
    File::open(folder)?.sync_all()?;
    for old in list(folder).into_iter().skip(KEEP) {
        std::fs::remove_file(old)?;
    }
    Ok(path)
}

/// Writes an export to a file that must not be there yet.
pub(super) fn write_to<S: Source>(
    source: &S,
    path: &Path,
    program: &str,
) -> Result<(), ExportError> {
    if path.exists() {
        let why = format!("{} is there already", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, why).into());
    }
    write_file(source, path, program, None, Duration::ZERO).map(|_| ())
}

fn write_file<S: Source>(
    source: &S,
    path: &Path,
    program: &str,
    deadline: Option<Instant>,
    pause: Duration,
) -> Result<u64, ExportError> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut out =
        Summing { inner: BufWriter::with_capacity(SLICE, file), sum: crc32fast::Hasher::new() };
    writeln!(out, "{}", header(source, program)?)?;
    let mut records = 0_u64;
    let mut damaged = 0_u64;
    let mut failed: Option<std::io::Error> = None;
    let mut visit = |key: &[u8], value: Result<Option<Vec<u8>>, StoreError>| {
        let Ok(value) = value else {
            damaged += 1;
            return Ok(());
        };
        records += 1;
        write_record(&mut out, key, value.as_deref()).map_err(|error| {
            let why = error.to_string();
            failed = Some(error);
            StoreError::Read(why)
        })
    };
    let walked = (|| {
        let mut after: Option<Vec<u8>> = None;
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ExportError::Time);
            }
            after = source.walk_on(after.as_deref(), SLICE, &mut visit)?;
            if after.is_none() {
                return Ok(source.settle_all(&mut visit)?);
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    })();
    if let Some(error) = failed {
        return Err(error.into());
    }
    let commit = walked?;
    let trailer = json!({
        "records": records,
        "damaged": damaged,
        "commit": commit,
        "upTo": clock::now_iso(),
    });
    let trailer = trailer.to_string();
    out.sum.update(trailer.as_bytes());
    let sum = out.sum.clone().finalize();
    writeln!(out, "{{\"end\":{trailer},\"crc32\":\"{sum:08x}\"}}")?;
    let file = out.inner.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(commit)
}

fn header<S: Source>(source: &S, program: &str) -> Result<Value, StoreError> {
    let epoch = source.read(keys::EPOCH)?;
    let reserved = source.read(keys::SEQ_RESERVED)?;
    let reserved = reserved.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    Ok(json!({
        "codexManagerExport": EXPORT_VERSION,
        "format": format::CURRENT,
        "epoch": epoch.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        "seqReserved": reserved.map(u64::from_be_bytes),
        "startedAt": clock::now_iso(),
        "program": program,
    }))
}

fn write_record(out: &mut impl Write, key: &[u8], value: Option<&[u8]>) -> std::io::Result<()> {
    write!(out, "{{\"key\":\"{}\",", escape(key))?;
    match value {
        None => out.write_all(b"\"removed\":true")?,
        Some(value) if is_plain_json(value) => {
            out.write_all(b"\"json\":")?;
            out.write_all(value)?;
        }
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) => write!(out, "\"text\":{}", Value::from(text))?,
            Err(_) => {
                out.write_all(b"\"hex\":\"")?;
                for byte in value {
                    write!(out, "{byte:02x}")?;
                }
                out.write_all(b"\"")?;
            }
        },
    }
    out.write_all(b"}\n")
}

/// Whether a value can stand in a line as it is, and comes out of it as the same bytes.
fn is_plain_json(value: &[u8]) -> bool {
    let is_document = serde_json::from_slice::<&RawValue>(value)
        .is_ok_and(|document| document.get().len() == value.len());
    // A reader cannot tell `null` from a member that is not there.
    is_document && value != b"null" && !value.contains(&b'\n') && !value.contains(&b'\r')
}

/// A key as text.
pub(super) fn escape(key: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(key.len());
    for byte in key {
        match byte {
            b'%' | b'"' | b'\\' => write!(text, "%{byte:02X}").ok(),
            0x21..=0x7e => {
                text.push(char::from(*byte));
                Some(())
            }
            _ => write!(text, "%{byte:02X}").ok(),
        };
    }
    text
}
