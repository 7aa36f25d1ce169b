//! The integration suite: the program from the outside, over HTTP, the stream and its command
//! line.
//!
//! # Layout
//!
//! - `common`: the program over each runtime, and the words in which the suites drive it.
//! - `flow_*`: what people do with sessions, each once over the embedded runtime and two versions
//!   of codex.
//! - `fake_app`: the program over the fake child, for what a real one cannot be made to do.
//! - `supervision`, `child_failures`, `decisions`: the child's deaths, its output, its requests;
//!   `kinds`: the kinds of request that version 1 did not know.
//! - `long_lines`: one line of many megabytes.
//! - `recovery`: what is done by itself for sessions that were cut; `request_policy`: requests that
//!   nobody decides; `passivation`, `history`: many sessions, and long ones.
//! - `concurrency`: several clients of one session at the same moment; `repeats`: every action twice.
//! - `idempotency`: requests that are sent again with the same key.
//! - `crowd`: a hundred subscribers, one of which has stopped; `stream_gaps`: what a worker misses, and
//!   positions that are given while others are served.
//! - `project_app`, `projects`, `projects_bulk`, `projects_races`: projects and the sessions in them.
//! - `drift`: a child that lacks methods, or has new ones; `jobs`: what needs a queue.
//! - `read_model`: lists, whichever worker answers them; `metrics`: what is counted.
//! - `security`, `bad_input`: who may talk to the server, and what it is told in vain;
//!   `bad_input_described`: the same for every operation, made from the description (`description`).
//! - `store_*`: the store when writing fails, on disks that are full or read-only, when it is
//!   damaged, and its maintenance.
//! - `operations`: every operation over every runtime (`operations_table`).
//! - `openapi`: the description of the API, and what is really answered; `contract`: what version 1's
//!   clients rely on; `contract_events`: the frames among it.
//! - `schemathesis`: thousands of random requests, and whether the description holds.
//! - `startup`, `shutdown`: what keeps the program from starting, and how it ends.
//! - `version1`: a data directory of version 1; `import`: taking it over, `import_faults`: and what goes
//!   wrong on the way.
//! - `login_used_up`: a login that cannot be renewed, and taking over another one; `login_secrets`: where
//!   what is signed in with is not.
//! - `layering`: the direction of knowledge, and rules over the sources.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed expectation ends the test and says why"
)]

mod common;

mod flow_actions;
mod flow_approvals;
mod flow_caller_errors;
mod flow_cli;
mod flow_first_turn;
mod flow_interrupts;
mod flow_login;
mod flow_mcp;
mod flow_orphans;
mod flow_questions;
mod flow_read_only;
mod flow_recovery;
mod flow_restart;
mod flow_resume;
mod flow_sessions;
mod flow_stream;
mod flow_subagents;
mod flow_thread;
mod flow_turn;

// What goes wrong: the child, its output, the callers, the start and the stop.
mod bad_input;
mod bad_input_described;
mod bodies_not_read;
mod child_failures;
mod concurrency;
mod contract;
mod contract_events;
mod controls;
mod crowd;
mod decisions;
mod description;
mod drift;
mod fake_app;
mod history;
mod idempotency;
mod import;
mod import_adopted;
mod import_faults;
mod jobs;
mod kinds;
mod layering;
mod login_secrets;
mod login_used_up;
mod long_lines;
mod metrics;
mod openapi;
mod operations;
mod operations_table;
mod other_clients;
mod passivation;
mod project_app;
mod projects;
mod projects_bulk;
mod projects_races;
mod read_model;
mod recovery;
mod repeats;
mod request_policy;
mod roll_back;
mod schemathesis;
mod security;
mod session_list;
mod shutdown;
mod startup;
mod store_crashes;
mod store_damage;
mod store_disks;
mod store_faults;
mod store_tool;
mod stream_gaps;
mod stream_history;
mod supervision;
mod transcript_pages;
mod version1;

use std::path::Path;

/// A file that no `mod` line names would be skipped in silence.
#[test]
fn no_test_file_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".rs");
        let stem = stem.unwrap_or_else(|| panic!("{name} is no test file"));
        if stem == "main" {
            continue;
        }
        let line = format!("mod {stem};");
        assert!(main.lines().any(|l| l == line), "main.rs lacks `{line}`");
        found += 1;
    }
    assert!(found > 0);
}
