//! Many subscribers on one thread, which only counts.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::frames::{CARRY, Depth, Marks, Scanner};
use super::upgrade::{View, open_stream};
use crate::clock::monotonic_ns;
use crate::error::LoadError;

/// Bytes of one read: several writes of the manager, and still in the processor's cache.
const READ_BYTES: usize = 256 * 1024;

/// Longest wait in the loop in milliseconds, after which the order to end is looked at.
const LOOK_MS: u8 = 50;

/// Connections that are taken from one wait.
const EVENTS: usize = 256;

/// How often a slow subscriber reads.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);

/// How fast a subscriber reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Whatever is there.
    Full,
    /// So many bytes a second.
    Slow(usize),
}

/// What a subscriber does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriber {
    /// How fast it reads.
    pub(crate) pace: Pace,
    /// Whether it keeps how late each paced delta was.
    pub(crate) latency: bool,
}

/// What a subscriber has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Frames, the first `ready` included.
    pub(crate) frames: u64,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Frames that say that a turn has ended.
    pub(crate) ends: u64,
    /// When the last of them came.
    pub(crate) ended_at: Option<Instant>,
    /// The code of the close frame; 1006 when the connection broke without one.
    pub(crate) closed: Option<u16>,
    /// How late each paced delta was, in nanoseconds.
    pub(crate) late_ns: Vec<u64>,
}

/// Subscribers that read. Dropped, they disconnect.
#[derive(Debug)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    outcomes: Mutex<Vec<Outcome>>,
    /// Told when a turn ended for a subscriber or a connection did.
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    scanner: Scanner,
    latency: bool,
    /// What was not told to the others yet.
    outcome: Outcome,
    index: usize,
}

impl Readers {
    /// Connects the subscribers.
    ///
    /// # Errors
    ///
    /// When one is refused.
    pub(crate) fn open(
        address: SocketAddr,
        view: View,
        subscribers: &[Subscriber],
    ) -> Result<Self, LoadError> {
        let shared = Arc::new(Shared {
            outcomes: Mutex::new(vec![Outcome::default(); subscribers.len()]),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let mut readers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let mut fast = Vec::new();
        for (index, subscriber) in subscribers.iter().enumerate() {
            let (stream, rest) = open_stream(address, view)?;
            let depth = if subscriber.latency { Depth::Delta } else { Depth::Beginning };
            let mut connection = Connection {
                stream,
                scanner: Scanner::new(depth),
                latency: subscriber.latency,
                outcome: Outcome::default(),
                index,
            };
            connection.take(&rest, &Marks::new());
            match subscriber.pace {
                Pace::Full => fast.push(connection),
                Pace::Slow(rate) => {
                    let shared = Arc::clone(&shared);
                    readers.spawn("slow-reader", move || read_slowly(connection, rate, &shared))?;
                }
            }
        }
        readers.spawn("readers", move || read_fast(fast, &shared))?;
        Ok(readers)
    }

    /// Starts a thread that ends when the readers are dropped or its connections have ended.
    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.map_err(LoadError::system("start a reader"))?);
        Ok(())
    }

    /// Waits until each of the first `count` subscribers has seen `ends` frames of ended turns or
    /// was disconnected. Answers whether they did in time.
    pub(crate) fn wait(&self, count: usize, ends: u64, deadline: Duration) -> bool {
        let done = |outcome: &Outcome| outcome.ends >= ends || outcome.closed.is_some();
        let end = Instant::now() + deadline;
        let mut outcomes = self.shared.lock();
        while !outcomes.iter().take(count).all(done) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(outcomes, left);
            outcomes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What each had seen when a turn last ended for it.
    pub(crate) fn seen(&self) -> Vec<Outcome> {
        self.shared.lock().clone()
    }

    /// What each has seen, in the order in which they were named.
    pub(crate) fn finish(mut self) -> Vec<Outcome> {
        self.end();
        self.shared.lock().clone()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A reader that panicked has said so; what it saw stays what it told.
            let _ = thread.join();
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Connection {
    /// Counts what was read. Answers whether there is news for those who wait.
    fn take(&mut self, data: &[u8], marks: &Marks) -> bool {
        let now = if self.latency { monotonic_ns() } else { 0 };
        let outcome = &mut self.outcome;
        let before = (outcome.ends, outcome.closed);
        outcome.bytes += (data.len() - self.scanner.carry.len()) as u64;
        self.scanner.scan(data, |frame| {
            outcome.frames += 1;
            outcome.closed = outcome.closed.or(frame.close);
            if marks.is_end(&frame) {
                outcome.ends += 1;
                outcome.ended_at = Some(Instant::now());
            }
            if self.latency
                && let Some(emitted) = marks.emitted_at(&frame)
            {
                outcome.late_ns.push(now.saturating_sub(emitted));
            }
        });
        before != (outcome.ends, outcome.closed)
    }

    /// Tells the others what was seen since the last time.
    fn tell(&mut self, shared: &Shared) {
        let news = std::mem::take(&mut self.outcome);
        if let Some(told) = shared.lock().get_mut(self.index) {
            told.frames += news.frames;
            told.bytes += news.bytes;
            told.ends += news.ends;
            told.ended_at = news.ended_at.or(told.ended_at);
            told.closed = told.closed.or(news.closed);
            told.late_ns.extend(news.late_ns);
        }
        shared.changed.notify_all();
    }

    /// Reads once into the buffer, whose first part is for what was carried over. Answers
    /// `false` at the end of the connection.
    fn read(&mut self, buffer: &mut [u8], marks: &Marks, shared: &Shared) -> bool {
        let begin = CARRY - self.scanner.carry.len();
        buffer[begin..CARRY].copy_from_slice(&self.scanner.carry);
        match self.stream.read(&mut buffer[CARRY..]) {
            Ok(0) => {}
            Ok(length) => {
                if self.take(&buffer[begin..CARRY + length], marks) {
                    self.tell(shared);
                }
                return true;
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return true;
            }
            Err(_) => {}
        }
        self.outcome.closed = self.outcome.closed.or(Some(1006));
        self.tell(shared);
        false
    }
}

fn read_fast(mut connections: Vec<Connection>, shared: &Shared) {
    let Ok(epoll) = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) else { return };
    for (index, connection) in connections.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        if connection.stream.set_nonblocking(true).is_err()
            || epoll.add(&connection.stream, event).is_err()
        {
            return;
        }
    }
    let marks = Marks::new();
    let mut buffer = vec![0; CARRY + READ_BYTES];
    let mut events = [EpollEvent::empty(); EVENTS];
    while !shared.stop.load(Ordering::Relaxed) {
        // An interrupted wait is an empty one.
        let ready = epoll.wait(&mut events, EpollTimeout::from(LOOK_MS)).unwrap_or(0);
        for event in &events[..ready] {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            let Some(connection) = connections.get_mut(index) else { continue };
            if !connection.read(&mut buffer, &marks, shared) {
                // Its end is told; from now on it is silent.
                let _ = epoll.delete(&connection.stream);
            }
        }
    }
    for connection in &mut connections {
        connection.tell(shared);
    }
}

fn read_slowly(mut connection: Connection, bytes_per_second: usize, shared: &Shared) {
    let marks = Marks::new();
    let per_read = bytes_per_second / 10;
    let mut buffer = vec![0; CARRY + per_read.max(1)];
    // So that a quiet stream does not keep the thread from its end.
    if connection.stream.set_read_timeout(Some(SLOW_INTERVAL)).is_err() {
        return;
    }
    while !shared.stop.load(Ordering::Relaxed) && connection.read(&mut buffer, &marks, shared) {
        std::thread::sleep(SLOW_INTERVAL);
    }
    connection.tell(shared);
}
