//! Real turns of the real `codex` on the scripted model.

use std::time::Duration;

use cm_testkit::app_server::AppServerClient;
use cm_testkit::codex::{CODEX_NEW, CODEX_OLD, codex_binary};
use cm_testkit::dirs::TestDir;
use cm_testkit::model::{
    PATCH_MODEL, ScriptedModel, apply_patch, ask, call, chain, config_toml, config_toml_for, hang,
    http_error, openai_config_toml, plan, prompt, run, run_in_sandbox, run_patch, say, stream,
    think,
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
const APPROVAL: &str = "item/commandExecution/requestApproval";

/// A `codex app-server` of one version with its own home and workspace, initialised.
struct Session {
    client: AppServerClient,
    model: ScriptedModel,
    dir: TestDir,
}

impl Session {
    fn start(version: &str, config: impl Fn(&str) -> String) -> Self {
        let binary = codex_binary(version).unwrap();
        let dir = TestDir::new("codex");
        let model = ScriptedModel::start();
        let home = dir.subdir("codex-home");
        dir.write("codex-home/config.toml", config(&model.base_url()));
        dir.subdir("workspace");
        let environment = [
            ("CODEX_HOME", home.to_str().unwrap()),
            ("HOME", dir.path().to_str().unwrap()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("RUST_LOG", "warn"),
        ];
        let mut client = AppServerClient::spawn(&binary, &environment);
        let result = client.initialize();
        let agent = result["userAgent"].as_str().unwrap();
        assert!(agent.starts_with(&format!("cm_testkit/{version} ")), "{agent}");
        Self { client, model, dir }
    }

    fn thread(&mut self, sandbox: &str) -> String {
        let cwd = self.dir.join("workspace");
        let params = json!({ "cwd": cwd, "approvalPolicy": "on-request", "sandbox": sandbox });
        let result = self.client.call("thread/start", params);
        result["thread"]["id"].as_str().unwrap().to_owned()
    }

    /// Starts a turn and answers its id.
    fn turn(&mut self, thread: &str, text: &str) -> String {
        let input = json!([{ "type": "text", "text": text, "text_elements": [] }]);
        let params = json!({ "threadId": thread, "input": input });
        let result = self.client.call("turn/start", params);
        result["turn"]["id"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a turn and answers it.
    fn completed(&mut self, turn: &str) -> Value {
        let message = self.client.wait_for("the turn's end", DEADLINE, |message| {
            message["method"] == "turn/completed" && message["params"]["turn"]["id"] == turn
        });
        message["params"]["turn"].clone()
    }
}

/// The index of the first message of a kind, to compare orders.
fn position(client: &AppServerClient, matches: impl Fn(&Value) -> bool) -> usize {
    client.output().read(|all| {
        all.iter().position(|line| line.message().is_some_and(&matches)).expect("a message")
    })
}

fn an_approved_command_really_runs(version: &str) {
    let mut session = Session::start(version, config_toml);
    let thread = session.thread("workspace-write");
    let steps = [run("touch made-by-the-turn"), stream(20, 1, "word "), say("not reached")];
    let turn = session.turn(&thread, &prompt("go", steps));
    let request = session.client.wait_method(APPROVAL, DEADLINE);
    assert!(request["params"]["command"].as_str().unwrap().contains("touch made-by-the-turn"));
    let file = session.dir.join("workspace/made-by-the-turn");
    assert!(!file.exists(), "nothing runs before the answer");
    session.client.answer(&request, json!({ "decision": "accept" }));
    let turn = session.completed(&turn);
    assert_eq!(turn["status"], "completed", "{turn}");
    assert!(file.exists(), "the command ran");

    let deltas = session.client.output().read(|all| {
        all.iter()
            .filter_map(|line| line.message())
            .filter(|message| message["method"] == "item/agentMessage/delta")
            .map(|message| message["params"]["delta"].as_str().unwrap_or_default().to_owned())
            .collect::<String>()
    });
    assert_eq!(deltas, "word ".repeat(20));
    assert!(
        position(&session.client, |m| m["method"] == APPROVAL)
            < position(&session.client, |m| m["method"] == "item/agentMessage/delta")
    );
    let requests = session.model.requests();
    assert_eq!(requests.len(), 2, "one request per step");
    assert!(requests.iter().all(|request| request.is_sampling()));
    assert_eq!(requests[0].thread_id(), Some(thread.as_str()));
    assert!(requests[0].tool_names().contains(&"exec_command"), "{:?}", requests[0].tool_names());
    assert_eq!(requests[0].authorization(), None);

    let turn = session.turn(&thread, "and without a script");
    let turn = session.completed(&turn);
    assert_eq!(turn["status"], "completed", "{turn}");
    session.client.close_stdin();
    session.client.wait_exit(Duration::from_secs(10));
}

#[test]
fn an_approved_command_really_runs_in_the_new_version() {
    an_approved_command_really_runs(CODEX_NEW);
}

#[test]
fn an_approved_command_really_runs_in_the_old_version() {
    an_approved_command_really_runs(CODEX_OLD);
}

/// One turn through every other builder, so that a script that no longer reaches `codex` as
/// meant is noticed here and not in a suite that builds on it.
fn every_builder_reaches_the_runtime(version: &str) {
    let mut session = Session::start(version, config_toml);
    let thread = session.thread("read-only");
    let steps = [
        think("Let me think."),
        chain([run_in_sandbox("true"), run_in_sandbox("false")]),
        plan(&[("first", "completed"), ("second", "pending")]),
        ask("colour", "Which colour?", &["Red", "Blue"]),
        run_patch("new.txt", "one\ntwo"),
        call("no_such_tool", json!({})),
        say("done"),
    ];
    // A reasoning item alone ends a turn, so it travels together with what follows.
    let [first, second, rest @ ..] = steps;
    let steps = std::iter::once(chain([first, second])).chain(rest);
    let turn = session.turn(&thread, &prompt("go", steps));

    let question = session.client.wait_method("item/tool/requestUserInput", DEADLINE);
    assert_eq!(question["params"]["questions"][0]["question"], "Which colour?");
    let answers = json!({ "answers": { "colour": { "answers": ["Red"] } } });
    session.client.answer(&question, answers);
    let change = session.client.wait_method("item/fileChange/requestApproval", DEADLINE);
    session.client.answer(&change, json!({ "decision": "accept" }));
    let turn = session.completed(&turn);
    assert_eq!(turn["status"], "completed", "{turn}");
    let written = std::fs::read_to_string(session.dir.join("workspace/new.txt")).unwrap();
    assert_eq!(written, "one\ntwo\n");
    let methods: Vec<String> = session.client.output().read(|all| {
        let messages = all.iter().filter_map(|line| line.message());
        messages.filter_map(|message| message["method"].as_str().map(str::to_owned)).collect()
    });
    for expected in [
        "item/reasoning/summaryTextDelta",
        "turn/plan/updated",
        "thread/tokenUsage/updated",
        "serverRequest/resolved",
    ] {
        assert!(methods.iter().any(|method| method == expected), "{expected}: {methods:?}");
    }
    assert_eq!(session.model.request_count(), 6);
}

#[test]
fn every_builder_reaches_the_runtime_in_the_new_version() {
    every_builder_reaches_the_runtime(CODEX_NEW);
}

#[test]
fn every_builder_reaches_the_runtime_in_the_old_version() {
    every_builder_reaches_the_runtime(CODEX_OLD);
}

/// A scripted HTTP error reaches the client as a failed turn, and one that passes does not.
#[test]
fn a_failing_model_fails_the_turn_and_a_retry_saves_it() {
    let mut session = Session::start(CODEX_NEW, config_toml);
    let thread = session.thread("read-only");
    let error = json!({ "error": { "message": "scripted trouble" } });
    let turn = session.turn(&thread, &prompt("go", [http_error(500, error.clone(), Some(1))]));
    assert_eq!(session.completed(&turn)["status"], "completed");
    let turn = session.turn(&thread, &prompt("go", [http_error(400, error, None)]));
    let turn = session.completed(&turn);
    assert_eq!(turn["status"], "failed", "{turn}");
    assert!(turn["error"]["message"].as_str().unwrap().contains("scripted trouble"), "{turn}");
}

fn an_api_key_reaches_the_model(version: &str) {
    let mut session = Session::start(version, openai_config_toml);
    let account = session.client.call("account/read", json!({}));
    assert_eq!((&account["account"], &account["requiresOpenaiAuth"]), (&Value::Null, &json!(true)));
    let login = json!({ "type": "apiKey", "apiKey": "sk-scripted" });
    session.client.call("account/login/start", login);
    let thread = session.thread("read-only");
    let turn = session.turn(&thread, &prompt("go", [say("hello")]));
    let turn = session.completed(&turn);
    assert_eq!(turn["status"], "completed", "{turn}");
    let request = session.model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!(request.authorization(), Some("Bearer sk-scripted"));
}

#[test]
fn an_api_key_reaches_the_model_in_the_new_version() {
    an_api_key_reaches_the_model(CODEX_NEW);
}

#[test]
fn an_api_key_reaches_the_model_in_the_old_version() {
    an_api_key_reaches_the_model(CODEX_OLD);
}

/// The custom tool `apply_patch`, which only some models are offered.
fn the_patch_tool_changes_a_file(version: &str) {
    let config = |base_url: &str| config_toml_for(base_url, PATCH_MODEL);
    let mut session = Session::start(version, config);
    let thread = session.thread("read-only");
    let steps = [apply_patch("patched.txt", "content"), say("done")];
    let turn = session.turn(&thread, &prompt("go", steps));
    let request = session.client.wait_method("item/fileChange/requestApproval", DEADLINE);
    session.client.answer(&request, json!({ "decision": "accept" }));
    assert_eq!(session.completed(&turn)["status"], "completed");
    let written = std::fs::read_to_string(session.dir.join("workspace/patched.txt"));
    assert_eq!(written.unwrap(), "content\n");
}

#[test]
fn the_patch_tool_changes_a_file_in_the_new_version() {
    the_patch_tool_changes_a_file(CODEX_NEW);
}

#[test]
fn the_patch_tool_changes_a_file_in_the_old_version() {
    the_patch_tool_changes_a_file(CODEX_OLD);
}

/// A dynamic tool's call reaches the client and its answer the model; an interrupt ends a turn
/// whose model says nothing.
fn a_dynamic_tool_is_called_and_a_silent_model_interrupted(version: &str, tagged: bool) {
    let mut session = Session::start(version, config_toml);
    let mut tool = json!({
        "name": "lookup",
        "description": "Looks something up.",
        "inputSchema": { "type": "object", "properties": { "key": { "type": "string" } } },
    });
    if tagged {
        tool["type"] = json!("function");
    }
    let cwd = session.dir.join("workspace");
    let params = json!({ "cwd": cwd, "approvalPolicy": "never", "dynamicTools": [tool] });
    let started = session.client.call("thread/start", params);
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    let steps = [call("lookup", json!({ "key": "k" })), hang()];
    let turn = session.turn(&thread, &prompt("go", steps));
    let request = session.client.wait_method("item/tool/call", DEADLINE);
    assert_eq!(request["params"]["arguments"]["key"], "k");
    let content = json!([{ "type": "inputText", "text": "found it" }]);
    session.client.answer(&request, json!({ "contentItems": content, "success": true }));
    let told = |request: &cm_testkit::model::ModelRequest| {
        request.body["input"].to_string().contains("found it")
    };
    session.model.wait_for(told, DEADLINE);
    session.client.call("turn/interrupt", json!({ "threadId": thread, "turnId": turn }));
    assert_eq!(session.completed(&turn)["status"], "interrupted");
}

#[test]
fn a_dynamic_tool_is_called_and_a_silent_model_interrupted_in_the_new_version() {
    a_dynamic_tool_is_called_and_a_silent_model_interrupted(CODEX_NEW, true);
}

#[test]
fn a_dynamic_tool_is_called_and_a_silent_model_interrupted_in_the_old_version() {
    a_dynamic_tool_is_called_and_a_silent_model_interrupted(CODEX_OLD, false);
}
