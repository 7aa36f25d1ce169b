//! What a child has that this build does not know, and lacks that it uses.
//!
//! - `known`: the names of all versions that were known when this was built.
//! - `uses`: what the manager calls, and for what.

mod known;
mod uses;

pub use known::{is_known_method, is_known_notification};
pub use uses::{USES, Use, lacks_vital, missing, new};
