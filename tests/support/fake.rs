//! Builders of scripts for the fake child (`fake-app-server`).
//!
//! The language is defined, and checked, by the fake itself: it refuses a script with a member
//! that it does not know, with exit code 2.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::dirs::TestDir;

#[path = "bin/fake/text.rs"]
mod text;

/// The text of [`step::big_line`], of exactly so many bytes: no two of its pieces are the same.
pub fn long_text(bytes: usize) -> String {
    text::long_text(bytes)
}

/// What each start of the fake does.
#[derive(Debug, Clone, Default)]
pub struct FakeScript {
    starts: Vec<Behaviour>,
    then: Behaviour,
}

impl FakeScript {
    /// The same behaviour at every start.
    pub fn always(behaviour: Behaviour) -> Self {
        Self { starts: Vec::new(), then: behaviour }
    }

    /// One behaviour per start; later starts are correct.
    pub fn starts(starts: impl IntoIterator<Item = Behaviour>) -> Self {
        Self { starts: starts.into_iter().collect(), then: Behaviour::default() }
    }

    /// The behaviour of the starts after the listed ones.
    pub fn then(mut self, behaviour: Behaviour) -> Self {
        self.then = behaviour;
        self
    }

    /// The script as the fake reads it.
    pub fn to_json(&self) -> Value {
        let starts: Vec<Value> = self.starts.iter().map(Behaviour::to_json).collect();
        json!({ "starts": starts, "then": self.then.to_json() })
    }
}

/// What one process of the fake does; everything not said is done correctly.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    members: Map<String, Value>,
    turns: Vec<Value>,
    methods: Map<String, Value>,
}

impl Behaviour {
    /// A correct app-server.
    pub fn correct() -> Self {
        Self::default()
    }

    /// The version in `userAgent`.
    pub fn version(self, version: &str) -> Self {
        self.with("version", json!(version))
    }

    /// Never answers `initialize`.
    pub fn hang_in_initialize(self) -> Self {
        self.with("initialize", json!("hang"))
    }

    /// Answers `initialize` with an error.
    pub fn refuse_initialize(self) -> Self {
        self.with("initialize", json!("refuse"))
    }

    /// Goes on after SIGTERM.
    pub fn ignore_sigterm(self) -> Self {
        self.with("ignore_sigterm", json!(true))
    }

    /// Goes on after the end of stdin.
    pub fn ignore_stdin_eof(self) -> Self {
        self.with("ignore_stdin_eof", json!(true))
    }

    /// Steps before anything is read.
    pub fn at_start(self, steps: impl IntoIterator<Item = Value>) -> Self {
        self.with("at_start", steps.into_iter().collect())
    }

    /// Steps right after `initialize` was answered.
    pub fn after_initialize(self, steps: impl IntoIterator<Item = Value>) -> Self {
        self.with("after_initialize", steps.into_iter().collect())
    }

    /// Steps of the next turn of this process; turns beyond say a short message.
    pub fn turn(mut self, steps: impl IntoIterator<Item = Value>) -> Self {
        self.turns.push(steps.into_iter().collect());
        self
    }

    /// How calls of a method are answered; one that the fake does not know becomes known.
    pub fn method(mut self, method: &str, rule: MethodRule) -> Self {
        self.methods.insert(method.to_owned(), Value::Object(rule.members));
        self
    }

    /// Does not know these methods.
    pub fn lacks(self, methods: &[&str]) -> Self {
        self.with("lacks", json!(methods))
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    fn to_json(&self) -> Value {
        let mut members = self.members.clone();
        members.insert("turns".to_owned(), json!(self.turns));
        members.insert("methods".to_owned(), json!(self.methods));
        Value::Object(members)
    }
}

/// How calls of one method are answered.
#[derive(Debug, Clone, Default)]
pub struct MethodRule {
    members: Map<String, Value>,
}

impl MethodRule {
    /// The first `count` calls are answered −32001 and do nothing.
    pub fn overloaded_first(count: u64) -> Self {
        Self::default().with("overloaded_first", json!(count))
    }

    /// The first `count` calls are done and never answered.
    pub fn silent_first(count: u64) -> Self {
        Self::default().with("silent_first", json!(count))
    }

    /// No call is ever answered, though it is done.
    pub fn never() -> Self {
        Self::default().unanswered()
    }

    /// Every call is answered `copies` times.
    pub fn copies(copies: u32) -> Self {
        Self::default().with("copies", json!(copies))
    }

    /// The answers to the first `count` calls are sent in one piece, when the last of these is made.
    pub fn together(count: u64) -> Self {
        Self::default().with("together", json!(count))
    }

    /// Every call is answered after `milliseconds`; others are answered meanwhile.
    pub fn late(milliseconds: u64) -> Self {
        Self::default().with("delay_ms", json!(milliseconds))
    }

    /// Every call is answered with this error.
    pub fn error(code: i64, message: &str) -> Self {
        Self::default().with("error", json!({ "code": code, "message": message }))
    }

    /// Every call is answered with this result, and nothing is done.
    pub fn result(result: Value) -> Self {
        Self::default().with("result", result)
    }

    /// As it is, and never answered.
    pub fn unanswered(self) -> Self {
        self.with("never", json!(true))
    }

    /// These members replace those of the correct result.
    pub fn merge(members: Value) -> Self {
        Self::default().with("merge", members)
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }
}

/// Steps for [`Behaviour::turn`], [`Behaviour::at_start`] and [`Behaviour::after_initialize`].
pub mod step {
    use std::path::Path;

    use serde_json::{Value, json};

    /// An agent message: started, a delta per word, completed.
    pub fn message(text: &str) -> Value {
        json!({ "message": { "text": text } })
    }

    /// `count` deltas of `bytes` bytes, `pace_us` microseconds apart (0: as fast as possible),
    /// and the completed message.
    pub fn deltas(count: u64, bytes: usize, pace_us: u64) -> Value {
        json!({ "deltas": { "count": count, "bytes": bytes, "pace_us": pace_us } })
    }

    /// `count` deltas of a message that stays open, for a crash in the middle of it.
    pub fn open_deltas(count: u64, bytes: usize) -> Value {
        json!({ "deltas": { "count": count, "bytes": bytes, "open": true } })
    }

    /// [`open_deltas`], `pace_us` microseconds apart.
    pub fn paced_open_deltas(count: u64, bytes: usize, pace_us: u64) -> Value {
        json!({
            "deltas": { "count": count, "bytes": bytes, "pace_us": pace_us, "open": true },
        })
    }

    /// `count` completed agent messages of `bytes` bytes, as fast as possible.
    pub fn items(count: u64, bytes: usize) -> Value {
        json!({ "items": { "count": count, "bytes": bytes } })
    }

    /// Any notification; `threadId` and `turnId` are added.
    pub fn notify(method: &str, params: Value) -> Value {
        json!({ "notify": { "method": method, "params": params } })
    }

    /// Any server request; waits for the answer and appends it to the file.
    pub fn request(method: &str, params: Value, record: &Path) -> Value {
        json!({ "request": { "method": method, "params": params, "record": record } })
    }

    /// Any server request, without waiting for the answer.
    pub fn request_only(method: &str, params: Value) -> Value {
        json!({ "request": { "method": method, "params": params, "no_wait": true } })
    }

    /// A command behind an approval; the answer is appended to the file.
    pub fn command_approval(command: &str, record: &Path) -> Value {
        json!({ "command_approval": { "command": command, "record": record } })
    }

    /// A line as it is.
    pub fn line(text: &str) -> Value {
        json!({ "line": { "text": text } })
    }

    /// A line of bytes that need not be UTF-8.
    pub fn byte_line(bytes: &[u8]) -> Value {
        json!({ "byte_line": { "bytes": bytes } })
    }

    /// A completed agent message with [`long_text`](super::long_text) in a line of about as many
    /// bytes as the text has.
    pub fn big_line(bytes: usize) -> Value {
        json!({ "big_line": { "bytes": bytes } })
    }

    /// [`big_line`] whose line break waits until the test has opened this FIFO for writing, and
    /// closed it.
    pub fn big_line_held(bytes: usize, fifo: &Path) -> Value {
        json!({ "big_line": { "bytes": bytes, "hold": fifo } })
    }

    /// Half a line without a line break.
    pub fn half_line() -> Value {
        json!({ "half_line": {} })
    }

    /// Lines on stderr.
    pub fn stderr(lines: u64, bytes: usize) -> Value {
        json!({ "stderr": { "lines": lines, "bytes": bytes } })
    }

    /// One line of text on stderr.
    pub fn complain(text: &str) -> Value {
        json!({ "complain": { "text": text } })
    }

    /// A grandchild that holds stdout open; its pid is written to the file.
    pub fn grandchild(pid_file: &Path) -> Value {
        json!({ "grandchild": { "pid_file": pid_file } })
    }

    /// [`grandchild`] in a process group of its own.
    pub fn grandchild_in_own_group(pid_file: &Path) -> Value {
        json!({ "grandchild": { "pid_file": pid_file, "own_group": true } })
    }

    /// A pause that is part of the script.
    pub fn pause(milliseconds: u64) -> Value {
        json!({ "pause": { "ms": milliseconds } })
    }

    /// Nothing more until the turn is interrupted.
    pub fn hang() -> Value {
        json!({ "hang": {} })
    }

    /// The turn fails with this message.
    pub fn fail(message: &str) -> Value {
        json!({ "fail": { "message": message } })
    }

    /// The process ends with this code.
    pub fn exit(code: i32) -> Value {
        json!({ "exit": { "code": code } })
    }

    /// The process kills itself with SIGKILL.
    pub fn sigkill() -> Value {
        json!({ "sigkill": {} })
    }
}

/// The files through which a test talks to the fake.
#[derive(Debug, Clone)]
pub struct FakeFiles {
    script: PathBuf,
    log: PathBuf,
}

impl FakeFiles {
    /// Writes the script into the folder.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn write(dir: &TestDir, script: &FakeScript) -> Self {
        let script = dir.write("fake-script.json", script.to_json().to_string());
        Self { script, log: dir.join("fake-received.jsonl") }
    }

    /// Writes another script, for the starts to come.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn rewrite(&self, script: &FakeScript) {
        if let Err(error) = std::fs::write(&self.script, script.to_json().to_string()) {
            panic!("failed to write {}: {error}", self.script.display());
        }
    }

    /// The environment variables that the fake reads.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("FAKE_APP_SERVER_SCRIPT", &self.script), ("FAKE_APP_SERVER_LOG", &self.log)]
    }

    /// Every message that the fake has received so far, over all starts.
    pub fn received(&self) -> Vec<Value> {
        read_json_lines(&self.log)
    }

    /// The calls of one method that the fake has received so far.
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let mut received = self.received();
        received.retain(|message| message["method"] == method && message.get("id").is_some());
        received
    }

    /// The pids of all starts so far, in order.
    pub fn pids(&self) -> Vec<u32> {
        let mut path = self.script.as_os_str().to_owned();
        path.push(".starts");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// The JSON lines of a file that another program appends to; a missing file has none, and a line
/// that is just being written is left out.
pub fn read_json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
