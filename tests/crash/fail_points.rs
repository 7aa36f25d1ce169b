//! The manager goes at each place of a commit at which it matters: before the batch, behind it,
//! behind the flush, behind the sync.

use cm_testkit::process::wait_pid_gone;

use crate::common::{DEADLINE, rounds};
use crate::manager_kills::{History, check_child_goes};

/// The places, as the store names them.
const POINTS: [&str; 4] =
    ["store.before_batch", "store.after_batch", "store.after_flush", "store.after_fdatasync"];

/// Passings before the program is ready and has acknowledged something, generously; and the most
/// that clients bring about before they would be through.
const PASSINGS: std::ops::Range<usize> = 40..300;

#[test]
fn a_manager_that_goes_in_the_middle_of_a_commit_has_lost_nothing() {
    let mut history = History::new("fail_points");
    for round in 0..rounds(10, 50) {
        let point = POINTS[round % POINTS.len()];
        let crash = format!("{point}:{}", history.choose(PASSINGS));
        println!("round {round}: {crash}");
        let app = history.start(&[("CM_CRASH_POINT", &crash)]);
        let child = app.child_pid().expect("a child");
        history.write(&app, |acknowledged| {
            // By itself: nobody kills it.
            wait_pid_gone(app.pid(), DEADLINE);
            check_child_goes(child);
            assert!(!acknowledged.is_empty(), "it went before anything was acknowledged");
        });
        history.bury(app);
    }
    history.start(&[]);
    history.check_kinds();
}
