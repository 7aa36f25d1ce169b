//! A small HTTP/1.1 reader and client.
//!
//! The suites must be able to send what a well-behaved client library refuses to: a foreign Host,
//! a path with odd bytes, a body that does not match its length. So requests are written here
//! byte by byte, one connection each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Largest head (request or status line and headers) that is read, in bytes.
const HEAD_LIMIT: u64 = 64 * 1024;
/// Largest body that is read, in bytes.
const BODY_LIMIT: u64 = 256 * 1024 * 1024;

/// The first line and the headers of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The request or status line.
    pub first_line: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON, or `null` when it is not JSON.
    pub body: Value,
    /// The body as it came, invalid UTF-8 replaced.
    pub text: String,
}

impl Reply {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Asserts the status and hands the reply on.
    ///
    /// # Panics
    ///
    /// When the status is another one.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        if self.status != status {
            panic!("expected status {status}, got {}: {}", self.status, self.text);
        }
        self
    }
}

/// A request to be sent as it is written here.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The request target, sent as it is.
    pub target: &'a str,
    /// Headers. `Host`, `Connection` and (with a body) `Content-Type` and `Content-Length` are
    /// added unless named here.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; `None` sends no body headers at all.
    pub body: Option<&'a [u8]>,
}

/// Sends one request on its own connection and reads the answer.
///
/// # Errors
///
/// When the server cannot be reached or does not answer in time. A server that answers without
/// reading the whole body is fine.
pub fn send(address: SocketAddr, request: Request<'_>, deadline: Duration) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    stream.set_nodelay(true)?;
    let named = |name: &str| request.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !named("host") {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    if !named("connection") {
        head.push_str("Connection: close\r\n");
    }
    if let Some(body) = request.body {
        if !named("content-type") {
            head.push_str("Content-Type: application/json\r\n");
        }
        if !named("content-length") && !named("transfer-encoding") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
    }
    head.push_str("\r\n");
    let mut message = head.into_bytes();
    message.extend_from_slice(request.body.unwrap_or_default());
    let written = stream.write_all(&message);
    // A refusal (413, 400) may come before the body was read: the answer counts, not the write.
    read_reply(&mut BufReader::new(stream)).map_err(|error| written.err().unwrap_or(error))
}

fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    loop {
        let head = read_head(reader)?.ok_or_else(|| invalid("closed without an answer"))?;
        let status: u16 = head
            .first_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| invalid(&format!("not a status line: {}", head.first_line)))?;
        if status == 100 {
            continue;
        }
        let empty = matches!(status, 101 | 204 | 304);
        let body = if empty { Vec::new() } else { read_body(reader, &head, true)? };
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        return Ok(Reply { status, headers: head.headers, body, text });
    }
}

/// Reads the first line and the headers; `None` at a clean end of the stream.
///
/// # Errors
///
/// When the stream fails, or the head is not HTTP or longer than 64 KiB.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut limited = reader.take(HEAD_LIMIT);
    let mut line = Vec::new();
    if limited.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    head.first_line = text_of(&line);
    loop {
        line.clear();
        if limited.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
            return Err(invalid("the head ends too early or is too long"));
        }
        let text = text_of(&line);
        if text.is_empty() {
            return Ok(Some(head));
        }
        let (name, value) = text.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
        head.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads the body that the head announces. `until_close`: without a length the rest of the stream
/// is the body, as in an answer; otherwise there is none, as in a request.
///
/// # Errors
///
/// When the stream fails or ends early, or the body is over 256 MiB.
pub fn read_body(reader: &mut impl BufRead, head: &Head, until_close: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = read_line(reader)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a bad chunk size"))?;
            if size == 0 {
                while !read_line(reader)?.is_empty() {}
                return Ok(body);
            }
            append(reader, &mut body, size)?;
            read_line(reader)?;
        }
    }
    if let Some(length) = head.header("content-length") {
        let length = length.parse().map_err(|_| invalid("a bad content length"))?;
        append(reader, &mut body, length)?;
    } else if until_close {
        reader.take(BODY_LIMIT).read_to_end(&mut body)?;
    }
    Ok(body)
}

fn append(reader: &mut impl BufRead, body: &mut Vec<u8>, size: u64) -> io::Result<()> {
    if body.len() as u64 + size > BODY_LIMIT {
        return Err(invalid("the body is too large"));
    }
    match reader.take(size).read_to_end(body)? as u64 == size {
        true => Ok(()),
        false => Err(invalid("the body ends too early")),
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    match reader.take(HEAD_LIMIT).read_until(b'\n', &mut line)? {
        0 => Err(invalid("the stream ends too early")),
        _ => Ok(text_of(&line)),
    }
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_and_a_measured_body_are_read_to_their_end() {
        let chunked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nrest";
        let mut reader = BufReader::new(&chunked[..]);
        let head = read_head(&mut reader).expect("read").expect("head");
        assert_eq!(head.first_line, "POST /x HTTP/1.1");
        assert_eq!(read_body(&mut reader, &head, false).expect("body"), b"abcde");

        let measured = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}{}{}";
        let mut reader = BufReader::new(&measured[..]);
        let head = read_head(&mut reader).expect("read").expect("head");
        assert_eq!(read_body(&mut reader, &head, true).expect("body"), b"{}{}");
    }

    #[test]
    fn an_answer_is_read_with_status_headers_and_json() {
        let raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 Conflict\r\nX-A: b\r\n\r\n{\"a\":1}";
        let reply = read_reply(&mut BufReader::new(&raw[..])).expect("reply").expect_status(409);
        assert_eq!((reply.header("x-a"), &reply.body["a"]), (Some("b"), &Value::from(1)));
    }

    #[test]
    fn a_truncated_message_is_an_error() {
        for raw in ["GET / HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
            assert!(read_head(&mut raw.as_bytes()).is_err(), "{raw}");
        }
        assert_eq!(read_head(&mut &b""[..]).expect("clean end"), None);
        let head = Head {
            first_line: String::new(),
            headers: vec![("content-length".to_owned(), "9".to_owned())],
        };
        assert!(read_body(&mut &b"short"[..], &head, true).is_err());
    }
}
