//! The program under load.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use cm_testkit::dirs::TestDir;
use cm_testkit::process::{kill_process, signal_process};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::HttpConnection;
use crate::error::LoadError;

/// Start of the line with which the program says that it listens.
const LISTENING: &str = "codex-manager listening on http://";
/// Longest start.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest orderly stop.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// Pause between two looks at readiness: short against the shortest start.
const LOOK: Duration = Duration::from_micros(500);

/// How the program is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Its binary.
    pub(crate) path: PathBuf,
    /// Environment variables besides the necessary ones.
    pub(crate) environment: Vec<(String, String)>,
}

/// A running manager with the stub as its child. Dropped, it is killed and its folder goes.
#[derive(Debug)]
pub(crate) struct Manager {
    program: Program,
    process: Child,
    /// Held so that the program never writes into a closed pipe.
    _stdout: ChildStdout,
    address: SocketAddr,
    /// From the start of the process to the first 200 of `/readyz`.
    ready_after: Duration,
    /// Its data, its log, the workspace of its sessions.
    home: TestDir,
}

impl Manager {
    /// Starts one on new data and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub(crate) fn start(program: &Program) -> Result<Self, LoadError> {
        let home = TestDir::new("load");
        home.subdir("workspace");
        Self::launch(program.clone(), home)
    }

    fn launch(program: Program, home: TestDir) -> Result<Self, LoadError> {
        let stub = std::env::current_exe().map_err(LoadError::system("find the stub"))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.join("manager.log"))
            .map_err(LoadError::system("open the log"))?;
        let failed = |why: String| LoadError::Start { path: program.path.clone(), why };
        let mut command = Command::new(&program.path);
        command
            .args(["serve", "--port", "0", "--runtime", "codex", "--data-dir"])
            .arg(home.join("data"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.subdir("user"))
            .env("CODEX_BIN", stub)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let began = Instant::now();
        let mut process = command.spawn().map_err(|error| failed(error.to_string()))?;
        let listening = listening_address(&mut process);
        let (address, stdout) = match listening {
            Ok(listening) => listening,
            Err(why) => {
                kill_process(process.id());
                let _ = process.wait();
                let log = std::fs::read_to_string(home.join("manager.log")).unwrap_or_default();
                return Err(failed(format!("{why}\n{log}")));
            }
        };
        let ready_after = Duration::ZERO;
        let mut manager = Self { program, process, _stdout: stdout, address, ready_after, home };
        manager.await_ready(began)?;
        manager.ready_after = began.elapsed();
        Ok(manager)
    }

    fn await_ready(&self, began: Instant) -> Result<(), LoadError> {
        let mut connection = self.connect()?;
        loop {
            if connection.get("/readyz")?.status == 200 {
                return Ok(());
            }
            if began.elapsed() > START_DEADLINE {
                return Err(self.late("readiness", START_DEADLINE));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Stops it in order and starts it again on the same data.
    ///
    /// # Errors
    ///
    /// When it does not end or not get ready again.
    pub(crate) fn restart(self) -> Result<Self, LoadError> {
        let (program, home) = self.stop()?;
        Self::launch(program, home)
    }

    /// Stops it in order; its data stays as long as the answer lives.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub(crate) fn stop(mut self) -> Result<(Program, TestDir), LoadError> {
        signal_process(self.process.id(), Signal::SIGTERM);
        let began = Instant::now();
        loop {
            match self.process.try_wait() {
                Ok(Some(_)) => break,
                Ok(None) if began.elapsed() < STOP_DEADLINE => std::thread::sleep(LOOK * 10),
                Ok(None) => return Err(self.late("the manager's end", STOP_DEADLINE)),
                Err(error) => return Err(LoadError::system("wait for the manager")(error)),
            }
        }
        let empty = TestDir::new("load");
        Ok((self.program.clone(), std::mem::replace(&mut self.home, empty)))
    }

    /// A connection that is kept alive.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub(crate) fn connect(&self) -> Result<HttpConnection, LoadError> {
        HttpConnection::open(self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Where its sessions work.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.join("workspace")
    }

    /// How long the last start took.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process of the stub.
    ///
    /// # Errors
    ///
    /// When health does not name it.
    pub(crate) fn child_pid(&self) -> Result<u32, LoadError> {
        let health = self.connect()?.get("/api/health")?;
        let pid = health.body["codex"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.ok_or_else(|| health.unexpected("GET /api/health"))
    }

    /// Makes sessions on one connection.
    ///
    /// # Errors
    ///
    /// When one is refused.
    pub(crate) fn sessions(&self, count: usize) -> Result<Vec<String>, LoadError> {
        let mut connection = self.connect()?;
        let body = json!({ "cwd": self.home.join("workspace") });
        (0..count).map(|_| session(&mut connection, &body)).collect()
    }

    /// Sends a message that starts a turn.
    ///
    /// # Errors
    ///
    /// When it is not accepted.
    pub(crate) fn send(
        &self,
        connection: &mut HttpConnection,
        session: &str,
        text: &str,
    ) -> Result<(), LoadError> {
        let path = format!("/api/sessions/{session}/messages");
        connection.post(&path, &json!({ "text": text }))?.expect(202, &path)?;
        Ok(())
    }

    /// Something that did not happen in time.
    pub(crate) fn late(&self, what: &str, deadline: Duration) -> LoadError {
        let log = std::fs::read_to_string(self.home.join("manager.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        LoadError::Late { what: format!("{what}; the manager's last words:\n{last}"), deadline }
    }
}

fn session(connection: &mut HttpConnection, body: &Value) -> Result<String, LoadError> {
    let reply = connection.post("/api/sessions", body)?.expect(200, "POST /api/sessions")?;
    let id = reply.body["session"]["sessionId"].as_str().map(str::to_owned);
    id.ok_or_else(|| reply.unexpected("POST /api/sessions"))
}

/// Reads stdout up to the line that says where the program listens.
fn listening_address(process: &mut Child) -> Result<(SocketAddr, ChildStdout), String> {
    let stdout = process.stdout.take().ok_or("it has no stdout")?;
    let (found, waiting) = sync_channel(1);
    // It ends with the line, or with the process when that is killed.
    let reading = std::thread::Builder::new().name("listening".to_owned()).spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some(address) = line.strip_prefix(LISTENING) {
                // The one value fits, and the other side waits or has given up.
                let _ = found.send((address.trim().parse(), lines.into_inner()));
                return;
            }
            line.clear();
        }
    });
    reading.map_err(|error| error.to_string())?;
    match waiting.recv_timeout(START_DEADLINE) {
        Ok((Ok(address), stdout)) => Ok((address, stdout)),
        Ok((Err(error), _)) => Err(format!("it listens on no address: {error}")),
        Err(RecvTimeoutError::Timeout) => Err("it does not say that it listens".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err("it ended".to_owned()),
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        kill_process(self.process.id());
        // Reaped, so that its folder is not written to while it is removed.
        let _ = self.process.wait();
    }
}

/// Whether a file can be started as the program under load.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn check_program(path: &Path) -> Result<PathBuf, LoadError> {
    path.canonicalize().map_err(LoadError::system(format!("find {}", path.display())))
}
