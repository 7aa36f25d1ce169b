//! What the program does for the client.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Starts a server, or says why it cannot.
pub type StartServer = Box<dyn FnOnce() -> Result<StartedServer, String>>;

/// What the program does for the client, which itself knows neither signals nor servers.
#[derive(Default)]
pub struct RunHooks {
    /// Starts a server for `run --serve` when nobody answers. Without it `--serve` is an error.
    pub start_server: Option<StartServer>,
    /// Set by the program at each Ctrl-C; the client resets it. The first one interrupts the turn,
    /// the second one ends the command. Commands for which [`crate::ClientCommand::handles_interrupt`]
    /// is false do not look at it: leave the signal's default action in place for those.
    pub interrupted: Arc<AtomicBool>,
}

/// A server that was started for one command.
pub struct StartedServer {
    /// Where it answers, such as `http://127.0.0.1:3001`.
    pub base_url: String,
    /// Stops it. Called once, when the command is over, also when it failed.
    pub stop: Box<dyn FnOnce()>,
}
