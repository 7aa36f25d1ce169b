//! The script language.
//!
//! `{"starts": [behaviour, …], "then": behaviour}`: the n-th start of the process plays the n-th
//! behaviour, every later one `then` (absent: correct). Starts are counted in a file beside the
//! script, `<script>.starts`, one line with the pid per start.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The whole script.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Script {
    starts: Vec<Behaviour>,
    then: Behaviour,
}

/// What one process does. Everything absent is done correctly.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Behaviour {
    /// The version in `userAgent` (default 0.169.0).
    pub(super) version: Option<String>,
    /// What happens with `initialize`.
    pub(super) initialize: Initialize,
    /// SIGTERM does nothing.
    pub(super) ignore_sigterm: bool,
    /// The end of stdin does nothing.
    pub(super) ignore_stdin_eof: bool,
    /// Steps before anything is read; a request among them needs `no_wait`.
    pub(super) at_start: Vec<Step>,
    /// Steps right after `initialize` was answered.
    pub(super) after_initialize: Vec<Step>,
    /// Steps of the n-th turn of this process; a turn beyond says a short message.
    pub(super) turns: Vec<Vec<Step>>,
    /// How calls are answered, by method. Methods that only stand here are known too.
    pub(super) methods: HashMap<String, MethodRule>,
    /// Methods that are not known.
    pub(super) lacks: BTreeSet<String>,
}

/// What happens with `initialize`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Initialize {
    /// It is answered.
    #[default]
    Answer,
    /// It is never answered.
    Hang,
    /// It is answered with an error.
    Refuse,
}

/// How calls of one method are answered.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MethodRule {
    /// The first so many calls are answered −32001 and do nothing.
    pub(super) overloaded_first: u64,
    /// The first so many calls are done and never answered.
    pub(super) silent_first: u64,
    /// No call is ever answered.
    pub(super) never: bool,
    /// How often each call is answered (default 1).
    pub(super) copies: Option<u32>,
    /// The answers to so many calls are sent in one piece (default: each by itself).
    pub(super) together: u64,
    /// Milliseconds until the answer; other calls are answered meanwhile.
    pub(super) delay_ms: u64,
    /// The answer is this error, and nothing is done.
    pub(super) error: Option<Value>,
    /// The answer is this result, and nothing is done.
    pub(super) result: Option<Value>,
    /// Members that replace those of the correct result.
    pub(super) merge: Option<Value>,
}

/// One thing to do. In params, `threadId` and `turnId` are added where they are absent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// An agent message: started, a delta per word, completed.
    Message {
        /// Its text.
        text: String,
    },
    /// Deltas of one agent message, which is completed after the last one.
    Deltas {
        /// How many.
        count: u64,
        /// Bytes of each.
        bytes: usize,
        /// Microseconds between two; 0 writes as fast as the pipe takes them.
        #[serde(default)]
        pace_us: u64,
        /// Leaves the message open, for a crash in the middle of it.
        #[serde(default)]
        open: bool,
    },
    /// Completed agent messages, as fast as the pipe takes them.
    Items {
        /// How many.
        count: u64,
        /// Bytes of the text of each.
        bytes: usize,
    },
    /// Any notification.
    Notify {
        /// Its method.
        method: String,
        /// Its params.
        #[serde(default)]
        params: Value,
    },
    /// Any server request.
    Request {
        /// Its method.
        method: String,
        /// Its params.
        #[serde(default)]
        params: Value,
        /// The answer is appended to this file.
        #[serde(default)]
        record: Option<PathBuf>,
        /// Goes on without the answer.
        #[serde(default)]
        no_wait: bool,
    },
    /// A command behind an approval: the item started, the request, the item completed or
    /// declined. The command does not run.
    CommandApproval {
        /// The command.
        command: String,
        /// The answer is appended to this file.
        #[serde(default)]
        record: Option<PathBuf>,
    },
    /// A line as it is.
    Line {
        /// Its text, without the line break.
        text: String,
    },
    /// A line of these bytes, which need not be UTF-8.
    ByteLine {
        /// Its bytes, without the line break.
        bytes: Vec<u8>,
    },
    /// A completed agent message with a long text (`text`), whose line has about this many bytes.
    BigLine {
        /// Its length.
        bytes: usize,
        /// The end of the line waits until somebody has opened this FIFO for writing, and closed it.
        #[serde(default)]
        hold: Option<PathBuf>,
    },
    /// The first half of a line, without a line break.
    HalfLine {},
    /// Lines on stderr.
    Stderr {
        /// How many.
        lines: u64,
        /// Bytes of each.
        bytes: usize,
    },
    /// One line of text on stderr.
    Complain {
        /// Its text.
        text: String,
    },
    /// A grandchild that holds stdout open and lives on.
    Grandchild {
        /// Its pid is written to this file.
        pid_file: PathBuf,
        /// In a process group of its own.
        #[serde(default)]
        own_group: bool,
    },
    /// A pause.
    Pause {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing more happens until the turn is interrupted.
    Hang {},
    /// The turn fails with this message.
    Fail {
        /// The error's message.
        message: String,
    },
    /// The process ends.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// The process kills itself with SIGKILL.
    Sigkill {},
}

/// Reads the script and counts this start; answers what this process does.
pub(super) fn load(path: Option<&Path>) -> io::Result<Behaviour> {
    let Some(path) = path else {
        return Ok(Behaviour::default());
    };
    let mut script: Script = serde_json::from_slice(&fs::read(path)?)?;
    let mut starts_path = path.as_os_str().to_owned();
    starts_path.push(".starts");
    let before = fs::read_to_string(&starts_path).unwrap_or_default().lines().count();
    let mut starts = OpenOptions::new().create(true).append(true).open(&starts_path)?;
    writeln!(starts, "{}", std::process::id())?;
    Ok(match before < script.starts.len() {
        true => script.starts.swap_remove(before),
        false => script.then,
    })
}
