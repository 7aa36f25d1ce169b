//! The same with the real codex, whose turns are held by the scripted model.

use cm_testkit::app::{Runtime, TestApp};
use cm_testkit::codex::CODEX_NEW;
use cm_testkit::model::{ScriptedModel, Step, config_toml, hold, prompt, run, say};
use cm_testkit::process::{kill_process, wait_until};
use rand::Rng;
use serde_json::{Value, json};

use crate::child_kills::{TURNS, check_ended};
use crate::common::{DEADLINE, builder, choices, only_child_is_left, requests, rounds, text};

/// The gate that no test opens.
const GATE: &str = "never";

#[test]
fn the_real_child_that_is_killed_under_twenty_turns_leaves_nothing_open() {
    let mut choices = choices("child_kills_codex");
    let model = ScriptedModel::start();
    let runtime = Runtime::codex(CODEX_NEW).expect("tests/run installs it");
    let app = builder().runtime(runtime).codex_config(&config_toml(&model.base_url())).start();
    let sessions: Vec<String> = (0..TURNS).map(|_| session(&app)).collect();
    for round in 0..rounds(5, 5) {
        println!("round {round}");
        // Half of them answer and are held, half ask and wait.
        let acts: [Vec<Step>; 2] =
            [vec![hold(GATE, "begun ", "and ended")], vec![run("touch never")]];
        let started: Vec<(String, String)> = sessions
            .iter()
            .zip(acts.iter().cycle())
            .map(|(session, acts)| {
                let reply = app.send(session, &prompt("go", acts.iter().cloned()));
                (session.clone(), text(&reply.expect_status(202).body["turnId"]))
            })
            .collect();
        // Any number of them may have come as far as asking.
        let enough = choices.random_range(0..=TURNS / 2);
        wait_until("some of them ask", DEADLINE, || pending(&app, &sessions) >= enough);
        let old = app.child_pid().expect("a child");
        kill_process(old);
        app.wait_new_child(old, DEADLINE);
        check_ended(&app, &started);
        wait_until("no request is pending", DEADLINE, || pending(&app, &sessions) == 0);
        for session in &sessions {
            assert_eq!(app.detail(session)["session"]["activity"], "idle");
        }
        only_child_is_left(&app);
    }
    // The sessions are of use again.
    let reply = app.send(&sessions[0], &prompt("go", [say("after all that")]));
    reply.expect_status(202);
    wait_until("the next turn has completed", DEADLINE, || {
        has_said(&app.detail(&sessions[0]), "after all that")
    });
    assert!(!app.workspace().join("never").exists(), "nothing ran that nobody allowed");
}

fn session(app: &TestApp) -> String {
    let body = json!({
        "cwd": app.workspace(),
        "approvalPolicy": "on-request",
        "filesystemSandbox": "workspace-write",
    });
    text(&app.post("/api/sessions", body).expect_status(200).body["session"]["sessionId"])
}

fn pending(app: &TestApp, sessions: &[String]) -> usize {
    let count = |session: &String| -> usize { requests(app, session, "approvals", "").len() };
    sessions.iter().map(count).sum::<usize>()
}

/// Whether the agent said something. The prompt repeats it, so its own rows are looked at.
fn has_said(detail: &Value, words: &str) -> bool {
    let rows = detail["transcript"].as_array().into_iter().flatten();
    rows.filter(|row| row["type"] == "agentMessage").any(|row| row["content"] == words)
}
