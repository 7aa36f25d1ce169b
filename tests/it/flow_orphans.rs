//! A command that an agent has started does not outlive what it belongs to.

use std::time::Duration;

use cm_testkit::process::{command_line, wait_until};
use serde_json::json;

use crate::common::{Act, Bench, DEADLINE, Kind, approval, over_runtimes};

over_runtimes!(
    a_running_command_goes_with_a_killed_child,
    a_running_command_goes_with_the_manager,
    a_running_command_of_a_killed_manager_is_found_at_the_next_start,
);

/// How the commands of these tests can be told from everything else.
const MARK: &str = "sleep 4321";
/// Longest wait for the end of what nobody runs any more.
const GONE: Duration = Duration::from_secs(10);

/// Starts a session whose approved command runs for an hour, and answers the pids of it.
#[track_caller]
fn running_command(bench: &Bench) -> Vec<u32> {
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    bench.send(&session, &[Act::Run(&format!("touch started && {MARK}"))]);
    let id = approval(&mut stream);
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    let mut pids = Vec::new();
    wait_until("the command runs", DEADLINE, || {
        pids = commands(bench);
        bench.app.workspace().join("started").is_file() && !pids.is_empty()
    });
    pids
}

fn commands(bench: &Bench) -> Vec<u32> {
    let mut pids = bench.app.descendants();
    pids.retain(|pid| command_line(*pid).contains(MARK));
    pids
}

#[track_caller]
fn wait_gone(bench: &Bench) {
    wait_until("the command is gone", GONE, || commands(bench).is_empty());
}

fn a_running_command_goes_with_a_killed_child(kind: Kind) {
    let bench = Bench::start(kind);
    running_command(&bench);
    let old = bench.app.kill_child();
    bench.app.wait_new_child(old, DEADLINE);
    wait_gone(&bench);
}

fn a_running_command_goes_with_the_manager(kind: Kind) {
    let bench = Bench::start(kind);
    running_command(&bench);
    let exited = bench.app.terminate();
    assert_eq!(exited.code, Some(0), "{exited}");
    // Not a moment after the manager itself: it waits for what it has started.
    let left = bench.app.descendants();
    let names: Vec<String> = left.iter().map(|pid| command_line(*pid)).collect();
    assert!(left.is_empty(), "left behind: {names:?}");
}

fn a_running_command_of_a_killed_manager_is_found_at_the_next_start(kind: Kind) {
    let mut bench = Bench::start(kind);
    running_command(&bench);
    bench.app.kill();
    bench.app.restart();
    wait_gone(&bench);
}
