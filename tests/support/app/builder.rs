//! How the program is started for one test.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::manager::Exited;
use super::test_app::TestApp;
use crate::codex::{CodexMissing, codex_binary};
use crate::dirs::TestDir;
use crate::fake::{FakeFiles, FakeScript};

/// A proxy that nobody runs: the port is that of the discard service.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Which app-server the program runs.
#[derive(Debug, Clone)]
pub enum Runtime {
    /// Its own.
    Embedded,
    /// A real `codex`.
    Codex(PathBuf),
    /// The fake child: its binary and its script.
    Fake(PathBuf, FakeScript),
    /// None of these: the test says it with `arg` and `env`.
    Unset,
}

impl Runtime {
    /// An installed version of the real `codex`.
    ///
    /// # Errors
    ///
    /// [`CodexMissing`] when `tests/run` has not installed it.
    pub fn codex(version: &str) -> Result<Self, CodexMissing> {
        codex_binary(version).map(Self::Codex)
    }
}

/// Says how to start the program. Its environment is empty but for what is set here.
#[derive(Debug)]
pub struct AppBuilder {
    pub(super) program: PathBuf,
    pub(super) launcher: Vec<OsString>,
    pub(super) runtime: Runtime,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) arguments: Vec<OsString>,
    pub(super) codex_home: Option<PathBuf>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) port: u16,
    pub(super) wait_ready: bool,
    pub(super) dir: TestDir,
}

impl AppBuilder {
    pub(super) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            launcher: Vec::new(),
            runtime: Runtime::Unset,
            environment: Vec::new(),
            arguments: Vec::new(),
            codex_home: None,
            data_dir: None,
            port: 0,
            wait_ready: true,
            dir: TestDir::new("app"),
        }
    }

    /// The app-server to run.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Words before the program's path: another program that becomes it.
    pub fn launcher(mut self, words: Vec<OsString>) -> Self {
        self.launcher = words;
        self
    }

    /// Sets an environment variable; a later one of the same name wins.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds an argument after those of `serve`.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Writes a file below the folder of the test, which is also the working directory: `.env`
    /// for example.
    #[track_caller]
    pub fn file(self, inside: &str, content: &str) -> Self {
        self.dir.write(inside, content);
        self
    }

    /// Writes `config.toml` into the CODEX_HOME that the program will use; set
    /// [`AppBuilder::codex_home`] and [`AppBuilder::data_dir`] before.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn codex_config(self, config: &str) -> Self {
        self.dir.write(self.codex_home_path().join("config.toml"), config);
        self
    }

    /// Sets CODEX_HOME instead of leaving the program's own choice, `<data dir>/codex-home`.
    pub fn codex_home(mut self, path: impl Into<PathBuf>) -> Self {
        self.codex_home = Some(path.into());
        self
    }

    /// Another data directory than `<folder of the test>/data`.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// A fixed port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Does not wait for `/readyz`: for a child that never gets ready.
    pub fn without_readiness(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// The folder of the test, to put things into before the start.
    pub fn dir(&self) -> &TestDir {
        &self.dir
    }

    /// Starts the program and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    #[track_caller]
    pub fn start(self) -> TestApp {
        match self.try_start() {
            Ok(app) => app,
            Err(exited) => panic!("the program did not start: it {exited}"),
        }
    }

    /// Starts the program and waits until it is ready or has ended.
    ///
    /// # Errors
    ///
    /// How it ended, where it did before it listened.
    ///
    /// # Panics
    ///
    /// When neither happens in time.
    #[track_caller]
    pub fn try_start(self) -> Result<TestApp, Exited> {
        TestApp::launch(self)
    }

    pub(super) fn data_dir_path(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| self.dir.join("data"))
    }

    pub(super) fn codex_home_path(&self) -> PathBuf {
        self.codex_home.clone().unwrap_or_else(|| self.data_dir_path().join("codex-home"))
    }

    /// The command, and the files of the fake child.
    pub(super) fn command(&self, mark: (&str, &str)) -> (Command, Option<FakeFiles>) {
        let mut words =
            self.launcher.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg("serve").arg("--port").arg(self.port.to_string());
        command.arg("--data-dir").arg(self.data_dir_path());
        command.env_clear().current_dir(self.dir.path());
        // Without the folders of the user, in which a `codex` may be.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", self.dir.subdir("home")).env(mark.0, mark.1);
        // Nothing that Codex does by itself (feedback, lists of plugins) leaves the machine.
        command.env("HTTPS_PROXY", NOWHERE).env("https_proxy", NOWHERE);
        if let Some(home) = &self.codex_home {
            command.env("CODEX_HOME", home);
        }
        let mut files = None;
        match &self.runtime {
            Runtime::Unset => {}
            Runtime::Embedded => {
                command.args(["--runtime", "embedded"]);
            }
            Runtime::Codex(binary) => {
                command.args(["--runtime", "codex"]).env("CODEX_BIN", binary);
            }
            Runtime::Fake(binary, script) => {
                command.args(["--runtime", "codex"]).env("CODEX_BIN", binary);
                let written = FakeFiles::write(&self.dir, script);
                command.envs(written.environment());
                files = Some(written);
            }
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        (command, files)
    }
}
