//! schemathesis walks the served description: random requests, right ones and wrong ones, and every
//! answer compared with what the description says of it.
//!
//! Accounts, configurations and commands are those of the test's own folder. Commands run in codex's
//! sandbox, which is read-only there, and find no program by its name: `PATH` is an empty folder.
//!
//! Left out: `/api/stream` and the two streams of server-sent events, whose answers do not end; the suites
//! `flow_stream`, `stream_gaps` and `stream_history` read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cm_testkit::codex::test_cache;
use cm_testkit::model::config_toml;
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, is_long, text};

/// Cases that each walk must have had.
const LEAST_CASES: u64 = 2_000;

/// Longest walk.
const WALK_DEADLINE: Duration = Duration::from_secs(300);

/// What is walked, one after the other. Signing in and out ends the turns that run, and a restart everything
/// that waits, so these come last.
const WALKS: [[&str; 2]; 3] = [
    [
        "--exclude-path-regex",
        r"^/api/(stream|events|sessions/\{id\}/events|runtime/restart|account.*)$",
    ],
    ["--include-path-regex", "^/api/account"],
    ["--include-path", "/api/runtime/restart"],
];

/// Checks of schemathesis itself, and those of `tests/schemathesis/description_checks.py`.
const CHECKS: &str = "no_failure_of_the_server,errors_are_in_the_common_form,status_code_conformance,\
                      content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

/// Operations that never succeed in a walk, and why.
const NEVER_WELL: [(&str, &str); 17] = [
    ("GET /api/orchestrator/jobs/{jobId}", "there is no queue"),
    ("POST /api/orchestrator/jobs/{jobId}/cancel", "there is no queue"),
    ("GET /api/projects/{projectId}/orchestrator/jobs", "there is no queue"),
    ("POST /api/sessions/{id}/suggested-request", "there is no queue"),
    ("POST /api/sessions/{id}/suggested-request/jobs", "there is no queue"),
    ("POST /api/sessions/{id}/suggested-request/upsert", "there is no queue"),
    ("GET /api/skills/remote", "no codex has it"),
    ("POST /api/skills/remote", "no codex has it"),
    ("POST /api/login", "the server has no token"),
    ("POST /api/feedback", "it goes out of the machine"),
    ("GET /api/account/rate-limits", "it wants a ChatGPT account"),
    ("POST /api/mcp/servers/{serverName}/oauth/login", "no such server is configured"),
    ("POST /api/commands/exec", "no program has a random name"),
    ("POST /api/skills/config", "there are no skills"),
    ("POST /api/account/login/cancel", "no sign-in is under way"),
    ("POST /api/sessions/{id}/review", "random commits and branches do not exist"),
    ("POST /api/tool-input/{id}/decision", "random answers fit no question"),
];

#[test]
fn the_description_holds_over_the_embedded_runtime() {
    walk(Kind::Embedded);
}

#[test]
fn the_description_holds_over_codex() {
    walk(Kind::CodexNew);
}

#[track_caller]
fn walk(kind: Kind) {
    let bench = Bench::start_configured(
        kind,
        |address| format!("sandbox_mode = \"read-only\"\n{}", config_toml(address)),
        |builder| {
            let empty = builder.dir().subdir("no-programs");
            builder.env("PATH", empty)
        },
    );
    let folder = bench.app.dir().subdir("walk");
    let known = things(&bench);
    std::fs::write(folder.join("known.json"), known.to_string()).unwrap();

    let examples = if is_long() { "60" } else { "12" };
    let mut cases = 0;
    for which in WALKS {
        let report = schemathesis(&bench, &folder, &[which[0], which[1], "-n", examples]);
        cases += report["test_cases"]["generated"].as_u64().unwrap_or_default();
    }
    assert!(cases >= LEAST_CASES, "only {cases} cases");
    // A walk in which everything is refused would show little.
    let answers = answers(&folder);
    let unknown: BTreeSet<&str> = NEVER_WELL.iter().map(|(operation, _)| *operation).collect();
    let barren: Vec<_> = answers
        .iter()
        .filter(|(operation, by_status)| {
            let well = |status: &String| status.starts_with('2');
            let missing = by_status.contains_key("501");
            !by_status.keys().any(well) && !missing && !unknown.contains(operation.as_str())
        })
        .collect();
    assert!(barren.is_empty(), "nothing succeeded: {barren:#?}");

    wait_until("the runtime is up again", DEADLINE, || bench.app.get("/readyz").status == 200);
    assert_eq!(bench.app.get("/api/health").expect_status(200).body["status"], "ok");
    assert!(!bench.app.logs().contains("panicked"), "{}", bench.app.logs());
}

/// How often each operation answered with each status.
fn answers(folder: &Path) -> BTreeMap<String, BTreeMap<String, u64>> {
    serde_json::from_slice(&std::fs::read(folder.join("answers.json")).unwrap()).unwrap()
}

/// Makes what requests can be about: sessions, a turn that runs, requests that wait, projects.
#[track_caller]
fn things(bench: &Bench) -> Value {
    let app = &bench.app;
    let main = bench.session();
    bench.complete_turn(&main, &[Act::Say("done")]);
    let item = text(&bench.detail(&main)["transcript"][0]["messageId"]);
    let [steered, interrupted] = [(); 2].map(|()| {
        let session = bench.session();
        (bench.send(&session, &[Act::Hold]), session)
    });
    let (turn, running) = steered;

    // What starts turns, or can do nothing while one runs, has a session of its own.
    let [archived, talked, compacted, rolled_back] = [(); 4].map(|()| {
        let session = bench.session();
        bench.complete_turn(&session, &[Act::Say("done")]);
        session
    });

    let waiting = bench.file_session();
    let mut stream = app.stream(Some(&waiting));
    let file = app.dir().join("workspace/approved");
    bench.send(&waiting, &[Act::Write(file.to_str().unwrap(), "x")]);
    let approval = approval(&mut stream);
    let ask = |act: Act<'_>, event: &str| {
        let session = bench.tool_session();
        let mut stream = app.stream(Some(&session));
        bench.send(&session, &[act]);
        text(&stream.wait_type(event, DEADLINE)["payload"]["requestId"])
    };
    let question = ask(Act::Ask("Which?"), "tool_user_input_requested");
    let call = ask(Act::Lookup, "tool_call_requested");

    let project = |name: &str| {
        let made = app.post("/api/projects", json!({ "name": name })).expect_status(200);
        text(&made.body["project"]["projectId"])
    };
    let kept = project("kept");
    let doomed = project("doomed");
    bench.act(&bench.session(), "project", json!({ "projectId": doomed })).expect_status(200);
    let spare: Vec<Value> =
        (0..3).map(|number| json!({ "id": project(&format!("{number}")) })).collect();
    let sessions: Vec<Value> = (0..3).map(|_| json!({ "id": bench.session() })).collect();
    let of_project = json!({ "id": kept });
    json!({
        "*": { "id": main, "turn": turn, "item": item, "jobId": "job-1", "projectId": kept,
               "serverName": "docs", "key": "colour" },
        "DELETE /api/sessions/{id}": sessions,
        "POST /api/sessions/{id}/turns/{turn}/steer": { "id": running, "turn": turn },
        "POST /api/sessions/{id}/interrupt": { "id": interrupted.1 },
        "POST /api/sessions/{id}/messages": { "id": talked },
        "POST /api/sessions/{id}/review": { "id": talked },
        "POST /api/sessions/{id}/compact": { "id": compacted },
        "POST /api/sessions/{id}/rollback": { "id": rolled_back },
        "POST /api/sessions/{id}/archive": [{ "id": archived }],
        "POST /api/sessions/{id}/unarchive": [{ "id": archived }],
        "POST /api/approvals/{id}/decision": { "id": approval },
        "POST /api/tool-input/{id}/decision": { "id": question },
        "POST /api/tool-calls/{id}/response": { "id": call },
        "GET /api/requests/{id}/params": { "id": approval },
        "POST /api/projects/{id}/rename": of_project,
        "DELETE /api/projects/{id}": spare,
        "GET /api/projects/{id}/agent-sessions": of_project,
        "POST /api/projects/{id}/chats/move-all": of_project,
        "POST /api/projects/{id}/chats/delete-all": [{ "id": doomed }],
    })
}

/// The program that `tests/run` installs.
#[track_caller]
fn python() -> PathBuf {
    let python = test_cache().join("schemathesis/bin/python");
    assert!(python.is_file(), "{} is missing: run tests/run first", python.display());
    python
}

/// A walk that goes with its value, however the test ends.
struct Walker(Child);

impl Drop for Walker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs schemathesis against the server and answers its report, in which nothing failed.
#[expect(clippy::print_stdout, reason = "a walk that failed can be done again with its seed")]
#[track_caller]
fn schemathesis(bench: &Bench, folder: &Path, arguments: &[&str]) -> Value {
    let seed = std::env::var("CM_SCHEMATHESIS_SEED").unwrap_or_else(|_| match is_long() {
        true => rand::random::<u32>().to_string(),
        false => "169".to_owned(),
    });
    println!("CM_SCHEMATHESIS_SEED={seed}");
    let output = folder.join("output.txt");
    let report = folder.join("report.json");
    let write = File::create(&output).unwrap();
    let child = Command::new(python())
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("http://{}/api/openapi.json", bench.app.address()))
        .args(["--seed", &seed, "--checks", CHECKS, "--continue-on-failure", "--no-shrink"])
        .args(["--generation-database", "none", "--request-timeout", "30", "--no-color"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .args(arguments)
        .current_dir(folder)
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "description_checks")
        .env("CM_WALK_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(write.try_clone().unwrap())
        .stderr(write)
        .spawn()
        .unwrap();
    let longest = WALK_DEADLINE * if is_long() { 4 } else { 1 };
    let mut walker = Walker(child);
    let mut status = None;
    wait_until("schemathesis has ended", longest, || {
        status = walker.0.try_wait().unwrap();
        status.is_some()
    });
    let said = std::fs::read_to_string(&output).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["complete"], true, "{said}");
    assert_eq!(report["errors"], json!([]), "{said}");
    assert_eq!(report["test_cases"]["with_failures"], 0, "{said}");
    report
}
