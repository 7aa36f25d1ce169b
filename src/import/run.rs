//! The command.

use std::path::{Path, PathBuf};

use cm_actors::clock;
use cm_actors::store::{SledStore, StoreError, StoreFolder, read_defaults};
use cm_core::controls::Controls;
use cm_core::error::exit;
use cm_core::v1::{Ledger, Metadata, read_audit, read_jobs, read_ledger, read_metadata};

use super::home::{self, Found, Placed};
use super::report::{Fate, Report};
use super::sessions::Sessions;
use super::source::{AUDIT, JOBS, LEDGER, METADATA, Source, Text};
use super::taking::Filling;
use crate::app::store_failure;
use crate::complaint::Complaint;
use crate::config::Settings;
use crate::store_tool::{Done, done, maintain_complaint};

/// This program's version, which what it writes carries.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What is to be taken over.
#[derive(Debug)]
pub(crate) struct Order {
    /// The directory of version 1.
    pub(crate) source: PathBuf,
    /// Its codex home, where it is not inside.
    pub(crate) source_home: Option<PathBuf>,
    /// Whether to say only what would be done.
    pub(crate) dry_run: bool,
    /// Whether programs read the output.
    pub(crate) json: bool,
}

/// Takes a data directory of version 1 over.
///
/// # Errors
///
/// [`Complaint`] when it cannot begin, or cannot go on; it can be repeated then.
pub(crate) fn run(order: &Order, settings: &Settings) -> Result<Done, Complaint> {
    let source = Source::open(&order.source, order.source_home.as_deref())?;
    let (data_dir, to) = (&settings.data_dir, &settings.runtime.codex_home);
    apart(&source, data_dir, to)?;
    let mut report = Report {
        dry_run: order.dry_run,
        source: source.root.display().to_string(),
        source_codex_home: source.home.as_ref().map(|home| home.display().to_string()),
        data_dir: data_dir.display().to_string(),
        codex_home: to.display().to_string(),
        ..Report::default()
    };
    // A dry run makes nothing, not even a directory or a lock.
    let folder = match order.dry_run && !StoreFolder::is_begun(data_dir) {
        true => None,
        false => Some(StoreFolder::lock(data_dir).map_err(|error| refused(error, data_dir))?),
    };
    let store = match &folder {
        Some(folder) => open(folder, order.dry_run, data_dir)?,
        None => None,
    };
    let store = store.as_ref();
    take(&source, store, settings, &mut report).map_err(|error| {
        let mut complaint = Complaint::from(store_failure(error, data_dir));
        complaint.hint =
            Some("repeat the command when that is mended: nothing is taken twice".into());
        complaint
    })?;
    let exit = if report.damaged.is_empty() { exit::OK } else { exit::FAILURE };
    done(order.json, &report, report.to_string(), exit)
}

/// Refuses a source that is where things are to go, or the other way round: it would be written.
fn apart(source: &Source, data_dir: &Path, home: &Path) -> Result<(), Complaint> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (data_dir, home) = (real(data_dir), real(home));
    let overlap = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
    let is_same_home = source.home.as_ref() == Some(&home);
    if !overlap(&source.root, &data_dir) && (is_same_home || !home.starts_with(&source.root)) {
        return Ok(());
    }
    let primary = format!(
        "{} is, holds or lies in the data directory that it would be taken over into",
        source.root.display()
    );
    let mut complaint = Complaint::plain(primary);
    complaint.exit = exit::USAGE;
    complaint.hint = Some(
        "version 1's directory is never written: name a new one with --data-dir, or move the old \
         one away first"
            .to_owned(),
    );
    Err(complaint)
}

fn refused(error: StoreError, data_dir: &Path) -> Complaint {
    store_failure(error, data_dir).into()
}

fn open(
    folder: &StoreFolder,
    dry_run: bool,
    data_dir: &Path,
) -> Result<Option<SledStore>, Complaint> {
    let there = match dry_run {
        true => folder.existing_to_look(),
        false => folder.existing(),
    };
    let there = there.map_err(|error| maintain_complaint(error, data_dir))?;
    if there.is_some() || dry_run {
        return Ok(there);
    }
    let opened = folder.open(PROGRAM).map_err(|error| refused(error, data_dir))?;
    Ok(Some(opened.store))
}

fn take(
    source: &Source,
    store: Option<&SledStore>,
    settings: &Settings,
    report: &mut Report,
) -> Result<(), StoreError> {
    let configured = &settings.defaults.controls;
    let text = |name: &str, report: &mut Report| match source.read(name) {
        Text::Whole(text) => Some(text),
        Text::Missing => None,
        Text::Damaged(why) => {
            report.damaged.add(name, why);
            None
        }
    };
    let metadata = text(METADATA, report).map(|text| read_metadata(&text, configured));
    let mut metadata = understood(METADATA, metadata, report).unwrap_or_default();
    report.not_taken.extend(std::mem::take(&mut metadata.skips));
    let rows = text(LEDGER, report);
    let mut ledger = rows.as_deref().map(read_ledger).unwrap_or_default();
    if let Some(why) = ledger.damage.take() {
        report.damaged.add(LEDGER, why);
    }
    let mut filling = Filling::new(store, report.dry_run);
    // Before they may change: what a session has here that nobody chose controls for.
    let stored = store.map(|store| read_defaults(store)).transpose()?;
    let mut unchosen = vec![configured.clone()];
    unchosen.extend(stored.map(|stored| stored.over(configured)));
    unchosen.extend(metadata.defaults.clone());
    let jobs = text(JOBS, report).map(|text| read_jobs(&text, &clock::now_iso()));
    if let Some((jobs, skips)) = understood(JOBS, jobs, report) {
        report.jobs.not_taken += skips.len() as u64;
        report.not_taken.extend(skips);
        filling.jobs(jobs, report)?;
    }
    let audit = text(AUDIT, report).map(|text| read_audit(&text));
    if let Some((audit, skips)) = understood(AUDIT, audit, report) {
        report.extension_audit.not_taken += skips.len() as u64;
        report.not_taken.extend(skips);
        filling.audit(audit, report)?;
    }
    match &metadata.defaults {
        Some(_) if settings.defaults.locked => {
            report.defaults = Fate::NotTaken;
            report
                .not_taken
                .add("the controls of new sessions", "they are locked by the configuration");
        }
        Some(defaults) => filling.defaults(defaults, configured, report)?,
        None => {}
    }
    let names = source.names().unwrap_or_else(|error| {
        report.damaged.add(source.root.display().to_string(), error.to_string());
        Vec::new()
    });
    for name in names {
        let is_known = [METADATA, LEDGER, JOBS, AUDIT, "codex-home"].iter().any(|it| name == *it);
        if !is_known {
            report.not_taken.add(name.display().to_string(), "it has no place in this version");
        }
    }
    sessions(source, &metadata, &ledger, &unchosen, settings, &mut filling, report)?;
    filling.finish()
}

/// What a file says; one that says nothing is damaged.
fn understood<T>(name: &str, read: Option<Result<T, String>>, report: &mut Report) -> Option<T> {
    match read? {
        Ok(read) => Some(read),
        Err(why) => {
            report.damaged.add(name, why);
            None
        }
    }
}

fn sessions(
    source: &Source,
    metadata: &Metadata,
    ledger: &Ledger<'_>,
    unchosen: &[Controls],
    settings: &Settings,
    filling: &mut Filling<'_>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let projects = filling.projects(metadata.projects.values().cloned(), report)?;
    let nowhere = PathBuf::new();
    let from = source.home.as_deref().unwrap_or(&nowhere);
    let to = &settings.runtime.codex_home;
    let to = &to.canonicalize().unwrap_or_else(|_| to.clone());
    let mut found = source.home.as_deref().map(home::look).unwrap_or_default();
    report.not_taken.extend(std::mem::take(&mut found.skips));
    report.damaged.extend(std::mem::take(&mut found.damaged));
    let (here, damaged) = home::thread_ids(to);
    report.damaged.extend(damaged);
    files(from, to, &found, metadata, report);
    let sessions = Sessions {
        from,
        to,
        found: &found,
        here,
        metadata,
        ledger,
        projects: &projects,
        defaults: metadata.defaults.as_ref().unwrap_or(&settings.defaults.controls),
        unchosen,
        item_cap: settings.limits.thread_items as u64,
        dry_run: report.dry_run,
        now_ms: clock::now_ms(),
    };
    sessions.take(filling, report)
}

/// Copies what is no thread, and threads that codex compressed.
fn files(from: &Path, to: &Path, found: &Found, metadata: &Metadata, report: &mut Report) {
    if from == to {
        return;
    }
    for inside in found.files.iter().chain(&found.compressed) {
        if home::id_in_name(inside).is_some_and(|id| is_owned(metadata, &id)) {
            continue;
        }
        if found.compressed.contains(inside) {
            let what = format!("codex-home/{}", inside.display());
            let why = "codex compressed it: it is copied, and codex tells of the session";
            report.not_taken.add(what, why);
        }
        let placed = match report.dry_run {
            true => home::would_place(from, to, inside),
            false => home::place(from, to, inside),
        };
        let fate = match placed {
            Ok(Placed::Copied(bytes)) => {
                report.files.taken += 1;
                report.bytes += bytes;
                Fate::Taken
            }
            Ok(Placed::There) => {
                report.files.already += 1;
                Fate::Already
            }
            Err(error) => {
                report.files.not_taken += 1;
                report.not_taken.add(format!("codex-home/{}", inside.display()), error.to_string());
                Fate::NotTaken
            }
        };
        match inside.to_str() {
            Some("auth.json") => {
                report.login = fate;
                report.shares_refresh_token =
                    fate == Fate::Taken && home::shares_refresh_token(from);
            }
            Some("config.toml") => report.config = fate,
            _ => {}
        }
    }
}

fn is_owned(metadata: &Metadata, id: &str) -> bool {
    metadata.system_owned.iter().any(|owned| owned.as_str() == id)
}
