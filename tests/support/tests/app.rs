//! The helpers around the real program, with a shell script in its place.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use cm_testkit::app::{AppBuilder, Runtime, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::FakeScript;
use cm_testkit::model::ScriptedModel;
use cm_testkit::process::{pid_alive, wait_pid_gone, wait_until};

const DEADLINE: Duration = Duration::from_secs(20);

/// Starts as told by a script that stands in for the program.
fn program(dir: &TestDir, script: &str) -> PathBuf {
    let path = dir.write("program", format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A stand-in that listens where the model does, has a child, and ends with 3 on SIGTERM.
fn listening(dir: &TestDir, model: &ScriptedModel) -> AppBuilder {
    let script = r#"
        trap 'exit 3' TERM
        sleep 3600 & echo $! > child
        echo started >> starts
        echo "arguments: $*" >&2
        echo "codex-manager listening on http://$ADDRESS"
        wait"#;
    TestApp::builder(program(dir, script))
        .env("ADDRESS", model.address().to_string())
        .without_readiness()
}

fn child_of(app: &TestApp) -> u32 {
    std::fs::read_to_string(app.dir().join("child")).unwrap().trim().parse().unwrap()
}

#[test]
fn it_is_started_asked_ended_and_started_again() {
    let (dir, model) = (TestDir::new("program"), ScriptedModel::start());
    let mut app = listening(&dir, &model)
        .runtime(Runtime::Embedded)
        .arg("--flag")
        .codex_config("model = \"x\"\n")
        .start();
    assert_eq!(app.url(), format!("http://{}", model.address()));
    let reply = app.get("/v1/models").expect_status(404);
    assert_eq!(reply.body["error"]["message"], "not found");
    assert!(app.codex_home().join("config.toml").is_file());
    assert!(app.workspace().is_dir());
    let arguments = format!(
        "arguments: serve --port 0 --data-dir {} --runtime embedded --flag",
        app.data_dir().display()
    );
    wait_until("stderr is kept", DEADLINE, || app.logs().contains(&arguments));
    let exited = app.terminate();
    assert_eq!((exited.code, exited.signal), (Some(3), None));
    app.restart();
    assert_eq!(app.get("/v1/models").status, 404);
    assert_eq!(std::fs::read_to_string(app.dir().join("starts")).unwrap(), "started\nstarted\n");
    assert!(app.logs().contains("=== restart ==="));
}

#[test]
fn what_it_leaves_behind_is_found_and_goes_with_the_test() {
    let (dir, model) = (TestDir::new("program"), ScriptedModel::start());
    let app = listening(&dir, &model).start();
    let (pid, child) = (app.pid(), child_of(&app));
    assert!(app.descendants().contains(&child));
    assert_eq!(app.kill().signal, Some(9));
    assert!(app.descendants().contains(&child), "SIGKILL went to the program alone");
    assert!(pid_alive(child));
    drop(app);
    wait_pid_gone(child, DEADLINE);
    wait_pid_gone(pid, DEADLINE);
}

#[test]
fn a_program_that_ends_early_is_reported_with_its_output() {
    let dir = TestDir::new("program");
    let program = program(&dir, "echo to stdout; echo to stderr >&2; exit 78");
    let exited = TestApp::builder(program).try_start().map(|_| ()).unwrap_err();
    assert_eq!(exited.code, Some(78));
    assert_eq!((exited.stdout.as_str(), exited.stderr.as_str()), ("to stdout", "to stderr"));
}

#[test]
fn its_environment_holds_nothing_of_this_process() {
    let dir = TestDir::new("program");
    let program = program(&dir, "env | cut -d= -f1 | sort; exit 1");
    let builder = TestApp::builder(program).env("EXTRA", "1");
    let runtime = Runtime::Fake(PathBuf::from("/bin/true"), FakeScript::default());
    let exited = builder.runtime(runtime).try_start().map(|_| ()).unwrap_err();
    let names: Vec<&str> = exited
        .stdout
        .lines()
        .filter(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"))
        .collect();
    let expected = [
        "CM_TEST_ID",
        "CODEX_BIN",
        "EXTRA",
        "FAKE_APP_SERVER_LOG",
        "FAKE_APP_SERVER_SCRIPT",
        "HOME",
        "HTTPS_PROXY",
        "LANG",
        "PATH",
        "https_proxy",
    ];
    assert_eq!(names, expected);
}
