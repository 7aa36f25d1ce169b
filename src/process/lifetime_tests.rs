//! Real children: how they are stopped, and that nothing of them is left.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::orphan::OrphanLedger;
use crate::procfs::{ProcessIdentity, identity_of};
use crate::spawn::spawn;
use crate::stop::StopDeadlines;
use crate::sweep::{SweepOutcome, Swept};
use crate::testing::{DEADLINE, Lifeline, Recorder, shell, text};

/// Deadlines that a well-behaved child never reaches, and those that a test waits for.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn deadlines(after_stdin_close: Duration, after_sigterm: Duration) -> StopDeadlines {
    StopDeadlines { after_stdin_close, after_sigterm }
}

#[test]
fn a_child_that_ends_with_its_input_needs_no_signal() {
    let (sink, recording) = Recorder::new();
    let child = spawn(shell("read line; exit 4", &[]), sink).unwrap();
    child.stop(deadlines(LONG, LONG));
    let exit = recording.end();
    assert_eq!((exit.code, exit.signal), (Some(4), None));
    assert!(child.has_exited());
}

#[test]
fn a_child_that_ignores_its_input_gets_sigterm() {
    let (sink, recording) = Recorder::new();
    let body = "trap 'exit 5' TERM; echo ready; while :; do sleep 60; done";
    let child = spawn(shell(body, &[]), sink).unwrap();
    recording.expect_lines(&[text("ready")]);
    child.stop(deadlines(SHORT, LONG));
    assert_eq!(recording.end().code, Some(5));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed() {
    let (sink, recording) = Recorder::new();
    let body = "trap '' TERM; echo ready; while :; do sleep 60; done";
    let child = spawn(shell(body, &[]), sink).unwrap();
    recording.expect_lines(&[text("ready")]);
    let started = Instant::now();
    child.stop(deadlines(SHORT, SHORT));
    // There is one stop, whose deadlines count.
    child.stop(deadlines(LONG, LONG));
    let exit = recording.end();
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert!(started.elapsed() >= 2 * SHORT);
}

#[test]
fn what_the_leader_leaves_in_its_group_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let (sink, recording) = Recorder::new();
    // The grandchild ignores SIGTERM and holds stdout and stderr open too.
    let body = "exec 3>\"$1\"; (trap '' TERM HUP; echo up >&3; exec sleep 60) & \
                read line; exit 0";
    let child = spawn(shell(body, &[lifeline.path()]), sink).unwrap();
    assert_eq!(lifeline.wait_for_line(), "up");
    child.stdin().close();
    assert_eq!(recording.end().code, Some(0));
    lifeline.assert_dead();
}

#[test]
fn dropping_the_handle_kills_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let (sink, recording) = Recorder::new();
    let body = "exec 3>\"$1\"; sleep 60 & echo up >&3; wait";
    let child = spawn(shell(body, &[lifeline.path()]), sink).unwrap();
    assert_eq!(lifeline.wait_for_line(), "up");
    drop(child);
    assert_eq!(recording.end().signal, Some(9));
    lifeline.assert_dead();
}

#[test]
fn a_process_that_escapes_the_group_and_holds_the_pipes_does_not_delay_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let (sink, recording) = Recorder::new();
    let body = "setsid sh -c 'exec 3>\"$1\"; echo $$ >&3; exec sleep 60' sh \"$1\" & \
                read line; echo bye; echo oops >&2; exit 6";
    let child = spawn(shell(body, &[lifeline.path()]), sink).unwrap();
    let escaped = Pid::from_raw(lifeline.wait_for_line().parse().unwrap());
    let stdin = child.stdin();
    stdin.close();
    let started = Instant::now();
    let (lines, exit) = recording.to_end();
    assert_eq!((lines, exit.code), (vec![text("bye")], Some(6)));
    assert_eq!(exit.stderr_tail, ["oops"]);
    assert!(started.elapsed() < DEADLINE);
    kill(escaped, Signal::SIGKILL).unwrap();
    lifeline.assert_dead();
}

/// Set for the process that [`a_child_dies_with_a_parent_that_is_killed`] makes of this test.
const PARENT_OF: &str = "CM_PROCESS_TEST_LIFELINE";

#[cfg(target_os = "linux")]
#[test]
fn a_child_dies_with_a_parent_that_is_killed() {
    let name = "lifetime_tests::a_child_dies_with_a_parent_that_is_killed";
    if let Some(path) = std::env::var_os(PARENT_OF) {
        let (sink, recording) = Recorder::new();
        // It reads no input, so only the parent's death can end it.
        let body = "exec 3>\"$1\"; echo $$ >&3; exec sleep 60";
        let child = spawn(shell(body, &[path.as_ref()]), sink).unwrap();
        recording.end();
        drop(child);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PARENT_OF, lifeline.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child: u32 = lifeline.wait_for_line().parse().unwrap();
    let started = Instant::now();
    parent.kill().unwrap();
    parent.wait().unwrap();
    lifeline.assert_dead();
    // The child of the killed parent would live for a minute.
    assert!(started.elapsed() < DEADLINE, "{child}");
}

/// Starts a shell that leads its own group, as a crashed manager would leave it behind.
fn abandoned(body: &str, lifeline: &Lifeline) -> std::process::Child {
    let child = Command::new("/bin/sh")
        .args(["-c", body, "sh"])
        .arg(lifeline.path())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    child.unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_kills_a_recorded_group_and_forgets_it() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let mut leader = abandoned("exec 3>\"$1\"; sleep 60 & echo up >&3; wait", &lifeline);
    assert_eq!(lifeline.wait_for_line(), "up");
    let child = identity_of(leader.id()).unwrap();
    let ledger = OrphanLedger::new(directory.path().join("children.json"));
    ledger.record(child).unwrap();
    // The next boot reads the file anew.
    let ledger = OrphanLedger::new(directory.path().join("children.json"));
    let outcome = SweepOutcome::Killed { processes: 2 };
    assert_eq!(ledger.sweep().unwrap(), [Swept { child, outcome }]);
    lifeline.assert_dead();
    leader.wait().unwrap();
    assert_eq!(ledger.sweep().unwrap(), []);
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_finds_the_members_of_a_group_whose_leader_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let body = "exec 3>\"$1\"; trap 'exit 0' TERM; (trap '' TERM; exec sleep 60) & echo up >&3; \
                wait";
    let mut leader = abandoned(body, &lifeline);
    assert_eq!(lifeline.wait_for_line(), "up");
    let child = identity_of(leader.id()).unwrap();
    let ledger = OrphanLedger::new(directory.path().join("children.json"));
    ledger.record(child).unwrap();
    kill(Pid::from_raw(leader.id().cast_signed()), Signal::SIGTERM).unwrap();
    leader.wait().unwrap();
    let outcome = SweepOutcome::Killed { processes: 1 };
    assert_eq!(ledger.sweep().unwrap(), [Swept { child, outcome }]);
    lifeline.assert_dead();
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_never_kills_a_number_that_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let lifeline = Lifeline::new(directory.path());
    let mut stranger = abandoned("exec 3>\"$1\"; echo up >&3; exec sleep 60", &lifeline);
    assert_eq!(lifeline.wait_for_line(), "up");
    let now = identity_of(stranger.id()).unwrap();
    let ledger = OrphanLedger::new(directory.path().join("children.json"));
    for start_time in [now.start_time - 1, now.start_time + 1, 0] {
        let child = ProcessIdentity { start_time, ..now };
        ledger.record(child).unwrap();
        let outcome = SweepOutcome::Recycled;
        assert_eq!(ledger.sweep().unwrap(), [Swept { child, outcome }]);
    }
    // A signal would have been delivered before this one, whose number would then be another.
    kill(Pid::from_raw(stranger.id().cast_signed()), Signal::SIGUSR1).unwrap();
    let status = stranger.wait().unwrap();
    let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(ended_by, Some(Signal::SIGUSR1 as i32));
}

#[test]
fn a_child_knows_who_it_is() {
    let (sink, recording) = Recorder::new();
    let child = spawn(shell("read line", &[]), sink).unwrap();
    assert_eq!(child.identity(), identity_of(child.pid()));
    child.stdin().close();
    recording.end();
    assert!(identity_of(child.pid()).is_none_or(|now| Some(now) != child.identity()));
}

#[test]
fn a_handle_can_be_used_from_any_thread() {
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<crate::spawn::Child>();
    shareable::<crate::stdin::StdinWriter>();
    shareable::<OrphanLedger>();
}
