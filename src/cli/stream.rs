//! One WebSocket connection to the event stream.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use cm_core::ids::ThreadId;
use cm_core::wire::{StreamCommand, StreamFrame};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::endpoint::query_value;
use crate::failure::{Failure, Refusal};
use crate::http::Api;

/// Largest frame, in bytes: the app-server's longest line with room for the frame around it.
const MAX_FRAME_BYTES: usize = 80 * 1024 * 1024;

/// How long a quiet connection is left alone before it is asked for a sign of life.
const QUIET_BEFORE_PING: Duration = Duration::from_secs(15);

/// How long a connection may stay silent in all.
const QUIET_BEFORE_DEAD: Duration = Duration::from_secs(45);

/// What a connection brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame: its text and what it says.
    Frame(String, StreamFrame),
    /// Nothing yet.
    Nothing,
    /// The connection is gone.
    Broken(String),
}

/// A subscription to the events of one session.
pub(crate) struct EventStream {
    socket: WebSocket<TcpStream>,
    last_heard: Instant,
    pinged: bool,
    /// `<epoch>:<seq>` of the last frame that was had.
    position: Option<String>,
}

impl EventStream {
    /// Connects, and returns once the server said that the subscription stands. With a position,
    /// the server first sends what came behind it, or a `reset` when it cannot.
    ///
    /// # Errors
    ///
    /// When nobody answers in time, or the server refuses.
    pub(crate) fn connect(
        api: &Api,
        session: &ThreadId,
        since: Option<&str>,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + api.timeout();
        let tcp = connect_tcp(api, deadline)?;
        let mut route = format!("/stream?threadId={}", query_value(session.as_str()));
        if let Some(since) = since {
            route.push_str(&format!("&since={}", query_value(since)));
        }
        let unreachable = |reason: String| unreachable(api, reason);
        let mut request =
            api.endpoint().socket_url(&route).into_client_request().map_err(|error| {
                Failure::Usage(format!("the server URL cannot be used: {error}"))
            })?;
        if let Some(token) = api.token() {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::Usage("the token cannot stand in a header".to_owned()))?;
            request.headers_mut().insert("Authorization", value);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let (socket, _) = tungstenite::client::client_with_config(request, tcp, Some(config))
            .map_err(|error| match error {
                HandshakeError::Failure(tungstenite::Error::Http(response)) => {
                    let status = response.status().as_u16();
                    let body = response.into_body().unwrap_or_default();
                    let body = String::from_utf8_lossy(&body);
                    Failure::Refused(Box::new(Refusal::read(status, &body)))
                }
                HandshakeError::Failure(error) => unreachable(error.to_string()),
                HandshakeError::Interrupted(_) => timed_out(api),
            })?;
        let position = since.map(str::to_owned);
        let mut stream = Self { socket, last_heard: Instant::now(), pinged: false, position };
        stream.wait_until_ready(api, deadline)?;
        Ok(stream)
    }

    fn wait_until_ready(&mut self, api: &Api, deadline: Instant) -> Result<(), Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out(api));
            }
            match self.next(left) {
                Received::Frame(_, frame) if frame.kind == "ready" => return Ok(()),
                Received::Frame(..) | Received::Nothing => {}
                Received::Broken(reason) => return Err(unreachable(api, reason)),
            }
        }
    }

    /// Waits for the next frame, at most for the given time.
    pub(crate) fn next(&mut self, wait: Duration) -> Received {
        if self.last_heard.elapsed() >= QUIET_BEFORE_DEAD {
            return Received::Broken("the server fell silent".to_owned());
        }
        if self.last_heard.elapsed() >= QUIET_BEFORE_PING && !self.pinged {
            self.pinged = true;
            if let Err(error) = self.ping() {
                return Received::Broken(error);
            }
        }
        // A timeout of zero would mean none at all.
        let wait = wait.max(Duration::from_millis(1));
        if let Err(error) = self.socket.get_ref().set_read_timeout(Some(wait)) {
            return Received::Broken(error.to_string());
        }
        match self.socket.read() {
            Ok(message) => {
                self.last_heard = Instant::now();
                self.pinged = false;
                let received = read_message(message);
                self.remember(&received);
                received
            }
            Err(tungstenite::Error::Io(error)) if is_wait_over(&error) => Received::Nothing,
            Err(error) => Received::Broken(error.to_string()),
        }
    }

    /// Where to go on after this connection.
    pub(crate) fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    fn remember(&mut self, received: &Received) {
        let Received::Frame(_, frame) = received else { return };
        let (Some(epoch), Some(seq)) = (&frame.epoch, frame.seq) else { return };
        // The head at the time of a reconnection lies behind what was missed.
        if frame.kind != "ready" || self.position.is_none() {
            self.position = Some(format!("{epoch}:{seq}"));
        }
    }

    fn ping(&mut self) -> Result<(), String> {
        let command =
            serde_json::to_string(&StreamCommand::Ping).map_err(|error| error.to_string())?;
        self.socket.send(Message::text(command)).map_err(|error| error.to_string())
    }
}

fn read_message(message: Message) -> Received {
    match message {
        Message::Text(text) => {
            let text = text.as_str().to_owned();
            match serde_json::from_str::<StreamFrame>(&text) {
                Ok(frame) => Received::Frame(text, frame),
                // A frame of a later version that this one cannot read is not for this one.
                Err(_) => Received::Nothing,
            }
        }
        Message::Close(reason) => Received::Broken(match reason {
            Some(reason) => format!("closed by the server: {} {}", reason.code, reason.reason),
            None => "closed by the server".to_owned(),
        }),
        _ => Received::Nothing,
    }
}

fn is_wait_over(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn connect_tcp(api: &Api, deadline: Instant) -> Result<TcpStream, Failure> {
    let endpoint = api.endpoint();
    let addresses = (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()
        .map_err(|error| unreachable(api, error.to_string()))?;
    let mut reason = "the host has no address".to_owned();
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(api));
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => {
                let prepared = tcp
                    .set_nodelay(true)
                    .and_then(|()| tcp.set_write_timeout(Some(api.timeout())))
                    .and_then(|()| tcp.set_read_timeout(Some(api.timeout())));
                return match prepared {
                    Ok(()) => Ok(tcp),
                    Err(error) => Err(unreachable(api, error.to_string())),
                };
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(unreachable(api, reason))
}

fn unreachable(api: &Api, reason: String) -> Failure {
    Failure::Unreachable { url: api.endpoint().base(), reason }
}

fn timed_out(api: &Api) -> Failure {
    Failure::TimedOut { what: "subscribing to the event stream".to_owned(), limit: api.timeout() }
}
