//! The login of the real codex, with its built-in provider pointed at the scripted model.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cm_testkit::app::{AppBuilder, TestApp};
use cm_testkit::model::{ScriptedModel, http_error, openai_config_toml, prompt, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, Kind, builder, rows, text, turn_end};

/// The key of these tests. Nobody else has it, so wherever it turns up it came from there.
const KEY: &str = "sk-scripted-0123456789abcdefghij";

/// One test per flow and version of codex; the embedded runtime needs no login.
macro_rules! over_codex {
    ($($flow:ident),+ $(,)?) => {
        mod codex_new {
            $(#[test] fn $flow() { super::$flow($crate::common::Kind::CodexNew); })+
        }
        mod codex_old {
            $(#[test] fn $flow() { super::$flow($crate::common::Kind::CodexOld); })+
        }
    };
}

over_codex!(
    a_key_in_the_env_file_works_and_reaches_no_disk,
    without_a_key_it_says_what_to_do,
    an_account_that_is_there_is_not_touched,
    the_login_of_the_user_is_copied_once,
);

fn prepared(kind: Kind, model: &ScriptedModel) -> AppBuilder {
    builder().runtime(kind.runtime()).codex_config(&openai_config_toml(&model.base_url()))
}

/// Sends a message in a new session and answers the session, the turn's end and the frames.
#[track_caller]
fn first_turn(app: &TestApp, message: &str) -> (String, Value, Vec<Value>) {
    let mut stream = app.stream(None);
    let body = json!({ "cwd": app.workspace() });
    let created = app.post("/api/sessions", body).expect_status(200);
    let session = text(&created.body["session"]["sessionId"]);
    let path = format!("/api/sessions/{session}/messages");
    let sent = app.post(&path, json!({ "text": message })).expect_status(202);
    let ended = turn_end(&mut stream, &text(&sent.body["turnId"]));
    (session, ended, stream.frames())
}

fn a_key_in_the_env_file_works_and_reaches_no_disk(kind: Kind) {
    let model = ScriptedModel::start();
    let app = prepared(kind, &model)
        .file(".env", &format!("OPENAI_API_KEY={KEY}\nLOG_LEVEL=debug\n"))
        .start();
    let (session, ended, frames) = first_turn(&app, &prompt("go", [say("hello with a key")]));
    assert_eq!(ended["status"], "completed", "{ended}");
    let request = model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!(request.authorization(), Some(format!("Bearer {KEY}").as_str()));
    let auth = app.get("/api/health").body["auth"].clone();
    assert_eq!(auth["hasOpenAiApiKey"], true, "{auth}");
    assert_eq!(auth["codexHomeAuthFile"], false, "{auth}");
    assert_eq!(auth["likelyUnauthenticated"], false, "{auth}");
    assert_eq!((&auth["required"], &auth["ready"]), (&json!(true), &json!(true)), "{auth}");
    assert_eq!(auth["account"]["type"], "apiKey", "{auth}");

    for path in ["/api/health", "/api/runtime", "/readyz", "/api/sessions"] {
        assert!(!app.get(path).text.contains(KEY), "{path}");
    }
    assert!(!app.get(&format!("/api/sessions/{session}")).text.contains(KEY));
    assert!(frames.iter().all(|frame| !frame.to_string().contains(KEY)));
    app.terminate();
    assert!(!app.logs().contains(KEY), "the log has the key");
    assert!(!app.codex_home().join("auth.json").exists());
    let mut holders = files_with(app.dir().path(), KEY);
    holders.retain(|path| *path != app.dir().join(".env"));
    if kind == Kind::CodexOld {
        // 0.140 itself traces the heads of its WebSocket requests into this database, whatever
        // RUST_LOG says.
        let own_trace = app.codex_home().join("logs_2.sqlite");
        holders.retain(|path| !path.to_string_lossy().starts_with(&*own_trace.to_string_lossy()));
    }
    assert!(holders.is_empty(), "the key is in {holders:?}");
}

fn without_a_key_it_says_what_to_do(kind: Kind) {
    let model = ScriptedModel::start();
    let app = prepared(kind, &model).without_readiness().start();
    let mut readiness = Value::Null;
    wait_until("/readyz says that a login is needed", DEADLINE, || {
        let reply = app.get("/readyz");
        assert_eq!(reply.status, 503, "{}", reply.text);
        readiness = reply.body;
        let reasons = readiness["reasons"].as_array().unwrap();
        reasons.iter().any(|reason| reason["code"] == "login_needed")
    });
    let advice = readiness["reasons"].to_string();
    assert!(advice.contains("codex login") && advice.contains("--runtime embedded"), "{advice}");
    let auth = app.get("/api/health").expect_status(200).body["auth"].clone();
    assert_eq!(auth["hasOpenAiApiKey"], false, "{auth}");
    assert_eq!(auth["likelyUnauthenticated"], true, "{auth}");
    assert_eq!((&auth["required"], &auth["ready"]), (&json!(true), &json!(false)), "{auth}");
    assert_eq!(auth["account"], Value::Null, "{auth}");

    let message = "Missing bearer or basic authentication in header";
    let unauthorized = json!({ "error": { "message": message, "type": "invalid_request_error" } });
    let (session, ended, _) =
        first_turn(&app, &prompt("go", [http_error(401, unauthorized, None)]));
    assert_eq!(ended["status"], "failed", "{ended}");
    let request = model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!(request.authorization(), None);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let said = text(&rows(&detail, "turn.error")[0]["content"]);
    assert!(said.contains("401"), "what happened: {said}");
    assert!(said.contains("OPENAI_API_KEY") && said.contains("codex login"), "what to do: {said}");
}

fn an_account_that_is_there_is_not_touched(kind: Kind) {
    let model = ScriptedModel::start();
    let own = json!({ "OPENAI_API_KEY": "sk-own-key-of-the-user" }).to_string();
    let app = prepared(kind, &model)
        .file("data/codex-home/auth.json", &own)
        .file(".env", &format!("OPENAI_API_KEY={KEY}\n"))
        .start();
    let (_, ended, _) = first_turn(&app, &prompt("go", [say("hello with my own key")]));
    assert_eq!(ended["status"], "completed", "{ended}");
    let request = model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!(request.authorization(), Some("Bearer sk-own-key-of-the-user"));
    let kept = std::fs::read_to_string(app.codex_home().join("auth.json")).unwrap();
    assert_eq!(kept, own);
}

fn the_login_of_the_user_is_copied_once(kind: Kind) {
    let model = ScriptedModel::start();
    let own = json!({ "OPENAI_API_KEY": "sk-own-key-of-the-user" }).to_string();
    let mut app = prepared(kind, &model).file("home/.codex/auth.json", &own).start();
    let (_, ended, _) = first_turn(&app, &prompt("go", [say("hello with a copied key")]));
    assert_eq!(ended["status"], "completed", "{ended}");
    let request = model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!(request.authorization(), Some("Bearer sk-own-key-of-the-user"));
    let copy = app.codex_home().join("auth.json");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), own);
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(app.logs().contains("copied the codex login"), "{}", app.logs());
    assert_eq!(app.get("/api/health").body["auth"]["codexHomeAuthFile"], true);
    // What is there already is not written again.
    app.dir().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-another"}"#);
    app.restart();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), own);
}

/// Files below a folder whose bytes hold a text.
pub(crate) fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}
