//! The manager is killed at every point of a write: what it acknowledged is there.

use std::time::Instant;

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript};
use serde_json::json;

use crate::common::DEADLINE;
use crate::fake_app::{create, with_fake};

/// Writes until the program kills itself at the n-th passing of a point, and looks what is there.
/// Answers whether it came to that.
fn killed_at(point: &str, nth: u32) -> bool {
    let data = TestDir::new("crash");
    let script = || FakeScript::always(Behaviour::correct());
    let started = with_fake(script())
        .data_dir(data.join("data"))
        .env("CM_CRASH_POINT", format!("{point}:{nth}"))
        .without_readiness()
        .try_start();
    // It may have come to the point before it listened.
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let mut came = started.is_err();
    if let Ok(app) = started {
        came = write_until_it_ends(&app, &mut acknowledged);
    }
    let app = with_fake(script()).data_dir(data.join("data")).start();
    for (session, title) in &acknowledged {
        let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
        let found = detail["session"]["title"].as_str().unwrap_or_default();
        // The last write was not answered, so it may be there or not.
        assert!(found == title || found == format!("{title}+"), "{found} instead of {title}");
    }
    assert_eq!(app.get("/api/health").body["store"]["state"], "ok");
    came
}

/// Creates and renames sessions; answers whether the program ended meanwhile.
fn write_until_it_ends(app: &TestApp, acknowledged: &mut Vec<(String, String)>) -> bool {
    let post = |path: &str, body: serde_json::Value| {
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        let reply = app.try_request("POST", path, &headers, Some(body.as_bytes()));
        reply.ok().filter(|reply| reply.status == 200)
    };
    let until = Instant::now() + DEADLINE;
    let mut created = 0;
    while created < 40 && Instant::now() < until {
        let Some(reply) = post("/api/sessions", json!({ "cwd": app.workspace() })) else {
            // The child may not be ready yet; a program that ended does not answer at all.
            if app.try_request("GET", "/livez", &[], None).is_err() {
                return true;
            }
            continue;
        };
        created += 1;
        let session = reply.body["session"]["sessionId"].as_str().unwrap_or_default().to_owned();
        let place = acknowledged.len();
        acknowledged.push((session.clone(), "New chat".to_owned()));
        let mut title = "a".to_owned();
        for _ in 0..3 {
            let path = format!("/api/sessions/{session}/rename");
            if post(&path, json!({ "title": title })).is_none() {
                if title == "a" {
                    // The first rename may have happened.
                    acknowledged.truncate(place);
                }
                return true;
            }
            acknowledged[place].1.clone_from(&title);
            title.push('+');
        }
    }
    false
}

#[test]
fn killed_at_any_point_of_a_write_it_forgets_nothing_that_it_acknowledged() {
    for point in
        ["store.before_batch", "store.after_batch", "store.after_flush", "store.after_fdatasync"]
    {
        for nth in [1, 2, 3, 5, 9, 17] {
            assert!(killed_at(point, nth), "{point} was not passed {nth} times");
        }
    }
}

#[test]
fn without_a_point_to_end_at_it_does_not_end() {
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CM_CRASH_POINT", "store.no_such_point")
        .start();
    create(&app);
    assert_eq!(app.terminate().code, Some(0));
}
