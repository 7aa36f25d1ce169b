//! Requests one after another on one connection that is kept alive.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cm_testkit::http::{read_body, read_head};
use serde_json::Value;

use crate::error::LoadError;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Bytes of a body that an error shows.
const SHOWN: usize = 400;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body as JSON, or `null`.
    pub(crate) body: Value,
    text: String,
}

impl Answer {
    /// The answer, if it has this status.
    ///
    /// # Errors
    ///
    /// [`LoadError::Answer`] otherwise.
    pub(crate) fn expect(self, status: u16, what: &str) -> Result<Self, LoadError> {
        if self.status == status { Ok(self) } else { Err(self.unexpected(what)) }
    }

    /// The error that says what was answered.
    pub(crate) fn unexpected(&self, what: &str) -> LoadError {
        let body = self.text.chars().take(SHOWN).collect();
        LoadError::Answer { what: what.to_owned(), status: self.status, body }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

impl HttpConnection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, LoadError> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).and_then(|stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_write_timeout(Some(DEADLINE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let stream = stream.map_err(LoadError::system("connect"))?;
        Ok(Self { reader: BufReader::new(stream), address })
    }

    /// `GET path`.
    ///
    /// # Errors
    ///
    /// When no answer comes. Any status is an answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, LoadError> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let answer = self.exchange(path, head.as_bytes());
        if answer.is_ok() {
            return answer;
        }
        // A server closes a connection on which nothing was asked for a while.
        *self = Self::open(self.address)?;
        self.exchange(path, head.as_bytes())
    }

    /// The text of `GET path`, answered 200. What is in it is not looked at: that would cost more
    /// than the answer.
    ///
    /// # Errors
    ///
    /// When no answer comes, or another one.
    pub(crate) fn load(&mut self, path: &str) -> Result<String, LoadError> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let (status, body) = self.raw(path, head.as_bytes())?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status == 200 {
            return Ok(text);
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Err(Answer { status, body, text }.unexpected(path))
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    ///
    /// When no answer comes. Any status is an answer.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Answer, LoadError> {
        let body = body.to_string();
        let message = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.exchange(path, message.as_bytes())
    }

    fn exchange(&mut self, path: &str, message: &[u8]) -> Result<Answer, LoadError> {
        let (status, body) = self.raw(path, message)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, body, text })
    }

    fn raw(&mut self, path: &str, message: &[u8]) -> Result<(u16, Vec<u8>), LoadError> {
        let mut exchange = || {
            self.reader.get_mut().write_all(message)?;
            let head = read_head(&mut self.reader)?
                .ok_or_else(|| std::io::Error::other("the connection was closed"))?;
            let status = head.first_line.split(' ').nth(1).and_then(|word| word.parse().ok());
            let body = read_body(&mut self.reader, &head, true)?;
            Ok((status.unwrap_or(0), body))
        };
        exchange().map_err(LoadError::system(path))
    }
}
