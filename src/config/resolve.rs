//! Which app-server runs, and why.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cm_core::compat::Version;
use cm_core::error::{ErrorCode, Failure};
use cm_process::{CodexLocation, DiscoverError, codex_version, find_codex};

use crate::login::{AUTH_FILE, own_login};

use super::settings::{RuntimeChoice, RuntimeSettings, Settings};

/// The command that installs codex.
pub(crate) const INSTALL_CODEX: &str = "npm install -g @openai/codex";

/// How long `codex --version` may take. A cold start from a slow disk takes a second or two.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// Keeps a login out of the file system; understood before and after `app-server` (tried with
/// 0.140 and 0.169).
const IN_MEMORY: [&str; 2] = ["-c", "cli_auth_credentials_store=\"ephemeral\""];

/// The app-server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedRuntime {
    /// Which of the two.
    pub(crate) kind: RuntimeKind,
    /// What to spawn.
    pub(crate) program: PathBuf,
    /// With these arguments.
    pub(crate) args: Vec<String>,
    /// Version of codex, if it told; our own for the embedded one.
    pub(crate) version: Option<Version>,
    /// A directory with tools of codex that its PATH should begin with.
    pub(crate) tools: Option<PathBuf>,
    /// Why this one, as a sentence.
    pub(crate) why: String,
}

/// Which app-server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuntimeKind {
    /// `codex app-server`.
    Codex,
    /// `codex-manager app-server`.
    Embedded,
}

impl RuntimeKind {
    /// As health and the API say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Codex => "codex",
            Self::Embedded => "embedded",
        }
    }
}

/// Decides which app-server runs.
///
/// Come what may of `codex --version`, this returns within ten seconds or so.
///
/// # Errors
///
/// `codex_not_found` when codex was asked for and cannot be started.
pub(crate) fn resolve_runtime(settings: &Settings) -> Result<ResolvedRuntime, Failure> {
    let runtime = &settings.runtime;
    if runtime.choice == RuntimeChoice::Embedded {
        return embedded("the embedded runtime was asked for".to_owned());
    }
    match (find(runtime), explicit(runtime)) {
        (Ok(location), why) => Ok(codex(runtime, location, why)),
        (Err(error), Some(why)) => Err(not_found(runtime, &error, why)),
        (Err(DiscoverError::NotFound), None) => {
            embedded(format!("codex is not on PATH; `{INSTALL_CODEX}` installs it"))
        }
        (Err(error), None) => embedded(format!("found, but failed to {error}")),
    }
}

/// How codex was asked for by name, if it was: then nothing replaces it.
fn explicit(runtime: &RuntimeSettings) -> Option<&'static str> {
    match (&runtime.codex_bin, runtime.choice) {
        (Some(_), _) => Some("CODEX_BIN names it"),
        (None, RuntimeChoice::Codex) => Some("codex was asked for"),
        (None, _) => None,
    }
}

fn find(runtime: &RuntimeSettings) -> Result<CodexLocation, DiscoverError> {
    let search_path = runtime.inherited.get("PATH").map(|path| path.as_os_str());
    find_codex(runtime.codex_bin.as_deref().map(Path::new), search_path)
}

fn codex(
    runtime: &RuntimeSettings,
    location: CodexLocation,
    explicit: Option<&str>,
) -> ResolvedRuntime {
    // A codex that does not tell its version may work all the same: the handshake will show.
    let version = codex_version(&location.binary, VERSION_DEADLINE)
        .inspect_err(|error| tracing::warn!(%error, "version of codex unknown"))
        .ok();
    let mut args = Vec::new();
    if keeps_key_in_memory(runtime, version) {
        args.extend(IN_MEMORY.map(str::to_owned));
    }
    args.push("app-server".to_owned());
    let found = location.found_at.display();
    let why = match explicit {
        Some(why) => format!("{why} ({found})"),
        None => format!("codex is on PATH ({found})"),
    };
    let (program, tools) = (location.binary, location.tools);
    ResolvedRuntime { kind: RuntimeKind::Codex, program, args, version, tools, why }
}

/// Whether a login with the API key is kept off the disk. With a login on the disk, or one that is
/// about to be copied there, it must not be: codex then ignores that login (seen with 0.140 and
/// 0.169), and the key would take its place.
fn keeps_key_in_memory(runtime: &RuntimeSettings, version: Option<Version>) -> bool {
    runtime.openai_api_key.is_some()
        && version.is_some_and(Version::keeps_credentials_in_memory)
        && !runtime.codex_home.join(AUTH_FILE).exists()
        && own_login(runtime).is_none()
}

fn embedded(why: String) -> Result<ResolvedRuntime, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        let message =
            format!("The program cannot find itself to run the embedded runtime: {error}.");
        Failure::new(ErrorCode::Internal, message)
    })?;
    Ok(ResolvedRuntime {
        kind: RuntimeKind::Embedded,
        program,
        args: vec!["app-server".to_owned()],
        version: Version::find(env!("CARGO_PKG_VERSION")),
        tools: None,
        why,
    })
}

fn not_found(runtime: &RuntimeSettings, error: &DiscoverError, why: &str) -> Failure {
    let asked = match &runtime.codex_bin {
        Some(program) => format!("{why}: {program}"),
        None => why.to_owned(),
    };
    let message = format!(
        "Failed to {error} ({asked}). Install it with `{INSTALL_CODEX}`, name another with \
         --codex-bin (CODEX_BIN), or go without it: --runtime embedded."
    );
    Failure::new(ErrorCode::CodexNotFound, message)
}
