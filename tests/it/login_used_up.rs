//! A ChatGPT login whose refresh token another copy has used, on the real codex, and the way on:
//! `codex-manager account adopt`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use cm_testkit::app::TestApp;
use cm_testkit::model::{ScriptedModel, http_error, openai_config_toml, prompt, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, Kind, MANAGER, builder, rows, text, turn_end};
use crate::version1::{report, shown};

/// An access token of nobody, of the account `acc`, that ends in 2100.
pub(crate) const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDAsImVtYWlsIjoiYUBiLmMiLCJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOnsiY2hhdGdwdF9hY2NvdW50X2lkIjoiYWNjIiwiY2hhdGdwdF9wbGFuX3R5cGUiOiJwcm8iLCJjaGF0Z3B0X3VzZXJfaWQiOiJ1In19.c2ln";

/// A refresh token of nobody.
const REFRESH: &str = "rt-0123456789-used-by-another-copy";

/// A key of nobody.
const KEY: &str = "sk-fresh-login-of-the-user-0123456789";

mod codex_new {
    #[test]
    fn a_login_that_is_used_up_is_named_and_replaced() {
        super::a_login_that_is_used_up_is_named_and_replaced(crate::common::Kind::CodexNew);
    }
}

mod codex_old {
    #[test]
    fn a_login_that_is_used_up_is_named_and_replaced() {
        super::a_login_that_is_used_up_is_named_and_replaced(crate::common::Kind::CodexOld);
    }
}

/// Answers everything as the sign-in service answers a refresh token that was used before; gives
/// its address. It ends with the test's process.
fn sign_in_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // One read is enough: what was asked makes no difference.
            let _ = stream.read(&mut [0; 64 * 1024]);
            let body = r#"{"error":{"code":"refresh_token_reused","message":"used"}}"#;
            let length = body.len();
            let head = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n";
            let _ =
                write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

fn tool(app: &TestApp, more: &[&str]) -> Output {
    let mut command = Command::new(MANAGER);
    let port = app.address().port().to_string();
    command.args(["account", "adopt", "--json", "--port", &port, "--data-dir"]).arg(app.data_dir());
    command.args(more).env_clear().env("HOME", app.dir().join("home")).env("PATH", "/usr/bin:/bin");
    command.current_dir(app.dir().path()).output().expect("the program runs")
}

#[track_caller]
fn turn(app: &TestApp, session: &str, message: &str) -> (Value, Vec<Value>) {
    let mut stream = app.stream(Some(session));
    stream.wait_type("ready", DEADLINE);
    let path = format!("/api/sessions/{session}/messages");
    let sent = app.post(&path, json!({ "text": message })).expect_status(202);
    let ended = turn_end(&mut stream, &text(&sent.body["turnId"]));
    (ended, stream.frames())
}

fn a_login_that_is_used_up_is_named_and_replaced(kind: Kind) {
    let model = ScriptedModel::start();
    let service = sign_in_service();
    let config = openai_config_toml(&model.base_url());
    // Its last table is that of the features. With an account codex compresses what it asks, and the
    // scripted model could not read it.
    let config = format!(
        "chatgpt_base_url = \"{service}/backend\"\n{config}enable_request_compression = false\n"
    );
    let tokens = json!({ "id_token": TOKEN, "access_token": TOKEN, "refresh_token": REFRESH,
        "account_id": "acc" });
    let login = json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens,
        "last_refresh": "2100-01-01T00:00:00Z" });
    let mut app = builder()
        .runtime(kind.runtime())
        .codex_config(&config)
        .file("data/codex-home/auth.json", &login.to_string())
        .env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", format!("{service}/token"))
        .env("LOG_LEVEL", "debug")
        .without_readiness()
        .start();
    app.wait_new_child(0, DEADLINE);
    wait_until("calls are taken", DEADLINE, || {
        app.get("/api/health").body["codex"]["initialized"] == true
    });
    let created = app.post("/api/sessions", json!({ "cwd": app.workspace() })).expect_status(200);
    let session = text(&created.body["session"]["sessionId"]);
    let refused = http_error(401, json!({ "error": { "message": "token expired" } }), None);
    let (ended, frames) = turn(&app, &session, &prompt("go", [refused]));
    assert_eq!(ended["status"], "failed", "{ended}");

    let problem = frames.iter().find(|frame| frame["type"] == "session_problem").unwrap();
    assert_eq!(problem["payload"]["problem"]["code"], "login_used_up", "{problem}");
    let detail = app.detail(&session);
    assert_eq!(detail["session"]["problem"]["code"], "login_used_up");
    let row = &rows(&detail, "turn.error")[0];
    assert!(text(&row["content"]).contains("account adopt"), "{row}");
    assert!(text(&row["details"]).contains("\"code\":\"login_used_up\""), "{row}");
    let health = app.get("/api/health").body;
    assert_eq!(health["auth"]["problem"]["code"], "login_used_up", "{health}");
    assert_eq!(health["auth"]["likelyUnauthenticated"], true);
    let runtime = app.get("/api/runtime").body;
    assert_eq!(runtime["appServer"]["loginProblem"]["code"], "login_used_up");
    let ready = app.get("/readyz").expect_status(503).body;
    assert_eq!(ready["reasons"][0]["code"], "login_used_up", "{ready}");
    let mut doctor = Command::new(MANAGER);
    doctor.args(["doctor", "--json", "--data-dir"]).arg(app.data_dir());
    doctor.args(["--port", &app.address().port().to_string()]).env_remove("OPENAI_API_KEY");
    let doctor = shown(&doctor.output().unwrap());
    assert!(doctor.contains("login_used_up"), "{doctor}");

    // Nothing to take over yet, then a fresh login of the user's own.
    let none = tool(&app, &[]);
    assert_eq!(none.status.code(), Some(4), "{}", shown(&none));
    let own = json!({ "OPENAI_API_KEY": KEY }).to_string();
    app.dir().write("home/.codex/auth.json", &own);
    let child = app.child_pid().unwrap();
    let adopted = report(&tool(&app, &[]));
    assert_eq!((&adopted["status"], &adopted["restarted"]), (&json!("adopted"), &json!(true)));
    assert!(!adopted.to_string().contains(KEY), "{adopted}");
    let kept = std::fs::read_to_string(app.codex_home().join("auth.json.replaced")).unwrap();
    assert!(kept.contains(REFRESH), "the one that was there is kept");
    app.wait_new_child(child, DEADLINE);
    app.wait_ready(DEADLINE);
    assert_eq!(app.get("/api/health").body["auth"].get("problem"), None);
    let (ended, _) = turn(&app, &session, &prompt("go", [say("signed in again")]));
    assert_eq!(ended["status"], "completed", "{ended}");
    let fresh = format!("Bearer {KEY}");
    model.wait_for(
        |request| request.is_sampling() && request.authorization() == Some(&fresh),
        DEADLINE,
    );
    assert_eq!(app.detail(&session)["session"].get("problem"), None);
    assert_eq!(report(&tool(&app, &[]))["status"], "same");
    let logs = app.logs();
    assert!(!logs.contains(KEY) && !logs.contains(REFRESH) && !logs.contains(TOKEN));

    // Without a manager the next start uses it.
    app.terminate();
    app.dir().write("other/auth.json", json!({ "OPENAI_API_KEY": "sk-another" }).to_string());
    let from = app.dir().join("other");
    let adopted = report(&tool(&app, &["--from", from.to_str().unwrap()]));
    assert_eq!((&adopted["status"], &adopted["restarted"]), (&json!("adopted"), &json!(false)));
    let itself = tool(&app, &["--from", app.codex_home().to_str().unwrap()]);
    assert_eq!(itself.status.code(), Some(5), "{}", shown(&itself));
    app.restart();
    app.wait_ready(DEADLINE);
    assert_eq!(app.get("/api/health").body["auth"]["account"]["type"], "apiKey");
}

#[test]
fn sessions_at_work_are_not_interrupted_unless_it_is_said() {
    use crate::common::{Act, Bench};
    let bench = Bench::start_with(Kind::CodexNew, |builder| {
        builder.file("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-copied-at-first"}"#)
    });
    bench.app.dir().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-a-newer-one"}"#);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    let refused = tool(&bench.app, &[]);
    assert_eq!(refused.status.code(), Some(5), "{}", shown(&refused));
    assert!(shown(&refused).contains("--interrupt"), "{}", shown(&refused));
    let here = || std::fs::read_to_string(bench.app.codex_home().join("auth.json")).unwrap();
    assert!(here().contains("sk-copied-at-first"), "nothing was changed");
    let adopted = report(&tool(&bench.app, &["--interrupt"]));
    assert_eq!(adopted["restarted"], true, "{adopted}");
    assert!(here().contains("sk-a-newer-one"));
    assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
}

#[test]
fn a_manager_that_cannot_be_told_is_a_reason_to_refuse() {
    use crate::fake_app::with_fake;
    use cm_testkit::fake::{Behaviour, FakeScript};
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .file("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-copied-at-first"}"#)
        .start();
    app.dir().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-a-newer-one"}"#);
    // The port of somebody else.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    drop(other);
    let refused = tool(&app, &["--host", "127.0.0.1", "--codex-home", "/elsewhere"]);
    assert_eq!(refused.status.code(), Some(5), "{}", shown(&refused));
    assert!(shown(&refused).contains("another home"), "{}", shown(&refused));
    let mut command = Command::new(MANAGER);
    command
        .args(["account", "adopt", "--port", &port.to_string(), "--data-dir"])
        .arg(app.data_dir());
    command.env_clear().env("HOME", app.dir().join("home")).current_dir(app.dir().path());
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "{}", shown(&refused));
    assert!(shown(&refused).contains("data_dir_in_use"), "{}", shown(&refused));
    let here = std::fs::read_to_string(app.codex_home().join("auth.json")).unwrap();
    assert!(here.contains("sk-copied-at-first"), "nothing was changed");
}
