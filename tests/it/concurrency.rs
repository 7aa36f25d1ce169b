//! Several clients of one session at the same moment.

use std::thread;

use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use serde_json::Value;

use crate::common::{DEADLINE, text};
use crate::fake_app::{create, embedded, send, with_fake};

#[test]
fn messages_that_are_sent_at_once_share_one_turn() {
    let dir = TestDir::new("record");
    // The turn is named late, and then waits for an approval: all messages come before that.
    let behaviour = Behaviour::correct()
        .turn([step::command_approval("ls", &dir.join("answers"))])
        .method("turn/start", MethodRule::late(300));
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let turns: Vec<String> = thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| text(&send(&app, &session, "go").expect_status(202).body["turnId"]))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert!(turns.iter().all(|turn| *turn == turns[0]), "{turns:?}");
    assert_eq!(app.fake().calls("turn/start").len(), 1);
    assert_eq!(app.fake().calls("turn/steer").len(), 2);
}

#[test]
fn a_deleted_session_stays_deleted_for_everybody() {
    let app = embedded().start();
    for _ in 0..10 {
        let session = create(&app);
        let mut stream = app.stream(None);
        let path = format!("/api/sessions/{session}");
        let (deleted, read) = thread::scope(|scope| {
            let deleted = scope.spawn(|| app.delete(&path));
            let read = scope.spawn(|| app.get(&path));
            (deleted.join().expect("a reply"), read.join().expect("a reply"))
        });
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        assert!(matches!(read.status, 200 | 410), "{}", read.text);
        stream.wait_type("session_deleted", DEADLINE);
        assert_eq!(app.get(&path).status, 410);
        for list in ["/api/sessions", "/api/sessions?archived=true"] {
            let list = app.get(list).expect_status(200).body["data"].clone();
            assert_eq!(list, Value::Array(Vec::new()));
        }
    }
    let tree = app.get("/api/runtime").expect_status(200).body["tree"].clone();
    let panics = &tree["children"][0]["children"][2]["observed"]["panics"];
    assert_eq!(panics, 0, "{tree}");
}
