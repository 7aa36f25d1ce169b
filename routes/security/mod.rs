//! Who may talk to the server.
//!
//! A local server that trusts every request is open to every page that a browser on the machine
//! shows: by DNS rebinding (the `Host` header tells), by cross-site requests and WebSockets (the
//! `Origin` header tells). Both are checked before anything else, upgrades included.
//!
//! # Layout
//!
//! - `gate`: the middleware that every request passes first.
//! - `origin`: the pure part: which hosts, origins and tokens are accepted.
//! - `doorkeeper`: tickets for WebSockets and login cookies.

pub(crate) mod doorkeeper;
mod gate;
mod origin;

pub use doorkeeper::Doorkeeper;
pub use gate::gate;
pub(crate) use gate::needs_no_token;
pub use origin::AccessPolicy;
