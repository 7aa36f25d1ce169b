//! Whole commands against a scripted server.

mod bench;
mod following;
mod managing;
mod requests;
mod running;
mod server;
mod trusting;
