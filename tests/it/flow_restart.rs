//! What a restart keeps, and what a death of the child or of the manager does to what runs.

use std::time::{Duration, Instant};

use cm_testkit::app::StreamClient;
use cm_testkit::process::{pid_alive, wait_pid_gone, wait_until};
use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, approval, is_notification, notified, over_runtimes, rows, text,
};
use crate::flow_interrupts::check_expired;

over_runtimes!(
    a_restart_of_the_manager_keeps_everything,
    a_session_without_a_turn_outlives_a_restart,
    a_killed_child_interrupts_the_streaming_turn,
    a_killed_child_expires_the_pending_approval,
    a_killed_manager_leaves_nothing_running_and_forgets_nothing,
    a_stopped_manager_ends_what_runs,
);

/// Longest life of the child after a SIGKILL of the manager, as promised.
const DEATH_WITH_PARENT: Duration = Duration::from_secs(1);

fn a_restart_of_the_manager_keeps_everything(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("before the restart")]);
    bench.act(&session, "rename", json!({ "title": "Kept" })).expect_status(200);
    let archived = bench.session();
    bench.complete_turn(&archived, &[Act::Say("put away")]);
    bench.act(&archived, "archive", json!({})).expect_status(200);
    let before = bench.detail(&session);
    let mut stream = bench.app.stream(None);
    let ready = stream.wait_type("ready", DEADLINE);
    let child = bench.app.child_pid().unwrap();

    bench.app.restart();
    assert!(!pid_alive(child));
    let after = bench.detail(&session);
    assert_eq!(after["transcript"], before["transcript"]);
    assert_eq!(after["session"], before["session"]);
    assert_eq!(after["thread"]["turns"], before["thread"]["turns"]);
    assert_eq!(bench.detail(&archived)["session"]["archived"], true);
    let mut stream = bench.app.stream(None);
    let again = stream.wait_type("ready", DEADLINE);
    assert_eq!(again["epoch"], ready["epoch"], "the history is the same one");
    assert!(again["seq"].as_u64() > ready["seq"].as_u64(), "{again} after {ready}");

    bench.complete_turn(&session, &[Act::Say("after the restart")]);
    let detail = bench.detail(&session);
    let said: Vec<&Value> =
        rows(&detail, "agentMessage").iter().map(|row| &row["content"]).collect();
    assert_eq!(said, ["before the restart", "after the restart"]);
    if kind.is_codex() {
        let remembers = |request: &cm_testkit::model::ModelRequest| {
            let input = request.body["input"].to_string();
            input.contains("before the restart") && input.contains("after the restart")
        };
        bench.model().wait_for(remembers, DEADLINE);
    }
}

fn a_session_without_a_turn_outlives_a_restart(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    bench.app.restart();
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["title"], "New chat");
    assert_eq!(detail["session"]["approvalPolicy"], "on-request");
    bench.complete_turn(&session, &[Act::Say("hello")]);
}

fn a_killed_child_interrupts_the_streaming_turn(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let mut all = bench.app.stream(None);
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    let health = bench.app.get("/api/health").body["codex"].clone();
    let old = bench.app.kill_child();

    let ended = interrupted(&mut stream, &turn);
    assert!(ended["error"]["message"].is_string(), "it says why: {ended}");
    let down = all.wait_for(
        |frame| frame["type"] == "runtime_state" && frame["payload"]["state"] != "running",
        DEADLINE,
    );
    assert!(down["payload"]["incarnation"].is_number(), "{down}");
    let new = bench.app.wait_new_child(old, DEADLINE);
    assert_ne!(new, old);
    let codex = bench.app.get("/api/health").body["codex"].clone();
    assert!(codex["incarnation"].as_u64() > health["incarnation"].as_u64(), "{codex}");
    assert_eq!(codex["lastExit"]["signal"], "SIGKILL", "{codex}");
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["activity"], "idle");
    assert_eq!(detail["thread"]["turns"][0]["status"], "interrupted");
    let row = rows(&detail, "turn.interrupted");
    assert_eq!((&row[0]["turnId"], &row[0]["status"]), (&json!(turn), &json!("canceled")));
    bench.release();
    bench.complete_turn(&session, &[Act::Say("the next turn")]);
    only_child_is_left(&bench);
}

fn a_killed_child_expires_the_pending_approval(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch never")]);
    let id = approval(&mut stream);
    let old = bench.app.kill_child();
    let frames =
        [interrupted_or_expired(&mut stream, &turn), interrupted_or_expired(&mut stream, &turn)];
    assert!(frames.contains(&"interrupted") && frames.contains(&"expired"), "{frames:?}");
    bench.app.wait_new_child(old, DEADLINE);
    check_expired(&bench, &session, &id);
    assert_eq!(bench.detail(&session)["thread"]["turns"][0]["status"], "interrupted");
    assert!(!bench.app.workspace().join("never").exists());
    // The ids of the app-server start anew in each life, so the next approval has the same one.
    let turn = bench.send(&session, &[Act::Run("touch later")]);
    let next = approval(&mut stream);
    assert_ne!(next, id, "an id never comes back");
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(409);
    assert!(!bench.app.workspace().join("later").exists());
    bench.decide(&next, json!({ "decision": "accept" })).expect_status(200);
    let ended = crate::common::turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "completed", "{ended}");
    assert!(bench.app.workspace().join("later").is_file());
    only_child_is_left(&bench);
}

fn a_killed_manager_leaves_nothing_running_and_forgets_nothing(kind: Kind) {
    let mut bench = Bench::start(kind);
    let (streaming, waiting) = (bench.session(), bench.session());
    bench.complete_turn(&streaming, &[Act::Say("acknowledged before")]);
    let mut stream = bench.app.stream(Some(&streaming));
    let first = bench.send(&streaming, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    let mut stream = bench.app.stream(Some(&waiting));
    let second = bench.send(&waiting, &[Act::Run("touch never")]);
    let id = approval(&mut stream);
    bench.act(&waiting, "rename", json!({ "title": "Kept" })).expect_status(200);
    let child = bench.app.child_pid().unwrap();

    let killed = Instant::now();
    assert_eq!(bench.app.kill().signal, Some(9));
    wait_pid_gone(child, DEADLINE);
    let lived = killed.elapsed();
    assert!(lived <= DEATH_WITH_PARENT, "the child lived on for {lived:?}");
    bench.app.wait_no_descendants(DEADLINE);

    bench.release();
    bench.app.restart();
    let detail = bench.detail(&streaming);
    let ended = turns(&detail);
    assert_eq!(ended[0].1, "completed");
    assert_eq!(ended[1..], [(first.as_str(), "interrupted")]);
    assert_eq!(rows(&detail, "turn.interrupted").len(), 1, "{detail}");
    assert_eq!(rows(&detail, "agentMessage")[0]["content"], "acknowledged before");
    let detail = bench.detail(&waiting);
    assert_eq!(turns(&detail), [(second.as_str(), "interrupted")]);
    assert_eq!(detail["session"]["title"], "Kept");
    assert_eq!(detail["session"]["activity"], "idle");
    check_expired(&bench, &waiting, &id);
    assert!(!bench.app.workspace().join("never").exists());
    bench.complete_turn(&streaming, &[Act::Say("the next turn")]);
    bench.complete_turn(&waiting, &[Act::Say("the next turn")]);
}

fn a_stopped_manager_ends_what_runs(kind: Kind) {
    let mut bench = Bench::start(kind);
    let (streaming, waiting) = (bench.session(), bench.session());
    let mut stream = bench.app.stream(Some(&streaming));
    bench.send(&streaming, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    let mut stream = bench.app.stream(Some(&waiting));
    bench.send(&waiting, &[Act::Run("touch never")]);
    let id = approval(&mut stream);
    assert_eq!(bench.app.terminate().code, Some(0));
    assert!(bench.app.descendants().is_empty());
    bench.release();
    bench.app.restart();
    for session in [&streaming, &waiting] {
        let detail = bench.detail(session);
        assert_eq!(turns(&detail)[0].1, "interrupted");
        assert_eq!(detail["session"]["activity"], "idle");
    }
    check_expired(&bench, &waiting, &id);
    assert!(!bench.app.workspace().join("never").exists());
    bench.complete_turn(&streaming, &[Act::Say("the next turn")]);
}

fn turns(detail: &Value) -> Vec<(&str, &str)> {
    let turns = detail["thread"]["turns"].as_array().unwrap();
    turns
        .iter()
        .map(|turn| (turn["id"].as_str().unwrap(), turn["status"].as_str().unwrap()))
        .collect()
}

/// Waits for the end that the manager gives a turn whose child is gone.
#[track_caller]
fn interrupted(stream: &mut StreamClient, turn: &str) -> Value {
    let ended = crate::common::turn_end(stream, turn);
    assert_eq!(ended["status"], "interrupted", "{ended}");
    ended
}

/// The next of the two: the turn's end or the approval's.
#[track_caller]
fn interrupted_or_expired(stream: &mut StreamClient, turn: &str) -> &'static str {
    let frame = stream.wait_for(
        |frame| is_notification(frame, "turn/completed") || frame["type"] == "approval_resolved",
        DEADLINE,
    );
    if frame["type"] == "approval_resolved" {
        assert_eq!(frame["payload"]["status"], "expired");
        return "expired";
    }
    let ended = &frame["payload"]["params"]["turn"];
    assert_eq!((text(&ended["id"]).as_str(), &ended["status"]), (turn, &json!("interrupted")));
    "interrupted"
}

/// Nothing is left but the running app-server and what it started itself. What the killed one was
/// just starting may take a moment to go.
#[track_caller]
fn only_child_is_left(bench: &Bench) {
    let child = bench.app.child_pid().unwrap();
    let orphan = |pid: &u32| !has_ancestor(*pid, child) && pid_alive(*pid);
    wait_until("no orphan is left", DEADLINE, || !bench.app.descendants().iter().any(orphan));
}

fn has_ancestor(pid: u32, ancestor: u32) -> bool {
    pid == ancestor
        || parent_of(pid).is_some_and(|parent| parent > 1 && has_ancestor(parent, ancestor))
}

/// Field 4 of `/proc/<pid>/stat` (proc_pid_stat(5)).
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}
