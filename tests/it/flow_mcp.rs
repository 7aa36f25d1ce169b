//! What the real codex asks beside commands and files: forms and tools of an MCP server,
//! permissions; and a turn in which it asks for everything.

use cm_testkit::app::{AppBuilder, StreamClient};
use cm_testkit::model::{
    ModelRequest, Step, ask, call, call_in, chain, config_toml, http_error, prompt, run, run_patch,
    say,
};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Bench, DEADLINE, Kind, is_notification, rows, text, turn_end};

/// One test per flow and version of codex; 0.106 and the embedded runtime have no such requests.
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
    a_form_is_filled_in,
    a_form_is_declined,
    a_tool_accepted_for_the_session_is_not_asked_again,
    a_cancelled_tool_stops_the_turn,
    permissions_are_granted,
    one_turn_asks_for_everything,
);

/// The MCP server's binary.
#[track_caller]
fn mcp_server() -> &'static str {
    match option_env!("CARGO_BIN_EXE_fake-mcp-server") {
        Some(path) => path,
        None => panic!("run the suite with --features testkit"),
    }
}

/// A codex with the MCP server `tiny` and the tool by which it asks for permissions.
#[track_caller]
fn bench(kind: Kind) -> Bench {
    let config = |base_url: &str| {
        let common = config_toml(base_url);
        let command = mcp_server();
        format!(
            "{common}request_permissions_tool = true\n\n\
             [mcp_servers.tiny]\ncommand = \"{command}\"\n"
        )
    };
    Bench::start_configured(kind, config, |builder| builder)
}

/// A call of a tool of the MCP server.
fn mcp(tool: &str) -> Step {
    call_in("mcp__tiny", tool, json!({}))
}

/// Begins a turn of these steps, which ends with a word; answers the stream and the turn's id.
#[track_caller]
fn begin(bench: &Bench, session: &str, steps: &[Step]) -> (StreamClient, String) {
    let mut stream = bench.app.stream(Some(session));
    stream.wait_type("ready", DEADLINE);
    let steps = steps.iter().cloned().chain([say("done")]);
    let turn = bench.send_text(session, &prompt("go", steps));
    (stream, turn)
}

#[track_caller]
fn asked(stream: &mut StreamClient, kind: &str) -> Value {
    let payload = stream.wait_type("request_pending", DEADLINE)["payload"].clone();
    assert_eq!(payload["kind"], kind, "{payload}");
    payload
}

/// Whether what was answered reached the model.
#[track_caller]
fn model_saw(bench: &Bench, words: &str) {
    let has = |request: &ModelRequest| request.body["input"].to_string().contains(words);
    bench.model().wait_for(has, DEADLINE);
}

fn a_form_is_filled_in(kind: Kind) {
    let bench = bench(kind);
    let session = bench.session();
    let (mut stream, turn) = begin(&bench, &session, &[mcp("elicit")]);
    let form = asked(&mut stream, "elicitation");
    assert_eq!(form["summary"], "tiny asks: What colour?");
    assert_eq!((&form["threadId"], &form["turnId"]), (&json!(session), &json!(turn)));
    let href = text(&form["answerHref"]);
    let wrong = json!({ "decision": "accept", "content": { "colour": "red", "n": 0 } });
    bench.app.post(&href, wrong).expect_status(400);
    let right = json!({ "decision": "accept", "content": { "colour": "red", "n": 2 } });
    bench.app.post(&href, right).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    model_saw(&bench, "colour");
    let detail = bench.detail(&session);
    assert_eq!(
        rows(&detail, "elicitation.resolved")[0]["content"],
        "Elicitation resolved (accept)"
    );
}

fn a_form_is_declined(kind: Kind) {
    let bench = bench(kind);
    let session = bench.session();
    let (mut stream, turn) = begin(&bench, &session, &[mcp("elicit")]);
    let href = text(&asked(&mut stream, "elicitation")["answerHref"]);
    bench.app.post(&href, json!({ "decision": "decline" })).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    model_saw(&bench, "decline");
}

fn a_tool_accepted_for_the_session_is_not_asked_again(kind: Kind) {
    let bench = bench(kind);
    let session = bench.session();
    let (mut stream, turn) = begin(&bench, &session, &[mcp("write"), mcp("write")]);
    let tool = asked(&mut stream, "mcp_tool_approval");
    let accept = json!({ "decision": "accept", "scope": "session" });
    bench.app.post(&text(&tool["answerHref"]), accept).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    model_saw(&bench, "was called");
    let count = stream
        .read(|frames| frames.iter().filter(|frame| frame["type"] == "request_pending").count());
    assert_eq!(count, 1);
}

fn a_cancelled_tool_stops_the_turn(kind: Kind) {
    let bench = bench(kind);
    let session = bench.session();
    let (mut stream, turn) = begin(&bench, &session, &[mcp("write")]);
    let tool = asked(&mut stream, "mcp_tool_approval");
    let cancel = json!({ "decision": "cancel" });
    bench.app.post(&text(&tool["answerHref"]), cancel).expect_status(200);
    let ended = turn_end(&mut stream, &turn);
    // Whether the runtime stops it or the manager has to, nothing more is done.
    assert_eq!(ended["status"], "interrupted", "{ended}");
}

fn permissions_are_granted(kind: Kind) {
    let bench = bench(kind);
    let session = bench.session();
    let out = bench.app.dir().subdir("out");
    let wanted = json!({
        "permissions": {
            "network": { "enabled": true },
            "file_system": { "read": [out], "write": [out] },
        },
        "reason": "to put something there",
    });
    let steps = [call("request_permissions", wanted.clone()), call("request_permissions", wanted)];
    let (mut stream, turn) = begin(&bench, &session, &steps);
    let first = asked(&mut stream, "permissions");
    assert_eq!(first["summary"], "Permissions required: to put something there");
    let all = json!({ "decision": "accept" });
    bench.app.post(&text(&first["answerHref"]), all).expect_status(200);
    let second = asked(&mut stream, "permissions");
    let network = json!({ "network": { "enabled": true } });
    let part = json!({ "decision": "accept", "permissions": network });
    bench.app.post(&text(&second["answerHref"]), part).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let folder = out.to_string_lossy().into_owned();
    let outputs = |request: &ModelRequest| -> Vec<String> {
        let input = request.body["input"].as_array().cloned().unwrap_or_default();
        let outputs = input.iter().filter(|item| item["type"] == "function_call_output");
        outputs.map(|output| output["output"].to_string()).collect()
    };
    let request = bench.model().wait_for(|request| outputs(request).len() == 2, DEADLINE);
    let outputs = outputs(&request);
    assert!(outputs[0].contains(&folder), "the whole was granted: {outputs:?}");
    assert!(!outputs[1].contains(&folder), "a part was granted: {outputs:?}");
}

/// Everything that can be asked, in one turn, seen and answered over the stream and REST alone.
fn one_turn_asks_for_everything(kind: Kind) {
    let bench = bench(kind);
    let schema = json!({ "type": "object", "properties": { "key": { "type": "string" } } });
    let lookup =
        json!({ "name": "lookup", "description": "Looks something up.", "inputSchema": schema });
    let members = json!({ "filesystemSandbox": "read-only", "dynamicTools": [lookup] });
    let session = bench.session_with(members);
    let steps = [
        chain([run("touch one"), run("touch two")]),
        ask("colour", "Which colour?", &["Red", "Blue"]),
        call("lookup", json!({ "key": "k" })),
        mcp("elicit"),
        mcp("write"),
        run_patch("three", "a line"),
    ];
    let (mut stream, turn) = begin(&bench, &session, &steps);
    // Both commands wait at the same time.
    for _ in 0..2 {
        stream.wait_type("approval", DEADLINE);
    }
    let pending = || bench.app.get("/api/requests?kinds=all").expect_status(200).body;
    let waiting = pending()["data"].as_array().cloned().unwrap();
    let kinds: Vec<_> = waiting.iter().map(|request| text(&request["kind"])).collect();
    assert_eq!(kinds, ["command_approval", "command_approval"]);
    let accept = json!({ "decision": "accept" });
    // The later one first.
    for request in waiting.iter().rev() {
        bench.app.post(&text(&request["answerHref"]), accept.clone()).expect_status(200);
    }
    let mut seen = Vec::new();
    loop {
        let asks = |kind: &Value| {
            kind == "approval"
                || kind == "tool_user_input_requested"
                || kind == "tool_call_requested"
                || kind == "request_pending"
        };
        let frame = stream.wait_for(
            |frame| is_notification(frame, "turn/completed") || asks(&frame["type"]),
            DEADLINE,
        );
        if !asks(&frame["type"]) {
            assert_eq!(frame["payload"]["params"]["turn"]["id"], turn);
            assert_eq!(frame["payload"]["params"]["turn"]["status"], "completed");
            break;
        }
        let waiting = pending()["data"].as_array().cloned().unwrap();
        assert_eq!(waiting.len(), 1, "{waiting:?}");
        let request = &waiting[0];
        let kind = text(&request["kind"]);
        let body = match kind.as_str() {
            "tool_input" => {
                json!({ "decision": "accept", "answers": { "colour": { "answers": ["Blue"] } } })
            }
            "tool_call" => json!({ "text": "the value of k" }),
            "elicitation" => json!({ "decision": "accept", "content": { "colour": "red" } }),
            _ => accept.clone(),
        };
        bench.app.post(&text(&request["answerHref"]), body).expect_status(200);
        seen.push(kind);
    }
    let expected =
        ["tool_input", "tool_call", "elicitation", "mcp_tool_approval", "file_change_approval"];
    assert_eq!(seen, expected);
    for file in ["one", "two", "three"] {
        assert!(bench.app.workspace().join(file).is_file(), "{file}");
    }
    for words in ["Blue", "the value of k", "colour", "was called"] {
        model_saw(&bench, words);
    }
    assert!(pending()["data"].as_array().unwrap().is_empty());
}

/// Tokens of a login that somebody else keeps, as codex reads them: not signed, and for nobody.
const FIRST: &str = "eyJhbGciOiJub25lIn0.eyJqdGkiOiJmaXJzdCIsImV4cCI6NDEwMjQ0NDgwMCwiaHR0cHM6Ly9hcGku\
    b3BlbmFpLmNvbS9hdXRoIjp7ImNoYXRncHRfYWNjb3VudF9pZCI6ImFjY291bnQtMSJ9fQ.c2ln";
const FRESH: &str = "eyJhbGciOiJub25lIn0.eyJqdGkiOiJmcmVzaCIsImV4cCI6NDEwMjQ0NDgwMCwiaHR0cHM6Ly9hcGku\
    b3BlbmFpLmNvbS9hdXRoIjp7ImNoYXRncHRfYWNjb3VudF9pZCI6ImFjY291bnQtMSJ9fQ.c2ln";

/// 0.169 asks for fresh tokens when it is refused with the ones that it has. With such a login it
/// wants more of ChatGPT than the scripted model has, so no turn completes; why it fails tells
/// whether the tokens were taken.
#[test]
fn fresh_tokens_are_brought_when_the_old_ones_are_refused() {
    let tokens = json!({ "accessToken": FRESH, "chatgptAccountId": "account-1" });
    let brought = refused_login(json!({ "decision": "accept", "tokens": tokens }));
    let declined = refused_login(json!({ "decision": "decline" }));
    assert!(!brought.contains("refresh"), "{brought}");
    assert!(declined.contains("refresh request failed: code=-32603"), "{declined}");
}

/// Logs in with tokens that the model refuses, answers the request for fresh ones, and gives back
/// why the turn failed.
#[track_caller]
fn refused_login(decision: Value) -> String {
    let config = |base_url: &str| {
        let common = config_toml(base_url);
        let login = common.replace("requires_openai_auth = false", "requires_openai_auth = true");
        // Nothing of a login may reach out of the machine either.
        format!("chatgpt_base_url = \"{base_url}\"\n{login}")
    };
    let start = |builder: AppBuilder| builder.without_readiness();
    let bench = Bench::start_configured(Kind::CodexNew, config, start);
    wait_until("codex can be logged in to", DEADLINE, || {
        bench.app.get("/readyz").body["reasons"][0]["code"] == "login_needed"
    });
    let login = json!({
        "type": "chatgptAuthTokens", "accessToken": FIRST, "chatgptAccountId": "account-1",
        "chatgptPlanType": "pro",
    });
    bench.app.post("/api/account/login/start", login).expect_status(200);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let refusal = json!({ "error": { "message": "the token has expired" } });
    let turn = bench.send_text(&session, &prompt("go", [http_error(401, refusal, None)]));
    let request = asked(&mut stream, "auth_refresh");
    assert_eq!(request["threadId"], Value::Null);
    let asked_for = json!({ "reason": "unauthorized", "previousAccountId": "account-1" });
    assert_eq!(request["details"], asked_for);
    bench.app.post(&text(&request["answerHref"]), decision.clone()).expect_status(200);
    loop {
        // It may try more than once.
        let frame = stream.wait_for(
            |frame| is_notification(frame, "turn/completed") || frame["type"] == "request_pending",
            DEADLINE,
        );
        let payload = &frame["payload"];
        if frame["type"] != "request_pending" {
            assert_eq!(payload["params"]["turn"]["id"], turn);
            return payload["params"]["turn"]["error"].to_string();
        }
        bench.app.post(&text(&payload["answerHref"]), decision.clone()).expect_status(200);
    }
}
