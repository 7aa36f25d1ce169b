//! A server that says what a test tells it to say, over just enough HTTP and WebSocket.

use std::io::{self, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;

/// How long a step of a script waits for a request before the test has failed.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// `POST /api/sessions`, with the query.
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) body: Value,
}

/// What to answer.
pub(super) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// Upgrades, says `ready` and plays the steps. Then listens until the client goes.
    Stream(Vec<Step>),
    /// Closes the connection without a word.
    Nothing,
}

/// A step of a stream.
pub(super) enum Step {
    /// Sends a frame.
    Frame(Value),
    /// Sends a text as it is.
    Raw(&'static str),
    /// Waits until this request has arrived.
    Await(&'static str),
    /// Goes away in the middle.
    Drop,
    /// Closes with a code.
    Close(u16),
}

/// From a request, and how many of its kind were there before, to the answer.
type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    arrived: Condvar,
    script: Box<Script>,
}

/// The server. Its threads end with the connections, the listener with the process.
pub(super) struct Server {
    pub(super) url: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts with a script.
    pub(super) fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            seen: Mutex::new(Vec::new()),
            arrived: Condvar::new(),
            script: Box::new(script),
        });
        let for_connections = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&for_connections);
                std::thread::spawn(move || {
                    // A client that went away is noticed by the test itself.
                    let _ = serve(connection, &shared);
                });
            }
        });
        Self { url, shared }
    }

    /// What arrived so far, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }

    /// The only request of a kind.
    pub(super) fn only(&self, line: &str) -> Seen {
        let seen = self.shared.seen.lock().unwrap();
        let found: Vec<&Seen> = seen.iter().filter(|seen| seen.line == line).collect();
        assert_eq!(found.len(), 1, "{line} among {seen:?}");
        found[0].clone()
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

fn serve(mut tcp: TcpStream, shared: &Shared) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let mut buffer = [0_u8; 4096];
        match tcp.read(&mut buffer)? {
            0 => return Ok(()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if header("transfer-encoding").is_some() {
        while !bytes.ends_with(b"0\r\n\r\n") {
            let mut buffer = [0_u8; 4096];
            let count = tcp.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
        }
    }
    while bytes.len() < head_end + length {
        let mut buffer = [0_u8; 4096];
        let count = tcp.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    let body = &bytes[head_end..];
    let body = if header("transfer-encoding").is_some() {
        // One chunk is all that the client sends.
        let start = body.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
        &body[start..body.len() - 7]
    } else {
        body
    };
    let mut words = head.split(' ');
    let seen = Seen {
        line: format!("{} {}", words.next().unwrap(), words.next().unwrap()),
        authorization: header("authorization"),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
    };
    let before = {
        let mut all = shared.seen.lock().unwrap();
        let before = all.iter().filter(|other| other.line == seen.line).count();
        all.push(seen.clone());
        shared.arrived.notify_all();
        before
    };
    match (shared.script)(&seen, before) {
        Reply::Json(status, body) => answer(&mut tcp, status, &body.to_string()),
        Reply::Text(status, body) => answer(&mut tcp, status, body),
        Reply::Nothing => Ok(()),
        Reply::Stream(steps) => {
            let prefix = Cursor::new(bytes);
            play(Rewound { prefix, tcp }, steps, shared);
            Ok(())
        }
    }
}

fn answer(tcp: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    write!(
        tcp,
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn play(stream: Rewound, steps: Vec<Step>, shared: &Shared) {
    let mut socket = tungstenite::accept(stream).unwrap();
    let ready = json!({"type": "ready", "threadId": null});
    let send = |socket: &mut tungstenite::WebSocket<Rewound>, text: String| {
        // The client may be gone by now, which its own test sees.
        let _ = socket.send(Message::text(text));
    };
    send(&mut socket, ready.to_string());
    for step in steps {
        match step {
            Step::Frame(frame) => send(&mut socket, frame.to_string()),
            Step::Raw(text) => send(&mut socket, text.to_owned()),
            Step::Drop => return,
            Step::Close(code) => {
                let frame =
                    tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
                let _ = socket.close(Some(frame));
                return;
            }
            Step::Await(line) => {
                let seen = shared.seen.lock().unwrap();
                let (seen, timeout) = shared
                    .arrived
                    .wait_timeout_while(seen, STEP_LIMIT, |seen| {
                        !seen.iter().any(|seen| seen.line == line)
                    })
                    .unwrap();
                assert!(!timeout.timed_out(), "{line} never came: {seen:?}");
            }
        }
    }
    while socket.read().is_ok() {}
}

/// A connection whose first bytes were read already.
struct Rewound {
    prefix: Cursor<Vec<u8>>,
    tcp: TcpStream,
}

impl Read for Rewound {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.prefix.read(buffer)? {
            0 => self.tcp.read(buffer),
            count => Ok(count),
        }
    }
}

impl Write for Rewound {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
