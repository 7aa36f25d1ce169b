//! The command line against the running server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cm_core::error::exit;
use cm_testkit::app::{Runtime, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::mailbox::Mailbox;
use cm_testkit::model::{ScriptedModel, config_toml};
use cm_testkit::process::{processes_with_env, signal_process};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, MANAGER, approval, over_runtimes, text, turn_end};

over_runtimes!(
    run_prints_the_reply_and_an_accepted_command_runs,
    run_says_by_its_exit_code_how_it_went,
    sessions_are_listed_and_shown,
    a_session_is_followed,
    approvals_are_listed_and_decided,
    run_brings_its_own_server_when_it_is_told_to,
);

/// The command line client, with nothing of this process's environment.
fn client(app: &TestApp, arguments: &[&str]) -> Command {
    let mut command = Command::new(MANAGER);
    command.args(arguments).env_clear().env("HOME", app.dir().join("home"));
    command.env("CODEX_MANAGER_API_BASE", app.url());
    command.current_dir(app.workspace()).stdin(Stdio::null());
    command
}

/// Runs the client, asserts its exit code and answers what it wrote to stdout and stderr.
#[track_caller]
fn said(app: &TestApp, arguments: &[&str], code: u8) -> (String, String) {
    let output = client(app, arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let around = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code.into()), "{arguments:?}\n{said}\n{around}");
    (said, around)
}

/// `run` in the workspace, where commands ask and may write.
fn run<'a>(more: &[&'a str], message: &'a str) -> Vec<&'a str> {
    let asks =
        ["run", "--trust", "--sandbox", "workspace-write", "--approval-policy", "on-request"];
    [&asks, more, &["--", message]].concat()
}

fn run_prints_the_reply_and_an_accepted_command_runs(kind: Kind) {
    let bench = Bench::start(kind);
    let message = kind.message(&[Act::Run("touch by-the-client"), Act::Say("It is done.")]);
    let (reply, around) = said(&bench.app, &run(&["--yes"], &message), exit::OK);
    assert!(reply.lines().any(|line| line == "It is done."), "{reply}");
    assert!(around.contains("touch by-the-client"), "what ran is told: {around}");
    assert!(bench.app.workspace().join("by-the-client").is_file());

    let folder = bench.app.dir().subdir("elsewhere");
    let message = kind.message(&[Act::Run("touch there"), Act::Say("Done there.")]);
    let more = ["--yes", "--json", "--cd", folder.to_str().unwrap()];
    let (lines, _) = said(&bench.app, &run(&more, &message), exit::OK);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = lines.last().unwrap();
    assert_eq!((&result["type"], &result["ok"]), (&json!("result"), &json!(true)), "{result}");
    assert_eq!((&result["status"], &result["exitCode"]), (&json!("completed"), &json!(0)));
    // The embedded agent ends with a report of what it did.
    let last = if kind.is_codex() { "Done there." } else { "run `touch there`: exit code 0" };
    assert!(text(&result["text"]).contains(last), "{result}");
    assert!(folder.join("there").is_file(), "it works where it was told to");
    let session = text(&result["sessionId"]);
    let message = kind.message(&[Act::Say("The same session.")]);
    let more = ["run", "--session", session.as_str(), "--", message.as_str()];
    assert!(said(&bench.app, &more, exit::OK).0.contains("The same session."));
    let asked = crate::common::rows(&bench.detail(&session), "userMessage").len();
    assert_eq!(asked, 2);
}

fn run_says_by_its_exit_code_how_it_went(kind: Kind) {
    let bench = Bench::start(kind);
    let app = &bench.app;
    let message = kind.message(&[Act::Fail("scripted trouble")]);
    let (_, around) = said(app, &run(&[], &message), exit::TURN_FAILED);
    assert!(around.contains("scripted trouble"), "{around}");

    let message = kind.message(&[Act::Run("touch declined"), Act::Say("then not")]);
    let (reply, _) = said(app, &run(&["--no"], &message), exit::OK);
    assert!(reply.contains("then not"), "{reply}");
    // Nobody is there to ask.
    let (_, around) = said(app, &run(&[], &message), exit::DENIED);
    assert!(around.contains("--yes"), "it says how to allow it: {around}");
    assert!(!app.workspace().join("declined").exists());

    let message = kind.message(&[Act::Hold]);
    said(app, &run(&["--timeout", "1"], &message), exit::TIMEOUT);
    bench.release();
    said(app, &["run", "--session", "no-such-session", "--", "hello"], exit::NOT_FOUND);
    said(app, &["run", "--sandbox", "none", "--", "hello"], exit::USAGE);
    let (_, around) =
        said(app, &["run", "--server", "http://127.0.0.1:1", "--", "hello"], exit::UNREACHABLE);
    assert!(around.contains("serve"), "it says how to start a server: {around}");
    let archived = bench.session();
    bench.complete_turn(&archived, &[Act::Say("put away")]);
    bench.act(&archived, "archive", json!({})).expect_status(200);
    said(app, &["run", "--session", &archived, "--", "hello"], exit::CONFLICT);
}

fn sessions_are_listed_and_shown(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("words to be shown")]);
    bench.act(&session, "rename", json!({ "title": "A shown session" })).expect_status(200);
    let (list, _) = said(&bench.app, &["sessions", "list"], exit::OK);
    let line = list.lines().find(|line| line.contains("A shown session")).unwrap();
    let shown = line.split_whitespace().next().unwrap();
    assert!(!shown.is_empty() && session.starts_with(shown), "{list}");
    let (list, _) = said(&bench.app, &["sessions", "list", "--json"], exit::OK);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"][0]["sessionId"], session);
    let (shown, _) = said(&bench.app, &["sessions", "show", "latest"], exit::OK);
    assert!(shown.contains("words to be shown"), "{shown}");
    let (shown, _) = said(&bench.app, &["sessions", "show", &session[..20], "--json"], exit::OK);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["session"]["sessionId"], session);
    said(&bench.app, &["sessions", "show", "no-such-session"], exit::NOT_FOUND);
}

fn a_session_is_followed(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut tail = Follower::start(&bench.app, &["sessions", "tail", &session]);
    tail.wait_for("following");
    bench.complete_turn(&session, &[Act::Say("words to be followed")]);
    tail.wait_for("words to be followed");
    tail.wait_for("turn completed");
    assert_eq!(tail.interrupt(), Some(0), "Ctrl-C is how it ends");
}

fn approvals_are_listed_and_decided(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch decided")]);
    let id = approval(&mut stream);
    let (list, _) = said(&bench.app, &["approvals", "list"], exit::OK);
    let line = list.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("touch decided") && line.contains(&session), "{list}");
    let (list, _) = said(&bench.app, &["approvals", "list", &session, "--json"], exit::OK);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"][0]["approvalId"], id);
    said(&bench.app, &["approvals", "decide", &id, "accept"], exit::OK);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(bench.app.workspace().join("decided").is_file());
    said(&bench.app, &["approvals", "decide", &id, "decline"], exit::CONFLICT);
    said(&bench.app, &["approvals", "decide", "no-such-approval", "accept"], exit::NOT_FOUND);
    let (list, _) = said(&bench.app, &["approvals", "list"], exit::OK);
    assert!(!list.contains(&id), "{list}");
}

/// The server of one command has the configuration of the command.
fn run_brings_its_own_server_when_it_is_told_to(kind: Kind) {
    let dir = TestDir::new("serve");
    let model = ScriptedModel::start();
    let home = dir.join("data/codex-home");
    dir.write("data/codex-home/config.toml", config_toml(&model.base_url()));
    let workspace = dir.subdir("workspace");
    let message = kind.message(&[Act::Run("touch by-itself"), Act::Say("It is done.")]);
    let mut command = Command::new(MANAGER);
    command.args(run(&["--serve", "--yes", "--server", "http://127.0.0.1:1"], &message));
    command.env_clear().env("HOME", dir.subdir("home")).env("CM_TEST_ID", dir.path());
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("PORT", "0");
    command.env("DATA_DIR", dir.join("data")).env("CODEX_HOME", home);
    match kind.runtime() {
        Runtime::Codex(binary) => command.env("CODEX_BIN", binary),
        _ => command.env("CODEX_MANAGER_RUNTIME", "embedded"),
    };
    let output = command.current_dir(&workspace).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let around = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}\n{around}");
    assert!(said.contains("It is done."), "{said}\n{around}");
    assert!(workspace.join("by-itself").is_file());
    let left = processes_with_env("CM_TEST_ID", dir.path().to_str().unwrap());
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// A client that goes on until it is told to end; killed with its value.
struct Follower {
    child: Child,
    lines: Arc<Mailbox<String>>,
}

impl Follower {
    #[track_caller]
    fn start(app: &TestApp, arguments: &[&str]) -> Self {
        let mut command = client(app, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mailbox::new(1 << 20));
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let size = line.len();
                    lines.push(line, size);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for a line of either output that contains a text.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let found = self
            .lines
            .wait(DEADLINE, |all| all.iter().any(|line| line.contains(text)).then_some(()));
        if let Err(error) = found {
            let seen = self.lines.read(<[String]>::to_vec);
            panic!("no `{text}`: {error}; seen: {seen:#?}");
        }
    }

    /// Presses Ctrl-C and answers the exit code.
    #[track_caller]
    fn interrupt(&mut self) -> Option<i32> {
        signal_process(self.child.id(), Signal::SIGINT);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // One that was waited for is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
