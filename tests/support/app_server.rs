//! A bare client of `codex app-server` over stdin and stdout, for tests that look at the runtime
//! itself without the manager in between.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cm_core::rpc::{DEFAULT_LINE_CAP, Line, LineReader};
use serde_json::{Value, json};

use crate::mailbox::Mailbox;
use crate::process::{kill_group, wait_pid_gone};

/// Longest wait for the answer to a call.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of output that are kept.
const BYTE_LIMIT: usize = 1024 * 1024 * 1024;

/// One line that the child wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A JSON line.
    Message(Value),
    /// A line that is not JSON, as text, or what is wrong with it.
    Other(String),
}

impl Received {
    /// The line as JSON, if it is.
    pub fn message(&self) -> Option<&Value> {
        match self {
            Self::Message(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// A running child with its pipes; killed with its process group when dropped.
#[derive(Debug)]
pub struct AppServerClient {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mailbox<Received>>,
    stderr: Arc<Mailbox<String>>,
    next_id: i64,
}

impl AppServerClient {
    /// Starts `program app-server` with exactly this environment, in its own process group.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(program: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.arg("app-server").env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("failed to start {}: {error}", program.display()),
        };
        let output = Arc::new(Mailbox::new(BYTE_LIMIT));
        let stderr = Arc::new(Mailbox::new(BYTE_LIMIT));
        if let Some(pipe) = child.stdout.take() {
            let output = Arc::clone(&output);
            std::thread::spawn(move || read_messages(pipe, &output));
        }
        if let Some(pipe) = child.stderr.take() {
            let stderr = Arc::clone(&stderr);
            std::thread::spawn(move || read_text(pipe, &stderr));
        }
        let stdin = child.stdin.take();
        Self { child, stdin, output, stderr, next_id: 1 }
    }

    /// The child's pid, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the child wrote to stdout.
    pub fn output(&self) -> &Mailbox<Received> {
        &self.output
    }

    /// Everything that the child wrote to stderr, by line.
    pub fn stderr(&self) -> &Mailbox<String> {
        &self.stderr
    }

    /// `initialize` with experimental methods, then `initialized`; answers the result.
    ///
    /// # Panics
    ///
    /// When the child refuses or does not answer.
    #[track_caller]
    pub fn initialize(&mut self) -> Value {
        let result = self.call(
            "initialize",
            json!({
                "clientInfo": { "name": "cm_testkit", "title": "Testkit", "version": "0" },
                "capabilities": { "experimentalApi": true },
            }),
        );
        self.send(&json!({ "method": "initialized" }));
        result
    }

    /// Calls a method and answers its result.
    ///
    /// # Panics
    ///
    /// When the answer is an error or does not come.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        match self.try_call(method, params) {
            Ok(result) => result,
            Err(error) => panic!("{method} answered the error {error}"),
        }
    }

    /// Calls a method and answers its result, or the error object.
    ///
    /// # Errors
    ///
    /// The `error` member of the answer.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    #[track_caller]
    pub fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.start_call(method, params);
        let answer = self.wait_for(&format!("the answer to {method}"), CALL_DEADLINE, |message| {
            message["id"] == id && message.get("method").is_none()
        });
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }

    /// Calls a method without waiting; answers the id of the call.
    #[track_caller]
    pub fn start_call(&mut self, method: &str, params: Value) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "id": id, "method": method, "params": params }));
        id
    }

    /// Answers a server request with a result.
    #[track_caller]
    pub fn answer(&mut self, request: &Value, result: Value) {
        self.send(&json!({ "id": request["id"], "result": result }));
    }

    /// Writes one JSON line.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        self.send_raw(format!("{message}\n").as_bytes());
    }

    /// Writes bytes as they are.
    ///
    /// # Panics
    ///
    /// When the child no longer reads.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let Some(stdin) = self.stdin.as_mut() else { panic!("stdin was closed before") };
        if let Err(error) = stdin.write_all(bytes).and_then(|()| stdin.flush()) {
            panic!("failed to write to the child: {error}; {}", self.describe());
        }
    }

    /// Waits for the first message, of all that ever came, that matches.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        matches: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = self.output.wait(deadline, |all| {
            all.iter().filter_map(Received::message).find(|message| matches(message)).cloned()
        });
        match found {
            Ok(message) => message,
            Err(error) => panic!("waited for {what}: {error}; {}", self.describe()),
        }
    }

    /// Waits for a notification or server request by method.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn wait_method(&self, method: &str, deadline: Duration) -> Value {
        self.wait_for(method, deadline, |message| message["method"] == method)
    }

    /// Closes the child's stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the child's end.
    ///
    /// # Panics
    ///
    /// When it is still there at the deadline.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        wait_pid_gone(self.pid(), deadline);
        match self.child.wait() {
            Ok(status) => status,
            Err(error) => panic!("failed to reap the child: {error}"),
        }
    }

    /// The last lines of both streams, for messages.
    fn describe(&self) -> String {
        let output = self.output.read(|all| {
            let last = &all[all.len().saturating_sub(12)..];
            last.iter().map(|line| format!("\n  {}", shortened(line))).collect::<String>()
        });
        let stderr = self.stderr.read(|all| all[all.len().saturating_sub(12)..].join("\n  "));
        format!("last output:{output}\nlast stderr:\n  {stderr}")
    }
}

impl Drop for AppServerClient {
    fn drop(&mut self) {
        // Not reaped before this point, so the pid, and with it the group, is still ours.
        if let Ok(None) = self.child.try_wait() {
            kill_group(self.child.id());
            let _ = self.child.wait();
        }
    }
}

fn shortened(line: &Received) -> String {
    let text = match line {
        Received::Message(value) => value.to_string(),
        Received::Other(text) => format!("(not JSON) {text}"),
    };
    text.chars().take(400).collect()
}

fn read_messages(mut pipe: impl Read, output: &Mailbox<Received>) {
    let mut lines = LineReader::new(DEFAULT_LINE_CAP);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = pipe.read(&mut buffer).unwrap_or(0);
        lines.push(&buffer[..read]);
        while let Some(line) = lines.next_line() {
            keep(line, output);
        }
        if read == 0 {
            lines.finish().into_iter().for_each(|line| keep(line, output));
            output.close("stdout ended");
            return;
        }
    }
}

fn keep(line: Line, output: &Mailbox<Received>) {
    let (received, size) = match line {
        Line::Text(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => (Received::Message(value), bytes.len()),
            Err(_) => (Received::Other(String::from_utf8_lossy(&bytes).into_owned()), bytes.len()),
        },
        other => (Received::Other(format!("{other:?}")), 64),
    };
    output.push(received, size);
}

/// Collects a stream of text by line.
pub(crate) fn read_text(pipe: impl Read, lines: &Mailbox<String>) {
    let mut reader = std::io::BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::BufRead::read_until(&mut reader, b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(size) => {
                let text = String::from_utf8_lossy(&line);
                lines.push(text.trim_end_matches(['\r', '\n']).to_owned(), size);
            }
        }
    }
    lines.close("the stream ended");
}
