//! Long histories: everything is readable, and little of it is read or remembered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cm_core::request::RequestFamily;
use cm_core::rpc::RawJson;
use serde_json::json;

use super::bench::*;
use crate::app_server::InboundKind;
use crate::store::MemoryStore;

fn began(turn: &str) -> crate::app_server::Inbound {
    notification("turn/started", &json!({ "threadId": "t", "turn": { "id": turn } }))
}

fn ended(turn: &str) -> crate::app_server::Inbound {
    let turn = json!({ "id": turn, "status": "completed" });
    notification("turn/completed", &json!({ "threadId": "t", "turn": turn }))
}

/// A turn with so many messages.
fn turn(number: usize, items: usize) -> Vec<crate::app_server::Inbound> {
    let turn = format!("u{number}");
    let mut said = vec![began(&turn)];
    for index in 0..items {
        let message =
            json!({ "id": format!("{number}-{index}"), "type": "agentMessage", "text": "hi" });
        said.push(item("item/started", &turn, &message));
        said.push(item("item/completed", &turn, &message));
    }
    said.push(ended(&turn));
    said
}

#[test]
fn many_turns_and_many_items_are_all_readable() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        for number in 0..300 {
            bench.says(turn(number, 3)).await;
        }
        bench.says(turn(300, 2_000)).await;
        let detail = bench.detail().await;
        assert_eq!(detail.transcript.len(), 300 * 3 + 2_000);
        let turns = detail.thread["turns"].as_array().unwrap();
        assert_eq!(turns.len(), 301);
        assert_eq!(turns[299]["items"].as_array().unwrap().len(), 3);
        assert_eq!(turns[300]["items"][1_999]["id"], "300-1999");
        assert_eq!(detail.transcript[900].message_id, "300-0");
    });
}

#[test]
fn how_long_a_history_is_makes_no_difference_to_a_thread_that_starts() {
    on_system(async {
        let disk = Disk::default();
        let read = Arc::clone(&disk.read);
        let options = Options { idle: Duration::from_millis(20), ..Options::default() };
        let stats = Arc::clone(&options.stats);
        let mut bench = Bench::with(disk, options).await;
        for number in 0..400 {
            bench.says(turn(number, 5)).await;
        }
        alive(&stats, 0).await;
        read.store(0, Ordering::Relaxed);
        bench.threads.requests(&thread(), &[RequestFamily::Approval], false).await.unwrap();
        let reads = read.load(Ordering::Relaxed);
        assert!(reads < 20, "{reads} records were read of a thread in which nothing runs");
        // Also one that is rebuilt in the middle of a turn reads a few only.
        bench
            .says(vec![began("last"), notification("test/panic", &json!({ "threadId": "t" }))])
            .await;
        bench.frame("session_problem").await;
        assert_eq!(count(&stats.panics), 1);
        read.store(0, Ordering::Relaxed);
        let message = json!({ "id": "m", "type": "agentMessage", "text": "after" });
        bench.says(vec![item("item/completed", "last", &message)]).await;
        let reads = read.load(Ordering::Relaxed);
        assert!(reads < 600, "{reads} records were read of a thread that runs");
        let detail = bench.detail().await;
        assert_eq!(detail.transcript.last().map(|row| row.content.as_str()), Some("after"));
    });
}

#[test]
fn an_item_is_stored_byte_for_byte() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        let odd = r#"{ "type":"plan", "id":"i","text":"\u00e9\ud83e\udd80 \/","n":1.50e400,"n2":12345678901234567890123 }"#;
        let params = format!(r#"{{"threadId":"t","turnId":"u","item":{odd}}}"#);
        let raw: &serde_json::value::RawValue = serde_json::from_str(&params).unwrap();
        let mut said = item("item/completed", "u", &json!({"id": "i"}));
        let InboundKind::Notification { params, .. } = &mut said.kind else { panic!() };
        *params = Some(RawJson::encode(&raw).unwrap());
        bench.says(vec![turn_started(), said]).await;
        let stored = bench.threads.item(&thread(), "i".to_owned()).await.unwrap();
        assert_eq!(stored, odd.as_bytes());
        assert!(bench.threads.item(&thread(), "none".to_owned()).await.unwrap().is_empty());
        let detail = bench.threads.detail(&thread()).await.unwrap();
        let detail = String::from_utf8(detail.to_vec()).unwrap();
        assert!(detail.contains(odd), "{detail}");
    });
}

#[test]
fn the_oldest_items_go_when_there_are_too_many_and_the_transcript_says_so() {
    on_system(async {
        let options = Options { item_cap: 1 << 20, ..Options::default() };
        let disk = Disk::default();
        let mut bench = Bench::with(disk.clone(), options).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        let resolved = json!({ "threadId": "t", "requestId": 0 });
        bench.says(vec![notification("serverRequest/resolved", &resolved)]).await;
        bench.frame("approval_resolved").await;
        let text = "x".repeat(20_000);
        for number in 0..200 {
            let message =
                json!({ "id": format!("i{number}"), "type": "agentMessage", "text": text });
            bench.says(vec![item("item/completed", "u", &message)]).await;
        }
        let detail = bench.detail().await;
        let rows = &detail.transcript;
        assert_eq!(
            (rows[0].kind.as_str(), rows[0].message_id.as_str()),
            ("history.trimmed", "history-trimmed")
        );
        assert!(rows.len() > 40 && rows.len() < 54, "{} rows", rows.len());
        assert_eq!(rows.last().unwrap().message_id, "i199");
        let first = 200 - (rows.len() - 1);
        assert_eq!(rows[1].message_id, format!("i{first}"), "none is missing in between");
        let items = detail.thread["turns"][0]["items"].as_array().map(Vec::len);
        assert_eq!(items, Some(rows.len() - 1));
        // The request that stood before is gone as well, right behind.
        let id = thread();
        let requests = bench.threads.requests(&id, &[RequestFamily::Approval], true);
        assert_eq!(requests.await.unwrap(), []);
        let kept: usize = disk.bytes_of(b"b\0");
        assert!(kept <= 1 << 20, "{kept} bytes of items are stored");
    });
}

#[test]
fn a_deleted_thread_leaves_nothing_but_its_tombstone() {
    // Through the store alone: a delete needs a child that agrees.
    use crate::store::{Scan, Store, keys, remove_thread};
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        bench.says(turn(0, 50)).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.detail().await;
        for batch in remove_thread(&disk, &thread()).unwrap() {
            disk.commit(&[batch]).unwrap();
        }
        let left = disk.keys(&Scan::prefix(b"".as_slice())).unwrap();
        let left: Vec<String> = left.iter().map(|key| keys::readable(key)).collect();
        // What is the store's own or the log's, chunks that are yet to be tidied among it.
        let others = ["m\\x00", "c\\x00", "g\\x00", "e\\x00", "p\\x00"];
        let of_thread: Vec<&String> = left
            .iter()
            .filter(|key| !others.iter().any(|prefix| key.starts_with(prefix)))
            .collect();
        assert_eq!(of_thread, [&keys::readable(&keys::tombstone(&thread()))]);
    });
}
