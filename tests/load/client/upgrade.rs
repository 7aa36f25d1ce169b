//! From a connection to a WebSocket, and what becomes of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::error::LoadError;

/// Longest upgrade.
const DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two looks at the state of a connection.
const LOOK: Duration = Duration::from_millis(50);

/// How often a subscriber gets each notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// As version 1: twice.
    Default,
    /// `?view=single`: once.
    Single,
}

impl View {
    /// Frames that a notification becomes.
    pub(crate) fn frames_per_event(self) -> u64 {
        match self {
            Self::Default => 2,
            Self::Single => 1,
        }
    }
}

/// Opens a subscriber of everything. What was read beyond the head of the answer comes along.
///
/// # Errors
///
/// When the upgrade is refused or not answered.
pub(crate) fn open_stream(
    address: SocketAddr,
    view: View,
) -> Result<(TcpStream, Vec<u8>), LoadError> {
    let query = match view {
        View::Default => "",
        View::Single => "?view=single",
    };
    let request = format!(
        "GET /api/stream{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Err(std::io::Error::other("the connection was closed"));
            }
            answer.extend_from_slice(&piece[..length]);
            if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
                let rest = answer.split_off(end + 4);
                return Ok((stream, answer, rest));
            }
        }
    };
    let (stream, head, rest) = exchange().map_err(LoadError::system("open a stream"))?;
    if !head.starts_with(b"HTTP/1.1 101") {
        let head = String::from_utf8_lossy(&head).into_owned();
        return Err(LoadError::Answer { what: "GET /api/stream".into(), status: 0, body: head });
    }
    Ok((stream, rest))
}

/// Waits until the server has given up a connection that nobody reads, and answers how long that
/// took; `None` when it has not by the deadline.
///
/// Reading would change what is asked, so the kernel's table is looked at: a connection that was
/// shut down at the server's side is no longer established there.
pub(crate) fn eviction(stream: &TcpStream, deadline: Duration) -> Option<Duration> {
    let client = stream.local_addr().ok()?.port();
    let server = stream.peer_addr().ok()?.port();
    let began = Instant::now();
    while server_side_is_established(server, client) {
        if began.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
    Some(began.elapsed())
}

/// Looks for the server's end in `/proc/net/tcp`: local and remote address in hexadecimal, then
/// the state, 01 for established (proc_net_tcp).
fn server_side_is_established(server: u16, client: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (server, client) = (format!(":{server:04X}"), format!(":{client:04X}"));
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|address| address.ends_with(&server));
        let remote = fields.next().is_some_and(|address| address.ends_with(&client));
        local && remote && fields.next() == Some("01")
    })
}
