//! Options that every client command has.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::endpoint::Endpoint;
use crate::failure::Failure;

/// The variable that holds the token where no file is named.
const TOKEN_VARIABLE: &str = "CODEX_MANAGER_BEARER_TOKEN";

/// Longest token, in bytes. Larger files are not tokens.
const MAX_TOKEN_BYTES: usize = 4096;

/// Where the server is and how to print.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub struct ClientOptions {
    /// Talk to the server at this http:// address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CODEX_MANAGER_API_BASE",
        hide_env_values = true,
        default_value = "http://127.0.0.1:3001"
    )]
    pub server: String,

    /// Put this in front of every route
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CODEX_MANAGER_API_PREFIX",
        hide_env_values = true,
        default_value = "/api"
    )]
    pub api_prefix: String,

    /// Wait at most this long for one answer, in milliseconds
    #[arg(
        long,
        global = true,
        value_name = "MS",
        env = "CODEX_MANAGER_TIMEOUT_MS",
        hide_env_values = true,
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(1..=86_400_000)
    )]
    pub timeout_ms: u64,

    /// Read the server's token from a file; otherwise CODEX_MANAGER_BEARER_TOKEN is used, if set
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,

    /// Print only what was asked for
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        value_parser = PossibleValuesParser::new(["auto", "always", "never"])
            .map(|text| ColourChoice::read(&text))
    )]
    pub color: ColourChoice,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColourChoice {
    fn read(text: &str) -> Self {
        match text {
            "always" => Self::Always,
            "never" => Self::Never,
            _ => Self::Auto,
        }
    }

    /// Whether to use colours on an output.
    ///
    /// `no_color` is the variable of that name: any value that is not empty means none
    /// (<https://no-color.org>).
    pub(crate) fn on(self, is_terminal: bool, no_color: Option<&OsStr>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && no_color.is_none_or(OsStr::is_empty),
        }
    }
}

impl ClientOptions {
    /// How long one answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The checked address.
    ///
    /// # Errors
    ///
    /// When the address cannot be used.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        Endpoint::parse(&self.server, &self.api_prefix)
    }

    /// The token: from the file, else from the environment, else none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds no token.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return match std::env::var(TOKEN_VARIABLE) {
                Ok(token) if !token.trim().is_empty() => {
                    check_token(&token, TOKEN_VARIABLE).map(Some)
                }
                Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(Failure::Usage(format!("{TOKEN_VARIABLE} is not text")))
                }
            };
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!("the token file {name} cannot be read: {error}"))
        })?;
        check_token(&text, &name).map(Some)
    }
}

/// A token without the white space around it. The text of a bad one is never repeated.
fn check_token(text: &str, origin: &str) -> Result<String, Failure> {
    let token = text.trim();
    let sound = !token.is_empty()
        && token.len() <= MAX_TOKEN_BYTES
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if sound {
        return Ok(token.to_owned());
    }
    Err(Failure::Usage(format!(
        "{origin} does not hold a token: one word of visible ASCII characters is expected"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals() {
        let no_color = Some(OsStr::new("1"));
        assert!(ColourChoice::Auto.on(true, None));
        assert!(ColourChoice::Auto.on(true, Some(OsStr::new(""))));
        assert!(!ColourChoice::Auto.on(true, no_color));
        assert!(!ColourChoice::Auto.on(false, None));
        assert!(ColourChoice::Always.on(false, no_color));
        assert!(!ColourChoice::Never.on(true, None));
    }

    #[test]
    fn tokens_are_checked_and_never_repeated() {
        assert_eq!(check_token(" abc\n", "file").unwrap(), "abc");
        for bad in ["", "two words", "break\r\nin", "schlüssel"] {
            let message = check_token(bad, "file").unwrap_err().to_string();
            assert!(bad.is_empty() || !message.contains(bad), "{message}");
        }
    }
}
