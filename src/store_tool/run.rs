//! Runs one command on the store of a data directory.

use std::path::Path;

use cm_actors::store::{ImportError, MaintainError, StoreError, StoreFolder};
use cm_core::error::{ErrorCode, exit};
use serde::Serialize;

use super::show;
use crate::app::store_failure;
use crate::arguments::StoreCommand;
use crate::complaint::Complaint;

/// This program's version, which what it writes carries.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Done {
    /// The output, with its last line break.
    pub(crate) output: String,
    /// Exit code of the process.
    pub(crate) exit: u8,
}

/// Runs a command on a data directory, which no other process may hold.
///
/// # Errors
///
/// [`Complaint`].
pub(crate) fn run(command: &StoreCommand, data_dir: &Path) -> Result<Done, Complaint> {
    // A directory that is not there is not made: it would be the wrong one.
    if !data_dir.is_dir() && !matches!(command, StoreCommand::Import { .. }) {
        return Err(complaint(MaintainError::NoStore(data_dir.join("store")), data_dir));
    }
    let folder = StoreFolder::lock(data_dir)
        .map_err(|error| Complaint::from(store_failure(error, data_dir)))?;
    let done = execute(command, &folder).map_err(|error| complaint(error, data_dir));
    done?
}

fn execute(
    command: &StoreCommand,
    folder: &StoreFolder,
) -> Result<Result<Done, Complaint>, MaintainError> {
    let json = command.json();
    Ok(match command {
        StoreCommand::Check { .. } => {
            let check = folder.check()?;
            let exit = if check.is_whole() { exit::OK } else { exit::FAILURE };
            done(json, &check, show::check(&check), exit)
        }
        StoreCommand::Compact { .. } => {
            let compacted = folder.compact(PROGRAM)?;
            done(json, &compacted, show::compacted(&compacted), exit::OK)
        }
        StoreCommand::Export { file, .. } => {
            let (path, info) = folder.export(file.as_deref(), PROGRAM)?;
            let exported = show::Exported {
                path: path.display().to_string(),
                records: info.records,
                damaged: info.damaged,
                up_to: info.up_to,
            };
            done(json, &exported, exported.to_string(), exit::OK)
        }
        StoreCommand::Import { file, .. } => {
            let imported = folder.import(file, PROGRAM)?;
            done(json, &imported, show::imported(&imported, &folder.store()), exit::OK)
        }
        StoreCommand::Init { .. } => {
            folder.init(PROGRAM)?;
            let made = serde_json::json!({ "store": folder.store().display().to_string() });
            let text = format!("{} is an empty store now.\n", folder.store().display());
            done(json, &made, text, exit::OK)
        }
    })
}

/// What a command printed: the value for programs, the text for people.
///
/// # Errors
///
/// [`Complaint`] when the value cannot be written.
pub(crate) fn done<T: Serialize>(
    json: bool,
    value: &T,
    text: String,
    exit: u8,
) -> Result<Done, Complaint> {
    let output = match json {
        true => serde_json::to_string_pretty(value)
            .map(|json| json + "\n")
            .map_err(|error| Complaint::plain(error.to_string()))?,
        false => text,
    };
    Ok(Done { output, exit })
}

/// What a person is told, and what to do.
pub(crate) fn complaint(error: MaintainError, data_dir: &Path) -> Complaint {
    let primary = error.to_string();
    let with = |code, exit, hint: &str| Complaint {
        code,
        exit,
        primary: primary.clone(),
        details: Vec::new(),
        hint: Some(hint.to_owned()),
    };
    match error {
        MaintainError::Store(error @ (StoreError::InUse(_) | StoreError::Open { .. })) => {
            store_failure(error, data_dir).into()
        }
        MaintainError::NoStore(_) => {
            with(None, exit::NOT_FOUND, "name the data directory with --data-dir")
        }
        MaintainError::IsThere(_) => with(
            None,
            exit::CONFLICT,
            "name a data directory without a store, or move that one away first",
        ),
        MaintainError::OldFormat(_) => {
            with(None, exit::CONFLICT, "`codex-manager serve` exports it and converts it")
        }
        MaintainError::Damaged { .. } => {
            let code = ErrorCode::DataDirUnusable;
            let hint = "`codex-manager serve` moves it aside and restores what can be had; what \
                        happens then is in docs/operations/backup.md";
            with(Some(code), code.row().exit, hint)
        }
        MaintainError::Import(ImportError::File { .. }) => {
            with(None, exit::USAGE, "name an export, as they are in `exports` in a data directory")
        }
        MaintainError::Import(ImportError::Broken { .. }) => {
            with(None, exit::FAILURE, "take another one: nothing of this one was used")
        }
        MaintainError::Import(ImportError::Store(_))
        | MaintainError::Store(_)
        | MaintainError::Export(_) => Complaint::plain(primary),
    }
}
