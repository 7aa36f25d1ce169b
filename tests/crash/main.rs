//! Violence: children and managers that are killed at random moments, decisions that race, and
//! what the system calls of a write look like. What is asserted is what the product promises.
//!
//! Ten rounds each, or a hundred of what is cheap; fifty and a thousand with `CM_CRASH_LONG=1`,
//! which `tests/run --long` sets. Every test prints its seed; `CM_CRASH_SEED=<seed>` plays the
//! same choices again, though not the same interleaving.
//!
//! # Layout
//!
//! - `common`: rounds, seeds, the program over the fake child, and what is asked of it.
//! - `child_kills`: the child goes while twenty turns run; `child_kills_codex`: the real one.
//! - `manager_kills`: the manager goes while it writes. `writers` do the writing and keep in
//!   `ledger` what was acknowledged, which is then compared with what is there.
//! - `fail_points`: the manager goes at a named place of a commit.
//! - `cuts`: a subscriber that is cut off and comes back; `comeback` knows the ways, `told` is what
//!   it and others were told.
//! - `told_after_crash`: what a commit kept is told after the crash right behind it.
//! - `races`: four decisions on one request.
//! - `sync_order`: what reaches the disk before an answer leaves, as strace sees it; `strace` reads
//!   its output.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation ends the test and says why; seeds and rounds are printed"
)]

mod child_kills;
mod child_kills_codex;
mod comeback;
mod common;
mod cuts;
mod fail_points;
mod ledger;
mod manager_kills;
mod races;
mod strace;
mod sync_order;
mod told;
mod told_after_crash;
mod writers;
