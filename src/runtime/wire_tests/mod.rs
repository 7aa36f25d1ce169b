//! The runtime as a client sees it: [`crate::run`] behind two pipes.

mod approvals;
mod client;
mod files;
mod handshake;
mod interrupts;
mod questions;
mod threads;
mod turns;
