//! `/write` and `/delete`: a change of one file behind an approval.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::approval::Decision;
use super::diff::hunk;
use super::path::resolve;
use crate::turn::{Stop, Turn, complete, file_change};
use crate::wire::lock;

/// Largest file that is changed, in bytes; its diff is shown whole.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A change that may be proposed.
struct Change {
    path: PathBuf,
    /// The path as the diff of the turn names it.
    shown: String,
    /// `None` where there is no file.
    old: Option<String>,
    new: Option<String>,
}

/// Proposes, asks, applies. `content` is the new text, `None` deletes. The answer is a line for
/// the closing message.
pub(crate) fn change_file(
    turn: &mut Turn,
    path: &str,
    content: Option<&str>,
) -> Result<String, Stop> {
    let settings = turn.settings();
    let verb = if content.is_some() { "write" } else { "delete" };
    let line = |what: &str| format!("- {verb} {path}: {what}");
    if settings.is_read_only() {
        return Ok(line("refused, the sandbox is read-only"));
    }
    let cwd = PathBuf::from(&settings.cwd);
    let change = match plan(&cwd, &turn.server.options.home, path, content) {
        Ok(change) => change,
        Err(reason) => return Ok(line(&format!("refused, {reason}"))),
    };
    let (kind, diff) = describe(&change);
    let mut item = file_change(&change.path.to_string_lossy(), &kind, &diff);
    turn.item_started(&item);
    if settings.never_asks() {
        complete(&mut item, json!({ "status": "declined" }));
        turn.item_completed(&item);
        return Ok(line("declined, the approval policy is never and nothing is sandboxed"));
    }
    let remembered = lock(&turn.thread.state).accepted_files.contains(&change.path);
    if !remembered {
        turn.status(&["waitingOnApproval"]);
        let params = json!({
            "itemId": item["id"], "startedAtMs": item["startedAtMs"], "reason": null,
            "grantRoot": null,
        });
        let answer = turn.ask("item/fileChange/requestApproval", params)?;
        let decision = Decision::of(&answer);
        turn.status(&[]);
        if let Some((status, reason)) = decision.refusal() {
            complete(&mut item, json!({ "status": status }));
            turn.item_completed(&item);
            return match decision {
                Decision::Cancel => Err(Stop::Interrupted),
                _ => Ok(line(reason)),
            };
        }
        if decision == Decision::AcceptForSession {
            lock(&turn.thread.state).accepted_files.insert(change.path.clone());
        }
    }
    // Between the question and the answer the file may have become another one.
    let again = plan(&cwd, &turn.server.options.home, path, content);
    let unchanged =
        again.is_ok_and(|again| (&again.path, &again.old) == (&change.path, &change.old));
    let applied = match unchanged {
        true => apply(&change).map_err(|error| error.to_string()),
        false => Err("it changed while the question was open".to_owned()),
    };
    let status = if applied.is_ok() { "completed" } else { "failed" };
    complete(&mut item, json!({ "status": status }));
    turn.item_completed(&item);
    if let Err(reason) = applied {
        return Ok(line(&format!("failed, {reason}")));
    }
    turn.diff.record(&change.shown, change.old, change.new);
    turn.diff_updated();
    Ok(line("done"))
}

fn plan(cwd: &Path, home: &Path, path: &str, content: Option<&str>) -> Result<Change, String> {
    let resolved = resolve(cwd, home, path).map_err(|error| format!("the path {error}"))?;
    let old = match read(&resolved) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("the file cannot be read: {error}")),
    };
    if old.is_none() && content.is_none() {
        return Err("there is no such file".to_owned());
    }
    if content.is_some_and(|content| content.len() as u64 > MAX_FILE_BYTES) {
        return Err(format!("the content is larger than {MAX_FILE_BYTES} bytes"));
    }
    let workspace = fs::canonicalize(cwd).map_err(|error| error.to_string())?;
    let shown = resolved.strip_prefix(&workspace).unwrap_or(&resolved);
    let shown = shown.to_string_lossy().into_owned();
    Ok(Change { path: resolved, shown, old, new: content.map(str::to_owned) })
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    fs::read_to_string(path)
}

/// Kind and diff in codex's form: the whole content of a new or deleted file, hunks of an update.
fn describe(change: &Change) -> (Value, String) {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => (json!({ "type": "update", "move_path": null }), hunk(old, new)),
        (None, Some(new)) => (json!({ "type": "add" }), new.clone()),
        (old, None) => (json!({ "type": "delete" }), old.clone().unwrap_or_default()),
    }
}

fn apply(change: &Change) -> io::Result<()> {
    let Some(content) = &change.new else {
        return fs::remove_file(&change.path);
    };
    let parent = change.path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    // A rename replaces the name and never writes through a link put there in the meantime.
    let fresh = parent.join(format!(".codex-manager-{}", uuid::Uuid::now_v7().simple()));
    let written = write_new(&fresh, content, &change.path);
    if written.is_err() {
        drop(fs::remove_file(&fresh));
    }
    written
}

fn write_new(fresh: &Path, content: &str, target: &Path) -> io::Result<()> {
    let mut file = fs::File::create_new(fresh)?;
    file.write_all(content.as_bytes())?;
    if let Ok(metadata) = fs::symlink_metadata(target) {
        file.set_permissions(metadata.permissions())?;
    }
    fs::rename(fresh, target)
}
