//! When the disk refuses: writes answer 507, reads and the stream go on, writes work again as soon
//! as they can, and what was acknowledged is there after a restart.

use std::path::{Path, PathBuf};
use std::process::Command;

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, create, refused, run_turn, said, with_fake};

/// Where a write can fail, in its order.
const POINTS: [&str; 4] =
    ["store.before_batch", "store.after_batch", "store.after_flush", "store.after_fdatasync"];

/// The program with a file that turns faults on and off.
fn with_faults(script: FakeScript) -> (TestApp, PathBuf) {
    let builder = with_fake(script);
    let faults = builder.dir().join("faults");
    (builder.env("CM_FAULT_FILE", &faults).start(), faults)
}

pub(crate) fn rename(app: &TestApp, session: &str, title: &str) -> cm_testkit::http::Reply {
    app.post(&format!("/api/sessions/{session}/rename"), json!({ "title": title }))
}

pub(crate) fn title(app: &TestApp, session: &str) -> String {
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200);
    text(&detail.body["session"]["title"])
}

pub(crate) fn store_state(app: &TestApp) -> Value {
    app.get("/api/health").expect_status(200).body["store"]["state"].clone()
}

pub(crate) fn not_ready(app: &TestApp) -> bool {
    let reply = app.get("/readyz");
    reply.status == 503 && reply.text.contains("store_unavailable")
}

#[test]
fn wherever_a_write_fails_reads_go_on_and_writes_come_back() {
    let (mut app, faults) = with_faults(FakeScript::always(Behaviour::correct()));
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    rename(&app, &session, "before").expect_status(200);
    let before = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let mut acknowledged = "before".to_owned();
    for point in POINTS {
        for error in ["EIO", "ENOSPC", "EROFS", "EDQUOT"] {
            std::fs::write(&faults, format!("{point}:{error}\n")).expect("the file of faults");
            for attempt in 0..2 {
                let title = format!("refused {attempt}");
                refused(&rename(&app, &session, &title), 507, "store_unavailable");
            }
            refused(&app.post("/api/sessions", json!({})), 507, "store_unavailable");
            let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
            assert_eq!(detail["transcript"], before["transcript"], "{point} {error}");
            app.get("/api/sessions").expect_status(200);
            assert_eq!(store_state(&app), "failing", "{point} {error}");
            assert!(not_ready(&app));
            std::fs::remove_file(&faults).expect("the file of faults");
            acknowledged = format!("after {point} {error}");
            rename(&app, &session, &acknowledged).expect_status(200);
            assert_eq!(title(&app, &session), acknowledged);
            assert_eq!(store_state(&app), "ok");
        }
    }
    // Nobody has to write for it to be noticed that writing works again.
    std::fs::write(&faults, "store.after_flush:EIO\n").expect("the file of faults");
    refused(&rename(&app, &session, "refused"), 507, "store_unavailable");
    std::fs::remove_file(&faults).expect("the file of faults");
    wait_until("writing works again", DEADLINE, || !not_ready(&app));
    app.kill();
    app.restart();
    let now = title(&app, &session);
    // A write that was refused may be there all the same; an acknowledged one is, or a later one.
    assert!(now == acknowledged || now == "refused", "{now} instead of {acknowledged}");
    let logs = app.logs();
    let said = logs.matches("the store cannot be written; reads go on").count();
    assert_eq!(said, POINTS.len() * 4 + 1, "once for each change, not for each write");
}

#[test]
fn a_turn_that_runs_meanwhile_is_streamed_and_kept() {
    let turn = [step::deltas(40, 20, 25_000), step::message("said while the disk was full")];
    let behaviour = Behaviour::correct().turn(turn);
    let (mut app, faults) = with_faults(FakeScript::always(behaviour));
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let turn = begin(&app, &session);
    stream.wait_for(|frame| frame["payload"]["method"] == "item/agentMessage/delta", DEADLINE);
    std::fs::write(&faults, "store.after_batch:ENOSPC\n").expect("the file of faults");
    refused(&rename(&app, &session, "refused"), 507, "store_unavailable");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert_eq!(store_state(&app), "failing");
    std::fs::remove_file(&faults).expect("the file of faults");
    wait_until("writing works again", DEADLINE, || store_state(&app) == "ok");
    let shown = said(&app, &session);
    assert_eq!(shown.last().map(String::as_str), Some("said while the disk was full"));
    app.kill();
    app.restart();
    assert_eq!(said(&app, &session), shown);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["thread"]["turns"][0]["status"], "completed");
}

/// Limits the size of files that a process may write, as a full disk does: the system itself
/// refuses, in the middle of what the database does.
fn limit_files(pid: u32, bytes: Option<u64>) {
    let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={limit}:unlimited")])
        .status()
        .expect("prlimit runs");
    assert!(status.success());
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the database").len()
}

#[test]
fn a_limit_of_the_system_is_met_and_left_behind() {
    let (mut app, _) = with_faults(FakeScript::always(Behaviour::correct()));
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    let mut acknowledged = String::new();
    for round in 0..3 {
        limit_files(app.pid(), Some(size(&app.data_dir().join("store/db"))));
        for attempt in 0..3 {
            let title = format!("{round} {attempt} {}", "x".repeat(150));
            refused(&rename(&app, &session, &title), 507, "store_unavailable");
        }
        app.get("/api/sessions").expect_status(200);
        assert!(!said(&app, &session).is_empty());
        limit_files(app.pid(), None);
        wait_until("writing works again", DEADLINE, || store_state(&app) == "ok");
        acknowledged = format!("after round {round}");
        rename(&app, &session, &acknowledged).expect_status(200);
    }
    app.kill();
    app.restart();
    assert_eq!(title(&app, &session), acknowledged);
    assert!(!said(&app, &session).is_empty());
    assert_eq!(store_state(&app), "ok");
}
