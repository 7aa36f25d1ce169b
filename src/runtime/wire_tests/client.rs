//! A small client: it keeps every message and waits for events, never for time to pass.

use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Limits, RuntimeError, RuntimeOptions, run};

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A home, a workspace beside it, and a runtime on them.
pub(super) struct Client {
    pub(super) home: PathBuf,
    pub(super) workspace: PathBuf,
    /// Everything received so far.
    pub(super) messages: Vec<Value>,
    /// Where [`Client::wait`] goes on.
    cursor: usize,
    next_id: i64,
    stdin: Option<PipeWriter>,
    stdout: Receiver<Value>,
    server: Option<JoinHandle<Result<(), RuntimeError>>>,
    /// Kept while the test runs.
    _root: Option<tempfile::TempDir>,
}

impl Client {
    /// A fresh home, initialised.
    pub(super) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut client = Self::raw(root.path(), limits);
        client._root = Some(root);
        client.initialize();
        client
    }

    /// Not initialised yet.
    pub(super) fn raw(root: &Path, limits: Limits) -> Self {
        let root = root.canonicalize().unwrap();
        let (home, workspace) = (root.join("home"), root.join("ws"));
        std::fs::create_dir_all(&workspace).unwrap();
        let (server_in, stdin) = pipe().unwrap();
        let (stdout, server_out) = pipe().unwrap();
        let options = RuntimeOptions { limits, ..RuntimeOptions::new(&home, "1.2.3") };
        let server = thread::spawn(move || run(options, server_in, server_out));
        let (sender, receiver) = sync_channel(100_000);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let message = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Self {
            home,
            workspace,
            messages: Vec::new(),
            cursor: 0,
            next_id: 1,
            stdin: Some(stdin),
            stdout: receiver,
            server: Some(server),
            _root: None,
        }
    }

    pub(super) fn initialize(&mut self) -> Value {
        let answer = self.ok(
            "initialize",
            json!({
                "clientInfo": { "name": "tester", "version": "0" },
                "capabilities": { "experimentalApi": true },
            }),
        );
        self.line(r#"{"method":"initialized"}"#);
        answer
    }

    /// Ends the input, waits for the server, starts a new one on the same home.
    pub(super) fn restart(mut self) -> Self {
        let root = self._root.take().unwrap();
        self.stop();
        let mut client = Self::raw(root.path(), Limits::default());
        client._root = Some(root);
        client.initialize();
        client
    }

    /// Ends the input and waits for the server.
    pub(super) fn stop(&mut self) {
        drop(self.stdin.take());
        self.server.take().unwrap().join().unwrap().unwrap();
    }

    pub(super) fn line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Receives one more message.
    pub(super) fn receive(&mut self) {
        let message = self
            .stdout
            .recv_timeout(DEADLINE)
            .unwrap_or_else(|error| panic!("no message: {error}; so far {:#?}", self.messages));
        self.messages.push(message);
    }

    pub(super) fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let mut seen = self.messages.len();
        self.line(&json!({ "id": id, "method": method, "params": params }).to_string());
        loop {
            while seen == self.messages.len() {
                self.receive();
            }
            let message = &self.messages[seen];
            if message["id"] == id && message.get("method").is_none() {
                return message.clone();
            }
            seen += 1;
        }
    }

    pub(super) fn ok(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The message of the error that a call is refused with.
    pub(super) fn refused(&mut self, method: &str, params: Value) -> String {
        let answer = self.call(method, params);
        assert_eq!(answer["error"]["code"], -32600, "{method}: {answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The next message of a method after the last one waited for.
    pub(super) fn wait(&mut self, method: &str) -> Value {
        loop {
            while self.cursor == self.messages.len() {
                self.receive();
            }
            self.cursor += 1;
            let message = &self.messages[self.cursor - 1];
            if message["method"] == method {
                return message.clone();
            }
        }
    }

    pub(super) fn answer(&mut self, request: &Value, result: Value) {
        self.line(&json!({ "id": request["id"], "result": result }).to_string());
    }

    /// A thread in the workspace; `more` adds parameters.
    pub(super) fn thread(&mut self, more: Value) -> String {
        let mut params = json!({ "cwd": self.workspace });
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        let result = self.ok("thread/start", params);
        result["thread"]["id"].as_str().unwrap().to_owned()
    }

    /// Starts a turn; the answer is its id.
    pub(super) fn start(&mut self, thread: &str, text: &str) -> String {
        let input = json!([{ "type": "text", "text": text }]);
        let result = self.ok("turn/start", json!({ "threadId": thread, "input": input }));
        result["turn"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs a turn that asks nothing, to its end.
    pub(super) fn turn(&mut self, thread: &str, text: &str) -> Value {
        self.start(thread, text);
        self.finished()
    }

    /// The turn of the next `turn/completed`.
    pub(super) fn finished(&mut self) -> Value {
        self.wait("turn/completed")["params"]["turn"].clone()
    }

    pub(super) fn interrupt(&mut self, thread: &str, turn: &str) {
        self.ok("turn/interrupt", json!({ "threadId": thread, "turnId": turn }));
    }

    /// The turns of a thread, from disk.
    pub(super) fn history(&mut self, thread: &str) -> Vec<Value> {
        let params = json!({ "threadId": thread, "includeTurns": true });
        let result = self.ok("thread/read", params);
        result["thread"]["turns"].as_array().unwrap().clone()
    }

    /// What was emitted from message `from` on, one word each: the method, with the item's type
    /// and the status where there is one.
    pub(super) fn outline(&self, from: usize) -> Vec<String> {
        let word = |message: &Value| {
            let method = message["method"].as_str().unwrap_or("answer");
            let params = &message["params"];
            let detail = match method {
                "item/started" | "item/completed" => params["item"]["type"].as_str(),
                "thread/status/changed" => match params["status"]["activeFlags"][0].as_str() {
                    Some(flag) => Some(flag),
                    None => params["status"]["type"].as_str(),
                },
                _ => None,
            };
            match detail {
                Some(detail) => format!("{method} {detail}"),
                None => method.to_owned(),
            }
        };
        self.messages[from..].iter().map(word).collect()
    }
}

/// The closing text of a turn.
pub(super) fn closing(turn: &Value) -> &str {
    assert_eq!(turn["status"], "completed", "{turn}");
    turn["items"][0]["text"].as_str().unwrap()
}
