//! Every action is done twice, one after the other and at the same moment.
//! docs/compatibility.md has what clients can count on.

use std::sync::Barrier;

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, MethodRule};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, approval, rows, text, turn_end};
use crate::fake_app;

/// An action, and what its second time answers.
struct Repeated {
    verb: &'static str,
    path: String,
    body: Value,
    first: u16,
    second: u16,
    word: Option<&'static str>,
}

fn repeated(path: String, body: Value, first: u16, second: u16) -> Repeated {
    Repeated { verb: "POST", path, body, first, second, word: None }
}

impl Repeated {
    fn deletes(mut self) -> Self {
        self.verb = "DELETE";
        self
    }

    fn says(mut self, word: &'static str) -> Self {
        self.word = Some(word);
        self
    }

    fn run(&self, app: &TestApp) -> (u16, Value) {
        let reply = match self.verb {
            "DELETE" => app.delete(&self.path),
            _ => app.post(&self.path, self.body.clone()),
        };
        (reply.status, reply.body)
    }

    fn check(&self, (status, body): &(u16, Value), wanted: u16) {
        assert_eq!(*status, wanted, "{} {}: {body}", self.verb, self.path);
    }
}

/// Actions on a session with a turn behind it, and on projects. Those of a session that is deleted
/// come last.
fn actions(session: &str, project: &str) -> Vec<Repeated> {
    let of = |rest: &str| format!("/api/sessions/{session}/{rest}");
    let of_project = |rest: &str| format!("/api/projects/{project}{rest}");
    let controls = json!({
        "model": null, "approvalPolicy": "never", "networkAccess": "restricted",
        "filesystemSandbox": "read-only",
    });
    let row = json!({
        "messageId": "m", "turnId": "t", "role": "system", "type": "note", "content": "c",
        "status": "complete",
    });
    vec![
        repeated(of("rename"), json!({ "title": "Again" }), 200, 200),
        repeated(of("resume"), json!({}), 200, 200),
        repeated(of("interrupt"), json!({}), 409, 409).says("no_active_turn"),
        repeated(of("turns/t/steer"), json!({ "input": "more" }), 409, 409),
        repeated(
            of("session-controls"),
            json!({ "scope": "session", "controls": controls }),
            200,
            200,
        )
        .says("unchanged"),
        repeated(of("approval-policy"), json!({ "approvalPolicy": "untrusted" }), 200, 200)
            .says("ok"),
        repeated(of("settings"), json!({ "scope": "session", "key": "a", "value": 1 }), 200, 200)
            .says("unchanged"),
        repeated(of("settings/a"), Value::Null, 200, 200).deletes().says("unchanged"),
        repeated(of("transcript/upsert"), row, 200, 200).says("ok"),
        repeated(of("fork"), json!({}), 200, 200).says("ok"),
        repeated("/api/projects".to_owned(), json!({ "name": "New" }), 200, 409)
            .says("duplicate_name"),
        repeated(of_project("/rename"), json!({ "name": "Other" }), 200, 200).says("ok"),
        repeated(of("project"), json!({ "projectId": project }), 200, 200).says("ok"),
        repeated(of_project("/chats/move-all"), json!({ "destination": "unassigned" }), 200, 200)
            .says("ok"),
        repeated(of_project("/chats/delete-all"), json!({}), 200, 200).says("ok"),
        repeated(of_project(""), Value::Null, 200, 404).deletes().says("not_found"),
        repeated(of("archive"), json!({}), 200, 200).says("ok"),
        repeated(of("unarchive"), json!({}), 200, 200).says("ok"),
        repeated(format!("/api/sessions/{session}"), Value::Null, 200, 410)
            .deletes()
            .says("deleted"),
    ]
}

/// Does something twice at the same moment.
fn at_once<T: Send>(action: impl Fn() -> T + Sync) -> [T; 2] {
    let together = Barrier::new(2);
    let run = || {
        together.wait();
        action()
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(run), scope.spawn(run)];
        both.map(|one| one.join().expect("an answer"))
    })
}

fn prepared() -> (Bench, String, String) {
    let bench = Bench::start(Kind::Embedded);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let created = bench.app.post("/api/projects", json!({ "name": "Mine" })).expect_status(200);
    let project = text(&created.body["project"]["projectId"]);
    (bench, session, project)
}

#[test]
fn done_twice_one_after_the_other() {
    let (bench, session, project) = prepared();
    for action in actions(&session, &project) {
        action.check(&action.run(&bench.app), action.first);
        let second = action.run(&bench.app);
        action.check(&second, action.second);
        if let Some(word) = action.word {
            assert_eq!(second.1["status"], word, "{}: {}", action.path, second.1);
        }
    }
}

#[test]
fn done_twice_at_the_same_moment() {
    let (bench, session, project) = prepared();
    for action in actions(&session, &project) {
        let mut seen = at_once(|| action.run(&bench.app));
        seen.sort_by_key(|(status, _)| *status);
        action.check(&seen[0], action.first.min(action.second));
        action.check(&seen[1], action.first.max(action.second));
    }
}

/// Both answers of the child are read at once.
#[test]
fn of_two_that_delete_a_session_one_deletes_it() {
    let script = Behaviour::correct().method("thread/delete", MethodRule::together(2));
    let app = fake_app::start(script);
    let session = fake_app::create(&app);
    let path = format!("/api/sessions/{session}");
    let mut seen = at_once(|| app.delete(&path).status);
    seen.sort_unstable();
    assert_eq!(seen, [200, 410]);
    let gone = app.delete(&path).expect_status(410).body;
    assert_eq!((&gone["code"], &gone["sessionId"]), (&json!("deleted"), &json!(session)));
}

#[test]
fn an_approval_that_was_decided_says_what_was_decided() {
    let bench = Bench::start(Kind::Embedded);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch here"), Act::Say("done")]);
    let id = approval(&mut stream);
    let mut seen = at_once(|| bench.decide(&id, json!({ "decision": "decline" })).status);
    seen.sort_unstable();
    assert_eq!(seen, [200, 409]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let late = bench.decide(&id, json!({ "decision": "accept" })).expect_status(409).body;
    assert_eq!((&late["code"], &late["decision"]), (&json!("already_resolved"), &json!("decline")));
}

#[test]
fn what_happens_again_happens_twice() {
    let bench = Bench::start(Kind::Embedded);
    let mut made = at_once(|| bench.session());
    made.sort_unstable();
    assert_ne!(made[0], made[1]);
    // A message joins the turn of the other one, or starts its own.
    let [session, _] = made;
    at_once(|| bench.send(&session, &[Act::Say("heard")]));
    wait_until("nothing runs any more", DEADLINE, || {
        let turns = bench.detail(&session)["thread"]["turns"].clone();
        let mut turns = turns.as_array().into_iter().flatten();
        turns.all(|turn| turn["status"] == "completed")
    });
    let detail = bench.detail(&session);
    assert_eq!(rows(&detail, "userMessage").len(), 2, "{detail}");
}

/// What runs a turn or a command of its own, with a runtime that can.
#[test]
fn what_happens_again_on_codex_happens_twice_or_waits_for_the_first() {
    let bench = Bench::start(Kind::CodexNew);
    let session = bench.session();
    for words in ["one", "two", "three", "four"] {
        bench.complete_turn(&session, &[Act::Say(words)]);
    }
    let statuses = |action: &str, body: Value| {
        let mut seen = at_once(|| bench.act(&session, action, body.clone()).status);
        seen.sort_unstable();
        seen
    };
    bench.act(&session, "rollback", json!({})).expect_status(200);
    bench.act(&session, "rollback", json!({})).expect_status(200);
    let turns = || bench.detail(&session)["thread"]["turns"].as_array().map_or(0, Vec::len);
    assert_eq!(turns(), 2, "each takes a turn back");
    // The second one comes while the first is carried out, or behind it.
    let both = statuses("rollback", json!({}));
    assert!([[200, 200], [200, 409]].contains(&both), "{both:?}");
    assert_eq!(turns(), if both == [200, 200] { 0 } else { 1 });
    let command = json!({ "command": ["echo", "x"] });
    let ran = at_once(|| bench.app.post("/api/commands/exec", command.clone()));
    for reply in ran {
        assert_eq!(reply.expect_status(200).body["result"]["stdout"], "x\n");
    }
    assert_eq!(statuses("background-terminals/clean", json!({})), [200, 200]);
    // A review that runs is not ended by another one, nor by a compaction.
    let held = json!({ "instructions": bench.kind.message(&[Act::Hold]) });
    assert_eq!(statuses("review", held), [200, 409]);
    for action in ["review", "compact"] {
        let refused = bench.act(&session, action, json!({})).expect_status(409).body;
        assert_eq!(refused["code"], "invalid_state", "{refused}");
    }
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let turn =
        text(&bench.detail(&session)["thread"]["turns"].as_array().unwrap().last().unwrap()["id"]);
    bench.release();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
}
