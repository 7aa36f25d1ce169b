//! Sessions in which nothing happens give their memory back, and nobody notices.

use cm_testkit::fake::{Behaviour, FakeScript};
use cm_testkit::process::wait_until;
use serde_json::Value;

use crate::common::{DEADLINE, turn_end};
use crate::fake_app::{begin, create, with_fake};

/// What the registry shows of itself.
pub(crate) fn registry(app: &cm_testkit::app::TestApp) -> Value {
    let tree = app.get("/api/runtime").expect_status(200).body["tree"].clone();
    tree["children"][0]["children"][2]["observed"].clone()
}

#[test]
fn sessions_are_let_go_and_come_back_without_being_loaded_again() {
    const SESSIONS: usize = 25;
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_THREAD_IDLE_MS", "60")
        .start();
    let sessions: Vec<String> = (0..SESSIONS).map(|_| create(&app)).collect();
    let mut stream = app.stream(None);
    stream.wait_type("ready", DEADLINE);
    for _ in 0..2 {
        wait_until("all are let go", DEADLINE, || registry(&app)["alive"] == 0);
        for session in &sessions {
            let turn = begin(&app, session);
            assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
        }
    }
    assert_eq!(app.fake().calls("thread/resume").len(), 0, "the child has them loaded");
    let observed = registry(&app);
    assert_eq!((&observed["panics"], &observed["requests"]), (&Value::from(0), &Value::from(0)));
    assert!(observed["passivated"].as_u64() >= Some(SESSIONS as u64), "{observed}");
    // Another child does not have them.
    wait_until("all are let go", DEADLINE, || registry(&app)["alive"] == 0);
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    let turn = begin(&app, &sessions[0]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert_eq!(app.fake().calls("thread/resume").len(), 1);
}

/// Messages at every moment around the letting go: each is answered, each turn ends.
#[test]
fn messages_around_the_letting_go_are_all_answered() {
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CODEX_MANAGER_THREAD_IDLE_MS", "20")
        .start();
    let sessions: Vec<String> = (0..4).map(|_| create(&app)).collect();
    std::thread::scope(|scope| {
        for (number, session) in sessions.iter().enumerate() {
            let app = &app;
            scope.spawn(move || {
                let mut stream = app.stream(Some(session));
                stream.wait_type("ready", DEADLINE);
                for round in 0..25 {
                    let turn = begin(app, session);
                    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
                    // Part of the script of this test: pauses of many lengths.
                    let pause = (round * 7 + number * 3) % 40;
                    std::thread::sleep(std::time::Duration::from_millis(pause as u64));
                }
            });
        }
    });
    for session in &sessions {
        let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
        assert_eq!(detail["thread"]["turns"].as_array().map(Vec::len), Some(25));
    }
    let observed = registry(&app);
    assert!(observed["passivated"].as_u64() > Some(10), "{observed}");
}
