//! Operating-system child processes: start, talk, stop, and leave nothing behind.
//!
//! Linux first. On other Unixes everything but die-with-parent and the orphan sweep works: both
//! need what only Linux has (a parent-death signal, `/proc`).
//!
//! There is no async runtime here. One child costs four named threads: `…-out` spawns the process
//! and reads its stdout, `…-err` drains its stderr, `…-in` writes its stdin, `…-wait` notices its
//! exit. Nothing that a caller can do blocks the caller.
//!
//! # Layout
//!
//! - `spec`: what to start ([`ChildSpec`]) and why that failed ([`SpawnError`]).
//! - `spawn`: [`spawn`] and the [`Child`] it gives.
//! - `launch`: building the command; [`die_with_parent`].
//! - `sink`: where output goes ([`OutputSink`]).
//! - `stdout`, `stderr`, `stdin`: one thread each.
//! - `exit`: the process group and the moment its leader ends.
//! - `readiness`: polling a pipe together with that moment.
//! - `stop`: the graceful stop as a pure state machine ([`StopSequence`]) and what drives it.
//! - `procfs`: reading `/proc/<pid>/stat` ([`ProcessIdentity`]).
//! - `holders`: who has a file open ([`holders_of`]).
//! - `orphan`: the durable list of live children ([`OrphanLedger`]).
//! - `sweep`: who of them is still there after a crash, and what may be killed.
//! - `discover`, `version`: finding the native `codex` binary and asking for its version.

mod discover;
mod exit;
mod holders;
mod launch;
mod orphan;
mod procfs;
mod readiness;
mod sink;
mod spawn;
mod spec;
mod stderr;
mod stdin;
mod stdout;
mod stop;
mod sweep;
mod version;

#[cfg(test)]
mod lifetime_tests;
#[cfg(test)]
mod output_tests;
#[cfg(test)]
mod testing;

pub use discover::{CodexLocation, DiscoverError, find_codex};
pub use holders::{Holder, holders_of};
pub use launch::die_with_parent;
pub use orphan::{LedgerError, OrphanLedger};
pub use procfs::{ProcessIdentity, identity_of};
pub use sink::{ChildExit, OutputSink, SinkState};
pub use spawn::{Child, spawn, spawn_logged};
pub use spec::{ChildSpec, SpawnError};
pub use stderr::{STDERR_LINE_BYTES, STDERR_LINES, StderrCallback};
pub use stdin::{STDIN_QUEUE_BYTES, STDIN_QUEUE_COUNT, StdinError, StdinWriter};
pub use stop::{StopAction, StopDeadlines, StopInput, StopPhase, StopSequence, StopStep};
pub use sweep::{SweepOutcome, Swept};
pub use version::{VersionError, codex_version};
