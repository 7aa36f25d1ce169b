//! The guided agent: no model, only a few documented directives.

mod directive;
mod speech;
mod work;

pub use directive::{DIRECTIVES, DirectiveHelp};
pub(crate) use work::work;
