//! Codex is not made to trust a folder before a person was asked.

use cm_core::error::exit;
use serde_json::{Value, json};

use super::bench::{Bench, CREATE, MESSAGE, STREAM, turn_ends, usual, words};
use super::server::{Reply, Server, Step};

const WRITING: [&str; 4] = ["--sandbox", "workspace-write", "--cd", "/nowhere/demo"];
const QUESTION: &str = "Trust /nowhere/demo? [y/N] ";

/// A server over such a runtime, whose configuration has these projects.
fn server(runtime: &'static str, version: &'static str, projects: Value) -> Server {
    Server::start(move |seen, _| match seen.line.as_str() {
        "GET /api/health" => {
            Reply::Json(200, json!({ "codex": { "runtime": runtime, "version": version } }))
        }
        "GET /api/runtime" => {
            let defaults = json!({ "filesystemSandbox": "workspace-write" });
            Reply::Json(200, json!({ "sessionDefaults": defaults }))
        }
        "GET /api/config" => Reply::Json(200, json!({ "config": { "projects": projects } })),
        STREAM => Reply::Stream(vec![
            Step::Await(MESSAGE),
            words("m", "hi"),
            turn_ends("completed", None),
        ]),
        _ => usual(seen).unwrap_or(Reply::Text(404, "")),
    })
}

fn old_codex() -> Server {
    server("codex", "0.155.0", json!({}))
}

fn made(server: &Server) -> bool {
    server.lines().iter().any(|line| line == CREATE)
}

#[test]
fn a_no_makes_no_session() {
    let server = old_codex();
    let mut bench = Bench::with_person(&[(QUESTION, "n\n")]);
    let failure = bench.run(&server, &WRITING).unwrap_err();
    assert_eq!((failure.code(), failure.exit_code()), ("not_confirmed", exit::DENIED));
    assert!(!made(&server));
}

#[test]
fn what_sessions_may_write_by_default_is_asked_for_as_well() {
    let server = old_codex();
    let failure = Bench::new().run(&server, &["--cd", "/nowhere/demo"]).unwrap_err();
    assert_eq!(failure.exit_code(), exit::USAGE);
    assert!(!made(&server));
}

#[test]
fn a_yes_goes_on() {
    let server = old_codex();
    let mut bench = Bench::with_person(&[(QUESTION, "y\n")]);
    bench.run(&server, &WRITING).unwrap();
    assert!(made(&server));
}

#[test]
fn without_a_terminal_it_has_to_be_said() {
    let server = old_codex();
    let failure = Bench::new().run(&server, &WRITING).unwrap_err();
    assert_eq!(failure.exit_code(), exit::USAGE);
    assert!(failure.to_string().contains("--trust"), "{failure}");
    assert!(!made(&server));
    for said in ["--trust", "--yes"] {
        let server = old_codex();
        Bench::new().run(&server, &[&WRITING[..], &[said]].concat()).unwrap();
        assert!(made(&server), "{said}");
    }
    let server = old_codex();
    let create = [&["sessions", "create"], &WRITING[..]].concat();
    let failure = Bench::new().execute(&server, &create).unwrap_err();
    assert_eq!(failure.exit_code(), exit::USAGE);
    Bench::new().execute(&server, &[&create[..], &["--trust"]].concat()).unwrap();
}

#[test]
fn nobody_is_asked_where_nothing_changes() {
    let reads = ["--sandbox", "read-only", "--cd", "/nowhere/demo"];
    let trusted = json!({ "/nowhere": { "trust_level": "trusted" } });
    let cases = [
        (old_codex(), &reads),
        (server("codex", "0.155.0", trusted), &WRITING),
        // This version trusts repositories only.
        (server("codex", "0.169.0", json!({})), &WRITING),
        (server("embedded", "0.1.0", json!({})), &WRITING),
    ];
    for (server, line) in cases {
        Bench::new().run(&server, line).unwrap();
        assert!(made(&server), "{line:?}");
    }
}
