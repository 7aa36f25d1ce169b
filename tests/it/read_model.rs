//! Lists of sessions: each HTTP worker has its own copy, and nobody may notice.

use std::thread;

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, create, with_fake};

/// Workers of the server: more than there are processors, so that copies differ in age.
const WORKERS: &str = "4";

fn app() -> TestApp {
    with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_HTTP_WORKERS", WORKERS)
        .start()
}

/// A row of a list, as one of the workers answers it. Each call is a connection of its own, and
/// connections go round the workers.
fn listed(app: &TestApp, archived: bool, session: &str) -> Option<Value> {
    let page = app.get(&format!("/api/sessions?limit=200&archived={archived}"));
    let page = page.expect_status(200).body;
    assert_eq!(page["archived"], archived);
    page["data"].as_array().unwrap().iter().find(|row| row["sessionId"] == session).cloned()
}

/// What was answered is in every list from then on: four clients at once, 1,000 changes, each
/// looked for on two connections.
#[test]
fn whoever_wrote_reads_it_at_every_worker() {
    let app = app();
    let check = |archived: bool, session: &str, what: &str, expected: bool, title: &str| {
        for look in 0..2 {
            let row = listed(&app, archived, session);
            assert_eq!(row.is_some(), expected, "{what}, look {look}, archived: {archived}");
            if let Some(row) = row {
                assert_eq!(row["title"], title, "{what}, look {look}");
            }
        }
    };
    let act = |session: &str, verb: &str, body: Value| {
        app.post(&format!("/api/sessions/{session}/{verb}"), body).expect_status(200);
    };
    thread::scope(|scope| {
        for client in 0..4 {
            let (app, check, act) = (&app, &check, &act);
            scope.spawn(move || {
                for round in 0..50 {
                    let session = create(app);
                    check(false, &session, "created", true, "New chat");
                    let title = format!("Round {round} of client {client}");
                    act(&session, "rename", json!({ "title": title }));
                    check(false, &session, "renamed", true, &title);
                    act(&session, "archive", json!({}));
                    check(false, &session, "archived", false, &title);
                    check(true, &session, "archived", true, &title);
                    act(&session, "unarchive", json!({}));
                    check(false, &session, "unarchived", true, &title);
                    app.delete(&format!("/api/sessions/{session}")).expect_status(200);
                    check(false, &session, "deleted", false, &title);
                    check(true, &session, "deleted", false, &title);
                }
            });
        }
    });
}

/// The lists are read beside everything else when the program starts. Whoever asks before that
/// waits; nobody is shown a list that is not whole.
#[test]
fn a_list_is_whole_from_the_first_answer_on() {
    const SESSIONS: usize = 60;
    let mut app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_HTTP_WORKERS", WORKERS)
        .without_readiness()
        .start();
    app.wait_ready(DEADLINE);
    let mut made: Vec<String> = (0..SESSIONS).map(|_| create(&app)).collect();
    let gone = made.swap_remove(7);
    app.delete(&format!("/api/sessions/{gone}")).expect_status(200);
    let kept = made.swap_remove(11);
    app.post(&format!("/api/sessions/{kept}/archive"), json!({})).expect_status(200);
    let before = app.get("/api/sessions?limit=200").expect_status(200).text;
    let shown = |body: &str| {
        let page: Value = serde_json::from_str(body).unwrap();
        let rows = page["data"].as_array().unwrap().iter();
        rows.map(|row| text(&row["sessionId"])).collect::<Vec<_>>()
    };
    let mut expected = shown(&before);
    expected.sort();
    made.sort();
    assert_eq!(expected, made);
    app.restart();
    for _ in 0..8 {
        let after = app.get("/api/sessions?limit=200").expect_status(200).text;
        assert_eq!(after, before);
    }
    let archived = app.get("/api/sessions?archived=true").expect_status(200).text;
    assert_eq!(shown(&archived), [kept]);
}

/// The activity of a session, as lists show it, is that of the frame that a subscriber saw last.
#[test]
fn lists_know_what_a_subscriber_was_shown() {
    let behaviour = Behaviour::correct().turn([step::hang()]);
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_HTTP_WORKERS", WORKERS).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let turn = begin(&app, &session);
    for _ in 0..4 {
        assert_eq!(listed(&app, false, &session).unwrap()["activity"], "running");
    }
    app.post(&format!("/api/sessions/{session}/interrupt"), json!({})).expect_status(200);
    turn_end(&mut stream, &turn);
    for _ in 0..4 {
        assert_eq!(listed(&app, false, &session).unwrap()["activity"], "idle");
    }
}
