//! The program's configuration: defaults < file < environment (`.env` beneath) < flags.
//!
//! Every problem is reported at once with its origin, and every value remembers where it came
//! from.
//!
//! # Layout
//!
//! - `variable`: what a variable is; `table` and `table_later`: all of them.
//! - `value`: from text to a checked value; `suggest`: did you mean.
//! - `origin`: where a value came from, and problems.
//! - `dotenv`, `file`: the two file formats; `layers`: which layer wins.
//! - `settings`: what the program consumes; `build`: from values to settings.
//! - `load`: all of the above in order.
//! - `token`: the token file; `resolve`: which app-server runs; `environment`: its
//!   environment.
//! - `show`: `config show` and `config example`.

mod build;
mod dotenv;
mod environment;
mod file;
mod layers;
mod load;
mod origin;
mod resolve;
mod settings;
mod show;
mod suggest;
mod table;
mod table_later;
mod token;
mod value;
mod variable;

#[cfg(test)]
mod tests;

pub(crate) use environment::child_environment;
pub(crate) use load::{Loaded, Sources, load};
pub(crate) use origin::Problems;
#[cfg(test)]
pub(crate) use origin::{Origin, Problem};
pub(crate) use resolve::{INSTALL_CODEX, ResolvedRuntime, RuntimeKind, resolve_runtime};
pub(crate) use settings::{
    LogFormat, LogLevel, LogSettings, RuntimeSettings, Secret, ServerSettings, Settings,
};
pub(crate) use show::{example, show_json, show_text};
pub(crate) use table::{
    ALLOWED_ORIGINS, CODEX_BIN, CODEX_HOME, CODEX_MANAGER_DEFAULT_CWD, CODEX_MANAGER_RUNTIME,
    CODEX_MANAGER_TOKEN_FILE, DATA_DIR, HOST, LOG_FORMAT, LOG_LEVEL, PORT,
};
pub(crate) use token::write_new_token;
pub(crate) use value::Raw;
pub(crate) use variable::Variable;
