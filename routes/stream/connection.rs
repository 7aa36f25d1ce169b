//! The connection below a socket, for ending it from outside.

use std::any::Any;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use actix_web::dev::Extensions;
use nix::sys::socket::{Shutdown, shutdown};

/// A duplicate of a connection's descriptor.
///
/// A connection whose client does not read cannot be ended from inside: its body is not polled.
#[derive(Debug, Clone)]
pub(super) struct Connection(Rc<OwnedFd>);

impl Connection {
    /// Ends the connection in both directions at once; answers whether it was still there.
    pub(super) fn cut(&self) -> bool {
        let cut = shutdown(self.0.as_raw_fd(), Shutdown::Both);
        if let Err(error) = cut {
            tracing::debug!(%error, "a connection was gone already");
        }
        cut.is_ok()
    }
}

/// Keeps a duplicate of each connection's descriptor; given to `HttpServer::on_connect`.
pub fn remember_connection(io: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = io.downcast_ref::<tokio::net::TcpStream>() else {
        return;
    };
    match stream.as_fd().try_clone_to_owned() {
        Ok(descriptor) => {
            extensions.insert(Connection(Rc::new(descriptor)));
        }
        Err(error) => tracing::warn!(%error, "a connection cannot be ended from outside"),
    }
}
