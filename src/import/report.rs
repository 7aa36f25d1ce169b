//! What an import came to.

use std::fmt;

use cm_core::v1::Skips;
use serde::Serialize;

/// Lines of one list that a person is shown. Overflow rule: `--json` has the rest.
const SHOWN: usize = 20;

/// How many of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Count {
    /// Taken over.
    pub(super) taken: u64,
    /// Here already, or removed here since: left as it is.
    pub(super) already: u64,
    /// Not taken; the list says why.
    pub(super) not_taken: u64,
}

/// What became of the one thing of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// There is none in the source.
    #[default]
    None,
    /// It was taken.
    Taken,
    /// There is one here, which stays.
    Already,
    /// It was not taken; the list says why.
    NotTaken,
}

/// A report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether nothing was written.
    pub(super) dry_run: bool,
    /// The directory of version 1.
    pub(super) source: String,
    /// Its codex home.
    pub(super) source_codex_home: Option<String>,
    /// Where it goes.
    pub(super) data_dir: String,
    /// The codex home where it goes.
    pub(super) codex_home: String,
    /// Sessions.
    pub(super) sessions: Count,
    /// Their turns.
    pub(super) turns: u64,
    /// Their rows.
    pub(super) rows: u64,
    /// Projects.
    pub(super) projects: Count,
    /// Background jobs.
    pub(super) jobs: Count,
    /// Of those that were taken: how many had not ended, and are failed now.
    pub(super) jobs_failed: u64,
    /// Records of reloads of extensions.
    pub(super) extension_audit: Count,
    /// Controls of new sessions.
    pub(super) defaults: Fate,
    /// The login.
    pub(super) login: Fate,
    /// Whether original and copy of the login share a refresh token.
    pub(super) shares_refresh_token: bool,
    /// The configuration of codex.
    pub(super) config: Fate,
    /// Files of the codex home.
    pub(super) files: Count,
    /// Bytes of those that were copied.
    pub(super) bytes: u64,
    /// Files that could not be read, or not to their end.
    pub(super) damaged: Skips,
    /// What was not taken, and why.
    pub(super) not_taken: Skips,
}

impl Report {
    /// Whether anything was taken.
    fn is_nothing(&self) -> bool {
        let counts = [self.sessions, self.projects, self.jobs, self.extension_audit, self.files];
        counts.iter().all(|count| count.taken == 0) && self.defaults != Fate::Taken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = if self.dry_run { "to take" } else { "taken" };
        writeln!(f, "from    {}", self.source)?;
        writeln!(f, "        {}", self.source_codex_home.as_deref().unwrap_or("no codex home"))?;
        writeln!(f, "to      {}", self.data_dir)?;
        writeln!(f, "        {}", self.codex_home)?;
        writeln!(f)?;
        writeln!(f, "{:<18} {taken:>9} {:>9} {:>9}", "", "here", "not taken")?;
        for (name, count) in [
            ("sessions", self.sessions),
            ("projects", self.projects),
            ("jobs", self.jobs),
            ("extension audit", self.extension_audit),
            ("codex files", self.files),
        ] {
            let Count { taken, already, not_taken } = count;
            writeln!(f, "{name:<18} {taken:>9} {already:>9} {not_taken:>9}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{} turns with {} rows, {} bytes of files.",
            self.turns, self.rows, self.bytes
        )?;
        if self.jobs_failed > 0 {
            let count = self.jobs_failed;
            writeln!(
                f,
                "{count} jobs had not ended: they are failed, with the reason `imported`."
            )?;
        }
        for (what, fate) in [
            ("The controls of new sessions", self.defaults),
            ("The login of codex", self.login),
            ("The configuration of codex", self.config),
        ] {
            match fate {
                Fate::None => writeln!(f, "{what}: there is none to take.")?,
                Fate::Taken => writeln!(f, "{what}: {taken}.")?,
                Fate::Already => writeln!(f, "{what}: the one that is here stays.")?,
                Fate::NotTaken => writeln!(f, "{what}: not taken.")?,
            }
        }
        if self.shares_refresh_token {
            writeln!(
                f,
                "Original and copy of the login share one ChatGPT refresh token, which changes when \
                 either uses it. Do not go on using version 1, or log in again here."
            )?;
        }
        list(f, "Damaged, and taken as far as it can be read", &self.damaged)?;
        list(f, "Not taken", &self.not_taken)?;
        writeln!(f)?;
        match (self.dry_run, self.is_nothing()) {
            (_, true) => writeln!(f, "Nothing is left to take: everything is here already."),
            (true, false) => writeln!(f, "Nothing was written: this was a dry run."),
            (false, false) => writeln!(f, "Done. The source is as it was."),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, skips: &Skips) -> fmt::Result {
    if skips.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    for skip in skips.named.iter().take(SHOWN) {
        writeln!(f, "  {}: {}", skip.what, skip.why)?;
    }
    match skips.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  {more} more; --json names them"),
    }
}
