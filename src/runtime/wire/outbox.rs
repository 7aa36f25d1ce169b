//! Lines on their way to standard output.

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cm_core::rpc::{RpcId, encode_error, encode_request, encode_result};
use serde::Serialize;

use super::clock::now_ms;
use super::fault::Fault;
use super::lock;

/// The one way out. Lines leave in the order of the calls; a producer waits while more than the
/// byte limit is queued (overflow rule: wait), so memory does not follow a slow client.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Signalled on every change of `state`.
    changed: Condvar,
    /// Bytes above which producers wait.
    limit: usize,
}

#[derive(Default)]
struct State {
    queue: Vec<Vec<u8>>,
    bytes: usize,
    /// No line is taken any more; what is queued is still written.
    finished: bool,
    /// The writer is gone: everything was written or the pipe broke.
    drained: bool,
    /// Notifications the client opted out of, by exact name.
    muted: HashSet<String>,
}

/// A notification. codex adds `emittedAtMs` from 0.155 on.
#[derive(Serialize)]
struct Notification<'a, P> {
    method: &'a str,
    params: P,
    #[serde(rename = "emittedAtMs")]
    emitted_at_ms: u64,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Sends a notification unless the client opted out of it.
    pub(crate) fn notify(&self, method: &str, params: impl Serialize) {
        if lock(&self.state).muted.contains(method) {
            return;
        }
        let line = serde_json::to_vec(&Notification { method, params, emitted_at_ms: now_ms() });
        self.push(
            method,
            line.map(|mut bytes| {
                bytes.push(b'\n');
                bytes
            }),
        );
    }

    /// Answers a call.
    pub(crate) fn result(&self, id: &RpcId, result: impl Serialize) {
        self.push("result", encode_result(id, result));
    }

    /// Refuses a call.
    pub(crate) fn error(&self, id: &RpcId, fault: &Fault) {
        self.push("error", encode_error(id, &fault.0));
    }

    /// Asks the client.
    pub(crate) fn request(&self, id: i64, method: &str, params: impl Serialize) {
        self.push(method, encode_request(&RpcId::Number(id), method, Some(params)));
    }

    /// Stops sending these notifications.
    pub(crate) fn mute(&self, names: impl IntoIterator<Item = String>) {
        lock(&self.state).muted = names.into_iter().collect();
    }

    fn push(&self, what: &str, line: Result<Vec<u8>, serde_json::Error>) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(what, %error, "message cannot be encoded");
                return;
            }
        };
        let mut state = lock(&self.state);
        while state.bytes > self.limit && !state.finished {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.finished {
            return;
        }
        state.bytes += line.len();
        state.queue.push(line);
        self.changed.notify_all();
    }

    /// Writes lines until the outbox is finished and empty, or the pipe breaks.
    pub(crate) fn drain_to(&self, mut out: impl Write) {
        loop {
            let mut state = lock(&self.state);
            while state.queue.is_empty() && !state.finished {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let lines = std::mem::take(&mut state.queue);
            drop(state);
            let written = lines.iter().try_for_each(|line| out.write_all(line));
            let written = written.and_then(|()| out.flush());
            let mut state = lock(&self.state);
            state.bytes = state.queue.iter().map(Vec::len).sum();
            if let Err(error) = written {
                // Only the end of standard input ends the server, as in codex; without a reader
                // nothing more is worth queueing.
                tracing::warn!(%error, "standard output is closed");
                state.finished = true;
                state.queue.clear();
            }
            state.drained = state.finished && state.queue.is_empty();
            self.changed.notify_all();
            if state.drained {
                return;
            }
        }
    }

    /// Takes no more lines; waiting producers go on.
    pub(crate) fn finish(&self) {
        lock(&self.state).finished = true;
        self.changed.notify_all();
    }

    /// Waits, at most `patience`, until the lines queued before [`Outbox::finish`] are written.
    pub(crate) fn wait_until_drained(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        while !state.drained {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(bytes = state.bytes, "client does not read; output is dropped");
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::thread;

    /// Looks at what is queued whenever something is written, giving producers every chance.
    struct Watcher {
        outbox: Arc<Outbox>,
        most: usize,
    }

    impl Write for &mut Watcher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for _ in 0..100 {
                thread::yield_now();
                self.most = self.most.max(lock(&self.outbox.state).bytes);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn producers_wait_for_a_slow_client_and_nothing_is_lost() {
        let outbox = Arc::new(Outbox::new(1_000));
        let producer = Arc::clone(&outbox);
        let producer = thread::spawn(move || {
            for number in 0..500 {
                producer.result(&RpcId::Number(number), "x".repeat(80));
            }
            producer.finish();
        });
        let mut watcher = Watcher { outbox: Arc::clone(&outbox), most: 0 };
        outbox.drain_to(&mut watcher);
        producer.join().unwrap();
        // The limit, and one line above it.
        assert!(watcher.most > 1_000 && watcher.most < 1_200, "{}", watcher.most);
    }

    #[test]
    fn a_broken_pipe_stops_nobody() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let outbox = Outbox::new(10);
        outbox.result(&RpcId::Number(1), "a line over the limit");
        outbox.drain_to(Broken);
        outbox.result(&RpcId::Number(2), "another one");
        outbox.wait_until_drained(Duration::from_secs(5));
        assert!(lock(&outbox.state).queue.is_empty());
    }
}
