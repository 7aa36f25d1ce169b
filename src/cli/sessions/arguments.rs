//! What can be typed behind `sessions`.

use std::path::PathBuf;

use crate::message::{AnswerArgs, ControlArgs, EffortArgs};
use crate::options::ClientOptions;
use crate::trust::TrustArgs;

/// Arguments of `sessions`.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionsArgs {
    /// What to do
    #[command(subcommand)]
    pub action: SessionAction,

    /// Where the server is and how to print
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What to do with sessions.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum SessionAction {
    /// List sessions, the newest first
    List(ListArgs),
    /// Show what was said and done in a session
    Show(SessionArgs),
    /// Send a message to a session
    Send(SendArgs),
    /// Follow a session until Ctrl-C
    Tail(SessionArgs),
    /// Create a session without a message and print its id
    Create(CreateArgs),
    /// Rename a session
    Rename(RenameArgs),
    /// Archive a session
    Archive(SessionArgs),
    /// Bring an archived session back
    Unarchive(SessionArgs),
    /// Delete a session and its transcript for good
    Delete(DeleteArgs),
    /// Load a session into the runtime again
    Resume(SessionArgs),
    /// Stop the running turn of a session
    Interrupt(InterruptArgs),
    /// Add to the running turn of a session
    Steer(SteerArgs),
}

/// A session and nothing else.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,
}

/// Arguments of `sessions list`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// List archived sessions instead
    #[arg(long)]
    pub archived: bool,

    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,

    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR", conflicts_with = "all")]
    pub cursor: Option<String>,

    /// List all of them
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Arguments of `sessions send`.
#[derive(Debug, Clone, clap::Args)]
pub struct SendArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,

    /// What to say to the agent; `-` reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    pub text: Vec<String>,

    /// Stay until the turn ends, as `run` does
    #[arg(long, short)]
    pub follow: bool,

    /// What the agent may do from now on
    #[command(flatten)]
    pub controls: ControlArgs,

    /// How much the model thinks
    #[command(flatten)]
    pub effort: EffortArgs,

    /// Who answers, with --follow
    #[command(flatten)]
    pub answers: AnswerArgs,
}

/// Arguments of `sessions create`.
#[derive(Debug, Clone, clap::Args)]
pub struct CreateArgs {
    /// Work in this directory; the current one by default
    #[arg(long, value_name = "DIR")]
    pub cd: Option<PathBuf>,

    /// What the agent may do
    #[command(flatten)]
    pub controls: ControlArgs,

    /// Whether Codex may trust the folder
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Arguments of `sessions rename`.
#[derive(Debug, Clone, clap::Args)]
pub struct RenameArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,

    /// The new title
    #[arg(required = true, value_name = "TITLE")]
    pub title: Vec<String>,
}

/// Arguments of `sessions delete`.
#[derive(Debug, Clone, clap::Args)]
pub struct DeleteArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,

    /// Delete without asking
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `sessions interrupt`.
#[derive(Debug, Clone, clap::Args)]
pub struct InterruptArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,

    /// Stop this turn only, not whichever runs
    #[arg(long, value_name = "ID")]
    pub turn: Option<String>,
}

/// Arguments of `sessions steer`.
#[derive(Debug, Clone, clap::Args)]
pub struct SteerArgs {
    /// The session: its id, the beginning of its id, or `latest`
    #[arg(value_name = "ID")]
    pub session: String,

    /// What to add; `-` reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    pub text: Vec<String>,

    /// Add to this turn only, not to whichever runs
    #[arg(long, value_name = "ID")]
    pub turn: Option<String>,
}
