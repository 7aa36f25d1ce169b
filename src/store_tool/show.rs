//! What the commands print for people.

use std::fmt;
use std::fmt::Write;
use std::path::Path;

use cm_actors::store::{Check, Compacted, Imported};
use serde::Serialize;

/// An export that was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Exported {
    /// Its file.
    pub(super) path: String,
    /// Lines of records.
    pub(super) records: u64,
    /// Records that are damaged, and not in it.
    pub(super) damaged: u64,
    /// The moment it is of, ISO-8601 UTC.
    pub(super) up_to: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        writeln!(f, "{} records up to {}.", self.records, self.up_to)?;
        if self.damaged > 0 {
            writeln!(f, "{} damaged records are not in it.", self.damaged)?;
        }
        Ok(())
    }
}

/// What a check found.
pub(super) fn check(check: &Check) -> String {
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = writeln!(text, "{:<16} {:>10} {:>14}", "", "records", "bytes");
    for (name, kind) in &check.kinds {
        let _ = writeln!(text, "{name:<16} {:>10} {:>14}", kind.records, kind.bytes);
    }
    let _ = writeln!(text, "{:<16} {:>10} {:>14}", "on the disk", "", check.bytes_on_disk);
    if check.loose_chunks > 0 {
        let _ = writeln!(text, "{} chunks wait to be removed.", check.loose_chunks);
    }
    for record in &check.damaged {
        let _ = writeln!(text, "damaged: {}: {}", record.key, record.why);
    }
    let named = check.damaged.len() as u64;
    if check.damaged_count > named {
        let _ = writeln!(text, "damaged: {} more", check.damaged_count - named);
    }
    if check.orphan_chunks > 0 {
        let _ = writeln!(
            text,
            "{} chunks belong to nothing; `codex-manager store compact` drops them.",
            check.orphan_chunks
        );
    }
    if check.unsynced_files > 0 {
        let _ = writeln!(
            text,
            "{} files are outside of the database; `codex-manager store compact` takes them in.",
            check.unsynced_files
        );
    }
    if check.is_whole() {
        text.push_str("Everything is whole.\n");
    }
    text
}

/// What a compaction came to.
pub(super) fn compacted(compacted: &Compacted) -> String {
    let Compacted { before, after, records, dropped } = compacted;
    let mut text = format!("{before} bytes before, {after} after; {records} records.\n");
    if *dropped > 0 {
        let _ = writeln!(text, "{dropped} damaged records were dropped.");
    }
    text
}

/// What an import came to.
pub(super) fn imported(imported: &Imported, store: &Path) -> String {
    let Imported { records, missing, up_to } = imported;
    let mut text = format!("{}: {records} records up to {up_to}.\n", store.display());
    if *missing > 0 {
        let _ = writeln!(text, "{missing} records were damaged and are not in the export.");
    }
    text
}
