//! Which layer wins: defaults < file < environment (`.env` beneath) < flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::dotenv;
use super::file;
use super::load::Sources;
use super::origin::{Origin, Problem};
use super::suggest::nearest;
use super::value::Raw;
use super::variable::{Variable, every_variable};

/// Name of the configuration file in the working directory.
pub(super) const FILE_NAME: &str = "codex-manager.toml";
/// The variable that names the configuration file.
pub(super) const FILE_VARIABLE: &str = "CODEX_MANAGER_CONFIG";

/// Names with our prefix that belong to clients and not to the server.
const CLIENT_NAMES: &[&str] = &[
    "CODEX_MANAGER_API_BASE",
    "CODEX_MANAGER_API_PREFIX",
    "CODEX_MANAGER_BEARER_TOKEN",
    "CODEX_MANAGER_PY_VALIDATION_MODE",
    "CODEX_MANAGER_RBAC_ACTOR",
    "CODEX_MANAGER_RBAC_ROLE",
    "CODEX_MANAGER_RBAC_TOKEN",
    "CODEX_MANAGER_TIMEOUT_MS",
];

/// The winning text of every variable that anybody set.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// By name of the variable.
    pub(super) winners: BTreeMap<&'static str, (Raw, Origin)>,
    /// The configuration file that was read, if any.
    pub(super) config_file: Option<PathBuf>,
    /// The `.env` file that was read, if any.
    pub(super) dotenv_file: Option<PathBuf>,
    /// Assignments of `.env` that are none of ours.
    pub(super) foreign_dotenv: Vec<(OsString, OsString)>,
    /// What is wrong with the sources themselves.
    pub(super) problems: Vec<Problem>,
    /// What is odd but harmless.
    pub(super) warnings: Vec<Problem>,
}

/// Reads all layers.
pub(super) fn collect(sources: &Sources) -> Layers {
    let mut layers = Layers::default();
    // `.env` may name the configuration file, so it is read first although it wins over the file.
    let dotenv = layers.read_dotenv(&sources.working_directory);
    layers.read_file(sources, &dotenv);
    for (name, raw, origin) in dotenv {
        layers.environment(&name, raw, origin, true);
    }
    for (name, value) in &sources.environment {
        let Some(name) = name.to_str() else { continue };
        let origin = Origin::Environment(name.to_owned());
        match value.to_str() {
            Some(value) => layers.environment(name, value.to_owned(), origin, false),
            None if variable_named(name).is_some() => {
                layers.problems.push(Problem::new(origin, "not valid UTF-8"));
            }
            None => {}
        }
    }
    for (variable, flag, raw) in &sources.flags {
        layers.winners.insert(variable.name, (raw.clone(), Origin::Flag(flag)));
    }
    layers
}

fn variable_named(name: &str) -> Option<&'static Variable> {
    every_variable().find(|variable| variable.name == name)
}

impl Layers {
    fn environment(&mut self, name: &str, value: String, origin: Origin, from_dotenv: bool) {
        if let Some(variable) = variable_named(name) {
            self.winners.insert(variable.name, (Raw::Text(value), origin));
            return;
        }
        if let Some(meant) = slip(name) {
            let message = format!("unknown name `{name}`; did you mean `{meant}`?");
            self.warnings.push(Problem::new(origin, message));
        }
        if from_dotenv && name != FILE_VARIABLE && !super::environment::is_secret_name(name) {
            self.foreign_dotenv.push((name.into(), value.into()));
        }
    }

    fn read_dotenv(&mut self, directory: &Path) -> Vec<(String, String, Origin)> {
        let path = directory.join(".env");
        let Some(text) = self.read(&path, false) else {
            return Vec::new();
        };
        let parsed = dotenv::parse(&text);
        self.dotenv_file = Some(path);
        let path = PathBuf::from(".env");
        for (line, reason) in parsed.skipped {
            let origin = Origin::DotEnv { path: path.clone(), line };
            self.warnings.push(Problem::new(origin, format!("skipped: {reason}")));
        }
        if let Some(line) = parsed.unclosed {
            let origin = Origin::DotEnv { path: path.clone(), line };
            self.problems.push(Problem::new(origin, "the quote is never closed"));
        }
        let assignments = parsed.assignments.into_iter();
        assignments
            .map(|one| {
                let origin = Origin::DotEnv { path: path.clone(), line: one.line };
                (one.name, one.value, origin)
            })
            .collect()
    }

    fn read_file(&mut self, sources: &Sources, dotenv: &[(String, String, Origin)]) {
        let named = |name: &str| {
            let in_environment = sources.variable(name).map(PathBuf::from);
            let in_dotenv = || dotenv.iter().rev().find(|one| one.0 == name);
            in_environment.or_else(|| in_dotenv().map(|one| PathBuf::from(&one.1)))
        };
        let explicit = sources.config_flag.clone().or_else(|| named(FILE_VARIABLE));
        let candidates = match explicit.as_deref() {
            Some(path) => vec![path.to_owned()],
            None => {
                let home = || sources.home().map(|home| home.join(".config"));
                let folder = named("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
                let personal = folder.or_else(home);
                let personal = personal.map(|path| path.join("codex-manager/config.toml"));
                [Some(PathBuf::from(FILE_NAME)), personal].into_iter().flatten().collect()
            }
        };
        for candidate in candidates {
            let path = sources.working_directory.join(candidate);
            let Some(text) = self.read(&path, explicit.is_some()) else {
                continue;
            };
            let shown = path.strip_prefix(&sources.working_directory).unwrap_or(&path);
            let found = file::parse(shown, &text);
            self.problems.extend(found.problems);
            for (variable, raw, origin) in found.values {
                self.winners.insert(variable.name, (raw, origin));
            }
            self.config_file = Some(path);
            return;
        }
    }

    /// The text of a file. One that is not there is a problem only if it was asked for.
    fn read(&mut self, path: &Path, asked_for: bool) -> Option<String> {
        let message = match std::fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => return Some(text),
                Err(_) => "not valid UTF-8".to_owned(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => {
                return None;
            }
            Err(error) => format!("cannot be read: {error}"),
        };
        self.problems.push(Problem::new(Origin::WholeFile(path.to_owned()), message));
        None
    }
}

/// The variable that was meant by a name that looks like ours. Names without one of our prefixes
/// belong to somebody else.
fn slip(name: &str) -> Option<&'static str> {
    const PREFIXES: [&str; 3] = ["CODEX_MANAGER_", "ORCHESTRATOR_", "AGENT_EXTENSION_"];
    let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if !ours || name == FILE_VARIABLE || CLIENT_NAMES.contains(&name) {
        return None;
    }
    nearest(name, every_variable().map(|variable| variable.name))
}
