//! The scripted model's HTTP behaviour, without `codex`.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use cm_testkit::http::{Reply, Request, send};
use cm_testkit::model::{ScriptedModel, hold, http_error, prompt, say};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

fn body_of(text: &str) -> Vec<u8> {
    let content = json!([{ "type": "input_text", "text": text }]);
    let message = json!({ "type": "message", "role": "user", "content": content });
    json!({ "prompt_cache_key": "t", "input": [message] }).to_string().into_bytes()
}

fn sample(model: &ScriptedModel, text: &str) -> Reply {
    let headers = [("Authorization", "Bearer key")];
    let body = body_of(text);
    let request =
        Request { method: "POST", target: "/v1/responses", headers: &headers, body: Some(&body) };
    send(model.address(), request, DEADLINE).unwrap()
}

#[test]
fn text_without_a_script_is_answered_and_recorded() {
    let model = ScriptedModel::start();
    let reply = sample(&model, "hi there").expect_status(200);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert!(reply.text.contains("event: response.output_text.delta\ndata: {"), "{}", reply.text);
    assert!(reply.text.contains("You said: hi there"), "{}", reply.text);
    assert!(reply.text.ends_with("\n\n"));
    let seen = model.wait_for(|request| request.is_sampling(), DEADLINE);
    assert_eq!((seen.authorization(), seen.thread_id()), (Some("Bearer key"), Some("t")));
}

#[test]
fn everything_else_is_refused_at_once() {
    let model = ScriptedModel::start();
    let get = |target, headers| {
        let request = Request { method: "GET", target, headers, body: None };
        send(model.address(), request, DEADLINE).unwrap()
    };
    assert_eq!(get("/v1/models", &[]).status, 404);
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(get("/v1/responses", &upgrade).status, 426);
    assert_eq!(sample(&model, "SCRIPT=[{\"nonsense\":1}]").status, 400);
    assert_eq!(model.request_count(), 3);
}

#[test]
fn a_scripted_failure_ends_after_its_times() {
    let model = ScriptedModel::start();
    let error = json!({ "error": { "message": "try later" } });
    let text = prompt("go", [http_error(503, error, Some(2))]);
    assert_eq!(sample(&model, &text).expect_status(503).body["error"]["message"], "try later");
    assert_eq!(sample(&model, &text).status, 503);
    assert!(sample(&model, &text).expect_status(200).text.contains("Recovered."));
}

#[test]
fn a_gate_holds_the_answer_until_it_is_opened() {
    let model = ScriptedModel::start();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| sample(&model, &prompt("go", [hold("middle", "one", "two")])));
        model.wait_at_gate("middle", DEADLINE);
        // Other conversations go on meanwhile.
        assert_eq!(sample(&model, &prompt("go", [say("other")])).status, 200);
        model.open_gate("middle");
        let text = answer.join().unwrap().expect_status(200).text;
        assert!(text.find("one") < text.find("two") && text.contains("completed"), "{text}");
    });
}

#[test]
fn a_stopped_server_cuts_its_connections_and_its_address_can_be_used_again() {
    let model = ScriptedModel::start();
    let address = model.address();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let body = body_of(&prompt("go", [hold("never", "one", "two")]));
    let head = format!("POST /v1/responses HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
    std::io::Write::write_all(&mut stream, &[head.into_bytes(), body].concat()).unwrap();
    model.wait_at_gate("never", DEADLINE);
    drop(model);
    let mut rest = Vec::new();
    // Either an end or a reset, but no hang.
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("completed"));
    let again = ScriptedModel::start_on(address);
    assert_eq!(sample(&again, "hi").status, 200);
    assert_eq!(again.requests()[0].body["prompt_cache_key"], Value::from("t"));
}
