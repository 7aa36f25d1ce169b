//! What is given to sign in with is told to codex and to nobody else: every kind of sign-in, taken
//! and refused, and bodies that are wrong.

use cm_testkit::app::TestApp;
use cm_testkit::http::Reply;
use cm_testkit::model::{ScriptedModel, openai_config_toml};
use serde_json::{Value, json};

use crate::common::{DEADLINE, Kind, builder, over_runtimes};
use crate::flow_login::files_with;
use crate::login_used_up::TOKEN;

/// Secrets of nobody.
const KEY: &str = "sk-signed-in-with-0123456789abcdef";
const BROKEN: &str = "no-token-but-a-secret-0123456789abcdef";

over_runtimes!(
    what_is_signed_in_with_is_nowhere_else,
    a_sign_in_that_is_not_allowed_repeats_nothing,
);

fn start(kind: Kind, model: &ScriptedModel, first_lines: &str) -> TestApp {
    // At this level codex's own words and everybody else's are in the log.
    let mut app = builder().runtime(kind.runtime()).env("LOG_LEVEL", "trace").without_readiness();
    if kind.is_codex() {
        let config = openai_config_toml(&model.base_url());
        app = app.codex_config(&format!("{first_lines}\n{config}"));
    }
    let app = app.start();
    app.wait_new_child(0, DEADLINE);
    cm_testkit::process::wait_until("calls are taken", DEADLINE, || {
        app.get("/api/health").body["codex"]["initialized"] == true
    });
    app
}

/// `POST /api/account/login/start`; nothing of the secrets is in the answer.
#[track_caller]
fn sign_in(app: &TestApp, body: &str) -> Reply {
    let headers = [("content-type", "application/json"), ("idempotency-key", "sign-in")];
    let reply = app.request("POST", "/api/account/login/start", &headers, Some(body.as_bytes()));
    for secret in [KEY, BROKEN, TOKEN] {
        assert!(!reply.text.contains(secret), "{}", reply.text);
    }
    reply
}

/// Nothing of the secrets is anywhere but in codex's own home.
#[track_caller]
fn nothing_is_left(app: &TestApp) {
    for path in ["/api/health", "/api/runtime", "/readyz", "/api/account", "/metrics"] {
        let answered = app.get(path).text;
        assert!(![KEY, BROKEN, TOKEN].iter().any(|secret| answered.contains(secret)), "{path}");
    }
    let logs = app.logs();
    for secret in [KEY, BROKEN, TOKEN] {
        assert!(!logs.contains(secret), "{secret} is in the log");
        let home = app.codex_home();
        let found = files_with(&app.data_dir(), secret);
        let ours: Vec<_> = found.iter().filter(|path| !path.starts_with(&home)).collect();
        assert!(ours.is_empty(), "{secret} is in {ours:?}");
        let other =
            found.iter().filter(|path| path.starts_with(&home) && !path.ends_with("auth.json"));
        let other: Vec<_> = other.collect();
        assert!(other.is_empty(), "{secret} is in {other:?}");
    }
}

fn what_is_signed_in_with_is_nowhere_else(kind: Kind) {
    let model = ScriptedModel::start();
    let app = start(kind, &model, "");
    let mut stream = app.stream(None);
    stream.wait_type("ready", DEADLINE);
    let tokens = |token: &str| json!({ "type": "chatgptAuthTokens", "accessToken": token, "chatgptAccountId": "acc" });
    let refused = sign_in(&app, &tokens(BROKEN).to_string());
    let taken = sign_in(&app, &json!({ "type": "apiKey", "apiKey": KEY }).to_string());
    let account = app.get("/api/account");
    let fresh = sign_in(&app, &tokens(TOKEN).to_string());
    let chatgpt = sign_in(&app, &json!({ "type": "chatgpt" }).to_string());
    match kind.is_codex() {
        true => {
            assert!((400..500).contains(&refused.status), "{}", refused.text);
            assert_eq!(taken.status, 200, "{}", taken.text);
            assert_eq!(account.body["account"]["type"], "apiKey", "{}", account.text);
            assert_eq!(fresh.status, 200, "{}", fresh.text);
            // Tokens that a client keeps fresh are in use.
            assert!(chatgpt.text.contains("sign out"), "{}", chatgpt.text);
            app.post("/api/account/logout", json!({})).expect_status(200);
        }
        false => {
            for reply in [refused, taken, fresh, chatgpt] {
                assert_eq!(reply.status, 501, "{}", reply.text);
            }
        }
    }
    for body in [
        json!({ "type": KEY }),
        json!({ "type": "apiKey", "apiKey": [KEY] }),
        json!({ "type": "apiKey", KEY: KEY }),
        json!({ "type": format!("missing field `{KEY}`") }),
        json!({ "type": "chatgptAuthTokens", "accessToken": TOKEN }),
        json!(KEY),
        json!([KEY]),
    ] {
        assert_eq!(sign_in(&app, &body.to_string()).status, 400, "{body}");
    }
    assert_eq!(sign_in(&app, &format!("{{\"type\":\"apiKey\",\"apiKey\":\"{KEY}")).status, 400);
    let named = sign_in(&app, &json!({ "type": "apiKey" }).to_string()).body;
    assert_eq!(named["issues"][0]["path"], json!(["apiKey"]), "{named}");
    let told: Vec<Value> = stream.frames();
    let told = json!(told).to_string();
    assert!(![KEY, BROKEN, TOKEN].iter().any(|secret| told.contains(secret)));
    nothing_is_left(&app);
    app.terminate();
    nothing_is_left_on_the_disk(&app);
}

/// The same after the end, when everything is written.
#[track_caller]
fn nothing_is_left_on_the_disk(app: &TestApp) {
    let home = app.codex_home();
    for secret in [KEY, BROKEN, TOKEN] {
        let found = files_with(&app.data_dir(), secret);
        let ours: Vec<_> = found.iter().filter(|path| !path.starts_with(&home)).collect();
        assert!(ours.is_empty(), "{secret} is in {ours:?}");
    }
}

fn a_sign_in_that_is_not_allowed_repeats_nothing(kind: Kind) {
    let model = ScriptedModel::start();
    for (forced, body, words) in [
        ("chatgpt", json!({ "type": "apiKey", "apiKey": KEY }), "does not allow"),
        ("api", json!({ "type": "chatgpt" }), "does not allow"),
    ] {
        let app = start(kind, &model, &format!("forced_login_method = \"{forced}\""));
        let reply = sign_in(&app, &body.to_string());
        match kind.is_codex() {
            true => {
                assert!((400..500).contains(&reply.status), "{}", reply.text);
                assert!(reply.text.contains(words), "{}", reply.text);
            }
            false => assert_eq!(reply.status, 501, "{}", reply.text),
        }
        nothing_is_left(&app);
    }
}
