//! `codex-manager import` where the manager has found threads of version 1 by itself before.

use std::process::Stdio;

use cm_testkit::dirs::TestDir;
use cm_testkit::model::say;
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, Kind, builder, rows, text};
use crate::other_clients::{OFTEN, compared, row};
use crate::version1::{Version1, command, report, rollout, shown};

mod codex_new {
    #[test]
    fn threads_that_were_found_before_get_what_version_1_knows() {
        super::threads_that_were_found_before_get_what_version_1_knows(
            crate::common::Kind::CodexNew,
        );
    }
}

mod codex_old {
    #[test]
    fn threads_that_were_found_before_get_what_version_1_knows() {
        super::threads_that_were_found_before_get_what_version_1_knows(
            crate::common::Kind::CodexOld,
        );
    }
}

/// What a transcript says, row by row.
fn said(detail: &Value) -> Vec<(String, String)> {
    let rows = detail["transcript"].as_array().into_iter().flatten();
    rows.map(|row| (text(&row["type"]), text(&row["content"]))).collect()
}

fn threads_that_were_found_before_get_what_version_1_knows(kind: Kind) {
    let dir = TestDir::new("import");
    let cwd = dir.subdir("workspace");
    let version = if kind == Kind::CodexOld { "0.140.0" } else { "0.169.0" };
    let mut v1 = Version1::start(&dir, version);
    let (quiet, quiet_turn) = v1.thread(&cwd, [say("hello from version 1")]);
    let (renamed, renamed_turn) = v1.thread(&cwd, [say("named here since")]);
    let (unknown, _) = v1.thread(&cwd, [say("version 1 says nothing of it")]);
    let (owned, _) = v1.thread(&cwd, [say("of an agent")]);
    v1.forget_rows(&unknown);
    for (thread, turn) in [(&quiet, &quiet_turn), (&renamed, &renamed_turn)] {
        v1.row(
            thread,
            json!({ "messageId": "insight", "turnId": turn, "role": "system",
            "type": "turn.supervisorReview", "status": "complete", "content": "looks good" }),
        );
    }
    let controls = json!({ "model": null, "approvalPolicy": "untrusted",
        "networkAccess": "restricted", "filesystemSandbox": "read-only",
        "settings": { "supervisor": { "level": 3 } } });
    let metadata = json!({
        "titles": { (quiet.clone()): "My title", (renamed.clone()): "Of version 1" },
        "projects": { "p1": { "name": "Project", "workingDirectory": null,
            "createdAt": "2026-11-26T17:24:51.377Z", "updatedAt": "2026-11-26T17:24:51.377Z" } },
        "sessionProjectById": { (quiet.clone()): "p1", (renamed.clone()): "p1" },
        "sessionControlsById": { (quiet.clone()): controls, (renamed.clone()): controls },
        "systemOwnedSessionIds": { (owned.clone()): true },
    });
    let (source, _model) = v1.end(&metadata, &json!([]));
    let home = source.join("codex-home");
    let data = dir.join("data");
    let take = |data: &std::path::Path| {
        let output = command(&source, data, &["--json"]).env("CODEX_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        report(&output)
    };
    let manager = |data: &std::path::Path| {
        let runtime = builder().runtime(kind.runtime()).data_dir(data).codex_home(&home);
        runtime.env(OFTEN.0, OFTEN.1)
    };

    // The manager runs on the codex home of version 1 before anything was taken over.
    let mut app = manager(&data).start();
    for thread in [&quiet, &renamed, &unknown, &owned] {
        wait_until("the thread is found", DEADLINE, || row(&app, thread, "").is_some());
        wait_until("its history is here", DEADLINE, || said(&app.detail(thread)).len() == 2);
    }
    let unknown_before = row(&app, &unknown, "").unwrap()["sessionControls"].clone();
    let chosen = json!({ "title": "Mine" });
    app.post(&format!("/api/sessions/{renamed}/rename"), chosen).expect_status(200);
    let mine = json!({ "model": null, "approvalPolicy": "on-request",
        "networkAccess": "restricted", "filesystemSandbox": "workspace-write", "settings": {} });
    let path = format!("/api/sessions/{renamed}/session-controls");
    app.post(&path, json!({ "scope": "session", "controls": mine })).expect_status(200);
    app.terminate();

    let taken = take(&data);
    assert_eq!(taken["sessions"], json!({ "taken": 3, "already": 0, "notTaken": 1 }), "{taken}");
    let left = taken["notTaken"]["named"].to_string();
    assert!(left.contains("it is a session here since"), "{left}");
    app.restart();
    let listed = row(&app, &quiet, "").unwrap();
    assert_eq!((&listed["title"], &listed["projectId"]), (&json!("My title"), &json!("p1")));
    assert_eq!(listed["sessionControls"], controls, "the policy of version 1 holds");
    let expected = ["userMessage", "agentMessage", "turn.supervisorReview"];
    let kinds = |thread: &str| {
        let said = said(&app.detail(thread)).into_iter();
        said.map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    wait_until("the history was compared again", DEADLINE, || kinds(&quiet) == expected);
    let listed = row(&app, &renamed, "").unwrap();
    assert_eq!((&listed["title"], &listed["projectId"]), (&json!("Mine"), &json!("p1")));
    assert_eq!(listed["sessionControls"], mine, "what was chosen here stays");
    let detail = app.detail(&renamed);
    assert_eq!(rows(&detail, "turn.supervisorReview").len(), 1);
    assert_eq!(rows(&detail, "agentMessage").len(), 1);
    assert_eq!(row(&app, &unknown, "").unwrap()["sessionControls"], unknown_before);
    app.terminate();
    let again = take(&data);
    assert_eq!(again["sessions"], json!({ "taken": 0, "already": 3, "notTaken": 1 }), "{again}");
    assert_eq!(again["rows"], 0);

    // Taken over first, threads of agents are no sessions, though the runtime lists them.
    let other = dir.join("other");
    take(&other);
    let app = manager(&other).start();
    let (rounds, _) = compared(&app);
    wait_until("it was compared twice", DEADLINE, || compared(&app).0 > rounds + 2);
    assert!(row(&app, &owned, "").is_none());
    assert!(row(&app, &quiet, "").is_some());
    app.terminate();
}

#[test]
fn what_was_cut_shows_no_session_without_what_version_1_knows() {
    const COUNT: usize = 400;
    let dir = TestDir::new("import");
    let cwd = dir.subdir("workspace");
    let model = cm_testkit::model::ScriptedModel::start();
    let config = cm_testkit::model::config_toml(&model.base_url());
    dir.write("v1/codex-home/config.toml", config);
    let ids: Vec<String> =
        (0..COUNT).map(|number| format!("019ac000-0000-7000-8000-{number:012}")).collect();
    for id in &ids {
        let path = format!("sessions/2026/11/26/rollout-2026-11-26T17-24-51-{id}.jsonl");
        dir.write(format!("v1/codex-home/{path}"), rollout(id, &cwd, "hi"));
    }
    let titles: serde_json::Map<String, Value> =
        ids.iter().map(|id| (id.clone(), format!("Title {id}").into())).collect();
    dir.write("v1/session-metadata.json", json!({ "titles": titles }).to_string());
    let (source, data) = (dir.join("v1"), dir.join("data"));
    let day = data.join("codex-home/sessions/2026/11/26");
    let copied = || std::fs::read_dir(&day).map_or(0, Iterator::count);
    let mut running = command(&source, &data, &[]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("files are copied", DEADLINE, || copied() > 20);
    running.kill().unwrap();
    assert!(!running.wait().unwrap().success(), "it was not over yet");
    let cut = copied();
    assert!(cut < COUNT);

    let builder = builder().runtime(Kind::CodexNew.runtime()).data_dir(&data);
    let mut app = builder.env(OFTEN.0, OFTEN.1).start();
    let (rounds, _) = compared(&app);
    wait_until("it was compared twice", DEADLINE, || compared(&app).0 > rounds + 2);
    let titled = |app: &cm_testkit::app::TestApp| {
        let mut count = 0;
        let mut cursor = String::new();
        loop {
            let path = format!("/api/sessions?limit=100{cursor}");
            let list = app.get(&path).expect_status(200).body;
            for session in list["data"].as_array().expect("sessions") {
                let id = text(&session["sessionId"]);
                assert_eq!(session["title"], format!("Title {id}"));
                count += 1;
            }
            match list["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return count,
            }
        }
    };
    let there = titled(&app);
    assert!(there >= 20, "{there} of {cut}");
    app.terminate();
    let output = command(&source, &data, &["--json"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let again = report(&output);
    let expected = json!({ "taken": COUNT - there, "already": there, "notTaken": 0 });
    assert_eq!(again["sessions"], expected, "{again}");
    app.restart();
    assert_eq!(titled(&app), COUNT);
    app.terminate();
}
