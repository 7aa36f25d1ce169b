//! The loopback HTTP server: one thread per connection, one request per connection.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answer::{End, Sink, for_attempt, play};
use super::record::{ModelRequest, Recorder};
use super::select::select;
use crate::http::{read_body, read_head};
use crate::mailbox::WaitError;

/// Connections served at once; one more is closed unanswered.
const MAX_CONNECTIONS: usize = 256;
/// Longest wait at a gate that nobody opens.
const GATE_DEADLINE: Duration = Duration::from_secs(300);

/// A running server; it stops, and cuts every connection, when dropped.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    /// Numbers for response, item and call ids.
    serials: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Live connections, so that stopping can cut them.
    connections: HashMap<u64, TcpStream>,
    /// Gates that the test has opened; they stay open.
    open_gates: HashSet<String>,
    /// How many answers have reached each gate.
    reached_gates: HashMap<String, usize>,
    /// How often each step was asked for, to count failures.
    attempts: HashMap<String, u32>,
}

impl ScriptedModel {
    /// Starts on a free loopback port.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts on an address, for example that of a server that was stopped before.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    #[track_caller]
    pub fn start_on(address: SocketAddr) -> Self {
        let bound = TcpListener::bind(address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = match bound {
            Ok(bound) => bound,
            Err(error) => panic!("failed to listen on {address}: {error}"),
        };
        let shared = Arc::new(Shared {
            recorder: Recorder::new(),
            serials: AtomicU64::new(1),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn(move || accept(&listener, &for_thread))
            .expect("invariant: a test process can start a thread");
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>/v1`, for `config.toml`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.shared.recorder.all()
    }

    /// How many requests came so far.
    pub fn request_count(&self) -> usize {
        self.shared.recorder.count()
    }

    /// Waits for a request that matches and answers it.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn wait_for(
        &self,
        matches: impl Fn(&ModelRequest) -> bool,
        deadline: Duration,
    ) -> ModelRequest {
        let found = self
            .shared
            .recorder
            .wait(deadline, |all| all.iter().find(|request| matches(request)).cloned());
        match found {
            Ok(request) => request,
            Err(error) => panic!("the model server saw {error}: {} requests", self.request_count()),
        }
    }

    /// Opens a gate for good: answers that wait there, or come there later, go on.
    pub fn open_gate(&self, name: &str) {
        self.shared.lock().open_gates.insert(name.to_owned());
        self.shared.changed.notify_all();
    }

    /// Waits until an answer has reached the gate.
    ///
    /// # Panics
    ///
    /// When none does in time.
    #[track_caller]
    pub fn wait_at_gate(&self, name: &str, deadline: Duration) {
        let reached = self.shared.wait(deadline, |state| state.reached_gates.contains_key(name));
        if let Err(error) = reached {
            panic!("no answer reached the gate {name}: {error}");
        }
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        for connection in state.connections.values() {
            // A connection that the client has closed is stopped already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state; the server's stop ends it too.
    fn wait(
        &self,
        deadline: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> Result<(), WaitError> {
        let end = Instant::now() + deadline;
        let mut state = self.lock();
        loop {
            if done(&state) {
                return Ok(());
            }
            if state.stopping {
                return Err(WaitError::Closed("the model server stops".to_owned()));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WaitError::Deadline(deadline));
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(to_cut) = stream.try_clone() else {
            continue;
        };
        if state.connections.len() >= MAX_CONNECTIONS {
            continue;
        }
        state.connections.insert(number, to_cut);
        drop(state);
        let for_thread = Arc::clone(shared);
        let spawned = std::thread::Builder::new()
            .name("scripted-model-connection".to_owned())
            .spawn(move || {
                // A client may go at any time; that is not the server's failure.
                let _ = serve(&stream, &for_thread);
                let _ = stream.shutdown(Shutdown::Both);
                for_thread.lock().connections.remove(&number);
            });
        if spawned.is_err() {
            shared.lock().connections.remove(&number);
        }
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let Some(head) = read_head(&mut reader)? else {
        return Ok(());
    };
    let body = read_body(&mut reader, &head, false)?;
    let mut first_line = head.first_line.split(' ').map(str::to_owned);
    let request = ModelRequest {
        method: first_line.next().unwrap_or_default(),
        path: first_line.next().unwrap_or_default(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let (sampling, upgrade) = (request.is_sampling(), request.header("upgrade").is_some());
    let conversation = request.body.clone();
    shared.recorder.record(request, body.len());
    if upgrade {
        // 426 makes the built-in provider go over to POST without further attempts.
        return refuse(stream, 426, &error_body("this server does not speak WebSocket"));
    }
    if !sampling {
        return refuse(stream, 404, &error_body("not found"));
    }
    let selected = match select(&conversation) {
        Ok(selected) => selected,
        Err(fault) => return refuse(stream, 400, &error_body(&fault)),
    };
    let attempt = {
        let mut state = shared.lock();
        let attempts = state.attempts.entry(selected.key).or_default();
        *attempts += 1;
        *attempts
    };
    let step = for_attempt(selected.step, attempt);
    let mut sink = Chunked { stream, buffer: BufWriter::new(stream), shared };
    if let Some((part, status)) = step.0.first().and_then(|part| Some((part, part.status?))) {
        sink.pause(Duration::from_millis(part.predelay_ms.unwrap_or(0)))?;
        let body = part.body.clone().unwrap_or_else(|| error_body("scripted failure"));
        return refuse(stream, status, &body);
    }
    sink.buffer.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
          Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    )?;
    let end = play(&step, selected.index, &shared.serials, &mut sink)?;
    if end == End::Complete {
        sink.buffer.write_all(b"0\r\n\r\n")?;
    }
    sink.buffer.flush()
}

fn error_body(message: &str) -> Value {
    json!({ "error": { "message": message } })
}

fn refuse(mut stream: &TcpStream, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The body of an answer, one HTTP chunk per event.
struct Chunked<'a> {
    stream: &'a TcpStream,
    buffer: BufWriter<&'a TcpStream>,
    shared: &'a Shared,
}

impl Sink for Chunked<'_> {
    fn event(&mut self, name: &str, mut data: Value) -> io::Result<()> {
        data["type"] = json!(name);
        self.raw(&format!("event: {name}\ndata: {data}\n\n"))
    }

    fn raw(&mut self, text: &str) -> io::Result<()> {
        // An empty chunk would end the body.
        if text.is_empty() {
            return Ok(());
        }
        write!(self.buffer, "{:x}\r\n{text}\r\n", text.len())
    }

    fn pause(&mut self, duration: Duration) -> io::Result<()> {
        self.buffer.flush()?;
        match self.shared.wait(duration, |_| false) {
            Err(WaitError::Closed(reason)) => Err(io::Error::other(reason)),
            _ => Ok(()),
        }
    }

    fn gate(&mut self, name: &str) -> io::Result<()> {
        self.buffer.flush()?;
        *self.shared.lock().reached_gates.entry(name.to_owned()).or_default() += 1;
        self.shared.changed.notify_all();
        self.shared
            .wait(GATE_DEADLINE, |state| state.open_gates.contains(name))
            .map_err(io::Error::other)
    }

    fn hang(&mut self) -> io::Result<()> {
        self.buffer.flush()?;
        // Ends when the client closes the connection or the server's stop cuts it.
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest)? > 0 {}
        Ok(())
    }
}
