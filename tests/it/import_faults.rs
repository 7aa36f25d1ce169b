//! `codex-manager import`, and what is wrong with a directory or goes wrong on the way.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, MANAGER};
use crate::fake_app::with_fake;
use crate::version1::{command, import, report, rollout, shown, tree};

/// A directory of version 1 with threads whose files look like those of codex.
fn directory(dir: &TestDir, threads: &[&str]) -> PathBuf {
    for id in threads {
        let path = thread_file(id);
        dir.write(format!("v1/codex-home/{path}"), rollout(id, dir.path(), &format!("I am {id}")));
    }
    dir.write("v1/session-metadata.json", "{}");
    dir.join("v1")
}

fn thread_file(id: &str) -> String {
    format!("sessions/2026/11/26/rollout-2026-11-26T17-24-51-{id}.jsonl")
}

fn named(report: &Value, list: &str) -> String {
    report[list]["named"].to_string()
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_taken() {
    let dir = TestDir::new("import");
    let source = directory(&dir, &["a", "__proto__", "c"]);
    let ledger = json!({ "version": 1, "byThreadId": { "a": [], "b": [] } }).to_string();
    dir.write("v1/supplemental-transcript.json", &ledger[..ledger.len() - 4]);
    dir.write("v1/orchestrator-jobs.json", "{\"version\":1,\"jobs\":[");
    dir.write("v1/agent-extension-audit.json", [0xff, 0xfe]);
    dir.write("v1/orchestrator-jobs.json.corrupt-1", "?");
    let titles = json!({ "a": "A", "../../x": "B", "__proto__": "C", "gone": "D" });
    dir.write("v1/session-metadata.json", json!({ "titles": titles, "projects": 7 }).to_string());
    let broken = thread_file("broken");
    dir.write(format!("v1/codex-home/{broken}"), "{\"type\":\"session_meta\"");
    let outside = rollout("../../outside", dir.path(), "x");
    dir.write("v1/codex-home/sessions/rollout-2026-11-26T17-24-51-outside.jsonl", outside);
    let before = tree(&source);

    let output = command(&source, &dir.join("data"), &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "something was damaged: {}", shown(&output));
    let report = report(&output);
    assert_eq!(tree(&source), before);
    let damaged = named(&report, "damaged");
    for file in ["supplemental-transcript", "orchestrator-jobs", "agent-extension-audit"] {
        assert!(damaged.contains(file), "{damaged}");
    }
    assert_eq!(report["sessions"]["taken"], 3, "{report}");
    let left = named(&report, "notTaken");
    for what in ["gone", "../../x", "broken", "outside", "corrupt-1", "projects"] {
        assert!(left.contains(what), "{what} in {left}");
    }
    let app =
        with_fake(FakeScript::always(Behaviour::correct())).data_dir(dir.join("data")).start();
    for (id, title) in [("a", "A"), ("__proto__", "C"), ("c", "I am c")] {
        let detail = app.detail(id);
        assert_eq!(detail["session"]["title"], title);
        assert_eq!(detail["transcript"][1]["content"], format!("re: I am {id}"));
    }
}

#[test]
fn links_lead_nowhere_and_what_is_copied_is_its_owners_only() {
    let dir = TestDir::new("import");
    let source = directory(&dir, &["a"]);
    dir.write("outside/secret", "secret");
    dir.write("outside/sub/rollout-2026-11-26T17-24-51-z.jsonl", rollout("z", dir.path(), "z"));
    let home = source.join("codex-home");
    symlink(dir.join("outside/secret"), home.join("auth.json")).unwrap();
    symlink(dir.join("outside/sub"), home.join("sessions/sub")).unwrap();
    dir.write("v1/codex-home/config.toml", "model = \"theirs\"");
    std::fs::set_permissions(home.join("config.toml"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    let data = dir.join("data");
    let planned = import(&source, &data, &["--dry-run"]);
    let report = import(&source, &data, &[]);
    assert_eq!((&report["sessions"]["taken"], &report["login"]), (&json!(1), &json!("not_taken")));
    for known in ["sessions", "files", "login", "config", "bytes", "notTaken"] {
        assert_eq!(planned[known], report[known], "a dry run says what comes");
    }
    let ours = tree(&data.join("codex-home"));
    assert!(ours.values().all(|(mode, _)| mode & 0o077 == 0), "{:?}", ours.keys());
    assert!(!ours.values().any(|(_, content)| content == b"secret"));
    assert!(!ours.keys().any(|path| path.ends_with("rollout-2026-11-26T17-24-51-z.jsonl")));

    // What is here is never written over.
    let other = dir.join("other");
    dir.write("other/codex-home/config.toml", "model = \"mine\"");
    dir.write(format!("other/codex-home/{}", thread_file("a")), "mine");
    let report = import(&source, &other, &[]);
    assert_eq!((&report["config"], &report["sessions"]["taken"]), (&json!("already"), &json!(1)));
    let kept = std::fs::read_to_string(other.join("codex-home/config.toml")).unwrap();
    assert_eq!(kept, "model = \"mine\"");
    assert_eq!(std::fs::read(other.join("codex-home").join(thread_file("a"))).unwrap(), b"mine");
}

#[track_caller]
fn refused(source: &Path, data: &Path, code: i32, words: &[&str]) {
    let output = command(source, data, &[]).output().unwrap();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
}

#[test]
fn what_cannot_begin_says_why() {
    let dir = TestDir::new("import");
    let source = directory(&dir, &["a"]);
    let data = dir.join("data");
    refused(&dir.join("none"), &data, 2, &["cannot be read"]);
    refused(
        &dir.subdir("empty"),
        &data,
        2,
        &["no data directory of version 1", "looked for", "session-metadata.json"],
    );
    refused(&source, &source, 2, &["--data-dir"]);
    refused(&source, &source.join("inside"), 2, &["--data-dir"]);
    assert!(!data.exists());
    let app = with_fake(FakeScript::always(Behaviour::correct())).data_dir(&data).start();
    refused(&source, &data, 5, &["data_dir_in_use"]);
    app.get("/api/sessions/a").expect_status(404);
}

#[test]
fn a_dry_run_changes_nothing_in_a_directory_that_is_there() {
    let dir = TestDir::new("import");
    let source = directory(&dir, &["a"]);
    let data = dir.subdir("data");
    dir.write("data/notes", "mine");
    let before = tree(&data);
    assert_eq!(import(&source, &data, &["--dry-run"])["sessions"]["taken"], 1);
    assert_eq!(tree(&data), before);
    import(&source, &data, &[]);
    // As a command of `store` leaves it that is cut after it moved the old store away.
    std::fs::rename(data.join("store"), data.join("store.old")).unwrap();
    assert_eq!(import(&source, &data, &["--dry-run"])["sessions"]["already"], 1);
    assert!(data.join("store.old").exists() && !data.join("store").exists());
    assert_eq!(import(&source, &data, &[])["sessions"]["already"], 1);
    assert!(data.join("store").exists());
}

#[test]
fn an_import_that_was_killed_is_repeated() {
    let dir = TestDir::new("import");
    let ids: Vec<String> = (0..400).map(|number| format!("thread-{number:03}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let source = directory(&dir, &ids);
    let data = dir.join("data");
    let mut running = command(&source, &data, &[]).stdout(Stdio::null()).spawn().unwrap();
    let day = data.join("codex-home/sessions/2026/11/26");
    let copied = || std::fs::read_dir(&day).map_or(0, Iterator::count);
    wait_until("files are copied", DEADLINE, || copied() > 20);
    running.kill().unwrap();
    let status = running.wait().unwrap();
    assert!(!status.success(), "it was not over yet");
    assert!(copied() < ids.len());

    let report = import(&source, &data, &[]);
    let sessions = &report["sessions"];
    let total = sessions["taken"].as_u64().unwrap() + sessions["already"].as_u64().unwrap();
    assert_eq!(total, 400, "{report}");
    assert_eq!(copied(), 400, "and nothing is left beside the files");
    let other = dir.join("other");
    import(&source, &other, &[]);
    assert_eq!(kinds(&data), kinds(&other), "as if it had not been killed");
    let files = |data: &Path| {
        let home = data.join("codex-home");
        let tree = tree(&home).into_iter();
        let inside = |path: PathBuf| path.strip_prefix(&home).unwrap().to_owned();
        tree.map(|(path, content)| (inside(path), content)).collect::<Vec<_>>()
    };
    assert_eq!(files(&data), files(&other));
}

/// How many records of each kind are in a store.
#[track_caller]
fn kinds(data: &Path) -> Vec<(String, Value)> {
    let mut tool = std::process::Command::new(MANAGER);
    let output = tool.args(["store", "check", "--json", "--data-dir"]).arg(data).output().unwrap();
    let check = report(&output);
    assert_eq!(check["damagedCount"], 0, "{check}");
    let kinds = check["kinds"].as_object().unwrap().iter();
    kinds
        .filter(|(kind, _)| *kind != "store")
        .map(|(kind, known)| (kind.clone(), known["records"].clone()))
        .collect()
}
