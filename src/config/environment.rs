//! The environment of the app-server child.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::resolve::ResolvedRuntime;
use super::settings::{Inherited, Settings};

/// Whether a variable is one of the manager's own secrets, which no agent's command may read.
pub(super) fn is_secret_name(name: &str) -> bool {
    name == "OPENAI_API_KEY"
        || (name.starts_with("CODEX_MANAGER_") && name.contains("TOKEN"))
        || (name.starts_with("AGENT_EXTENSION_RBAC_") && name.contains("SECRET"))
}

/// The environment of the process above what `.env` says to others.
pub(super) fn merged(
    environment: Vec<(OsString, OsString)>,
    foreign_dotenv: Vec<(OsString, OsString)>,
) -> Inherited {
    let merged: BTreeMap<OsString, OsString> =
        foreign_dotenv.into_iter().chain(environment).collect();
    Inherited(merged.into_iter().collect())
}

/// The complete environment of the child: ours and what `.env` says to others, minus the manager's
/// own secrets, plus CODEX_HOME. The tools that codex brings along come first on its PATH, as its
/// npm wrapper has it.
pub(crate) fn child_environment(
    settings: &Settings,
    runtime: &ResolvedRuntime,
) -> Vec<(OsString, OsString)> {
    let inherited = settings.runtime.inherited.0.iter();
    let mut environment: BTreeMap<OsString, OsString> =
        inherited.filter(|(name, _)| !is_withheld(name)).cloned().collect();
    environment.insert("CODEX_HOME".into(), settings.runtime.codex_home.clone().into_os_string());
    if let Some(tools) = &runtime.tools {
        let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let directories = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
        // A directory with a colon in its name cannot stand in PATH; codex works without it.
        if let Ok(path) = std::env::join_paths(directories) {
            environment.insert("PATH".into(), path);
        }
    }
    environment.into_iter().collect()
}

fn is_withheld(name: &OsStr) -> bool {
    // A name that is no text cannot be one of ours.
    name.to_str().is_some_and(|name| name == "CODEX_HOME" || is_secret_name(name))
}
