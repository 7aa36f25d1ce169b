//! Loads the configuration.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use super::build::{self, Surroundings};
use super::layers;
use super::origin::{Origin, Problem, Problems};
use super::settings::Settings;
use super::value::{Parsed, Raw, parse};
use super::variable::{Variable, every_variable};

/// Everything that configuration is read from, so that a test can give its own.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Relative paths start here, and `.env` is read here.
    pub(crate) working_directory: PathBuf,
    /// The environment of the process.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// `--config`.
    pub(crate) config_flag: Option<PathBuf>,
    /// Flags that set a variable: the variable, how the flag is spelled, the value.
    pub(crate) flags: Vec<(&'static Variable, &'static str, Raw)>,
}

impl Sources {
    /// The sources of this process, without flags.
    ///
    /// # Errors
    ///
    /// When the working directory does not exist any more or cannot be reached.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            working_directory: std::env::current_dir()?,
            environment: std::env::vars_os().collect(),
            ..Self::default()
        })
    }

    /// A variable of the environment; an empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The user's home directory.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// A configuration without problems.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What the program consumes.
    pub(crate) settings: Settings,
    /// Each variable with its value and where that came from.
    pub(crate) effective: Vec<Effective>,
    /// The configuration file that was read.
    pub(crate) config_file: Option<PathBuf>,
    /// The `.env` file that was read.
    pub(crate) dotenv_file: Option<PathBuf>,
    /// What is odd but harmless.
    pub(crate) warnings: Vec<Problem>,
}

impl Loaded {
    /// The files that secrets were read from.
    pub(crate) fn files_with_secrets(&self) -> Vec<PathBuf> {
        let secrets = || self.effective.iter().filter(|one| one.variable.is_secret());
        let in_file = secrets().any(|one| matches!(one.origin, Origin::File { .. }));
        let in_dotenv = secrets().any(|one| matches!(one.origin, Origin::DotEnv { .. }));
        let files = [(in_file, &self.config_file), (in_dotenv, &self.dotenv_file)];
        files.into_iter().filter(|(holds, _)| *holds).filter_map(|(_, file)| file.clone()).collect()
    }
}

/// One variable as it is in force.
#[derive(Debug)]
pub(crate) struct Effective {
    /// The variable.
    pub(crate) variable: &'static Variable,
    /// Its value as it may be shown; `None` when it is not set.
    pub(crate) shown: Option<String>,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// Every variable's checked value with its origin.
#[derive(Debug, Default)]
pub(super) struct Values {
    parsed: BTreeMap<&'static str, (Parsed, Origin)>,
}

impl Values {
    fn parsed(&self, variable: &Variable) -> &Parsed {
        self.parsed.get(variable.name).map_or(&Parsed::Unset, |(parsed, _)| parsed)
    }

    /// Where a value came from.
    pub(super) fn origin(&self, variable: &Variable) -> Origin {
        self.parsed.get(variable.name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// A number; 0 when unset.
    pub(super) fn number(&self, variable: &Variable) -> u64 {
        match self.parsed(variable) {
            Parsed::Number(number) => *number,
            _ => 0,
        }
    }

    /// A yes or no; no when unset.
    pub(super) fn switch(&self, variable: &Variable) -> bool {
        matches!(self.parsed(variable), Parsed::Switch(true))
    }

    /// A text, if set.
    pub(super) fn text(&self, variable: &Variable) -> Option<&str> {
        match self.parsed(variable) {
            Parsed::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list; empty when unset.
    pub(super) fn list(&self, variable: &Variable) -> Vec<String> {
        match self.parsed(variable) {
            Parsed::List(list) => list.clone(),
            _ => Vec::new(),
        }
    }
}

/// Loads the configuration.
///
/// # Errors
///
/// Everything that is wrong with it, at once.
pub(crate) fn load(sources: Sources) -> Result<Loaded, Problems> {
    let mut layers = layers::collect(&sources);
    let mut problems = std::mem::take(&mut layers.problems);
    let mut values = Values::default();
    for variable in every_variable() {
        let default = || {
            let raw = variable.default.map(|text| Raw::Text(text.to_owned()));
            raw.and_then(|raw| parse(variable.kind, &raw).ok()).unwrap_or(Parsed::Unset)
        };
        let (parsed, origin) = match layers.winners.remove(variable.name) {
            None => (default(), Origin::Default),
            Some((raw, origin)) => match parse(variable.kind, &raw) {
                Ok(parsed) => (parsed, origin),
                Err(allowed) => {
                    problems.push(refusal(variable, &raw, origin.clone(), &allowed));
                    (default(), origin)
                }
            },
        };
        values.parsed.insert(variable.name, (parsed, origin));
    }
    let home = sources.home();
    let surroundings = Surroundings {
        working_directory: sources.working_directory,
        home,
        environment: sources.environment,
        foreign_dotenv: layers.foreign_dotenv,
    };
    let (settings, more_problems) = build::build(&values, surroundings);
    problems.extend(more_problems);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let effective = every_variable()
        .map(|variable| Effective {
            variable,
            shown: build::shown(variable, values.parsed(variable), &settings),
            origin: values.origin(variable),
        })
        .collect();
    Ok(Loaded {
        settings,
        effective,
        config_file: layers.config_file,
        dotenv_file: layers.dotenv_file,
        warnings: layers.warnings,
    })
}

fn refusal(variable: &Variable, raw: &Raw, origin: Origin, allowed: &str) -> Problem {
    let written = match raw {
        _ if variable.is_secret() => "***".to_owned(),
        Raw::Text(text) => text.escape_debug().to_string(),
        Raw::List(list) => list.join(",").escape_debug().to_string(),
    };
    let name = match origin {
        Origin::File { .. } => variable.key,
        _ => variable.name,
    };
    Problem::new(origin, format!("{name} is `{written}`; it must be {allowed}"))
}
