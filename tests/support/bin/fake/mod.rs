//! The fake child; see the binary's documentation.

mod output;
mod script;
mod server;
mod text;
mod threads;
mod turn;

pub(crate) use server::main;
