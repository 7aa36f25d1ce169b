//! `sessions`: list, show, send, tail and manage.

mod arguments;
mod list;
mod manage;
mod send;
mod tail;

pub use arguments::{
    CreateArgs, DeleteArgs, InterruptArgs, ListArgs, RenameArgs, SendArgs, SessionAction,
    SessionArgs, SessionsArgs, SteerArgs,
};
#[cfg(test)]
pub(crate) use manage::delete;
pub(crate) use manage::execute;
