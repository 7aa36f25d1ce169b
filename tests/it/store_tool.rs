//! `codex-manager store …`, on stores that the program made.

use std::path::Path;
use std::process::Output;

use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript};
use serde_json::Value;

use crate::common::MANAGER;
use crate::fake_app::{create, run_turn, with_fake};

fn tool(data: &Path, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(MANAGER);
    command.arg("store").args(arguments).arg("--data-dir").arg(data);
    command.output().expect("the program runs")
}

#[track_caller]
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
}

#[test]
fn a_store_is_checked_compacted_exported_and_imported() {
    let dir = TestDir::new("tool");
    let data = dir.join("data");
    let app = with_fake(FakeScript::always(Behaviour::correct())).data_dir(&data).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
    for command in ["check", "compact", "export", "init"] {
        fails(&tool(&data, &[command]), 5, &["data_dir_in_use"]);
    }
    app.terminate();

    let check = tool(&data, &["check", "--json"]);
    assert_eq!(check.status.code(), Some(0));
    let check = json(&check);
    assert_eq!(check["kinds"]["sessions"]["records"], 1, "{check}");
    assert_eq!(check["kinds"]["turns"]["records"], 1, "{check}");
    assert_eq!((&check["damagedCount"], &check["unsyncedFiles"]), (&0.into(), &0.into()));
    let shown = String::from_utf8_lossy(&tool(&data, &["check"]).stdout).into_owned();
    assert!(shown.contains("sessions") && shown.ends_with("Everything is whole.\n"), "{shown}");

    let compacted = json(&tool(&data, &["compact", "--json"]));
    assert!(compacted["records"].as_u64() > Some(4), "{compacted}");
    let file = dir.join("all.jsonl");
    let path = file.to_str().expect("a path");
    let exported = json(&tool(&data, &["export", path, "--json"]));
    assert_eq!(exported["records"], compacted["records"]);
    fails(&tool(&data, &["export", path]), 1, &["there already"]);
    fails(&tool(&data, &["import", path]), 5, &["there is a store"]);

    let other = dir.join("other");
    let imported = json(&tool(&other, &["import", path, "--json"]));
    assert_eq!(imported["records"], compacted["records"]);
    let app = with_fake(FakeScript::always(Behaviour::correct())).data_dir(&other).start();
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(detail["thread"]["turns"][0]["status"], "completed");
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let dir = TestDir::new("tool");
    let data = dir.join("data");
    fails(&tool(&data, &["check"]), 4, &["no store", "--data-dir"]);
    assert!(!data.exists(), "a directory that was named by mistake is not made");
    fails(&tool(&data, &["import", "/no/such/file"]), 2, &["/no/such/file"]);
    let broken = dir.write("broken.jsonl", "{\"codexManagerExport\":1}\n");
    let broken = broken.to_str().expect("a path");
    fails(&tool(&data, &["import", broken]), 1, &["no whole export", "line 1"]);
    assert!(!data.join("store").exists());
    let init = tool(&data, &["init"]);
    assert!(init.status.success());
    fails(&tool(&data, &["init"]), 5, &["there is a store"]);
    std::fs::write(data.join("store/db"), b"").expect("the database");
    fails(&tool(&data, &["check"]), 2, &["data_dir_unusable", "damaged"]);
    // A check changes nothing: it is still there.
    assert!(data.join("store/db").exists());
}
