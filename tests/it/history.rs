//! Long histories and long items: memory is bounded, everything is readable.

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use serde_json::{Value, json};

use crate::common::{DEADLINE, rows, turn_end};
use crate::fake_app::{begin, create, with_fake};

/// Resident memory of a process, in bytes (`VmRSS` of proc_pid_status(5)).
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// One turn; returns when it has ended.
fn flood(app: &TestApp, session: &str) {
    let mut stream = app.stream(Some(session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(app, session);
    // A client that falls off the ring is cut; the end is in the store all the same.
    drop(stream.try_wait_for(
        |frame| {
            frame["type"] == "app_server.turn.completed"
                && frame["payload"]["params"]["turn"]["id"] == turn.as_str()
        },
        DEADLINE,
    ));
}

#[test]
fn a_turn_with_many_items_and_a_session_with_many_turns_are_readable() {
    const ITEMS: u64 = 10_000;
    const TURNS: usize = 150;
    let many = || [step::items(ITEMS, 100)];
    let behaviour = Behaviour::correct().turn(many()).turn(many());
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_RING_BYTES", "1MiB").start();
    // What a flood takes while it passes is there after the first one; what further ones add is what
    // memory would keep of history.
    flood(&app, &create(&app));
    let before = resident(app.pid());
    let session = create(&app);
    flood(&app, &session);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    for _ in 0..TURNS {
        let turn = begin(&app, &session);
        assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    }
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let turns = detail["thread"]["turns"].as_array().cloned().unwrap_or_default();
    assert_eq!(turns.len(), TURNS + 1);
    assert_eq!(turns[0]["items"].as_array().map(Vec::len), Some(ITEMS as usize + 1));
    assert_eq!(rows(&detail, "agentMessage").len(), ITEMS as usize + TURNS);
}

#[test]
fn of_a_session_with_too_many_items_the_oldest_go_and_it_says_so() {
    let behaviour = Behaviour::correct().turn([step::items(1_500, 1_000)]);
    let app = with_fake(FakeScript::always(behaviour))
        .env("CODEX_MANAGER_THREAD_ITEMS_BYTES", "1MiB")
        .start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    turn_end(&mut stream, &turn);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let transcript = detail["transcript"].as_array().cloned().unwrap_or_default();
    assert_eq!(transcript[0]["type"], "history.trimmed", "{}", transcript[0]);
    assert!((600..900).contains(&transcript.len()), "{} rows", transcript.len());
    assert_eq!(detail["thread"]["turns"][0]["status"], "completed");
}

#[test]
fn a_long_item_is_readable_by_its_id() {
    const BYTES: usize = 3 << 20;
    let behaviour = Behaviour::correct().turn([step::big_line(BYTES)]);
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    turn_end(&mut stream, &turn);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let row = rows(&detail, "agentMessage")[0].clone();
    let id = row["messageId"].as_str().unwrap();
    let path = format!("/api/sessions/{session}/items/{id}");
    let item = app.get(&path).expect_status(200).body;
    assert_eq!((&item["id"], &item["type"]), (&json!(id), &json!("agentMessage")));
    assert_eq!(item["text"].as_str().map(str::len), Some(BYTES));
    let missing = app.get(&format!("/api/sessions/{session}/items/none"));
    assert_eq!((missing.status, &missing.body["code"]), (404, &Value::from("not_found")));
    assert_eq!(app.get("/api/sessions/none/items/none").status, 404);
}
