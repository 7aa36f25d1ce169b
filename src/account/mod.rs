//! `codex-manager account …`: the login of codex, without codex.
//!
//! # Layout
//!
//! - `adopt`: the command; `replace`: one login in another one's place.

mod adopt;
mod replace;

pub(crate) use adopt::{Adoption, adopt};
