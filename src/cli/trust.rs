//! Asking before Codex is made to trust a folder.
//!
//! A session that may write makes Codex name its folder in its configuration as trusted: from then
//! on it reads the project's own `.codex`, in every session of that home. That outlives the session,
//! so a person is asked first.

use std::path::Path;

use cm_core::compat::{Version, trusts_folder};
use cm_core::controls::SandboxMode;
use cm_core::wire::CreateSession;
use serde_json::Value;

use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::terminal::{Terminal, confirmed};

/// Whether Codex may trust a folder.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrustArgs {
    /// Let Codex trust the folder, as it does where a session may write, without asking
    #[arg(long)]
    pub trust: bool,
}

/// Asks whether Codex may trust the folder of a session that is to be made, if it would and does
/// not yet.
///
/// # Errors
///
/// [`Failure::NotConfirmed`], or [`Failure::Usage`] where nobody can be asked.
pub(crate) fn agree(
    create: &CreateSession,
    agreed: bool,
    api: &Api,
    terminal: Option<&mut Terminal>,
    console: &mut Console,
) -> Result<(), Failure> {
    let Some(folder) = create.cwd.as_deref().filter(|_| !agreed) else { return Ok(()) };
    let sandbox = create.filesystem_sandbox.or_else(|| default_sandbox(api));
    if sandbox.is_none_or(|sandbox| sandbox == SandboxMode::ReadOnly) {
        return Ok(());
    }
    // Where the server cannot say, making the session says why.
    let Ok(health) = api.get_value("/health") else { return Ok(()) };
    let codex = |member: &str| health.pointer(&format!("/codex/{member}")).and_then(Value::as_str);
    let mut folders = Path::new(folder).ancestors();
    let in_repository = folders.any(|folder| folder.join(".git").exists());
    let version = codex("version").and_then(Version::find);
    if codex("runtime") != Some("codex") || !trusts_folder(version, in_repository) {
        return Ok(());
    }
    if is_trusted(api, folder) {
        return Ok(());
    }
    let Some(terminal) = terminal else {
        return Err(Failure::Usage(format!(
            "Codex would trust {folder} from now on, and there is no terminal to ask on: say --trust"
        )));
    };
    console.note(
        "A session that may write makes Codex trust its folder: it names it in its configuration, \
         and reads the project's own .codex in later sessions.",
        Style::Dim,
    );
    let question = format!("Trust {folder}? [y/N] ");
    if confirmed(terminal, console, &question) {
        return Ok(());
    }
    Err(Failure::NotConfirmed("no session was made"))
}

/// The sandbox of a session that names none, where the server says it.
fn default_sandbox(api: &Api) -> Option<SandboxMode> {
    let runtime = api.get_value("/runtime").ok()?;
    let sandbox = runtime.pointer("/sessionDefaults/filesystemSandbox")?;
    serde_json::from_value(sandbox.clone()).ok()
}

/// Whether the configuration of Codex names the folder, or one above it, as trusted.
fn is_trusted(api: &Api, folder: &str) -> bool {
    let Ok(answer) = api.get_value("/config") else { return false };
    let Some(projects) = answer.pointer("/config/projects").and_then(Value::as_object) else {
        return false;
    };
    Path::new(folder).ancestors().any(|folder| {
        let project = folder.to_str().and_then(|folder| projects.get(folder));
        project
            .and_then(|project| project.get("trust_level"))
            .is_some_and(|level| level == "trusted")
    })
}
