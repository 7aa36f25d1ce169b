//! `codex-manager import DIR`: takes over a data directory of version 1, which it only reads.
//!
//! What is here already stays as it is, so that the command can be repeated, also after it was cut:
//! a session is there when everything of it is, and a file appears whole or not at all. A session
//! is written before its thread's file is there, so that nobody takes the thread for another one's.
//!
//! # Layout
//!
//! - `source`: the directory of version 1, and reading it; `lines`: long files line by line.
//! - `home`: files of its codex home, and copying them.
//! - `run`: the command; `taking`: what is written to the store; `sessions`: sessions;
//!   `merge`: those that are here already without what version 1 knows.
//! - `report`: what came of it, for people and programs.

mod home;
mod lines;
mod merge;
mod report;
mod run;
mod sessions;
mod source;
mod taking;

pub(crate) use run::{Order, run};
