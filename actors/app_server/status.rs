//! What everyone may see of the child, without asking its actor.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cm_core::compat::Profile;
use cm_core::ids::Incarnation;
use cm_core::login::LoginFailure;
use cm_core::wire::{ExitView, RuntimeDrift};
use serde_json::Value;

/// The login as the child reported it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AccountStatus {
    /// The account; `None` when it has none or was not asked yet.
    pub account: Option<Value>,
    /// Whether the child needs an account to run turns.
    pub required: bool,
    /// Whether the child was asked.
    pub known: bool,
    /// Why signing in with the key failed, without the key.
    pub login_error: Option<String>,
    /// Why the login cannot be renewed any more, if the child said so.
    pub used_up: Option<LoginFailure>,
}

/// A snapshot of the child.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppServerStatus {
    /// State of its supervision: `running`, `backoff`, `failed`, `stopping`, `stopped`; empty before
    /// the first start.
    pub state: String,
    /// Which life.
    pub incarnation: Incarnation,
    /// Restarts so far.
    pub restarts: u64,
    /// Process id while the process runs.
    pub pid: Option<u32>,
    /// Whether calls are taken: it is introduced, and the registry knows of it.
    pub initialized: bool,
    /// What it can do, or the last one could.
    pub profile: Arc<Profile>,
    /// How its protocol differs from those that are known, and what it said of which nothing is.
    pub drift: Arc<RuntimeDrift>,
    /// When it said so, ISO-8601 UTC.
    pub profiled_at: Option<String>,
    /// How the last process ended.
    pub last_exit: Option<ExitView>,
    /// The login.
    pub account: AccountStatus,
    /// Calls that wait for an answer.
    pub in_flight: usize,
    /// The last lines that the running process wrote to stderr.
    pub stderr: Vec<String>,
}

/// The snapshot that the actor replaces and everyone reads.
#[derive(Debug, Clone, Default)]
pub(super) struct StatusCell(Arc<ArcSwap<AppServerStatus>>);

impl StatusCell {
    pub(super) fn read(&self) -> Arc<AppServerStatus> {
        self.0.load_full()
    }

    /// Replaces the snapshot. Only the control arbiter writes, so nothing is lost between the
    /// read and the write.
    pub(super) fn change(&self, change: impl FnOnce(&mut AppServerStatus)) {
        let mut next = AppServerStatus::clone(&self.0.load());
        change(&mut next);
        self.0.store(Arc::new(next));
    }
}
