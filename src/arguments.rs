//! What the command line accepts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use cm_cli::ClientCommand;

use crate::config::{self, Raw, Sources, Variable};

/// Local-first control plane for Codex sessions.
#[derive(Debug, Parser)]
#[command(
    name = "codex-manager",
    version,
    about = "Supervise Codex sessions from one local server",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no server, \
                  4 not found, 5 conflict, 6 denied, 7 timed out, 8 the turn failed, \
                  9 not able to serve",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Serve(Box<SettingsFlags>),
    /// Run the embedded app-server on standard input and output
    AppServer,
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check what is installed, what would run, and what is wrong
    Doctor {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: Box<SettingsFlags>,
    },
    /// Take over the login of codex
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make the token that clients present
    #[command(subcommand)]
    Token(TokenCommand),
    /// Take over a data directory of version 1, which is only read
    Import(ImportFlags),
    /// Check, compact, export and import the store while no manager runs
    #[command(subcommand)]
    Store(StoreCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every value that is in force
    Show {
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: Box<SettingsFlags>,
    },
    /// Print a `.env` file with every name, its default and what it does
    Example,
}

/// `store …`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Look at every record of the store; exit code 1 if something is wrong
    Check {
        #[command(flatten)]
        flags: StoreFlags,
    },
    /// Copy what is alive into a new database, which gives its space back
    Compact {
        #[command(flatten)]
        flags: StoreFlags,
    },
    /// Write the store as lines of JSON
    Export {
        /// The file to make; without one it is made among the manager's own exports
        file: Option<PathBuf>,
        #[command(flatten)]
        flags: StoreFlags,
    },
    /// Make a store from an export, where there is none
    Import {
        /// The export
        file: PathBuf,
        #[command(flatten)]
        flags: StoreFlags,
    },
    /// Make an empty store in the place of one that was lost
    Init {
        #[command(flatten)]
        flags: StoreFlags,
    },
}

impl StoreCommand {
    fn flags(&self) -> &StoreFlags {
        match self {
            Self::Check { flags }
            | Self::Compact { flags }
            | Self::Export { flags, .. }
            | Self::Import { flags, .. }
            | Self::Init { flags } => flags,
        }
    }

    /// Whether programs read the output.
    pub(crate) fn json(&self) -> bool {
        self.flags().json
    }

    /// What says where the data directory is.
    pub(crate) fn settings(&self) -> SettingsFlags {
        let StoreFlags { data_dir, config, .. } = self.flags().clone();
        SettingsFlags { data_dir, config, ..SettingsFlags::default() }
    }
}

/// Flags of every `store` command.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreFlags {
    /// The data directory of the store (DATA_DIR; default .data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<OsString>,
    /// Read this configuration file (CODEX_MANAGER_CONFIG)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Flags of `import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportFlags {
    /// The data directory of version 1 (its DATA_DIR)
    pub(crate) source: PathBuf,
    /// The CODEX_HOME that version 1 ran with, where it is not `codex-home` in its data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) source_codex_home: Option<PathBuf>,
    /// Say what would be taken over, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// The data directory to fill (DATA_DIR; default .data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<OsString>,
    /// The home of codex to fill (CODEX_HOME; default codex-home in the data directory)
    #[arg(long, value_name = "DIR")]
    codex_home: Option<OsString>,
    /// Read this configuration file (CODEX_MANAGER_CONFIG)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ImportFlags {
    /// What says where everything goes.
    pub(crate) fn settings(&self) -> SettingsFlags {
        let Self { data_dir, codex_home, config, .. } = self.clone();
        SettingsFlags { data_dir, codex_home, config, ..SettingsFlags::default() }
    }
}

/// `account …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Copy your own login into the manager's home of codex once more, in place of the one there
    Adopt {
        /// Take the login of this home (default: your own ~/.codex)
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Interrupt sessions that are at work: a running manager must start codex again
        #[arg(long)]
        interrupt: bool,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: Box<SettingsFlags>,
    },
}

/// `token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Write a new random token to a file that does not exist yet
    New {
        /// The file to make
        path: PathBuf,
    },
}

/// Flags that overrule the environment and the configuration file.
///
/// They are texts here: the configuration checks them, so that all problems appear together.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Configuration (flags overrule environment, .env and file)")]
pub(crate) struct SettingsFlags {
    /// Read this configuration file (CODEX_MANAGER_CONFIG)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on this address (HOST; default 127.0.0.1)
    #[arg(long, value_name = "ADDRESS")]
    host: Option<OsString>,
    /// Listen on this port, 0 for any (PORT; default 3001)
    #[arg(long, short, value_name = "PORT", allow_negative_numbers = true)]
    port: Option<OsString>,
    /// Let pages of this origin talk to the server; repeatable (ALLOWED_ORIGINS)
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<OsString>,
    /// Demand the token in this file from every client (CODEX_MANAGER_TOKEN_FILE)
    #[arg(long, value_name = "FILE")]
    token_file: Option<OsString>,
    /// Keep everything in this directory (DATA_DIR; default .data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<OsString>,
    /// Run auto, codex or embedded (CODEX_MANAGER_RUNTIME; default auto)
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<OsString>,
    /// Run this codex, a path or a name on PATH (CODEX_BIN)
    #[arg(long, value_name = "PROGRAM")]
    codex_bin: Option<OsString>,
    /// Give codex this home (CODEX_HOME; default codex-home in the data directory)
    #[arg(long, value_name = "DIR")]
    codex_home: Option<OsString>,
    /// Start sessions that name no workspace here (CODEX_MANAGER_DEFAULT_CWD)
    #[arg(long, value_name = "DIR")]
    default_cwd: Option<OsString>,
    /// Log fatal, error, warn, info, debug, trace or silent (LOG_LEVEL; default info)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<OsString>,
    /// Log as text or json (LOG_FORMAT; default text)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<OsString>,
}

impl SettingsFlags {
    /// The sources of this process with these flags on top.
    ///
    /// # Errors
    ///
    /// When the working directory cannot be reached.
    pub(crate) fn sources(self) -> std::io::Result<Sources> {
        let mut sources = Sources::of_this_process()?;
        let single: [(Option<OsString>, &'static str, &'static Variable); 10] = [
            (self.host, "--host", &config::HOST),
            (self.port, "--port", &config::PORT),
            (self.token_file, "--token-file", &config::CODEX_MANAGER_TOKEN_FILE),
            (self.data_dir, "--data-dir", &config::DATA_DIR),
            (self.runtime, "--runtime", &config::CODEX_MANAGER_RUNTIME),
            (self.codex_bin, "--codex-bin", &config::CODEX_BIN),
            (self.codex_home, "--codex-home", &config::CODEX_HOME),
            (self.default_cwd, "--default-cwd", &config::CODEX_MANAGER_DEFAULT_CWD),
            (self.log_level, "--log-level", &config::LOG_LEVEL),
            (self.log_format, "--log-format", &config::LOG_FORMAT),
        ];
        for (value, flag, variable) in single {
            if let Some(value) = value {
                sources.flags.push((variable, flag, Raw::Text(text(&value))));
            }
        }
        if !self.allow_origin.is_empty() {
            let origins = self.allow_origin.iter().map(text).collect();
            let raw = Raw::List(origins);
            sources.flags.push((&config::ALLOWED_ORIGINS, "--allow-origin", raw));
        }
        sources.config_flag = self.config;
        Ok(sources)
    }
}

/// The text of a flag. One that is no UTF-8 becomes a text with NUL, which no rule accepts as a
/// path, rather than a path that is silently another one.
fn text(value: &OsString) -> String {
    let lossy = || format!("{}\0", Path::new(value).display());
    value.to_str().map_or_else(lossy, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound_and_its_help_is_what_was_reviewed() {
        let mut tree = Arguments::command().term_width(100);
        tree.build();
        insta::assert_snapshot!("help", tree.render_long_help());
        let mut texts = Vec::new();
        for name in
            ["serve", "app-server", "config", "doctor", "account", "token", "import", "store"]
        {
            let command = tree.find_subcommand_mut(name).expect(name);
            texts.push(command.render_long_help().to_string());
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                texts.push(inner.render_long_help().to_string());
            }
        }
        insta::assert_snapshot!("help_of_commands", texts.join("\n========\n\n"));
    }

    #[test]
    fn flags_reach_the_sources_under_their_own_name() {
        let line = [
            "codex-manager",
            "serve",
            "-p",
            "0",
            "--allow-origin",
            "http://a",
            "--allow-origin",
            "http://b",
            "--config",
            "c.toml",
        ];
        let Ok(Arguments { command: Command::Serve(flags) }) = Arguments::try_parse_from(line)
        else {
            panic!("serve is not understood");
        };
        let sources = flags.sources().unwrap();
        assert_eq!(sources.config_flag.as_deref(), Some(Path::new("c.toml")));
        let seen: Vec<_> = sources.flags.iter().map(|one| (one.0.name, one.1)).collect();
        assert_eq!(seen, [("PORT", "--port"), ("ALLOWED_ORIGINS", "--allow-origin")]);
    }
}
