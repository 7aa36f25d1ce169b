//! What the program consumes, grouped by consumer.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cm_actors::request::FixedPolicy;
use cm_core::controls::Controls;
use cm_core::restart::Policy;

/// The whole configuration, checked, with absolute paths.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Directory of everything the manager keeps.
    pub(crate) data_dir: PathBuf,
    /// The HTTP edge.
    pub(crate) server: ServerSettings,
    /// The app-server child.
    pub(crate) runtime: RuntimeSettings,
    /// When actors that ended are started again.
    pub(crate) supervision: Policy,
    /// New sessions.
    pub(crate) defaults: DefaultsSettings,
    /// The store.
    pub(crate) store: StoreSettings,
    /// Bounds on memory.
    pub(crate) limits: LimitSettings,
    /// What happens to requests of the agent that nobody decides.
    pub(crate) requests: FixedPolicy,
    /// Logging.
    pub(crate) log: LogSettings,
}

/// The HTTP edge.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    /// Address or name to listen on, without brackets.
    pub(crate) host: String,
    /// Port to listen on; 0 takes any free one.
    pub(crate) port: u16,
    /// Origins of pages that may talk to the server besides its own, as browsers spell them.
    pub(crate) allowed_origins: Vec<String>,
    /// The token that clients must present; always there when `host` is not loopback.
    pub(crate) token: Option<Secret>,
    /// Worker threads.
    pub(crate) http_workers: usize,
}

/// The app-server child.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeSettings {
    /// Which app-server was asked for.
    pub(crate) choice: RuntimeChoice,
    /// CODEX_BIN as it was written: a name on PATH or a path. Explicit, so nothing replaces it.
    pub(crate) codex_bin: Option<String>,
    /// The child's CODEX_HOME.
    pub(crate) codex_home: PathBuf,
    /// The API key to log the child in with when it has no account.
    pub(crate) openai_api_key: Option<Secret>,
    /// Workspace of sessions that name none.
    pub(crate) default_cwd: PathBuf,
    /// Deadline of one call.
    pub(crate) call_timeout: Duration,
    /// Deadline of `initialize`.
    pub(crate) initialize_timeout: Duration,
    /// Home directory of the user, where their own `.codex` may be.
    pub(crate) user_home: Option<PathBuf>,
    /// What the child's environment is made from: ours, above what `.env` says to others.
    pub(crate) inherited: Inherited,
}

/// An environment. Its values may be secrets of anybody, so that it is never shown.
#[derive(Clone, Default)]
pub(crate) struct Inherited(pub(crate) Vec<(OsString, OsString)>);

impl Inherited {
    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} variables", self.0.len())
    }
}

/// Which app-server was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuntimeChoice {
    /// `codex` if it is installed, else the embedded one.
    Auto,
    /// `codex`.
    Codex,
    /// The embedded one.
    Embedded,
}

/// New sessions.
#[derive(Debug, Clone)]
pub(crate) struct DefaultsSettings {
    /// Controls of a session that says nothing else.
    pub(crate) controls: Controls,
    /// Whether clients are kept from changing them.
    pub(crate) locked: bool,
}

/// The store.
#[derive(Debug, Clone)]
pub(crate) struct StoreSettings {
    /// Time between exports while the manager runs.
    pub(crate) export_every: Duration,
}

/// Bounds on memory, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct LimitSettings {
    /// Longest line that is taken from the child.
    pub(crate) line_cap: usize,
    /// The ring of encoded frames.
    pub(crate) ring: usize,
    /// The log of durable events, on the disk.
    pub(crate) log: u64,
    /// Largest request body.
    pub(crate) max_body: usize,
    /// Items that are kept of one session.
    pub(crate) thread_items: usize,
    /// How long nothing happens in a session before its memory is given back.
    pub(crate) thread_idle: Duration,
    /// How often the runtime's lists are compared with ours; zero for never.
    pub(crate) thread_sync: Duration,
}

/// Logging.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSettings {
    /// How much.
    pub(crate) level: LogLevel,
    /// How it looks.
    pub(crate) format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Nothing.
    Silent,
    /// What needs a person; version 1's `fatal` is part of it.
    Error,
    /// What may need one.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Makes a secret.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
