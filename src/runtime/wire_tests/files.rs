//! File changes: really applied, only inside the workspace, only after an answer.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::client::{Client, closing};

const ASK: &str = "item/fileChange/requestApproval";

#[test]
fn accepted_changes_are_applied_and_shown_as_diffs() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    client
        .start(&thread, "/write d/a.txt\nhello\n/end\n/write d/a.txt\nbye\n/end\n/delete d/a.txt");
    let target = client.workspace.join("d/a.txt");
    let mut seen = Vec::new();
    for before in [None, Some("hello\n"), Some("bye\n")] {
        let request = client.wait(ASK);
        assert_eq!(fs::read_to_string(&target).ok().as_deref(), before);
        let item_id = &request["params"]["itemId"];
        let started = client.messages.iter().find(|message| {
            message["method"] == "item/started" && message["params"]["item"]["id"] == *item_id
        });
        seen.push(started.unwrap()["params"]["item"]["changes"][0].clone());
        client.answer(&request, json!({ "decision": "accept" }));
    }
    client.finished();
    assert!(!target.exists());
    assert_eq!(
        seen,
        [
            json!({ "path": target, "kind": { "type": "add" }, "diff": "hello\n" }),
            json!({ "path": target, "kind": { "type": "update", "move_path": null },
            "diff": "@@ -1 +1 @@\n-hello\n+bye\n" }),
            json!({ "path": target, "kind": { "type": "delete" }, "diff": "bye\n" }),
        ]
    );
    let diffs: Vec<&Value> = client
        .messages
        .iter()
        .filter(|message| message["method"] == "turn/diff/updated")
        .map(|message| &message["params"]["diff"])
        .collect();
    assert!(diffs[0].as_str().unwrap().ends_with("+++ b/d/a.txt\n@@ -0,0 +1 @@\n+hello\n"));
    assert_eq!(*diffs[diffs.len() - 1], "");
    let outline = client.outline(from);
    let at = outline.iter().position(|word| word == "item/started fileChange").unwrap();
    assert_eq!(
        outline[at..at + 8],
        [
            "item/started fileChange",
            "thread/status/changed waitingOnApproval",
            ASK,
            "serverRequest/resolved",
            "thread/status/changed active",
            "item/completed fileChange",
            "turn/diff/updated",
            "thread/tokenUsage/updated",
        ]
    );
}

#[test]
fn a_declined_change_is_not_applied_and_a_session_accept_covers_one_file() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(
        &thread,
        "/write a\n1\n/end\n/write a\n2\n/end\n/write a\n3\n/end\n/write b\n4\n/end",
    );
    for decision in ["decline", "acceptForSession", "decline"] {
        let request = client.wait(ASK);
        client.answer(&request, json!({ "decision": decision }));
    }
    client.finished();
    assert_eq!(fs::read_to_string(client.workspace.join("a")).unwrap(), "3\n");
    assert!(!client.workspace.join("b").exists());
}

#[test]
fn no_path_leads_out_of_the_workspace_or_into_the_home() {
    let mut client = Client::new();
    let outside = client.workspace.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, client.workspace.join("link")).unwrap();
    symlink(&client.home, client.workspace.join("home")).unwrap();
    let thread = client.thread(json!({ "sandbox": "danger-full-access" }));
    let absolute = outside.join("x");
    let text = format!(
        "/write ../outside/x\n1\n/end\n/write link/x\n1\n/end\n/write {}\n1\n/end\n\
         /write home/config.toml\n1\n/end\n/delete missing",
        absolute.display()
    );
    let turn = client.turn(&thread, &text);
    assert_eq!(closing(&turn).matches("refused, ").count(), 5, "{turn}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // A workspace that holds the home does not open it either.
    let root = client.home.parent().unwrap().to_owned();
    let thread = client.thread(json!({ "cwd": root }));
    let turn = client.turn(&thread, "/write home/config.toml\n1");
    assert!(closing(&turn).contains("is inside CODEX_HOME"), "{turn}");
}

#[test]
fn a_file_or_a_link_that_changes_while_the_question_is_open_is_left_alone() {
    let mut client = Client::new();
    let outside = client.workspace.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(client.workspace.join("d")).unwrap();
    fs::write(client.workspace.join("a"), "old\n").unwrap();
    let thread = client.thread(json!({}));
    client.start(&thread, "/write a\nnew\n/end\n/write d/x\nnew\n/end");
    let request = client.wait(ASK);
    fs::write(client.workspace.join("a"), "edited\n").unwrap();
    client.answer(&request, json!({ "decision": "accept" }));
    let request = client.wait(ASK);
    fs::remove_dir(client.workspace.join("d")).unwrap();
    symlink(&outside, client.workspace.join("d")).unwrap();
    client.answer(&request, json!({ "decision": "accept" }));
    let turn = client.finished();
    assert_eq!(closing(&turn).matches("it changed while").count(), 2, "{turn}");
    assert_eq!(fs::read_to_string(client.workspace.join("a")).unwrap(), "edited\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
