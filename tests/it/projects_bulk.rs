//! What is done with all sessions of a project, and what fails with some of them.

use cm_testkit::app::StreamClient;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, create, embedded, refused, send, start, with_fake};
use crate::project_app::{
    assign, delete, delete_all, listed, members, move_all, names, project, rename, session_in,
    sorted, subscriber,
};

#[test]
fn all_sessions_are_moved_out_or_into_the_archive() {
    let app = embedded().start();
    let project = project(&app, "P");
    let sessions: Vec<String> = (0..3).map(|_| session_in(&app, &project)).collect();
    let moved = |destination: &str, moved: u64, archived: u64, already: u64| {
        json!({ "status": "ok", "projectId": project, "destination": destination,
                "movedSessionCount": moved, "archivedSessionCount": archived,
                "alreadyArchivedSessionCount": already })
    };
    let mut stream = subscriber(&app);
    let left = |stream: &mut StreamClient| {
        let told: Vec<Value> = (0..3)
            .map(|_| stream.wait_type("session_project_updated", DEADLINE)["payload"].clone())
            .collect();
        let mut ids: Vec<String> = told.iter().map(|told| text(&told["sessionId"])).collect();
        ids.sort();
        assert_eq!(ids, sorted(sessions.clone()));
        for told in told {
            assert_eq!(told, json!({ "sessionId": told["sessionId"], "projectId": null }));
        }
    };
    let body = move_all(&app, &project, "unassigned").expect_status(200).body;
    assert_eq!(body, moved("unassigned", 3, 0, 0));
    left(&mut stream);
    assert!(members(&app, &project).is_empty());
    assert_eq!(listed(&app, "projectId=none"), sorted(sessions.clone()));
    for destination in ["unassigned", "archive"] {
        let body = move_all(&app, &project, destination).expect_status(200).body;
        assert_eq!(body, moved(destination, 0, 0, 0));
    }
    for session in &sessions {
        assign(&app, session, project.as_str()).expect_status(200);
    }
    app.post(&format!("/api/sessions/{}/archive", sessions[0]), json!({})).expect_status(200);
    let mut stream = subscriber(&app);
    let body = move_all(&app, &project, "archive").expect_status(200).body;
    assert_eq!(body, moved("archive", 3, 2, 1));
    left(&mut stream);
    assert_eq!(listed(&app, "projectId=none&archived=true"), sorted(sessions.clone()));
    delete(&app, &project).expect_status(200);
}

#[test]
fn all_sessions_are_deleted() {
    let app = embedded().start();
    let project = project(&app, "P");
    let kept = create(&app);
    let sessions: Vec<String> = (0..3).map(|_| session_in(&app, &project)).collect();
    app.post(&format!("/api/sessions/{}/archive", sessions[0]), json!({})).expect_status(200);
    let mut stream = subscriber(&app);
    let body = delete_all(&app, &project).expect_status(200).body;
    let deleted = |count: u64| {
        json!({ "status": "ok", "projectId": project, "deletedSessionCount": count,
                "skippedSessionCount": 0 })
    };
    assert_eq!(body, deleted(3));
    let told: Vec<String> = (0..3)
        .map(|_| text(&stream.wait_type("session_deleted", DEADLINE)["payload"]["sessionId"]))
        .collect();
    assert_eq!(sorted(told), sorted(sessions.clone()));
    for session in &sessions {
        refused(&app.get(&format!("/api/sessions/{session}")), 410, "deleted");
    }
    assert_eq!(listed(&app, ""), [kept]);
    assert_eq!(delete_all(&app, &project).expect_status(200).body, deleted(0));
    delete(&app, &project).expect_status(200);
}

/// The code of each failure.
fn codes(body: &Value) -> Vec<&str> {
    let failures = body["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
    failures.iter().filter_map(|failure| failure["code"].as_str()).collect()
}

#[test]
fn what_fails_with_some_sessions_is_said_of_each_and_can_be_repeated() {
    let rule = || MethodRule::overloaded_first(2);
    let behaviour =
        Behaviour::correct().method("thread/archive", rule()).method("thread/delete", rule());
    let app = start(behaviour);
    let (moved, deleted) = (project(&app, "Moved"), project(&app, "Deleted"));
    for project in [&moved, &deleted] {
        (0..5).for_each(|_| drop(session_in(&app, project)));
    }
    let body = move_all(&app, &moved, "archive").expect_status(200).body;
    assert_eq!((&body["status"], codes(&body)), (&json!("partial"), vec!["overloaded"; 2]));
    assert_eq!((&body["movedSessionCount"], &body["archivedSessionCount"]), (&json!(3), &json!(3)));
    let stayed = body["failures"].as_array().unwrap().iter();
    let stayed: Vec<String> = stayed
        .inspect(|failure| assert!(!text(&failure["message"]).is_empty()))
        .map(|failure| text(&failure["sessionId"]))
        .collect();
    assert_eq!(listed(&app, &format!("projectId={moved}")), sorted(stayed), "they are as before");
    let full = delete(&app, &moved);
    refused(&full, 409, "project_not_empty");
    assert_eq!(full.body["sessionCount"], 2);
    let body = move_all(&app, &moved, "archive").expect_status(200).body;
    assert_eq!((&body["status"], &body["movedSessionCount"]), (&json!("ok"), &json!(2)));
    assert!(body.get("failures").is_none(), "{body}");
    delete(&app, &moved).expect_status(200);

    let body = delete_all(&app, &deleted).expect_status(200).body;
    assert_eq!((&body["status"], codes(&body)), (&json!("partial"), vec!["overloaded"; 2]));
    assert_eq!(body["deletedSessionCount"], 3);
    assert_eq!(members(&app, &deleted).len(), 2);
    let body = delete_all(&app, &deleted).expect_status(200).body;
    assert_eq!((&body["status"], &body["deletedSessionCount"]), (&json!("ok"), &json!(2)));
    delete(&app, &deleted).expect_status(200);
}

#[test]
fn sessions_that_the_runtime_does_not_have_cannot_be_archived() {
    // The first child writes no thread to its disk, so the second knows none of them.
    let nameless = Behaviour::correct().method("thread/name/set", MethodRule::error(-32603, "no"));
    let app = with_fake(FakeScript::starts([nameless])).start();
    let project = project(&app, "P");
    let lost: Vec<String> = (0..2).map(|_| session_in(&app, &project)).collect();
    let old = app.kill_child();
    app.wait_new_child(old, DEADLINE);
    app.wait_ready(DEADLINE);
    let there = session_in(&app, &project);
    let body = move_all(&app, &project, "archive").expect_status(200).body;
    assert_eq!((&body["status"], codes(&body)), (&json!("partial"), vec!["not_materialized"; 2]));
    assert_eq!(body["archivedSessionCount"], 1);
    assert_eq!(listed(&app, "archived=true"), [there]);
    let none = move_all(&app, &project, "archive");
    refused(&none, 409, "not_materialized");
    assert_eq!(none.body["status"], "not_materialized_sessions");
    let ids = none.body["sessionIds"].as_array().unwrap().iter().map(text).collect();
    assert_eq!((sorted(ids), &none.body["projectId"]), (sorted(lost), &json!(project)));
    let body = move_all(&app, &project, "unassigned").expect_status(200).body;
    assert_eq!(body["movedSessionCount"], 2);
}

#[test]
fn much_is_done_at_a_time_and_keeps_nobody_else_waiting() {
    const AT_ONCE: usize = 4;
    let silent =
        Behaviour::correct().method("thread/delete", MethodRule::silent_first(AT_ONCE as u64));
    let app =
        with_fake(FakeScript::always(silent)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "3000").start();
    let slow = project(&app, "Slow");
    (0..AT_ONCE + 4).for_each(|_| drop(session_in(&app, &slow)));
    std::thread::scope(|scope| {
        let deletion = scope.spawn(|| delete_all(&app, &slow).expect_status(200).body);
        wait_until("the child is asked", DEADLINE, || {
            app.fake().calls("thread/delete").len() >= AT_ONCE
        });
        // It answers none of them for now; everybody else is served.
        let other = project(&app, "Other");
        rename(&app, &other, json!({ "name": "Another" })).expect_status(200);
        let session = session_in(&app, &other);
        assert_eq!(
            move_all(&app, &other, "unassigned").expect_status(200).body["movedSessionCount"],
            1
        );
        assert_eq!(names(&app), ["Another", "Slow"]);
        delete(&app, &other).expect_status(200);
        send(&app, &session, "go").expect_status(202);
        assert_eq!(app.fake().calls("thread/delete").len(), AT_ONCE, "no more at once");
        let body = deletion.join().unwrap();
        assert_eq!(
            (&body["status"], codes(&body)),
            (&json!("partial"), vec!["codex_timeout"; AT_ONCE])
        );
        assert_eq!(body["deletedSessionCount"], 4, "the others had their turn");
    });
}

#[test]
fn sessions_are_deleted_while_messages_are_sent_to_them() {
    let hanging = Behaviour::correct().turn([step::hang()]);
    let app = start(hanging);
    let project = project(&app, "P");
    let sessions: Vec<String> = (0..10).map(|_| session_in(&app, &project)).collect();
    // One of them is in the middle of a turn.
    begin(&app, &sessions[0]);
    std::thread::scope(|scope| {
        for session in &sessions {
            let app = &app;
            scope.spawn(move || {
                loop {
                    let reply = send(app, session, "go");
                    if reply.status == 410 {
                        return;
                    }
                    assert!(reply.status < 500, "{} {}", reply.status, reply.text);
                }
            });
        }
        let body = delete_all(&app, &project).expect_status(200).body;
        assert_eq!((&body["status"], &body["deletedSessionCount"]), (&json!("ok"), &json!(10)));
    });
    assert!(listed(&app, "").is_empty());
    delete(&app, &project).expect_status(200);
    // Nothing of it is left behind in the manager.
    let mut stream = app.stream(None);
    let next = create(&app);
    let turn = begin(&app, &next);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
}
