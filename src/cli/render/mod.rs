//! From events and rows to text for people.

mod item;
mod live;
mod request;
mod transcript;

pub(crate) use live::{LiveView, TurnEnd};
pub(crate) use request::{one_line, print_approval, print_question, request_kind};
pub(crate) use transcript::print_session;
