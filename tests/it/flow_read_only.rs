//! A session that may only read stays so, whatever restarts: an attempt to write proves it each time, and
//! one by a session that may write proves that the attempt is one.

use cm_testkit::model::{ModelRequest, prompt, run_in_sandbox, say};
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, over_runtimes, turn_end};

over_runtimes!(a_read_only_session_stays_read_only);

/// What the kernel says to who may not write.
const REFUSALS: [&str; 3] =
    ["Read-only file system", "Permission denied", "Operation not permitted"];

/// What became of an attempt.
struct Attempt {
    /// Whether the file is there.
    written: bool,
    /// Whether the command began: a sandbox that this machine cannot make runs nothing.
    began: bool,
    /// What it said.
    said: String,
}

/// Lets the agent try to write a file in its workspace.
fn attempt(bench: &Bench, session: &str, name: &str) -> Attempt {
    let file = bench.app.workspace().join(name);
    let path = file.to_str().unwrap();
    let mut stream = bench.app.stream(Some(session));
    stream.wait_type("ready", DEADLINE);
    let turn = if bench.kind.is_codex() {
        let write = run_in_sandbox(&format!("echo begun; printf x > '{path}'"));
        bench.send_text(session, &prompt("go", [write, say("done")]))
    } else {
        bench.send(session, &[Act::Write(path, "x")])
    };
    // The embedded runtime asks for every file that may be written, and refuses the others itself.
    let writes = bench.detail(session)["session"]["sessionControls"]["filesystemSandbox"]
        == json!("workspace-write");
    if bench.kind == Kind::Embedded && writes {
        let id = approval(&mut stream);
        bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    }
    let ended = turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "completed", "{ended}");
    let said = if bench.kind.is_codex() {
        // What the model is told of its command: the request that carries it also carries the path.
        let output = |request: &ModelRequest| {
            let input = request.body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
            let asked = input.iter().any(|item| item.to_string().contains(name));
            let last = input.iter().rfind(|item| item["type"] == "function_call_output");
            last.filter(|_| asked).map(|item| item["output"].to_string())
        };
        let told = bench.model().wait_for(|request| output(request).is_some(), DEADLINE);
        output(&told).unwrap_or_default()
    } else {
        let detail = bench.detail(session);
        let all = detail["transcript"].as_array().cloned().unwrap_or_default();
        let of_turn = all.iter().filter(|row| row["turnId"] == json!(turn));
        of_turn.map(Value::to_string).collect()
    };
    let began = bench.kind == Kind::Embedded || said.contains("begun");
    Attempt { written: file.exists(), began, said }
}

fn a_read_only_session_stays_read_only(kind: Kind) {
    let mut bench = Bench::start(kind);
    // Nobody is asked, so that nothing but the sandbox decides. The embedded runtime, which has none,
    // would then decline everything.
    let policy = if kind.is_codex() { "never" } else { "on-request" };
    let [reads, writes] = ["read-only", "workspace-write"].map(|sandbox| {
        bench.session_with(json!({ "approvalPolicy": policy, "filesystemSandbox": sandbox }))
    });
    for after in ["the start", "a death of the child", "a restart", "a death of the manager"] {
        match after {
            "a death of the child" => {
                let old = bench.app.kill_child();
                bench.app.wait_new_child(old, DEADLINE);
            }
            "a restart" => bench.app.restart(),
            "a death of the manager" => {
                bench.app.kill();
                bench.app.restart();
            }
            _ => {}
        }
        let name = after.replace(' ', "-");
        let control = attempt(&bench, &writes, &format!("written-after-{name}"));
        if !control.began && !control.written {
            not_tested(&control.said);
            return;
        }
        assert!(control.written, "after {after} nothing was written: {}", control.said);
        let refused = attempt(&bench, &reads, &format!("refused-after-{name}"));
        assert!(!refused.written, "after {after} a read-only session wrote: {}", refused.said);
        assert!(refused.began, "after {after} the command did not begin: {}", refused.said);
        if kind.is_codex() {
            let by_kernel = REFUSALS.iter().any(|words| refused.said.contains(words));
            assert!(by_kernel, "after {after}: {}", refused.said);
        }
        let detail = bench.detail(&reads);
        let controls = &detail["session"]["sessionControls"];
        assert_eq!(controls["filesystemSandbox"], "read-only", "after {after}");
        assert_eq!(controls["approvalPolicy"], policy, "after {after}");
    }
}

/// Says that the sandbox of codex, and not a policy, keeps commands from running on this machine.
#[expect(clippy::print_stdout, reason = "what was not tested must be seen")]
fn not_tested(why: &str) {
    println!("NOT TESTED: codex cannot make its sandbox on this machine: {why}");
}
