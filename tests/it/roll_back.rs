//! Turns that are taken back where the runtime does not simply do so.

use cm_testkit::app::{StreamClient, TestApp};
use cm_testkit::codex::{CODEX_NEW, CODEX_OLD};
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, rows, text};
use crate::fake_app::{create, refused, run_turn, with_fake};
use crate::other_clients::{OFTEN, Other, compared, row, said, wait_said};

fn roll_back(bench: &Bench, session: &str, turns: u32) -> Value {
    bench.act(session, "rollback", json!({ "numTurns": turns })).expect_status(200).body
}

/// The ids of the runtime's threads in one of its lists.
fn listed(other: &mut Other, archived: bool) -> Vec<String> {
    let params = json!({ "archived": archived, "limit": 50 });
    let list = other.client.call("thread/list", params);
    list["data"].as_array().into_iter().flatten().map(|thread| text(&thread["id"])).collect()
}

fn sessions(app: &TestApp, query: &str) -> Vec<String> {
    let list = app.get(&format!("/api/sessions?limit=200{query}")).expect_status(200).body;
    list["data"].as_array().into_iter().flatten().map(|row| text(&row["sessionId"])).collect()
}

/// Waits until the runtime's lists were compared, from begin to end.
fn wait_compared(app: &TestApp) {
    let (rounds, _) = compared(app);
    wait_until("the lists were compared", DEADLINE, || compared(app).0 > rounds + 1);
}

fn runtime_id(app: &TestApp, session: &str) -> String {
    text(&app.detail(session)["session"]["runtimeThreadId"])
}

#[test]
fn a_session_that_an_older_version_began_goes_on_in_a_fork() {
    let mut bench = Bench::start_with(Kind::CodexNew, |builder| builder.env(OFTEN.0, OFTEN.1));
    let mut other = Other::of(&bench, CODEX_OLD);
    let session = other.thread();
    for words in ["one", "two", "three"] {
        other.turn(&session, words);
    }
    other.end();
    wait_said(&bench.app, &session, &["one", "two", "three"]);
    bench.act(&session, "rename", json!({ "title": "the old one" })).expect_status(200);
    bench.complete_turn(&session, &[Act::Say("four")]);
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let back = roll_back(&bench, &session, 3);
    assert_eq!((&back["sessionId"], &back["numTurns"]), (&json!(session), &json!(3)));
    let told = stream.wait_type("session_rolled_back", DEADLINE);
    assert_eq!(told["payload"]["turnIds"].as_array().map(Vec::len), Some(3), "{told}");
    assert_eq!(said(&bench.app, &session), ["one"]);
    let first = runtime_id(&bench.app, &session);
    assert_ne!(first, session);
    let detail = bench.detail(&session);
    let row_of_it = rows(&detail, "session.thread.forked");
    assert_eq!(row_of_it.len(), 1, "{detail}");
    assert!(text(&row_of_it[0]["content"]).contains(&first), "{detail}");
    // The model is told what is left.
    bench.complete_turn(&session, &[Act::Say("five")]);
    let asked = bench.model().requests().pop().expect("a request").body["input"].clone();
    let words = ["one", "two", "three", "four", "five"].map(|word| format!(r#"\"{word}\""#));
    let asked = asked.to_string();
    assert_eq!(
        words.map(|word| asked.contains(&word)),
        [true, false, false, false, true],
        "{asked}"
    );
    // Other clients see one of the two threads, under the session's name.
    let mut other = Other::of(&bench, CODEX_NEW);
    wait_until("the former one is archived", DEADLINE, || {
        listed(&mut other, true) == [session.as_str()]
    });
    assert_eq!(listed(&mut other, false), [first.as_str()]);
    let read = other.client.call("thread/read", json!({ "threadId": first }));
    assert_eq!(read["thread"]["name"], "the old one");
    // It is one session, and not archived.
    wait_compared(&bench.app);
    assert_eq!(sessions(&bench.app, ""), [session.as_str()]);
    assert_eq!(sessions(&bench.app, "&archived=true"), Vec::<String>::new());
    // Once more, now of the fork; and over a restart.
    roll_back(&bench, &session, 1);
    assert_eq!(said(&bench.app, &session), ["one"]);
    let second = runtime_id(&bench.app, &session);
    assert!(second != first && second != session);
    bench.app.restart();
    wait_compared(&bench.app);
    assert_eq!(sessions(&bench.app, ""), [session.as_str()]);
    assert_eq!(sessions(&bench.app, "&archived=true"), Vec::<String>::new());
    bench.complete_turn(&session, &[Act::Say("six")]);
    assert_eq!(said(&bench.app, &session), ["one", "six"]);
    assert_eq!(runtime_id(&bench.app, &session), second);
    // What is archived and named is the thread that counts.
    bench.act(&session, "archive", json!({})).expect_status(200);
    assert!(listed(&mut other, true).contains(&second));
    bench.act(&session, "unarchive", json!({})).expect_status(200);
    assert_eq!(listed(&mut other, false), [second]);
    // Nothing of it is left anywhere.
    let gone = bench.app.delete(&format!("/api/sessions/{session}")).expect_status(200).body;
    assert_eq!(gone["deletedFileCount"], 3, "{gone}");
    assert_eq!((listed(&mut other, true), listed(&mut other, false)), (vec![], vec![]));
    other.end();
    bench.app.restart();
    wait_compared(&bench.app);
    assert_eq!(row(&bench.app, &session, ""), None);
    assert_eq!(sessions(&bench.app, ""), Vec::<String>::new());
}

#[test]
fn all_turns_of_a_session_that_an_older_version_began_are_taken_back() {
    let mut bench = Bench::start_with(Kind::CodexNew, |builder| builder.env(OFTEN.0, OFTEN.1));
    let mut other = Other::of(&bench, CODEX_OLD);
    let session = other.thread();
    other.turn(&session, "one");
    other.turn(&session, "two");
    other.end();
    wait_said(&bench.app, &session, &["one", "two"]);
    roll_back(&bench, &session, 2);
    assert_eq!(said(&bench.app, &session), Vec::<String>::new());
    let behind = runtime_id(&bench.app, &session);
    bench.app.restart();
    bench.complete_turn(&session, &[Act::Say("new")]);
    assert_eq!(said(&bench.app, &session), ["new"]);
    assert_eq!(runtime_id(&bench.app, &session), behind, "the fork was not lost");
    wait_compared(&bench.app);
    assert_eq!(sessions(&bench.app, ""), [session]);
}

/// How long calls may take here: some are never answered.
const BRIEF: (&str, &str) = ("CODEX_MANAGER_CALL_TIMEOUT_MS", "2000");

/// The program over a fake child that takes turns back as told, and a session with three turns.
fn with_three_turns(method: &str, rule: MethodRule) -> (TestApp, String, StreamClient) {
    let behaviour = Behaviour::correct().method(method, rule);
    let app = with_fake(FakeScript::always(behaviour)).env(BRIEF.0, BRIEF.1).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    for _ in 0..3 {
        run_turn(&app, &mut stream, &session);
    }
    (app, session, stream)
}

fn turns(app: &TestApp, session: &str) -> usize {
    app.detail(session)["thread"]["turns"].as_array().map_or(0, Vec::len)
}

fn post_roll_back(app: &TestApp, session: &str, turns: u32) -> cm_testkit::http::Reply {
    app.post(&format!("/api/sessions/{session}/rollback"), json!({ "numTurns": turns }))
}

/// An answer that never comes does not say that nothing was done.
fn a_rollback_without_an_answer(method: &str, rule: MethodRule, left: usize) {
    let (app, session, mut stream) = with_three_turns(method, rule);
    refused(&post_roll_back(&app, &session, 2), 504, "codex_timeout");
    let compared = stream.wait_type("session_reconciled", DEADLINE);
    assert_eq!(compared["payload"]["turnsAdded"], json!([]), "{compared}");
    assert_eq!(turns(&app, &session), left);
    run_turn(&app, &mut stream, &session);
    assert_eq!(turns(&app, &session), left + 1);
}

#[test]
fn turns_that_were_taken_back_without_an_answer_are_shown_no_more() {
    a_rollback_without_an_answer("thread/rollback", MethodRule::silent_first(1), 1);
}

#[test]
fn turns_that_were_reverted_without_an_answer_are_shown_no_more() {
    a_rollback_without_an_answer("thread/revert", MethodRule::silent_first(1), 1);
}

#[test]
fn turns_that_were_not_taken_back_stay() {
    let rule = MethodRule::result(json!({})).unanswered();
    a_rollback_without_an_answer("thread/rollback", rule, 3);
}

#[test]
fn a_revert_is_told_once() {
    let (app, session, mut stream) = with_three_turns("thread/revert", MethodRule::default());
    post_roll_back(&app, &session, 1).expect_status(200);
    run_turn(&app, &mut stream, &session);
    let told = stream.read(|frames| {
        let told = |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
        (told("session_rolled_back"), told("session_reconciled"))
    });
    assert_eq!(told, (1, 0));
    assert_eq!(turns(&app, &session), 3);
}

#[test]
fn a_runtime_that_says_it_took_controls_and_did_not_reviews_nothing() {
    let stubborn = MethodRule::merge(json!({ "approvalPolicy": "on-request" }));
    let behaviour = Behaviour::correct()
        .method("thread/settings/update", MethodRule::result(json!({})))
        .method("review/start", MethodRule::result(json!({ "turn": { "id": "r" } })))
        .method("thread/resume", stubborn);
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    run_turn(&app, &mut stream, &session);
    let body = json!({
        "scope": "session", "actor": "me", "source": "test",
        "controls": {
            "model": null, "approvalPolicy": "never", "networkAccess": "restricted",
            "filesystemSandbox": "read-only",
        },
    });
    app.post(&format!("/api/sessions/{session}/session-controls"), body).expect_status(200);
    let review = app.post(&format!("/api/sessions/{session}/review"), json!({}));
    refused(&review, 502, "codex_error");
    assert!(text(&review.body["message"]).contains("became"), "{}", review.text);
    assert_eq!(app.fake().calls("review/start").len(), 0);
    // Nothing was begun with other ones, and a message names its own.
    assert_eq!(app.detail(&session)["session"]["problem"], Value::Null);
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}

#[test]
fn after_a_revert_a_review_gets_the_controls_again() {
    for rule in [MethodRule::default(), MethodRule::silent_first(1)] {
        let behaviour = Behaviour::correct()
            .method("thread/revert", rule)
            .method("thread/settings/update", MethodRule::result(json!({})))
            .method("review/start", MethodRule::result(json!({ "turn": { "id": "r" } })));
        let app = with_fake(FakeScript::always(behaviour)).env(BRIEF.0, BRIEF.1).start();
        let session = create(&app);
        let mut stream = app.stream(Some(&session));
        run_turn(&app, &mut stream, &session);
        run_turn(&app, &mut stream, &session);
        post_roll_back(&app, &session, 1);
        stream.wait_type("session_rolled_back", DEADLINE);
        app.post(&format!("/api/sessions/{session}/review"), json!({})).expect_status(200);
        assert_eq!(app.fake().calls("thread/settings/update").len(), 1);
    }
}

/// A child that takes turns back in histories with pages only, and this session has none.
fn without_pages(fork: MethodRule) -> Behaviour {
    let refusal = MethodRule::error(-32600, "thread/revert only supports paginated threads");
    Behaviour::correct().method("thread/revert", refusal).method("thread/fork", fork)
}

#[test]
fn a_fork_with_other_controls_does_not_take_the_place() {
    let other = MethodRule::merge(json!({ "approvalPolicy": "never" }));
    let app = with_fake(FakeScript::always(without_pages(other))).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    run_turn(&app, &mut stream, &session);
    refused(&post_roll_back(&app, &session, 1), 502, "codex_error");
    assert_eq!(turns(&app, &session), 1);
    assert_eq!(app.detail(&session)["session"].get("runtimeThreadId"), None);
    wait_until("the fork is discarded", DEADLINE, || {
        app.fake().calls("thread/delete").iter().any(|call| call["threadId"] != session.as_str())
    });
    assert_eq!(sessions(&app, ""), [session.as_str()]);
    run_turn(&app, &mut stream, &session);
}

#[test]
fn while_a_fork_takes_the_place_the_session_stays_where_it_is() {
    let app = with_fake(FakeScript::starts([without_pages(MethodRule::never())])).start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    run_turn(&app, &mut stream, &session);
    std::thread::scope(|threads| {
        let asked = threads.spawn(|| post_roll_back(&app, &session, 1));
        wait_until("the child is asked", DEADLINE, || !app.fake().calls("thread/fork").is_empty());
        let path = format!("/api/sessions/{session}");
        for action in ["archive", "fork", "resume"] {
            refused(&app.post(&format!("{path}/{action}"), json!({})), 409, "invalid_state");
        }
        refused(&app.delete(&path), 409, "invalid_state");
        refused(&post_roll_back(&app, &session, 1), 409, "invalid_state");
        // The child ends in the middle of it, and with it the fork.
        let old = app.kill_child();
        refused(&asked.join().expect("an answer"), 503, "runtime_unavailable");
        app.wait_new_child(old, DEADLINE);
    });
    assert_eq!(turns(&app, &session), 1);
    run_turn(&app, &mut stream, &session);
    assert_eq!(turns(&app, &session), 2);
    app.post(&format!("/api/sessions/{session}/archive"), json!({})).expect_status(200);
}
