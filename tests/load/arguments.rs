//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::scenarios::{Scenario, Sizes};
use crate::stub::VERSION;

/// Measures a manager over a child that emits as fast as a pipe allows.
// Asked for its version it answers like the `codex` that it stands in for.
#[derive(Debug, Parser)]
#[command(name = "codex-cli", bin_name = "cm-load", version = VERSION)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one scenario
    Run {
        /// Its name
        scenario: Scenario,
        /// The codex-manager to measure
        #[arg(long)]
        manager: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Run one scenario on two managers in turn and print the ratios of the second to the first
    Compare {
        /// The first codex-manager
        first: PathBuf,
        /// The second codex-manager
        second: PathBuf,
        /// The name of the scenario
        scenario: Scenario,
        #[command(flatten)]
        options: Options,
    },
    /// Run every scenario
    All {
        /// The codex-manager to measure
        #[arg(long)]
        manager: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Be the child: what the manager starts
    #[command(name = "app-server")]
    AppServer,
}

/// How scenarios are run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How often; the medians are reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Tiny counts: whether it works, not how fast it is
    #[arg(long)]
    pub(crate) tiny: bool,
    /// Subscribe with `view=single`: one frame for each notification
    #[arg(long)]
    pub(crate) single: bool,
    /// A variable of the manager's environment, NAME=VALUE
    #[arg(long = "env", value_parser = variable)]
    pub(crate) environment: Vec<(String, String)>,
    /// Subscribers instead of the scenario's own number
    #[arg(long)]
    subscribers: Option<usize>,
    /// Deltas instead of the scenario's own number
    #[arg(long)]
    deltas: Option<u64>,
    /// Bytes of text in a delta, or of the large line
    #[arg(long)]
    bytes: Option<usize>,
    /// Deltas per second of a paced scenario
    #[arg(long)]
    rate: Option<u64>,
    /// Seconds of a paced scenario
    #[arg(long)]
    seconds: Option<u64>,
    /// Sessions instead of the scenario's own number
    #[arg(long)]
    sessions: Option<usize>,
    /// Messages instead of the scenario's own number
    #[arg(long)]
    messages: Option<usize>,
}

impl Options {
    /// The sizes of a scenario with what was said on the command line.
    pub(crate) fn sizes(&self, scenario: Scenario) -> Sizes {
        let sizes = if self.tiny { scenario.tiny() } else { scenario.sizes() };
        Sizes {
            subscribers: self.subscribers.unwrap_or(sizes.subscribers),
            deltas: self.deltas.unwrap_or(sizes.deltas),
            bytes: self.bytes.unwrap_or(sizes.bytes),
            rate: self.rate.unwrap_or(sizes.rate),
            seconds: self.seconds.unwrap_or(sizes.seconds),
            sessions: self.sessions.unwrap_or(sizes.sessions),
            messages: self.messages.unwrap_or(sizes.messages),
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
