//! The running program.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::builder::AppBuilder;
use super::events::EventClient;
use super::manager::{Exited, Manager};
use super::stream::{StreamClient, StreamOptions};
use crate::dirs::TestDir;
use crate::fake::FakeFiles;
use crate::http::{Reply, Request, send};
use crate::mailbox::WaitError;
use crate::process::{
    command_line, kill_process, pid_alive, processes_with_env, wait_pid_gone, wait_until,
};

/// Start of the line with which the program says that it listens.
const LISTENING: &str = "codex-manager listening on http://";
/// Environment variable that marks everything that one test starts.
const MARK: &str = "CM_TEST_ID";
/// Longest start, from the spawn to the listening line and on to readiness.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait for an answer.
const REPLY_DEADLINE: Duration = Duration::from_secs(60);
/// Longest orderly stop; the program promises 5 s.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// The program, running for one test. Dropped, it goes with everything that it started.
#[derive(Debug)]
pub struct TestApp {
    builder: AppBuilder,
    manager: Manager,
    address: SocketAddr,
    fake: Option<FakeFiles>,
    mark: String,
    /// Output of the runs before the last restart.
    earlier_logs: String,
}

impl TestApp {
    /// Prepares a start of `program`, `env!("CARGO_BIN_EXE_codex-manager")`.
    #[track_caller]
    pub fn builder(program: impl AsRef<Path>) -> AppBuilder {
        AppBuilder::new(program.as_ref())
    }

    #[track_caller]
    pub(super) fn launch(builder: AppBuilder) -> Result<Self, Exited> {
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let _ = builder.dir.subdir("workspace");
        let (mut command, fake) = builder.command((MARK, &mark));
        let manager = Manager::spawn(&mut command);
        // Made before the program listens, so that a failed wait cleans up as well.
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let earlier_logs = String::new();
        let mut app = Self { builder, manager, address, fake, mark, earlier_logs };
        app.await_start()?;
        Ok(app)
    }

    #[track_caller]
    fn await_start(&mut self) -> Result<(), Exited> {
        let found = self.manager.stdout.wait(START_DEADLINE, |lines| {
            lines.iter().find_map(|line| line.strip_prefix(LISTENING)?.trim().parse().ok())
        });
        match found {
            Ok(address) => self.address = address,
            Err(WaitError::Closed(_)) => {
                return Err(self.manager.wait_exit(START_DEADLINE, None));
            }
            Err(WaitError::Deadline(_)) => {
                panic!("no listening line within {START_DEADLINE:?}\n{}", self.logs())
            }
        }
        if self.builder.wait_ready {
            self.wait_ready(START_DEADLINE);
        }
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Panics
    ///
    /// When it does not in time, or the program ends.
    #[track_caller]
    pub fn wait_ready(&self, deadline: Duration) {
        let mut last = String::new();
        let end = Instant::now() + deadline;
        wait_until("/readyz answers", deadline + Duration::from_secs(1), || {
            let (ready, text) = match self.try_request("GET", "/readyz", &[], None) {
                Ok(reply) => (reply.status == 200, reply.text),
                Err(error) => (false, error.to_string()),
            };
            last = text;
            if !ready && (self.manager.has_ended() || Instant::now() >= end) {
                panic!("not ready: {last}\n{}", self.logs());
            }
            ready
        });
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of the test.
    pub fn dir(&self) -> &TestDir {
        &self.builder.dir
    }

    /// A folder for sessions to work in, beside the data directory.
    pub fn workspace(&self) -> PathBuf {
        self.builder.dir.join("workspace")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.builder.data_dir_path()
    }

    /// The CODEX_HOME of the child.
    pub fn codex_home(&self) -> PathBuf {
        self.builder.codex_home_path()
    }

    /// The files of the fake child.
    ///
    /// # Panics
    ///
    /// When another runtime was chosen.
    #[track_caller]
    pub fn fake(&self) -> &FakeFiles {
        match &self.fake {
            Some(files) => files,
            None => panic!("the runtime is not the fake child"),
        }
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], None)
    }

    /// `POST path` with a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path, &[], Some(body.to_string().as_bytes()))
    }

    /// `DELETE path`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], None)
    }

    /// Makes a session in the workspace of the test and answers its id.
    ///
    /// # Panics
    ///
    /// When it is not made.
    #[track_caller]
    pub fn create_session(&self) -> String {
        let created = self.post("/api/sessions", json!({ "cwd": self.workspace() }));
        match created.expect_status(200).body["session"]["sessionId"].as_str() {
            Some(id) => id.to_owned(),
            None => panic!("a session without an id"),
        }
    }

    /// Sends a message to a session.
    #[track_caller]
    pub fn send(&self, session: &str, message: &str) -> Reply {
        self.post(&format!("/api/sessions/{session}/messages"), json!({ "text": message }))
    }

    /// A session as it is read.
    ///
    /// # Panics
    ///
    /// When it is not there.
    #[track_caller]
    pub fn detail(&self, session: &str) -> Value {
        self.get(&format!("/api/sessions/{session}")).expect_status(200).body
    }

    /// Any request; headers and target are sent as they are.
    ///
    /// # Panics
    ///
    /// When no answer comes. Any status is an answer.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Reply {
        match self.try_request(method, path, headers, body) {
            Ok(reply) => reply,
            Err(error) => panic!("{method} {path} got no answer: {error}\n{}", self.logs()),
        }
    }

    /// Any request.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Reply> {
        send(self.address, Request { method, target: path, headers, body }, REPLY_DEADLINE)
    }

    /// A subscriber of `/api/stream`, filtered to one thread or to none.
    ///
    /// # Panics
    ///
    /// When the upgrade is refused.
    #[track_caller]
    pub fn stream(&self, thread_id: Option<&str>) -> StreamClient {
        let options = match thread_id {
            Some(thread_id) => StreamOptions::default().query("threadId", thread_id),
            None => StreamOptions::default(),
        };
        match self.try_stream(options) {
            Ok(client) => client,
            Err(reply) => panic!("the stream answered {}: {}", reply.status, reply.text),
        }
    }

    /// A subscriber of server-sent events at `path`, with the id of the last event that it had.
    ///
    /// # Panics
    ///
    /// When the answer is no stream of events.
    #[track_caller]
    pub fn events(&self, path: &str, last_id: Option<&str>) -> EventClient {
        EventClient::connect(self.address, path, last_id)
    }

    /// A subscriber with options.
    ///
    /// # Errors
    ///
    /// The answer that refused the upgrade.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[track_caller]
    pub fn try_stream(&self, options: StreamOptions) -> Result<StreamClient, Box<Reply>> {
        StreamClient::connect(self.address, &options)
    }

    /// The program's pid.
    pub fn pid(&self) -> u32 {
        self.manager.pid()
    }

    /// The pid of the running app-server, as `/api/health` says.
    #[track_caller]
    pub fn child_pid(&self) -> Option<u32> {
        let pid = self.get("/api/health").body["codex"]["pid"].as_u64()?;
        u32::try_from(pid).ok()
    }

    /// Kills the app-server with SIGKILL and answers its pid.
    ///
    /// # Panics
    ///
    /// When there is none, or it outlives the signal.
    #[track_caller]
    pub fn kill_child(&self) -> u32 {
        let Some(pid) = self.child_pid() else { panic!("no app-server runs\n{}", self.logs()) };
        kill_process(pid);
        wait_pid_gone(pid, STOP_DEADLINE);
        pid
    }

    /// Waits until another app-server than `old` is initialised, and answers its pid.
    ///
    /// # Panics
    ///
    /// When none is in time.
    #[track_caller]
    pub fn wait_new_child(&self, old: u32, deadline: Duration) -> u32 {
        let mut new = old;
        wait_until("another app-server is initialised", deadline, || {
            let codex = self.get("/api/health").body["codex"].clone();
            let pid = codex["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            new = pid.filter(|_| codex["initialized"] == true).unwrap_or(old);
            new != old
        });
        new
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn terminate(&self) -> Exited {
        let since = Instant::now();
        self.manager.signal(Signal::SIGTERM);
        self.manager.wait_exit(STOP_DEADLINE, Some(since))
    }

    /// Sends SIGKILL to the program alone and waits for its end. What it started is left to
    /// notice by itself.
    #[track_caller]
    pub fn kill(&self) -> Exited {
        let since = Instant::now();
        self.manager.signal(Signal::SIGKILL);
        self.manager.wait_exit(STOP_DEADLINE, Some(since))
    }

    /// Starts the program again on the same data; ends it before if it still runs.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    #[track_caller]
    pub fn restart(&mut self) {
        if let Err(exited) = self.try_restart() {
            panic!("the program did not start again: it {exited}");
        }
    }

    /// [`TestApp::restart`], where the start may be refused.
    ///
    /// # Errors
    ///
    /// How it ended, where it did before it listened.
    ///
    /// # Panics
    ///
    /// When it neither gets ready nor ends in time.
    #[track_caller]
    pub fn try_restart(&mut self) -> Result<(), Exited> {
        if !self.manager.has_ended() {
            self.terminate();
        }
        self.earlier_logs.push_str(&self.manager.logs(usize::MAX));
        self.earlier_logs.push_str("\n=== restart ===\n");
        // The script of a fake child is written again, its count of starts goes on.
        let (mut command, fake) = self.builder.command((MARK, &self.mark));
        self.fake = fake;
        self.manager = Manager::spawn(&mut command);
        self.await_start()
    }

    /// Everything that the program wrote, over all restarts.
    pub fn logs(&self) -> String {
        format!("{}{}", self.earlier_logs, self.manager.logs(usize::MAX))
    }

    /// Live processes that this test started through the program, the program itself excluded.
    pub fn descendants(&self) -> Vec<u32> {
        let mut pids = processes_with_env(MARK, &self.mark);
        pids.retain(|pid| *pid != self.manager.pid() || self.manager.has_ended());
        pids
    }

    /// Waits until nothing is left of what the program started.
    ///
    /// # Panics
    ///
    /// When something is, with its command line.
    #[track_caller]
    pub fn wait_no_descendants(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        wait_until("no process is left", deadline + Duration::from_secs(1), || {
            let left = self.descendants();
            if !left.is_empty() && Instant::now() >= end {
                let names: Vec<String> =
                    left.iter().map(|pid| format!("{pid} {}", command_line(*pid))).collect();
                panic!("left behind: {names:?}");
            }
            left.is_empty()
        });
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of the program ---\n{}", self.manager.logs(60));
        }
        if !self.manager.has_ended() {
            self.manager.kill_group();
        }
        // Children have process groups of their own; the mark finds them, and nothing else.
        for pid in self.descendants() {
            if pid_alive(pid) {
                kill_process(pid);
            }
        }
    }
}
