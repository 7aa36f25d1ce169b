//! `run`, from the message to the exit code.

use std::cell::Cell;
use std::rc::Rc;

use cm_core::error::exit;
use serde_json::{Value, json};

use super::bench::{
    Bench, CREATE, DETAIL, MESSAGE, SESSION, STREAM, TURN, api, detail, message, note, row,
    run_arguments, server_with_turn, summary, turn_ends, typed, usual, words,
};
use super::server::{Reply, Server, Step};
use crate::console::Console;
use crate::hooks::{RunHooks, StartedServer};

#[test]
fn the_answer_goes_to_standard_output_and_the_rest_around_it() {
    let server = server_with_turn(|| {
        let command = |status: &str, exit: Value, output: Value| {
            json!({"item": {"type": "commandExecution", "id": "c", "command": "echo hi\u{1b}[2J",
                   "cwd": "/demo", "status": status, "exitCode": exit, "aggregatedOutput": output}})
        };
        vec![
            note("turn/started", json!({"turn": {"id": TURN, "status": "inProgress"}})),
            note(
                "item/reasoning/summaryTextDelta",
                json!({"itemId": "r", "delta": "**Thinking**"}),
            ),
            note(
                "item/completed",
                json!({"item": {"type": "reasoning", "id": "r",
                                          "summary": ["**Thinking**"], "content": []}}),
            ),
            note("item/started", command("inProgress", Value::Null, Value::Null)),
            note("item/commandExecution/outputDelta", json!({"itemId": "c", "delta": "hi\n"})),
            note("item/completed", command("completed", json!(0), json!("hi\n"))),
            note(
                "turn/plan/updated",
                json!({"explanation": "why", "plan": [
                {"step": "one", "status": "inProgress"}, {"step": "two", "status": "pending"}]}),
            ),
            note(
                "item/started",
                json!({"item": {"type": "fileChange", "id": "f", "changes": [
                {"path": "a.txt", "kind": {"type": "add"}, "diff": "hello\n"}]}}),
            ),
            note(
                "item/completed",
                json!({"item": {"type": "fileChange", "id": "f",
                                          "status": "completed", "changes": []}}),
            ),
            note(
                "item/agentMessage/delta",
                json!({"turnId": "another", "itemId": "x", "delta": "not ours"}),
            ),
            words("m", "Hel"),
            words("m", "lo\u{9b}1m"),
            message("m", "Hello\u{9b}1m there"),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::new();
    bench.run(&server, &["--sandbox", "workspace-write", "--effort", "low"]).unwrap();
    assert_eq!(bench.out.text(), "Hello\\u{9b}1m there\n");
    insta::assert_snapshot!(bench.err.text());
    // Nothing that comes back may be missed: the subscription stands before the message goes.
    assert_eq!(server.lines(), ["GET /api/health", CREATE, STREAM, MESSAGE]);
    let created = server.only(CREATE);
    assert_eq!(created.body["filesystemSandbox"], "workspace-write");
    let cwd = std::env::current_dir().unwrap();
    assert_eq!(created.body["cwd"], cwd.to_str().unwrap());
    let sent = server.only(MESSAGE);
    assert_eq!(sent.body, json!({"text": "hello", "effort": "low"}));
    assert!(server.all().iter().all(|seen| seen.authorization.as_deref() == Some("Bearer secret")));
}

#[test]
fn quiet_prints_only_the_words() {
    let server = server_with_turn(|| {
        vec![
            note(
                "item/started",
                json!({"item": {"type": "commandExecution", "id": "c",
                                                "command": "ls"}}),
            ),
            message("m", "done"),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::new();
    bench.run(&server, &["--quiet"]).unwrap();
    assert_eq!((bench.out.text().as_str(), bench.err.text().as_str()), ("done\n", ""));
}

#[test]
fn json_prints_each_frame_and_a_result() {
    let server = server_with_turn(|| {
        vec![
            Step::Frame(json!({"type": "session_deleted", "threadId": "another", "payload": {}})),
            words("m", "hi"),
            message("m", "hi"),
            turn_ends("completed", None),
        ]
    });
    let mut bench = Bench::new();
    bench.run(&server, &["--json"]).unwrap();
    let lines: Vec<Value> =
        bench.out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{}", bench.out.text());
    assert_eq!(lines[0]["payload"]["params"]["delta"], "hi");
    assert_eq!(
        lines[3],
        json!({"type": "result", "ok": true, "sessionId": SESSION, "turnId": TURN,
               "status": "completed", "text": "hi", "error": null, "exitCode": 0})
    );
    assert_eq!(bench.err.text(), "");
}

#[test]
fn a_failed_turn_fails_the_command() {
    let server = server_with_turn(|| {
        vec![
            note("error", json!({"willRetry": true, "error": {"message": "Reconnecting... 1/1"}})),
            turn_ends("failed", Some("401 Unauthorized")),
        ]
    });
    let mut bench = Bench::new();
    let failure = bench.run(&server, &["--json"]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::TURN_FAILED);
    assert_eq!(failure.to_string(), "the turn failed: 401 Unauthorized");
    let last: Value = serde_json::from_str(bench.out.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "failed");
    assert_eq!(last["exitCode"], exit::TURN_FAILED);
    assert_eq!(last["error"]["code"], "turn_failed");
}

#[test]
fn a_runtime_that_is_starting_is_waited_for() {
    let unavailable = || {
        Reply::Json(
            503,
            json!({"status": "error", "code": "runtime_unavailable",
                                "message": "the runtime is starting"}),
        )
    };
    let server = Server::start(move |seen, before| match seen.line.as_str() {
        CREATE | MESSAGE if before == 0 => unavailable(),
        DETAIL => Reply::Json(200, detail("idle", None, &json!([]))),
        STREAM => Reply::Stream(vec![Step::Await(DETAIL), turn_ends("completed", None)]),
        _ => usual(seen).unwrap(),
    });
    let mut bench = Bench::new();
    bench.run(&server, &[]).unwrap();
    // The second try of the message comes only after a look whether the first one arrived.
    assert_eq!(
        server.lines(),
        ["GET /api/runtime", CREATE, CREATE, STREAM, MESSAGE, DETAIL, MESSAGE]
    );
    assert!(bench.err.text().contains("waiting: the runtime is starting"), "{}", bench.err.text());
}

#[test]
fn a_message_that_was_taken_is_not_sent_again() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        MESSAGE => Reply::Json(503, json!({"status": "error", "code": "runtime_unavailable"})),
        DETAIL => {
            let rows = json!([row("u", "user", "userMessage", "hello")]);
            Reply::Json(200, detail("idle", Some("interrupted"), &rows))
        }
        STREAM => Reply::Stream(vec![Step::Await(DETAIL), turn_ends("interrupted", None)]),
        _ => usual(seen).unwrap(),
    });
    let failure = Bench::new().run(&server, &[]).unwrap_err();
    assert_eq!(failure.to_string(), "the turn was interrupted");
    assert_eq!(server.only(MESSAGE).body["text"], "hello");
}

#[test]
fn a_session_is_continued_by_the_beginning_of_its_id() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        line if line.starts_with("GET /api/sessions?archived=false") => Reply::Json(
            200,
            json!({
            "data": [summary(SESSION, "one", "idle", 5), summary("ffff0000-1", "two", "idle", 9)],
            "nextCursor": null, "archived": false}),
        ),
        line if line.starts_with("GET /api/sessions?archived=true") => {
            Reply::Json(200, json!({"data": [], "nextCursor": null, "archived": true}))
        }
        DETAIL => Reply::Json(200, detail("idle", None, &json!([]))),
        STREAM => Reply::Stream(vec![Step::Await(MESSAGE), turn_ends("completed", None)]),
        _ => usual(seen).unwrap(),
    });
    Bench::new().run(&server, &["--session", "01a1fb44", "--model", "m"]).unwrap();
    assert_eq!(server.only(MESSAGE).body, json!({"text": "hello", "model": "m"}));
    assert!(!server.lines().contains(&CREATE.to_owned()));
}

#[test]
fn nobody_there_says_how_to_start_a_server() {
    // A port that was free a moment ago: nobody listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let arguments = run_arguments(&["--server", &url]);
    let closed = crate::http::Api::new(
        arguments.options.endpoint().unwrap(),
        None,
        arguments.options.timeout(),
    );
    let mut bench = Bench::new();
    let failure = crate::run::execute(&arguments, closed, &mut bench.console, RunHooks::default())
        .unwrap_err();
    assert_eq!(failure.exit_code(), exit::UNREACHABLE);
    bench.console.fail(&failure);
    assert!(bench.err.text().contains("codex-manager serve"), "{}", bench.err.text());
}

#[test]
fn serve_starts_a_server_and_stops_it() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        "GET /api/health" => Reply::Json(200, json!({})),
        STREAM => Reply::Stream(vec![
            Step::Await(MESSAGE),
            message("m", "hi"),
            turn_ends("completed", None),
        ]),
        _ => usual(seen).unwrap(),
    });
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let arguments = run_arguments(&["--serve", "--server", &format!("http://127.0.0.1:{port}")]);
    let closed = crate::http::Api::new(
        arguments.options.endpoint().unwrap(),
        None,
        arguments.options.timeout(),
    );
    let stopped = Rc::new(Cell::new(false));
    let (base_url, stop) = (server.url, Rc::clone(&stopped));
    let hooks = RunHooks {
        start_server: Some(Box::new(move || {
            Ok(StartedServer { base_url, stop: Box::new(move || stop.set(true)) })
        })),
        ..RunHooks::default()
    };
    let mut bench = Bench::new();
    crate::run::execute(&arguments, closed, &mut bench.console, hooks).unwrap();
    assert!(stopped.get());
    assert_eq!(bench.out.text(), "hi\n");
}

#[test]
fn serve_leaves_a_server_that_answers_alone() {
    let server = server_with_turn(|| vec![turn_ends("completed", None)]);
    let arguments = run_arguments(&["--serve", "--server", &server.url]);
    let hooks = RunHooks {
        start_server: Some(Box::new(|| panic!("a server answers already"))),
        ..RunHooks::default()
    };
    let mut bench = Bench::new();
    crate::run::execute(&arguments, api(&server), &mut bench.console, hooks).unwrap();
}

#[test]
fn refusals_keep_their_exit_code_and_hint() {
    let server = Server::start(|_, _| {
        Reply::Json(
            401,
            json!({"status": "error", "code": "unauthorized", "message": "no token",
                                "requestId": "r7"}),
        )
    });
    let mut bench = Bench::new();
    let failure = bench.run(&server, &[]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::DENIED);
    bench.console.fail(&failure);
    bench.console.json = true;
    bench.console.fail(&failure);
    insta::assert_snapshot!(bench.err.text());
}

#[test]
fn something_else_on_the_port_is_not_taken_for_a_server() {
    let server = Server::start(|_, _| Reply::Text(200, "<html>welcome</html>"));
    let failure = Bench::new().run(&server, &[]).unwrap_err();
    assert_eq!((failure.code(), failure.exit_code()), ("bad_answer", exit::FAILURE));
    let server = Server::start(|_, _| Reply::Nothing);
    let failure = Bench::new().run(&server, &[]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::UNREACHABLE, "{failure:?}");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for flags in [&[][..], &["--json"]] {
        let server = server_with_turn(|| vec![words("m", "hi"), turn_ends("completed", None)]);
        let mut bench = Bench::new();
        bench.console = Console::of_writers(Box::new(Gone), Box::new(bench.err.clone()));
        let failure = bench.run(&server, &[&["--quiet"], flags].concat()).unwrap_err();
        bench.console.fail(&failure);
        assert_eq!((failure.exit_code(), bench.err.text().as_str()), (exit::OK, ""));
    }
}

#[test]
fn https_is_refused_with_the_way_out() {
    let arguments = run_arguments(&["--server", "https://example.org"]);
    let failure = arguments.options.endpoint().unwrap_err();
    assert_eq!(failure.exit_code(), exit::USAGE);
    assert!(failure.to_string().contains("ssh -L"));
    assert!(typed(&["sessions", "tail", "latest"]).handles_interrupt());
}
