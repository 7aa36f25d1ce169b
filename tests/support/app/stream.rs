//! A subscriber of the WebSocket stream that keeps every frame.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tungstenite::client::client_with_config;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Request;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::http::Reply;
use crate::mailbox::{Mailbox, WaitError};

/// Bytes of frames that are kept.
const BYTE_LIMIT: usize = 1024 * 1024 * 1024;
/// Longest upgrade.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(20);
/// Commands that wait for the socket's thread; one more blocks the test.
const COMMANDS: usize = 64;
/// Frames read before commands are looked at again.
const READS_IN_A_ROW: usize = 1024;

/// A frame of the stream as JSON; text that is not JSON is a JSON string.
pub type Frame = Value;

/// How the server closed the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// The close code, if a close frame came.
    pub code: Option<u16>,
    /// The close frame's reason, or what happened to the connection.
    pub reason: String,
}

/// What the upgrade request carries.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    numbers_only: bool,
}

impl StreamOptions {
    /// Adds a query parameter; the value is sent as it is.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header, for example `Origin`; `Host` replaces the right one.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps nothing of an event but its number, as `{"seq": N}`: for a crowd that reads fast.
    pub fn numbers_only(mut self) -> Self {
        self.numbers_only = true;
        self
    }
}

/// A connected subscriber.
#[derive(Debug)]
pub struct StreamClient {
    frames: Arc<Mailbox<Frame>>,
    closed: Arc<Mutex<Closed>>,
    commands: SyncSender<Command>,
    /// A byte here makes the socket's thread look at the commands.
    wake: UnixStream,
    /// Frames that `next` and `wait_for` have passed.
    position: usize,
}

#[derive(Debug)]
enum Command {
    Send(Message),
    Reading(bool),
    Close,
}

impl StreamClient {
    /// Connects to `/api/stream`.
    ///
    /// # Errors
    ///
    /// The answer that refused the upgrade.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[track_caller]
    pub fn connect(address: SocketAddr, options: &StreamOptions) -> Result<Self, Box<Reply>> {
        match upgrade(address, options) {
            Ok(socket) => Ok(Self::run(socket, options.numbers_only)),
            Err(Error::Http(response)) => Err(Box::new(reply_of(&response))),
            Err(error) => panic!("failed to open the stream: {error}"),
        }
    }

    #[track_caller]
    fn run(socket: WebSocket<TcpStream>, numbers_only: bool) -> Self {
        let frames = Arc::new(Mailbox::new(BYTE_LIMIT));
        let closed = Arc::new(Mutex::new(Closed::default()));
        let (commands, receiver) = sync_channel(COMMANDS);
        let pair = UnixStream::pair().and_then(|(wake, woken)| {
            socket.get_ref().set_nonblocking(true)?;
            woken.set_nonblocking(true)?;
            Ok((wake, woken))
        });
        let (wake, woken) = match pair {
            Ok(pair) => pair,
            Err(error) => panic!("failed to prepare the stream: {error}"),
        };
        let kept = Arc::clone(&frames);
        let driver = Driver { socket, receiver, woken, frames: kept, reading: true, numbers_only };
        let outcome = Arc::clone(&closed);
        std::thread::spawn(move || driver.drive(&outcome));
        Self { frames, closed, commands, wake, position: 0 }
    }

    /// The next frame.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn next(&mut self, deadline: Duration) -> Frame {
        self.wait_for(|_| true, deadline)
    }

    /// The next frame that matches; the frames before it are passed.
    ///
    /// # Panics
    ///
    /// When none comes in time; the message lists what came instead.
    #[track_caller]
    pub fn wait_for(&mut self, matches: impl Fn(&Frame) -> bool, deadline: Duration) -> Frame {
        match self.try_wait_for(matches, deadline) {
            Ok(frame) => frame,
            Err(error) => panic!("the stream brought {error}; frames since: {:#?}", self.types()),
        }
    }

    /// The next frame that matches; the frames before it are passed. Without one, none is passed.
    ///
    /// # Errors
    ///
    /// [`WaitError`] when none comes in time or the stream ends.
    pub fn try_wait_for(
        &mut self,
        matches: impl Fn(&Frame) -> bool,
        deadline: Duration,
    ) -> Result<Frame, WaitError> {
        let mut looked_at = self.position;
        let (index, frame) = self.frames.wait(deadline, |all| {
            let found = all[looked_at..].iter().position(&matches).map(|offset| {
                let index = looked_at + offset;
                (index, all[index].clone())
            });
            looked_at = all.len();
            found
        })?;
        self.position = index + 1;
        Ok(frame)
    }

    /// The next frame of an event type.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn wait_type(&mut self, event_type: &str, deadline: Duration) -> Frame {
        self.wait_for(|frame| frame["type"] == event_type, deadline)
    }

    /// Every frame since the connection.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.read(<[Frame]>::to_vec)
    }

    /// Looks at every frame since the connection without copying them.
    pub fn read<R>(&self, look: impl FnOnce(&[Frame]) -> R) -> R {
        self.frames.read(look)
    }

    /// Sends a JSON frame.
    pub fn send(&self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends text as it is.
    pub fn send_text(&self, text: &str) {
        self.command(Command::Send(Message::text(text)));
    }

    /// Sends bytes as a binary frame.
    pub fn send_binary(&self, bytes: &[u8]) {
        self.command(Command::Send(Message::binary(bytes.to_vec())));
    }

    /// Reads nothing more, answers no close and no ping: a stalled client.
    pub fn stop_reading(&self) {
        self.command(Command::Reading(false));
    }

    /// Reads again.
    pub fn resume_reading(&self) {
        self.command(Command::Reading(true));
    }

    /// Begins the closing handshake.
    pub fn close(&self) {
        self.command(Command::Close);
    }

    /// Waits until the stream has ended and says how.
    ///
    /// # Panics
    ///
    /// When it is still open at the deadline.
    #[track_caller]
    pub fn wait_closed(&self, deadline: Duration) -> Closed {
        if let Err(error) = self.frames.wait_closed(deadline) {
            panic!("the stream is still open: {error}");
        }
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn types(&self) -> Vec<String> {
        self.frames.read(|all| {
            let name = |frame: &Frame| match frame["type"].as_str() {
                Some("notification") => format!("notification {}", frame["payload"]["method"]),
                Some(name) => name.to_owned(),
                None => frame.to_string(),
            };
            all[self.position.min(all.len())..].iter().take(200).map(name).collect()
        })
    }

    fn command(&self, command: Command) {
        // A stream that has ended takes no commands; waits on it say so.
        let _ = self.commands.send(command);
        let _ = (&self.wake).write(&[1]);
    }
}

fn upgrade(address: SocketAddr, options: &StreamOptions) -> Result<WebSocket<TcpStream>, Error> {
    let query: Vec<String> =
        options.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let uri = format!("ws://{address}/api/stream{mark}{}", query.join("&"));
    let named_host = options.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = named_host.map_or_else(|| address.to_string(), |(_, host)| host.clone());
    let mut request = Request::builder()
        .uri(uri)
        .header("Host", host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key());
    for (name, value) in &options.headers {
        if !name.eq_ignore_ascii_case("host") {
            request = request.header(name, value);
        }
    }
    let request = request.body(()).map_err(Error::from)?;
    let stream = TcpStream::connect_timeout(&address, UPGRADE_DEADLINE)?;
    stream.set_read_timeout(Some(UPGRADE_DEADLINE))?;
    stream.set_write_timeout(Some(UPGRADE_DEADLINE))?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error),
        Err(HandshakeError::Interrupted(_)) => Err(Error::Io(ErrorKind::TimedOut.into())),
    }
}

fn reply_of(response: &tungstenite::http::Response<Option<Vec<u8>>>) -> Reply {
    let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let headers = response.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Reply {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text: text.into_owned(),
    }
}

/// The socket's thread.
struct Driver {
    socket: WebSocket<TcpStream>,
    receiver: Receiver<Command>,
    woken: UnixStream,
    frames: Arc<Mailbox<Frame>>,
    reading: bool,
    numbers_only: bool,
}

/// Whether frames may be left that the operating system does not announce, because they have been
/// read from it already.
enum Progress {
    UpToDate,
    More,
}

/// Why the socket's thread ends.
enum Stop {
    /// The client was dropped.
    Dropped,
    /// The connection ended.
    Ended(String),
}

impl Driver {
    fn drive(mut self, outcome: &Mutex<Closed>) {
        let stop = loop {
            match self.obey().and_then(|()| self.read(outcome)) {
                Ok(Progress::UpToDate) => self.wait(),
                Ok(Progress::More) => {}
                Err(stop) => break stop,
            }
        };
        let reason = match stop {
            Stop::Dropped => "the client was dropped".to_owned(),
            Stop::Ended(reason) => reason,
        };
        let mut closed = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.code.is_none() {
            closed.reason.clone_from(&reason);
        }
        drop(closed);
        self.frames.close(reason);
    }

    /// Carries out what the test ordered.
    fn obey(&mut self) -> Result<(), Stop> {
        let mut bytes = [0; 64];
        // Emptied without a look at the count: the commands say what there is to do.
        let _ = std::io::Read::read(&mut &self.woken, &mut bytes);
        loop {
            let done = match self.receiver.try_recv() {
                Ok(Command::Send(message)) => self.socket.send(message),
                Ok(Command::Close) => self.socket.close(None),
                Ok(Command::Reading(reading)) => {
                    self.reading = reading;
                    Ok(())
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Stop::Dropped),
            };
            or_would_block(done)?;
        }
    }

    fn read(&mut self, outcome: &Mutex<Closed>) -> Result<Progress, Stop> {
        if !self.reading {
            return Ok(Progress::UpToDate);
        }
        for _ in 0..READS_IN_A_ROW {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::UpToDate);
                }
                Err(error) => return Err(Stop::Ended(error.to_string())),
            };
            match message {
                Message::Text(text) => self.keep(text.as_str()),
                Message::Binary(bytes) => self.keep(&String::from_utf8_lossy(&bytes)),
                Message::Close(frame) => {
                    let mut closed = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(frame) = frame {
                        closed.code = Some(frame.code.into());
                        closed.reason = frame.reason.as_str().to_owned();
                    }
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(Progress::More)
    }

    fn keep(&self, text: &str) {
        // A frame begins with its number; what has none is no event.
        let number = text.strip_prefix("{\"seq\":").and_then(|rest| rest.split(',').next());
        if self.numbers_only
            && let Some(Ok(number)) = number.map(str::parse::<u64>)
        {
            self.frames.push(serde_json::json!({ "seq": number }), size_of::<u64>());
            return;
        }
        let frame = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        self.frames.push(frame, text.len());
    }

    /// Waits for the socket or for a command.
    fn wait(&mut self) {
        let unsent = self.socket.flush().is_err();
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, self.reading);
        interest.set(PollFlags::POLLOUT, unsent);
        let mut fds = [
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket.get_ref().as_fd(), interest),
        ];
        // A stalled client ignores the socket wholly: a hang-up would end the wait at once.
        let watched = if interest.is_empty() { 1 } else { 2 };
        // A signal ends the wait early, which costs one idle round.
        let _ = poll(&mut fds[..watched], PollTimeout::NONE);
    }
}

fn or_would_block(done: Result<(), Error>) -> Result<(), Stop> {
    match done {
        Ok(()) => Ok(()),
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(Stop::Ended(error.to_string())),
    }
}
