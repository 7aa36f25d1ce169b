//! Reads exports: first the whole file, to know that it is whole, then its records.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::export::EXPORT_VERSION;
use super::{format, keys};

/// Bytes and keys of one commit of an import.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_KEYS: usize = 1024;

/// Why a file is no export that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("{path} cannot be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is not a whole export.
    #[error("{path} is no whole export: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store to be filled cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// First line.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    codex_manager_export: u64,
    format: u32,
    program: String,
}

/// Last line.
#[derive(Debug, Deserialize)]
struct End<'a> {
    #[serde(borrow)]
    end: &'a RawValue,
    crc32: &'a str,
}

/// What an export says of itself at its end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportInfo {
    /// Lines of records.
    pub records: u64,
    /// Records that could not be read when it was written, and are not in it.
    pub damaged: u64,
    /// Number of the last commit that is in it.
    pub commit: u64,
    /// When that was, ISO-8601 UTC.
    pub up_to: String,
}

/// A line of a record.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    key: &'a str,
    #[serde(borrow, default)]
    json: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    hex: Option<&'a str>,
    #[serde(default)]
    removed: bool,
}

/// A file that is being read line by line.
struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
    line: String,
    number: u64,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, ImportError> {
        let file =
            File::open(path).map_err(|error| ImportError::File { path: path.to_owned(), error })?;
        Ok(Self { path, file: BufReader::new(file), line: String::new(), number: 0 })
    }

    /// The next line with its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&str>, ImportError> {
        self.line.clear();
        self.number += 1;
        match self.file.read_line(&mut self.line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(&self.line)),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(self.broken("it is no UTF-8"))
            }
            Err(error) => Err(ImportError::File { path: self.path.to_owned(), error }),
        }
    }

    fn broken(&self, why: &str) -> ImportError {
        let why = format!("line {}: {why}", self.number);
        ImportError::Broken { path: self.path.to_owned(), why }
    }
}

/// Reads a whole export and says what is in it.
///
/// # Errors
///
/// [`ImportError`] when it cannot be read or is not whole.
pub(super) fn verify(path: &Path) -> Result<ExportInfo, ImportError> {
    let mut lines = Lines::open(path)?;
    let Some(first) = lines.next()? else {
        return Err(lines.broken("it is empty"));
    };
    let mut sum = crc32fast::Hasher::new();
    sum.update(first.as_bytes());
    let header: Result<Header, _> = serde_json::from_str(first);
    let header = header.map_err(|error| lines.broken(&format!("no first line: {error}")))?;
    if header.codex_manager_export != EXPORT_VERSION || header.format > format::CURRENT {
        let why = format!("it was written by the newer codex-manager {}", header.program);
        return Err(lines.broken(&why));
    }
    let mut records = 0;
    loop {
        let Some(line) = lines.next()? else {
            return Err(lines.broken("the last line is missing"));
        };
        if line.starts_with("{\"key\":") {
            records += 1;
            sum.update(line.as_bytes());
            continue;
        }
        let read = serde_json::from_str::<End<'_>>(line).and_then(|end| {
            sum.update(end.end.get().as_bytes());
            let matches = format!("{:08x}", sum.finalize()) == end.crc32;
            Ok((serde_json::from_str::<ExportInfo>(end.end.get())?, matches))
        });
        let (info, matches) = read.map_err(|error| lines.broken(&error.to_string()))?;
        if !matches || records != info.records {
            return Err(lines.broken("checksum or count do not match"));
        }
        if lines.next()?.is_some() {
            return Err(lines.broken("something follows the last line"));
        }
        return Ok(info);
    }
}

/// Writes the records of a verified export into an empty store.
///
/// # Errors
///
/// [`ImportError`].
pub(super) fn load(path: &Path, store: &dyn Store) -> Result<(), ImportError> {
    let mut lines = Lines::open(path)?;
    lines.next()?;
    let mut batch = WriteBatch::default();
    let mut bytes = 0;
    while let Some(line) = lines.next()? {
        if !line.starts_with("{\"key\":") {
            break;
        }
        bytes += line.len();
        let parsed = serde_json::from_str::<Line<'_>>(line)
            .map_err(|error| error.to_string())
            .and_then(|line| record(&line));
        let (key, value) = parsed.map_err(|why| lines.broken(&why))?;
        if !keys::is_internal(&key) {
            batch.entries.push((key, value.map(Into::into)));
        }
        if bytes >= BATCH_BYTES || batch.entries.len() >= BATCH_KEYS {
            store.commit(&[std::mem::take(&mut batch)])?;
            bytes = 0;
        }
    }
    Ok(store.commit(&[batch])?)
}

fn record(line: &Line<'_>) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let key = unescape(line.key).ok_or_else(|| "its key cannot be understood".to_owned())?;
    let value = match (line.json, &line.text, line.hex, line.removed) {
        (Some(json), None, None, false) => Some(json.get().as_bytes().to_vec()),
        (None, Some(text), None, false) => Some(text.as_bytes().to_vec()),
        (None, None, Some(hex), false) => {
            Some(unhex(hex).ok_or_else(|| "its value is no hexadecimal text".to_owned())?)
        }
        (None, None, None, true) => None,
        _ => return Err("it has not exactly one value".to_owned()),
    };
    Ok((key, value))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut key = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        key.push(u8::from_str_radix(code, 16).ok()?);
        key.extend_from_slice(rest.as_bytes());
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::super::export::escape;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_comes_back(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unescape(&escape(&key)), Some(key));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(text in ".{0,40}") {
            let _ = unescape(&text);
            let _ = unhex(&text);
        }
    }
}
