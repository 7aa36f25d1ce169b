//! Stdout, ids and the log of what was received.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cm_core::rpc::{RpcError, RpcId, encode_error, encode_result};
use serde_json::{Value, json};

/// Stdout, shared by the threads of the fake. A write that fails is dropped: the reader is gone,
/// and the end of stdin follows.
pub(super) struct Output {
    // Not `Stdout`: that one writes every line by itself, which would slow a flood.
    pipe: Mutex<BufWriter<File>>,
    /// Whether what is written waits, to be sent in one piece with what follows.
    gathers: AtomicBool,
}

impl Output {
    /// Opens stdout.
    pub(super) fn new() -> io::Result<Self> {
        let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let pipe = Mutex::new(BufWriter::with_capacity(64 * 1024, pipe));
        Ok(Self { pipe, gathers: AtomicBool::new(false) })
    }

    /// Writes bytes as they are and sends everything written so far, unless it gathers.
    pub(super) fn bytes(&self, bytes: &[u8]) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let send = !self.gathers.load(Ordering::Relaxed);
        let _ = pipe.write_all(bytes).and_then(|()| if send { pipe.flush() } else { Ok(()) });
    }

    /// Whether what is written from now on waits for what follows.
    pub(super) fn gather(&self, gathers: bool) {
        self.gathers.store(gathers, Ordering::Relaxed);
    }

    /// Writes a line whose end comes only after `wait`; nobody else writes meanwhile.
    pub(super) fn line_with_a_late_end(&self, line: &[u8], wait: impl FnOnce()) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = pipe.write_all(line.trim_ascii_end()).and_then(|()| pipe.flush());
        wait();
        let _ = pipe.write_all(b"\n").and_then(|()| pipe.flush());
    }

    /// Writes bytes without sending them: only for the next ones of a flood.
    pub(super) fn buffered(&self, bytes: &[u8]) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = pipe.write_all(bytes);
    }

    /// An answer with a result.
    pub(super) fn result(&self, id: &RpcId, result: &Value) {
        if let Ok(line) = encode_result(id, result) {
            self.bytes(&line);
        }
    }

    /// An answer with an error.
    pub(super) fn error(&self, id: &RpcId, code: i64, message: &str) {
        let error = RpcError { code, message: message.to_owned(), data: None };
        if let Ok(line) = encode_error(id, &error) {
            self.bytes(&line);
        }
    }

    /// A notification.
    pub(super) fn notify(&self, method: &str, params: &Value) {
        self.bytes(&notification(method, params));
    }
}

/// A notification's line.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    let message = json!({ "method": method, "params": params, "emittedAtMs": now_ms() });
    format!("{message}\n").into_bytes()
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An id in the form of a UUIDv7, unique over processes by time and pid.
pub(super) fn new_id() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let milliseconds = now_ms() & 0xffff_ffff_ffff;
    let (high, low) = (milliseconds >> 16, milliseconds & 0xffff);
    let process = u64::from(std::process::id());
    format!("{high:08x}-{low:04x}-7000-8000-{:012x}", (process << 20 | serial) & 0xffff_ffff_ffff)
}

/// Appends a line to a file. A test that names a path that cannot be written reads it in stderr.
#[expect(clippy::print_stderr, reason = "stderr is this program's log")]
pub(super) fn append_line(path: &Path, line: &[u8]) {
    let written = OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| {
        // One write, so that the lines of two threads are never mixed.
        file.write_all(&[line, b"\n"].concat())
    });
    if let Err(error) = written {
        eprintln!("failed to write {}: {error}", path.display());
    }
}
