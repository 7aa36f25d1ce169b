//! Long histories and long items: memory is bounded, everything is readable.

use std::ops::Range;

use cm_testkit::app::{StreamOptions, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, long_text, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, is_long, rows, turn_end};
use crate::fake_app::{begin, create, send, with_fake};

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
    // A client that falls off the ring is cut; the turn goes on.
    drop(stream.try_wait_for(
        |frame| {
            frame["type"] == "app_server.turn.completed"
                && frame["payload"]["params"]["turn"]["id"] == turn.as_str()
        },
        DEADLINE,
    ));
    wait_until("the turn has ended", 4 * DEADLINE, || {
        let page = app.get("/api/sessions").expect_status(200).body;
        let rows = page["data"].as_array().unwrap();
        rows.iter().any(|row| row["sessionId"] == session && row["activity"] == "idle")
    });
}

#[test]
fn a_turn_with_many_items_and_a_session_with_many_turns_are_readable() {
    const TURNS: usize = 150;
    let items = if is_long() { 100_000 } else { 10_000 };
    let many = || [step::items(items, 100)];
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
    assert_eq!(turns[0]["items"].as_array().map(Vec::len), Some(items as usize + 1));
    assert_eq!(rows(&detail, "agentMessage").len(), items as usize + TURNS);
}

/// What the agent says in a turn of [`converse`]: 2 KiB.
fn answer(number: usize) -> String {
    format!("{number:-<2048}")
}

/// Plays turns, each of which asks and answers with its number.
fn converse(app: &TestApp, session: &str, numbers: Range<usize>) {
    let options = StreamOptions::default().query("threadId", session).query("view", "single");
    let mut stream = app.try_stream(options).expect("a stream");
    stream.wait_type("ready", DEADLINE);
    for number in numbers {
        let sent = send(app, session, &format!("question {number}")).expect_status(202);
        let end = stream.wait_type("app_server.turn.completed", DEADLINE);
        assert_eq!(end["payload"]["params"]["turn"]["id"], sent.body["turnId"]);
    }
}

/// That a session consists of so many turns of [`converse`], all of them whole and in order.
fn assert_conversation(app: &TestApp, session: &str, length: usize) {
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let turns = detail["thread"]["turns"].as_array().unwrap();
    assert_eq!(turns.len(), length);
    assert_eq!(turns.iter().position(|turn| turn["status"] != "completed"), None);
    for number in [0, length / 2, length - 1] {
        let items = &turns[number]["items"];
        assert_eq!(items[0]["content"][0]["text"], format!("question {number}"));
        assert_eq!(items[1]["text"], answer(number));
    }
    let transcript = detail["transcript"].as_array().unwrap();
    let said = transcript.iter().map(|row| row["content"].as_str().unwrap_or_default());
    let expected = (0..length).flat_map(|number| [format!("question {number}"), answer(number)]);
    assert!(said.eq(expected), "{} rows", transcript.len());
}

#[test]
fn ten_thousand_turns_of_a_session_are_readable_also_after_a_restart() {
    const TURNS: usize = 10_000;
    let turns = (0..TURNS).map(|number| [step::message(&answer(number))]);
    let behaviour = turns.fold(Behaviour::correct(), Behaviour::turn);
    let script = FakeScript::starts([behaviour]);
    let mut app = with_fake(script)
        .env("CODEX_MANAGER_RING_BYTES", "1MiB")
        .env("CODEX_MANAGER_LOG_BYTES", "8MiB")
        .start();
    let session = create(&app);
    // By then the log of events is full and gives back as much as it takes.
    converse(&app, &session, 0..4_000);
    let before = resident(app.pid());
    converse(&app, &session, 4_000..TURNS);
    let grown = resident(app.pid()).saturating_sub(before);
    // Less than what was said in these turns.
    assert!(grown < 8 << 20, "{grown} bytes more");
    assert_conversation(&app, &session, TURNS);
    app.restart();
    let started = resident(app.pid());
    assert!(started < before, "{started} bytes after the start, {before} before");
    assert_conversation(&app, &session, TURNS);
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
    const BYTES: usize = 20_000_000;
    let behaviour = Behaviour::correct().turn([step::big_line(BYTES)]);
    let mut app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    turn_end(&mut stream, &turn);
    let text = long_text(BYTES);
    for life in ["first", "second"] {
        let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
        let row = rows(&detail, "agentMessage")[0];
        assert!(row["content"] == text, "the row of the {life} life");
        let id = row["messageId"].as_str().unwrap();
        let item = app.get(&format!("/api/sessions/{session}/items/{id}")).expect_status(200);
        // As the child wrote it, byte for byte.
        let written =
            json!({ "type": "agentMessage", "id": id, "text": text, "phase": null }).to_string();
        assert!(item.text == written, "the item of the {life} life");
        app.restart();
    }
    let missing = app.get(&format!("/api/sessions/{session}/items/none"));
    assert_eq!((missing.status, &missing.body["code"]), (404, &Value::from("not_found")));
    assert_eq!(app.get("/api/sessions/none/items/none").status, 404);
}
