//! What keeps the program from starting is one clear message and a documented exit code; what is
//! unsafe to allow is refused from the start.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use cm_testkit::app::{AppBuilder, Exited, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript};
use cm_testkit::http::Reply;
use cm_testkit::process::{pid_alive, wait_pid_gone, wait_until};
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::{embedded, fake_app_server, program, refused, start, with_fake};

/// Starts what must not start.
#[track_caller]
fn fails(builder: AppBuilder) -> Exited {
    match builder.try_start() {
        Ok(app) => panic!("it started\n{}", app.logs()),
        Err(exited) => exited,
    }
}

/// Asserts one message with this code, these words, this exit code, and no traces of a crash.
#[track_caller]
fn complains(exited: &Exited, exit: i32, code: &str, words: &[&str]) {
    assert_eq!((exited.code, exited.signal), (Some(exit), None), "{exited}");
    let start = format!("error[{code}]: ");
    let messages = exited.stderr.lines().filter(|line| line.starts_with("error"));
    let messages: Vec<&str> = messages.collect();
    assert_eq!(messages.len(), 1, "{exited}");
    assert!(messages[0].starts_with(&start), "{exited}");
    for word in words {
        assert!(exited.stderr.contains(word), "no `{word}`: {exited}");
    }
    for trace in ["panicked", "backtrace", "unwrap", "Os {"] {
        assert!(!exited.stderr.contains(trace), "`{trace}`: {exited}");
    }
    assert_eq!(exited.stdout, "", "nothing but the address goes there");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let exited = fails(embedded().port(port));
    complains(&exited, 5, "port_in_use", &[&port.to_string(), "--port"]);
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    let builder = embedded();
    let inside = builder.dir().write("a-file", "x").join("data");
    let exited = fails(builder.data_dir(&inside));
    let shown = inside.display().to_string();
    complains(&exited, 2, "data_dir_unusable", &[&shown, "--data-dir"]);
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    // Root may write everywhere; the file system of processes takes no directories even from it.
    let exited = fails(embedded().data_dir("/proc/codex-manager-test"));
    complains(&exited, 2, "data_dir_unusable", &["/proc/codex-manager-test", "--data-dir"]);
}

#[test]
fn a_second_manager_on_the_data_directory() {
    let app = start(Behaviour::correct());
    let child = app.child_pid().expect("a child");
    let exited = fails(embedded().data_dir(app.data_dir()));
    let shown = app.data_dir().display().to_string();
    complains(&exited, 5, "data_dir_in_use", &[&shown, "--data-dir"]);
    // The first one and its child are as they were.
    assert!(pid_alive(child));
    assert_eq!(app.child_pid(), Some(child));
    crate::fake_app::create(&app);
}

#[test]
fn all_that_is_wrong_with_the_configuration_is_said_at_once() {
    let exited = fails(
        embedded()
            .env("LOG_LEVEL", "loud")
            .env("CODEX_MANAGER_CALL_TIMEOUT_MS", "-1")
            .env("DEFAULT_SANDBOX_MODE", "none")
            .env("CODEX_MANAGER_RING_BYTES", "lots")
            .file(".env", "SESSION_DEFAULTS_LOCKED=perhaps\n")
            .arg("--allow-origin")
            .arg("not an origin"),
    );
    let names = [
        "LOG_LEVEL",
        "loud",
        "CODEX_MANAGER_CALL_TIMEOUT_MS",
        "DEFAULT_SANDBOX_MODE",
        "CODEX_MANAGER_RING_BYTES",
        "SESSION_DEFAULTS_LOCKED",
        ".env",
        "--allow-origin",
    ];
    complains(&exited, 2, "invalid_config", &names);
}

#[test]
fn a_secret_with_a_mistake_is_not_printed() {
    let exited =
        fails(embedded().env("OPENAI_API_KEY", "sk-very-secret-value").env("LOG_LEVEL", "loud"));
    complains(&exited, 2, "invalid_config", &["LOG_LEVEL"]);
    assert!(!exited.stderr.contains("sk-very-secret-value"), "{exited}");
}

#[test]
fn a_codex_that_is_missing_or_cannot_run() {
    let dir = TestDir::new("codex");
    let plain = dir.write("plain", "no program");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).expect("the mode");
    let missing = dir.join("missing");
    for path in [&missing, &plain, &dir.path().to_owned()] {
        for runtime in ["codex", "auto"] {
            let builder =
                TestApp::builder(program()).arg("--runtime").arg(runtime).env("CODEX_BIN", path);
            let shown = path.display().to_string();
            let words = [shown.as_str(), "npm install", "--runtime embedded"];
            complains(&fails(builder), 2, "codex_not_found", &words);
        }
    }
    let nowhere = TestApp::builder(program()).arg("--runtime").arg("codex").env("PATH", dir.path());
    complains(&fails(nowhere), 2, "codex_not_found", &["npm install"]);
}

#[test]
fn without_codex_on_the_path_the_embedded_runtime_runs() {
    let dir = TestDir::new("path");
    let app = TestApp::builder(program()).env("PATH", dir.path()).start();
    let health = app.get("/api/health").expect_status(200).body;
    assert_eq!(health["codex"]["runtime"], "embedded");
    assert_eq!(health["auth"]["required"], false);
    assert_eq!(health["auth"]["likelyUnauthenticated"], false);
    // The log comes through a pipe of its own.
    let said = || app.logs().contains("codex is not on PATH");
    wait_until("the log says why", DEADLINE, said);
}

#[test]
fn with_codex_on_the_path_it_runs() {
    let dir = TestDir::new("path");
    symlink(fake_app_server(), dir.join("codex")).expect("a link");
    let app = TestApp::builder(program()).env("PATH", dir.path()).start();
    let health = app.get("/api/health").expect_status(200).body;
    assert_eq!(health["codex"]["runtime"], "codex");
    assert_eq!(health["codex"]["version"], "0.169.0");
}

#[test]
fn a_command_line_that_is_wrong_is_usage() {
    for arguments in [&["serve", "--nope"][..], &["serve", "extra"], &["nope"], &[]] {
        let output = Command::new(program())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("Usage"), "{arguments:?}: {stderr}");
    }
}

/// Asks for a session with these members.
fn create(app: &TestApp, body: Value) -> Reply {
    app.post("/api/sessions", body)
}

#[track_caller]
fn refused_with_a_way_out(reply: &Reply) {
    refused(reply, 403, "unsafe_workspace");
    let message = text(&reply.body["message"]);
    for word in ["--cd", "read-only", "--data-dir"] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_writable_workspace_around_the_managers_state_is_refused() {
    let home = TestDir::new("codex-home");
    let script = FakeScript::always(Behaviour::correct());
    let app = with_fake(script).codex_home(home.join("inside")).start();
    let outside = app.dir().path().to_owned();
    let link = app.workspace().join("link");
    symlink(&outside, &link).expect("a link");
    let roundabout = app.workspace().join("..");
    for cwd in [
        std::path::Path::new("/"),
        &outside,
        &link,
        &roundabout,
        &app.data_dir(),
        &app.data_dir().join("store"),
        home.path(),
        &home.join("inside"),
    ] {
        let write = json!({ "cwd": cwd, "filesystemSandbox": "workspace-write" });
        refused_with_a_way_out(&create(&app, write));
    }
    let list = app.get("/api/sessions").expect_status(200).body;
    assert_eq!(list["data"], json!([]), "a refusal left a session behind");
    assert!(app.fake().calls("thread/start").is_empty());

    let read_only = json!({ "cwd": link, "filesystemSandbox": "read-only" });
    let session = create(&app, read_only).expect_status(200);
    let session = text(&session.body["session"]["sessionId"]);
    let message = json!({ "text": "hi", "filesystemSandbox": "workspace-write" });
    let path = format!("/api/sessions/{session}/messages");
    refused_with_a_way_out(&app.post(&path, message));
    assert!(app.fake().calls("turn/start").is_empty());
    // The refusal changed nothing: the session still reads only.
    app.post(&path, json!({ "text": "hi" })).expect_status(202);
    let sandbox = app.fake().calls("turn/start")[0]["params"]["sandboxPolicy"].clone();
    assert_eq!(sandbox["type"], "readOnly", "{sandbox}");

    let beside = json!({ "cwd": app.workspace(), "filesystemSandbox": "workspace-write" });
    create(&app, beside).expect_status(200);
}

#[test]
fn a_workspace_that_is_moved_around_the_state_later_is_refused_then() {
    let app = start(Behaviour::correct());
    let link = app.workspace().join("link");
    symlink(app.dir().subdir("safe"), &link).expect("a link");
    let body = json!({ "cwd": link, "filesystemSandbox": "workspace-write" });
    let session = create(&app, body).expect_status(200);
    let session = text(&session.body["session"]["sessionId"]);
    std::fs::remove_file(&link).expect("the link goes");
    symlink(app.dir().path(), &link).expect("another link");
    let path = format!("/api/sessions/{session}/messages");
    refused_with_a_way_out(&app.post(&path, json!({ "text": "hi" })));
    assert!(app.fake().calls("turn/start").is_empty());
}

#[test]
fn a_default_that_would_be_unsafe_is_refused_as_well() {
    let app = embedded().env("DEFAULT_SANDBOX_MODE", "workspace-write").start();
    // The working directory of the program holds its data directory.
    refused_with_a_way_out(&create(&app, json!({})));
    create(&app, json!({ "cwd": app.workspace() })).expect_status(200);
}

#[test]
fn full_access_cannot_be_caged_and_the_answer_says_so() {
    let app = start(Behaviour::correct());
    let body = json!({ "cwd": app.dir().path(), "filesystemSandbox": "danger-full-access" });
    let created = create(&app, body).expect_status(200);
    let warned = |body: &Value| {
        let warning = text(&body["warnings"][0]);
        let open = "the network is open to them whatever networkAccess says";
        warning.contains("danger-full-access") && warning.contains(open)
    };
    assert!(warned(&created.body), "{}", created.text);
    let careful = create(&app, json!({ "cwd": app.workspace() })).expect_status(200);
    assert_eq!(careful.body.get("warnings"), None);
    let session = text(&careful.body["session"]["sessionId"]);
    let message = json!({ "text": "hi", "filesystemSandbox": "danger-full-access" });
    let sent = app.post(&format!("/api/sessions/{session}/messages"), message);
    assert!(warned(&sent.expect_status(202).body));
    let path = format!("/api/sessions/{session}/session-controls");
    let controls = |sandbox: &str| {
        let controls = json!({
            "approvalPolicy": "never", "networkAccess": "restricted", "filesystemSandbox": sandbox,
            "model": null,
        });
        json!({ "scope": "session", "controls": controls })
    };
    let changed = app.post(&path, controls("danger-full-access")).expect_status(200);
    assert!(warned(&changed.body), "{}", changed.text);
    let changed = app.post(&path, controls("read-only")).expect_status(200);
    assert_eq!(changed.body.get("warnings"), None);
}

#[test]
fn what_a_killed_manager_left_behind_is_swept_at_the_next_start() {
    use cm_testkit::fake::step;
    let dir = TestDir::new("pids");
    let file = dir.join("grandchild");
    let child = Behaviour::correct().after_initialize([step::grandchild(&file)]);
    let mut app = with_fake(FakeScript::starts([child])).start();
    let mut grandchild = 0;
    wait_until("the grandchild runs", DEADLINE, || {
        let pid = std::fs::read_to_string(&file).unwrap_or_default().trim().parse();
        grandchild = pid.unwrap_or_default();
        grandchild != 0
    });
    let child = app.child_pid().expect("a child");
    app.kill();
    wait_pid_gone(child, std::time::Duration::from_secs(1));
    app.restart();
    wait_pid_gone(grandchild, DEADLINE);
}
