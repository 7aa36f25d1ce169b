//! `codex-manager store …`: what a person does with the store while no manager runs.
//!
//! # Layout
//!
//! - `run`: the commands; `show`: what they print.

mod run;
mod show;

pub(crate) use run::{Done, complaint as maintain_complaint, done, run};
