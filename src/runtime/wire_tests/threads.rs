//! Threads: on disk, listed, forked, archived, deleted.

use std::fs::{self, OpenOptions};
use std::io::Write;

use serde_json::{Value, json};

use super::client::{Client, closing};
use crate::Limits;

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().unwrap();
    data.iter().map(|thread| thread["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn threads_survive_a_restart_with_their_turns_names_and_settings() {
    let mut client = Client::new();
    let tool = json!({ "type": "function", "name": "t", "description": "", "inputSchema": {} });
    let thread = client.thread(json!({ "sandbox": "read-only", "dynamicTools": [tool] }));
    client.turn(&thread, "/say one");
    client.ok("thread/name/set", json!({ "threadId": thread, "name": "My name" }));
    assert_eq!(client.wait("thread/name/updated")["params"]["threadName"], "My name");
    let before = client.history(&thread);
    let mut client = client.restart();
    assert_eq!(client.history(&thread), before);
    let start = json!({ "threadId": thread, "input": [{ "type": "text", "text": "x" }] });
    assert_eq!(client.refused("turn/start", start), format!("thread not found: {thread}"));
    let resumed = client.ok("thread/resume", json!({ "threadId": thread }));
    assert_eq!(resumed["thread"]["name"], "My name");
    assert_eq!(resumed["thread"]["turns"], json!(before));
    assert_eq!(resumed["sandbox"], json!({ "type": "readOnly", "networkAccess": false }));
    client.turn(&thread, "/say two");
    assert_eq!(client.history(&thread).len(), 2);
    client.start(&thread, "/call t {}");
    let request = client.wait("item/tool/call");
    client.answer(&request, json!({ "contentItems": [], "success": true }));
    client.finished();
}

#[test]
fn a_torn_last_line_and_a_lost_metadata_file_cost_nothing_else() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.turn(&thread, "/say one");
    client.ok("thread/name/set", json!({ "threadId": thread, "name": "kept" }));
    let directory = client.home.join("embedded/threads");
    let log = directory.join(format!("{thread}.jsonl"));
    client.stop();
    // What a kill in the middle of a turn leaves.
    let turn = "0199a213-81c0-7800-8aa1-bbab2a035a53";
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    writeln!(file, "{}", json!({ "record": "turnStarted", "turn": turn, "at": 7 })).unwrap();
    file.write_all(b"{\"record\":\"item\",\"turn\":\"0199").unwrap();
    fs::remove_file(directory.join(format!("{thread}.meta.json"))).unwrap();
    fs::write(directory.join("0199a213-81c0-7800-8aa1-bbab2a035a54.jsonl"), "garbage").unwrap();

    let root = client.home.parent().unwrap().to_owned();
    let mut client_after = Client::raw(&root, Limits::default());
    client_after.initialize();
    let turns = client_after.history(&thread);
    assert_eq!((turns.len(), &turns[1]["status"]), (2, &json!("interrupted")));
    let resumed = client_after.ok("thread/resume", json!({ "threadId": thread }));
    assert_eq!(resumed["thread"]["name"], "kept");
    assert_eq!(closing(&client_after.turn(&thread, "/say three")), "three");
    assert_eq!(client_after.history(&thread).len(), 3);
    assert_eq!(ids(&client_after.ok("thread/list", json!({}))), [thread]);
    client_after.stop();
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
}

#[test]
fn a_thread_reaches_the_disk_with_its_first_turn_or_its_name() {
    let mut client = Client::new();
    let (empty, named) = (client.thread(json!({})), client.thread(json!({})));
    let missing = format!("no rollout found for thread id {empty}");
    assert_eq!(client.refused("thread/resume", json!({ "threadId": empty })), missing);
    assert_eq!(client.refused("thread/archive", json!({ "threadId": empty })), missing);
    client.ok("thread/name/set", json!({ "threadId": named, "name": "n" }));
    let blank = json!({ "threadId": named, "name": " " });
    assert_eq!(client.refused("thread/name/set", blank), "thread name must not be empty");
    let ephemeral = client.thread(json!({ "ephemeral": true }));
    client.turn(&ephemeral, "/say gone tomorrow");
    let read = json!({ "threadId": ephemeral, "includeTurns": true });
    assert_eq!(
        client.refused("thread/read", read),
        "ephemeral threads do not support includeTurns"
    );
    let mut client = client.restart();
    assert_eq!(ids(&client.ok("thread/list", json!({}))), [named.as_str()]);
    assert_eq!(client.refused("thread/resume", json!({ "threadId": empty })), missing);
    client.ok("thread/resume", json!({ "threadId": named }));
}

#[test]
fn a_name_given_during_a_turn_stays() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(&thread, "/ask wait");
    let request = client.wait("item/tool/requestUserInput");
    client.ok("thread/name/set", json!({ "threadId": thread, "name": "early" }));
    client.answer(&request, json!({}));
    client.finished();
    let mut client = client.restart();
    let read = client.ok("thread/read", json!({ "threadId": thread }));
    assert_eq!(read["thread"]["name"], "early");
    assert_eq!(read["thread"]["status"], json!({ "type": "notLoaded" }));
}

#[test]
fn two_processes_on_one_home_do_not_write_one_thread() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.turn(&thread, "/say one");
    let mut other = Client::raw(client.home.parent().unwrap(), Limits::default());
    other.initialize();
    other.ok("thread/resume", json!({ "threadId": thread }));
    client.start(&thread, "/ask wait");
    let request = client.wait("item/tool/requestUserInput");
    let start = json!({ "threadId": thread, "input": [{ "type": "text", "text": "/say two" }] });
    let busy = format!("thread {thread} already has an active writer");
    assert_eq!(other.refused("turn/start", start), busy);
    client.answer(&request, json!({}));
    client.finished();
    assert_eq!(closing(&other.turn(&thread, "/say two")), "two");
    assert_eq!(client.history(&thread).len(), 3);
    other.stop();
}

#[test]
fn lists_are_paged_and_filtered() {
    let mut client = Client::new();
    let mut made = Vec::new();
    for number in 0..5 {
        let thread = client.thread(json!({}));
        client.turn(&thread, &format!("/say {number}"));
        made.push(thread);
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = client.ok("thread/list", json!({ "limit": 2, "cursor": cursor }));
        assert!(ids(&page).len() <= 2);
        seen.extend(ids(&page));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, made);
    assert_eq!(ids(&client.ok("thread/list", json!({ "limit": 0 }))).len(), 1);
    let bad = client.refused("thread/list", json!({ "cursor": "bad" }));
    assert_eq!(bad, "invalid cursor: bad");
    let found = client.ok("thread/list", json!({ "searchTerm": "/say 3" }));
    assert_eq!(ids(&found), [made[1].clone()]);
    assert!(ids(&client.ok("thread/list", json!({ "cwd": "/nowhere" }))).is_empty());
    let here = json!({ "cwd": [client.workspace.clone()], "modelProviders": [] });
    assert_eq!(ids(&client.ok("thread/list", here)).len(), 5);
    assert!(ids(&client.ok("thread/list", json!({ "modelProviders": ["openai"] }))).is_empty());

    client.turn(&made[0], "/say again");
    let newest = client.ok("thread/turns/list", json!({ "threadId": made[0], "limit": 1 }));
    assert_eq!(newest["data"][0]["items"][1]["text"], "again");
    let next = json!({ "threadId": made[0], "cursor": newest["nextCursor"] });
    let rest = client.ok("thread/turns/list", next);
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["nextCursor"]), (1, &Value::Null));
}

#[test]
fn a_fork_has_its_own_copy() {
    let mut client = Client::new();
    let source = client.thread(json!({}));
    let first = client.start(&source, "/say one");
    client.finished();
    client.start(&source, "/ask wait");
    let request = client.wait("item/tool/requestUserInput");
    let whole = client.ok("thread/fork", json!({ "threadId": source }));
    assert_eq!(whole["thread"]["forkedFromId"], json!(source));
    let turns = whole["thread"]["turns"].as_array().unwrap();
    assert_eq!(
        (&turns[0]["status"], &turns[1]["status"]),
        (&json!("completed"), &json!("interrupted"))
    );
    client.answer(&request, json!({}));
    client.finished();
    let part = json!({ "threadId": source, "lastTurnId": first });
    let part = client.ok("thread/fork", part);
    assert_eq!(part["thread"]["turns"].as_array().unwrap().len(), 1);
    let bogus = json!({ "threadId": source, "lastTurnId": "bogus" });
    assert_eq!(client.refused("thread/fork", bogus), "turn not found: bogus");
    client.ok("thread/delete", json!({ "threadId": source }));
    let fork = part["thread"]["id"].as_str().unwrap();
    assert_eq!(client.history(fork).len(), 1);
    assert_eq!(client.turn(fork, "/say more")["status"], "completed");
}

#[test]
fn archived_threads_are_apart_until_they_come_back() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.turn(&thread, "/say one");
    let of_thread = json!({ "threadId": thread });
    client.ok("thread/archive", of_thread.clone());
    client.wait("thread/archived");
    assert!(ids(&client.ok("thread/list", json!({}))).is_empty());
    assert_eq!(ids(&client.ok("thread/list", json!({ "archived": true }))), [thread.as_str()]);
    let refused = client.refused("thread/resume", of_thread.clone());
    assert!(refused.starts_with(&format!("session {thread} is archived.")), "{refused}");
    let back = client.ok("thread/unarchive", of_thread.clone());
    assert_eq!(back["thread"]["status"], json!({ "type": "notLoaded" }));
    client.wait("thread/unarchived");
    client.ok("thread/resume", of_thread.clone());
    client.ok("thread/delete", of_thread.clone());
    client.wait("thread/deleted");
    assert_eq!(client.refused("thread/read", of_thread), format!("thread not loaded: {thread}"));
    assert_eq!(fs::read_dir(client.home.join("embedded/threads")).unwrap().count(), 0);
}

#[test]
fn the_number_of_loaded_threads_is_bounded() {
    let mut client = Client::with_limits(Limits { loaded_threads: 2, ..Limits::default() });
    let first = client.thread(json!({}));
    client.turn(&first, "/say one");
    let second = client.thread(json!({}));
    let third = client.thread(json!({}));
    assert_eq!(client.wait("thread/closed")["params"]["threadId"], json!(first));
    assert_eq!(client.ok("thread/loaded/list", json!({}))["data"], json!([second, third]));
    // Neither of the two left is on disk, so none can make room.
    let full = client.call("thread/start", json!({}));
    assert_eq!(full["error"]["code"], -32001);
}
