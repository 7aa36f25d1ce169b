//! The program over the fake child, and the few steps that most tests of failures share.

use std::path::{Path, PathBuf};

use cm_testkit::app::{AppBuilder, Runtime, StreamClient, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript};
use cm_testkit::http::Reply;
use serde_json::Value;

use crate::common::{MANAGER, builder, text, turn_end};

/// The program.
pub(crate) fn program() -> &'static Path {
    Path::new(MANAGER)
}

/// The fake child's binary.
///
/// # Panics
///
/// When the suite was built without it.
#[track_caller]
pub(crate) fn fake_app_server() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_fake-app-server") {
        Some(path) => PathBuf::from(path),
        None => panic!("run the suite with --features testkit"),
    }
}

/// The program over the fake child. Its list, which forgets what is archived, is not looked at.
pub(crate) fn with_fake(script: FakeScript) -> AppBuilder {
    let builder = builder().env("CODEX_MANAGER_THREAD_SYNC_MS", "0");
    builder.runtime(Runtime::Fake(fake_app_server(), script))
}

/// The program over its embedded runtime.
pub(crate) fn embedded() -> AppBuilder {
    builder().runtime(Runtime::Embedded)
}

/// The program over a fake child that behaves the same at every start, ready.
pub(crate) fn start(behaviour: Behaviour) -> TestApp {
    with_fake(FakeScript::always(behaviour)).start()
}

/// Makes a session in the workspace of the test and answers its id.
#[track_caller]
pub(crate) fn create(app: &TestApp) -> String {
    app.create_session()
}

/// Sends a message.
#[track_caller]
pub(crate) fn send(app: &TestApp, session: &str, message: &str) -> Reply {
    app.send(session, message)
}

/// Sends a message that is taken, and answers its turn's id.
#[track_caller]
pub(crate) fn begin(app: &TestApp, session: &str) -> String {
    text(&send(app, session, "go").expect_status(202).body["turnId"])
}

/// Sends a message, waits for the end of its turn and answers the turn's status.
#[track_caller]
pub(crate) fn run_turn(app: &TestApp, stream: &mut StreamClient, session: &str) -> String {
    let turn_id = begin(app, session);
    text(&turn_end(stream, &turn_id)["status"])
}

/// The rows of a session's transcript that the agent said.
#[track_caller]
pub(crate) fn said(app: &TestApp, session: &str) -> Vec<String> {
    let rows = app.detail(session)["transcript"].as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["role"] == "assistant").map(|row| text(&row["content"])).collect()
}

/// The child as health shows it.
#[track_caller]
pub(crate) fn codex(app: &TestApp) -> Value {
    app.get("/api/health").expect_status(200).body["codex"].clone()
}

/// Asserts status and code of a refusal, and that it says what and for whom.
#[track_caller]
pub(crate) fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.body["code"].as_str()), (status, Some(code)), "{}", reply.text);
    assert!(!text(&reply.body["message"]).is_empty(), "{}", reply.text);
    assert!(!text(&reply.body["requestId"]).is_empty(), "{}", reply.text);
    assert_eq!(reply.header("x-request-id"), reply.body["requestId"].as_str());
}
