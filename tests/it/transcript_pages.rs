//! A session page by page: the rows of its transcript, and its turns.

use cm_testkit::app::TestApp;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, over_runtimes, text, turn_end};
use crate::fake_app::{create, embedded};
use crate::openapi::Described;

over_runtimes!(pages_are_the_whole_whatever_is_done, turns_are_listed_with_what_became_of_them);

const LIMITS: [usize; 5] = [1, 2, 3, 7, 200];

/// All pages of a list of a session, put together; each but the first (the oldest) is full.
#[track_caller]
fn all_pages(app: &TestApp, session: &str, list: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut before): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let before_part = before.map(|cursor| format!("&before={cursor}")).unwrap_or_default();
        let path = format!("/api/sessions/{session}/{list}?limit={limit}{before_part}");
        let page = app.get(&path).expect_status(200).body;
        assert_eq!(page["sessionId"], session);
        let rows = page["data"].as_array().cloned().unwrap_or_default();
        before = page["nextCursor"].as_str().map(str::to_owned);
        assert!(before.is_none() || rows.len() == limit, "a short page: {page}");
        all.splice(0..0, rows);
        if before.is_none() {
            return all;
        }
    }
}

/// That pages of every size, put together, are the transcript and the turns of the whole session;
/// answers its rows.
#[track_caller]
fn assert_pages(app: &TestApp, session: &str) -> Vec<Value> {
    let whole = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let rows = whole["transcript"].as_array().cloned().unwrap_or_default();
    let turns = whole["thread"]["turns"].as_array().cloned().unwrap_or_default();
    for limit in LIMITS {
        assert_eq!(all_pages(app, session, "transcript", limit), rows, "pages of {limit}");
        let listed = all_pages(app, session, "turns", limit);
        let ids = |turns: &[Value]| turns.iter().map(|turn| text(&turn["id"])).collect::<Vec<_>>();
        assert_eq!(ids(&listed), ids(&turns), "turns by {limit}");
    }
    rows
}

fn upsert(app: &TestApp, session: &str, id: &str, turn: &str, details: Option<Value>) {
    let mut row = json!({
        "messageId": id, "turnId": turn, "role": "system", "type": "note",
        "content": format!("{id} was added"), "status": "complete",
    });
    if let Some(details) = details {
        row["details"] = json!(details.to_string());
    }
    let path = format!("/api/sessions/{session}/transcript/upsert");
    app.post(&path, row).expect_status(200);
}

fn position(rows: &[Value], id: &str) -> usize {
    // Items of one id are taken for the last of them.
    rows.iter().rposition(|row| row["messageId"] == id).expect("the row")
}

fn pages_are_the_whole_whatever_is_done(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    assert!(assert_pages(&bench.app, &session).is_empty());
    let first = bench.complete_turn(&session, &[Act::Say("one"), Act::Say("two")]);
    let rows = assert_pages(&bench.app, &session);
    let said = rows.iter().find(|row| row["role"] == "assistant").expect("it");
    let said = text(&said["messageId"]);
    // Rows that are added: at the end of a turn, behind an anchor, shown with an item.
    upsert(&bench.app, &session, "anchored", "else", Some(json!({ "anchorItemId": said })));
    upsert(&bench.app, &session, "late", &first, None);
    upsert(&bench.app, &session, &said, &first, Some(json!({ "more": "x".repeat(5000) })));
    let rows = assert_pages(&bench.app, &session);
    assert_eq!(position(&rows, "anchored"), position(&rows, &said) + 1);
    assert!(text(&rows[position(&rows, &said)]["details"]).contains("xxx"), "{rows:?}");
    // A request, before and after it is decided.
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let asking = match kind {
        Kind::Embedded => Act::Run("true"),
        Kind::CodexNew | Kind::CodexOld => Act::Run("rm -rf nothing"),
    };
    let turn = bench.send(&session, &[asking, Act::Say("done")]);
    let asked = approval(&mut stream);
    let rows = assert_pages(&bench.app, &session);
    assert_eq!(rows[position(&rows, &format!("approval-{asked}"))]["type"], "approval.request");
    bench.decide(&asked, json!({ "decision": "accept" })).expect_status(200);
    let whole = bench.detail(&session)["transcript"].as_array().cloned().unwrap_or_default();
    assert_eq!(whole[position(&whole, &format!("approval-{asked}"))]["type"], "approval.resolved");
    turn_end(&mut stream, &turn);
    assert_pages(&bench.app, &session);
    // A turn that fails has a row that says why.
    let failed = bench.send(&session, &[Act::Fail("no such thing")]);
    assert_eq!(turn_end(&mut stream, &failed)["status"], "failed");
    upsert(&bench.app, &session, "after the failure", &failed, None);
    let rows = assert_pages(&bench.app, &session);
    let reason = position(&rows, &format!("turn-{failed}"));
    assert_eq!(reason, position(&rows, "after the failure") + 1);
    // While a turn streams.
    let held = bench.send(&session, &[Act::Hold]);
    stream.wait_for(|frame| is_delta(&frame.to_string()), DEADLINE);
    let rows = assert_pages(&bench.app, &session);
    assert!(rows.iter().any(|row| row["status"] == "streaming"), "{rows:?}");
    bench.act(&session, "interrupt", json!({})).expect_status(200);
    turn_end(&mut stream, &held);
    let before = assert_pages(&bench.app, &session);
    let forked = bench.act(&session, "fork", json!({})).expect_status(200).body;
    let fork = text(&forked["session"]["sessionId"]);
    let copied = assert_pages(&bench.app, &fork);
    assert!(copied.iter().any(|row| row["messageId"] == said.as_str()));
    bench.complete_turn(&fork, &[Act::Say("mine")]);
    assert_eq!(assert_pages(&bench.app, &session), before);
    if kind.is_codex() {
        bench.act(&session, "rollback", json!({ "numTurns": 1 })).expect_status(200);
        let rows = assert_pages(&bench.app, &session);
        assert!(rows.iter().all(|row| row["turnId"] != held.as_str()), "{rows:?}");
    }
    let (rows, copied) = (assert_pages(&bench.app, &session), assert_pages(&bench.app, &fork));
    bench.app.restart();
    assert_eq!(assert_pages(&bench.app, &session), rows);
    assert_eq!(assert_pages(&bench.app, &fork), copied);
}

fn is_delta(frame: &str) -> bool {
    frame.contains("item/agentMessage/delta")
}

fn turns_are_listed_with_what_became_of_them(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let well = bench.complete_turn(&session, &[Act::Say("one")]);
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let failed = bench.send(&session, &[Act::Fail("no such thing")]);
    turn_end(&mut stream, &failed);
    let held = bench.send(&session, &[Act::Hold]);
    stream.wait_for(|frame| is_delta(&frame.to_string()), DEADLINE);
    let path = format!("/api/sessions/{session}/turns");
    let page = bench.app.get(&path).expect_status(200);
    Described::read(&bench.app).check("get", "/api/sessions/{id}/turns", &page);
    let turns = page.body["data"].as_array().cloned().unwrap_or_default();
    let all: Vec<(&Value, &Value)> =
        turns.iter().map(|turn| (&turn["id"], &turn["status"])).collect();
    let expected = [(well, "completed"), (failed, "failed"), (held.clone(), "inProgress")];
    let expected = expected.map(|(id, status)| (json!(id), json!(status)));
    assert_eq!(all, expected.each_ref().map(|(id, status)| (id, status)));
    assert_eq!(page.body["nextCursor"], Value::Null);
    assert!(turns[0]["error"].is_null() && turns[0]["itemCount"].as_u64() >= Some(2), "{turns:?}");
    assert!(turns[0]["completedAt"].as_i64() >= turns[0]["startedAt"].as_i64());
    assert!(text(&turns[1]["error"]["message"]).contains("no such thing"), "{turns:?}");
    assert!(turns[2]["completedAt"].is_null());
    bench.act(&session, "interrupt", json!({})).expect_status(200);
    turn_end(&mut stream, &held);
    let turns = bench.app.get(&path).expect_status(200).body;
    assert_eq!(turns["data"][2]["status"], "interrupted", "{turns}");
}

#[test]
fn a_cursor_stays_where_it_is_while_rows_are_added() {
    let app = embedded().start();
    let session = create(&app);
    for number in 0..6 {
        upsert(&app, &session, &format!("row {number}"), "t", None);
    }
    let path = format!("/api/sessions/{session}/transcript?limit=2");
    let page = app.get(&path).expect_status(200);
    Described::read(&app).check("get", "/api/sessions/{id}/transcript", &page);
    let ids = |page: &Value| {
        let rows = page["data"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| text(&row["messageId"])).collect::<Vec<_>>()
    };
    assert_eq!(ids(&page.body), ["row 4", "row 5"]);
    let next = format!("{path}&before={}", text(&page.body["nextCursor"]));
    let older = app.get(&next).expect_status(200).body;
    assert_eq!(ids(&older), ["row 2", "row 3"]);
    for number in 6..9 {
        upsert(&app, &session, &format!("row {number}"), "t", None);
        // Written again: the row stays where it is.
        upsert(&app, &session, "row 3", "t", None);
    }
    assert_eq!(app.get(&next).expect_status(200).body, older);
    assert_eq!(ids(&app.get(&path).expect_status(200).body), ["row 7", "row 8"]);
}

#[test]
fn what_was_answered_is_in_the_next_page() {
    let app = embedded().start();
    let session = create(&app);
    let paths = ["", "/transcript", "/turns"].map(|rest| format!("/api/sessions/{session}{rest}"));
    for number in 0..20 {
        let id = format!("row {number}");
        upsert(&app, &session, &id, "t", None);
        // Twice: the second one is kept from the first.
        for _ in 0..2 {
            for path in &paths[..2] {
                assert!(app.get(path).expect_status(200).text.contains(&id), "{path}");
            }
        }
        let title = format!("title {number}");
        app.post(&format!("/api/sessions/{session}/rename"), json!({ "title": title }))
            .expect_status(200);
        let whole = app.get(&paths[0]).expect_status(200).body;
        assert_eq!(whole["session"]["title"], title.as_str());
    }
    app.delete(&paths[0]).expect_status(200);
    for path in &paths {
        assert_eq!(app.get(path).expect_status(410).body["code"], "deleted");
    }
}

#[test]
fn a_bad_page_is_refused_with_what_is_wrong() {
    let app = embedded().start();
    let (session, other) = (create(&app), create(&app));
    for number in 0..3 {
        upsert(&app, &other, &format!("row {number}"), "t", None);
    }
    let foreign = format!("/api/sessions/{other}/transcript?limit=1");
    let foreign = text(&app.get(&foreign).expect_status(200).body["nextCursor"]);
    let long = "x".repeat(5000);
    for list in ["transcript", "turns"] {
        let path = format!("/api/sessions/{session}/{list}");
        for before in ["", "x", "r.1.2.3.4", "t.0.0", "1|2|t", &foreign, &long] {
            let body = app.get(&format!("{path}?before={before}")).expect_status(400).body;
            assert_eq!(body["code"], "invalid_request", "{body}");
            assert_eq!(body["issues"][0]["path"], json!(["before"]), "{before}: {body}");
        }
        for limit in ["0", "201", "", "two", "-1"] {
            let body = app.get(&format!("{path}?limit={limit}")).expect_status(400).body;
            assert_eq!(body["issues"][0]["path"], json!(["limit"]), "{limit}: {body}");
        }
        for query in ["", "?limit=0", "?before=x"] {
            let path = format!("/api/sessions/nobody/{list}{query}");
            assert_eq!(app.get(&path).expect_status(404).body["status"], "not_found");
        }
    }
}
