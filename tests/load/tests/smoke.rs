//! Every scenario once, with tiny counts, on the manager beside this tool. What is asserted is
//! what was counted; no time is.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The tool.
const TOOL: &str = env!("CARGO_BIN_EXE_cm-load");

/// The manager that was built with it.
fn manager() -> PathBuf {
    let path = Path::new(TOOL).with_file_name("codex-manager");
    assert!(path.is_file(), "build the program first: cargo build (wanted {})", path.display());
    path
}

#[track_caller]
fn output(arguments: &[&str]) -> String {
    let output = Command::new(TOOL).args(arguments).output().expect("the tool starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// The medians of one tiny run.
#[track_caller]
fn run(scenario: &str, more: &[&str]) -> Value {
    let manager = manager();
    let path = manager.to_str().expect("a path in UTF-8");
    let arguments = [&["run", scenario, "--manager", path, "--tiny", "--json"], more].concat();
    let report: Value = serde_json::from_str(&output(&arguments)).expect("JSON");
    assert_eq!(report["scenario"], scenario);
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(1), "{report}");
    report["median"].clone()
}

#[test]
fn the_child_answers_for_its_version_like_the_one_it_stands_in_for() {
    assert_eq!(output(&["--version"]), "codex-cli 0.169.0\n");
}

#[test]
fn every_frame_of_a_flood_is_counted() {
    let figures = run("fanout-1", &["--subscribers", "4", "--deltas", "3000"]);
    assert_eq!(figures["complete"], true, "{figures}");
    assert_eq!(figures["closed"], 0, "{figures}");
    // Two frames a delta, and a few for the turn and its two items.
    let frames = figures["frames"].as_u64().expect("a count");
    assert!((4 * 6_000 + 1..4 * 6_100).contains(&frames), "{figures}");
}

#[test]
fn every_paced_delta_has_its_latency() {
    let figures = run("latency-10", &[]);
    assert_eq!(figures["complete"], true, "{figures}");
    assert_eq!(figures["samples"], 2 * 2 * 50, "{figures}");
    assert!(figures["p50_ms"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["p50_ms"].as_f64() <= figures["p99_ms"].as_f64(), "{figures}");
}

#[test]
fn a_subscriber_that_stops_is_seen_to_be_evicted_and_a_good_one_not() {
    // More than the kernel takes for a connection that is not read.
    let figures = run("stopped-reader", &["--deltas", "20000"]);
    assert_eq!(figures["evicted"], true, "{figures}");
    assert_eq!(figures["good_closed"], 0, "{figures}");
    assert!(figures["peak_without_mib"].as_f64() > Some(1.0), "{figures}");
}

#[test]
fn good_subscribers_are_compared_with_and_without_bad_ones() {
    let figures = run("mix", &["--deltas", "20000"]);
    assert_eq!(figures["stopped_evicted"], true, "{figures}");
    assert!(figures["deltas_per_s_without"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["rate_with_to_without"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn starts_and_restarts_are_timed() {
    let figures = run("start", &[]);
    assert_eq!(figures["starts"], 1, "{figures}");
    assert!(figures["ready_ms"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["idle_resident_mib"].as_f64() > Some(1.0), "{figures}");
    let figures = run("boot", &[]);
    assert_eq!(figures["page"], 20, "the sessions outlived the restart: {figures}");
}

#[test]
fn every_message_is_accepted_and_timed() {
    let figures = run("messages", &[]);
    assert_eq!(figures["messages"], 20, "{figures}");
    assert!(figures["fdatasync_p50_ms"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["p50_ms"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn a_large_line_arrives_while_health_is_asked_for() {
    let figures = run("big-line", &[]);
    assert!(figures["health_answers"].as_u64() > Some(0), "{figures}");
    assert_eq!(figures["closed"], 0, "{figures}");
    assert!(figures["peak_mib"].as_f64() > Some(1.0), "{figures}");
}

#[test]
fn floods_over_sessions_leave_one_figure_each() {
    let figures = run("level", &[]);
    assert_eq!(figures["resident_mib"].as_array().map(Vec::len), Some(4), "{figures}");
    assert_eq!(figures["closed"], 0, "{figures}");
}

#[test]
fn crowds_are_answered_and_every_session_is_walked_past() {
    let figures = run("health", &[]);
    assert!(figures["answers"].as_u64() > Some(0), "{figures}");
    let figures = run("list-1000", &[]);
    assert_eq!(figures["walked"], 450, "{figures}");
    assert!(figures["answers"].as_u64() > Some(0), "{figures}");
}

#[test]
fn transcripts_are_read_whole_and_in_pages() {
    let figures = run("transcript-100", &[]);
    assert_eq!(figures["rows"], 250, "{figures}");
    assert!(figures["page_per_s"].as_f64() > Some(0.0), "{figures}");
    let figures = run("transcript-10000", &[]);
    assert_eq!(figures["rows"], 250, "{figures}");
    assert!(figures["first_page_ms"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn writes_with_many_sessions_are_timed() {
    let figures = run("writes", &[]);
    assert_eq!(figures["sessions"], 20, "{figures}");
    for figure in ["project_p50_ms", "session_p50_ms", "rename_p50_ms", "message_p50_ms"] {
        assert!(figures[figure].as_f64() > Some(0.0), "{figures}");
    }
}

#[test]
fn two_programs_are_compared_in_one_run() {
    let manager = manager();
    let path = manager.to_str().expect("a path in UTF-8");
    let report = output(&["compare", path, path, "fanout-1", "--tiny", "--json", "--runs", "2"]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["ratios"]["frames"], 1.0, "{report}");
    assert!(report["ratios"]["deltas_per_s"].as_f64() > Some(0.0), "{report}");
}
