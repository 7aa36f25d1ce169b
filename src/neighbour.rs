//! A manager that runs on this machine already, asked over its own port.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::config::{Secret, ServerSettings};

/// How long a manager on the same machine may take for one answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The address that a server is told to listen on.
///
/// # Errors
///
/// When its host cannot be found.
pub(crate) fn address(server: &ServerSettings) -> io::Result<SocketAddr> {
    let mut addresses = (server.host.trim_matches(['[', ']']), server.port).to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::other(format!("{} has no address", server.host)))
}

/// `GET` of a route; the answer's body, whatever its status.
///
/// # Errors
///
/// [`io::Error`], also when the answer is not what was asked for.
pub(crate) fn get<T: DeserializeOwned>(
    address: SocketAddr,
    token: Option<&Secret>,
    path: &str,
) -> io::Result<T> {
    let (_, body) = ask(address, token, "GET", path)?;
    serde_json::from_slice(&body).map_err(io::Error::from)
}

/// `GET` of a route; the body of an answer that is 200.
///
/// # Errors
///
/// [`io::Error`], also when the answer is another one: what an error says is no answer.
pub(crate) fn get_ok<T: DeserializeOwned>(
    address: SocketAddr,
    token: Option<&Secret>,
    path: &str,
) -> io::Result<T> {
    match ask(address, token, "GET", path)? {
        (200, body) => serde_json::from_slice(&body).map_err(io::Error::from),
        (status, _) => Err(io::Error::other(format!("it answered {path} with {status}"))),
    }
}

/// `POST` of a route without a body; the answer's status.
///
/// # Errors
///
/// [`io::Error`].
pub(crate) fn post(address: SocketAddr, token: Option<&Secret>, path: &str) -> io::Result<u16> {
    ask(address, token, "POST", path).map(|(status, _)| status)
}

/// HTTP/1.0, so that the answer ends with the connection and is in one piece.
fn ask(
    address: SocketAddr,
    token: Option<&Secret>,
    method: &str,
    path: &str,
) -> io::Result<(u16, Vec<u8>)> {
    let until = Instant::now() + DEADLINE;
    let address = SocketAddr::new(reachable(address.ip()), address.port());
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\
         Content-Length: 0\r\n{}\r\n",
        authorization.unwrap_or_default()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    while (answer.len() as u64) < MOST_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::InvalidData)?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
}

/// Where a server is reached that listens on an address: everywhere includes here.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::Value;

    use super::*;

    /// Answers once, and the asker's result.
    fn answered(answer: &'static str) -> io::Result<Value> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                asked.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let got = get_ok(address, None, "/api/sessions");
        server.join().unwrap();
        got
    }

    #[test]
    fn only_an_answer_that_is_200_is_one() {
        assert!(answered("HTTP/1.0 200 OK\r\n\r\n{\"data\":[]}").is_ok());
        let refused = answered("HTTP/1.0 503 Unavailable\r\n\r\n{\"data\":[]}").unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        assert!(answered("HTTP/1.0 200 OK\r\n\r\n<html>").is_err());
    }
}
