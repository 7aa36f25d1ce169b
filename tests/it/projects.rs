//! Projects and the sessions in them, one request after the other.

use cm_testkit::fake::Behaviour;
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::{create, embedded, refused, start};
use crate::project_app::{
    assign, delete, delete_all, detail, listed, members, move_all, names, project, rename,
    session_in, sorted, subscriber,
};

#[test]
fn a_project_is_made_changed_and_deleted_as_in_version_1() {
    let app = embedded().start();
    let mut stream = subscriber(&app);
    assert_eq!(app.get("/api/projects").expect_status(200).body, json!({ "data": [] }));
    let body = json!({ "name": "  Beta ", "workingDirectory": " /nowhere " });
    let made = app.post("/api/projects", body).expect_status(200).body;
    let beta = made["project"].clone();
    assert_eq!(made, json!({ "status": "ok", "project": beta, "orchestrationSession": null }));
    assert_eq!((&beta["name"], &beta["workingDirectory"]), (&json!("Beta"), &json!("/nowhere")));
    assert_eq!(beta["createdAt"], beta["updatedAt"]);
    assert_eq!(beta.as_object().unwrap().len(), 5, "{beta}");
    let told = stream.wait_type("project_upserted", DEADLINE);
    assert_eq!((&told["threadId"], &told["payload"]), (&Value::Null, &json!({ "project": beta })));
    let id = text(&beta["projectId"]);
    let alpha = project(&app, "alpha");
    project(&app, "Gamma");
    assert_eq!(names(&app), ["alpha", "Beta", "Gamma"]);

    let taken = app.post("/api/projects", json!({ "name": "BETA" }));
    refused(&taken, 409, "duplicate_name");
    assert_eq!(
        (&taken.body["status"], &taken.body["projectId"]),
        (&json!("duplicate_name"), &json!(id))
    );
    let taken = rename(&app, &alpha, json!({ "name": "beta" }));
    refused(&taken, 409, "duplicate_name");
    assert_eq!(taken.body["projectId"], json!(id));

    // An absent directory stays, `null` clears it, a text sets it.
    for (body, name, directory) in [
        (json!({ "name": "beta" }), "beta", json!("/nowhere")),
        (json!({ "name": "Delta", "workingDirectory": null }), "Delta", Value::Null),
        (json!({ "name": "Delta", "workingDirectory": "/there" }), "Delta", json!("/there")),
        (json!({ "name": " Delta" }), "Delta", json!("/there")),
    ] {
        let before = app.get("/api/projects").body["data"].clone();
        let saved = rename(&app, &id, body.clone()).expect_status(200).body;
        let project = saved["project"].clone();
        assert_eq!(saved, json!({ "status": "ok", "project": project }), "{body}");
        assert_eq!((&project["name"], &project["workingDirectory"]), (&json!(name), &directory));
        assert_eq!(project["createdAt"], beta["createdAt"]);
        // Told even if nothing changed; the time changes only with something else.
        let told = stream.wait_for(|frame| frame["payload"]["project"] == project, DEADLINE);
        assert_eq!(told["type"], "project_upserted");
        let known = before.as_array().unwrap().iter().find(|row| row["projectId"] == json!(id));
        let same = known
            .is_some_and(|known| known["name"] == name && known["workingDirectory"] == directory);
        assert_eq!(known.is_some_and(|known| *known == project), same, "{body}");
    }
    assert_eq!(names(&app), ["alpha", "Delta", "Gamma"]);
    project(&app, "BETA");

    let gone = delete(&app, &id).expect_status(200).body;
    assert_eq!(gone, json!({ "status": "ok", "projectId": id, "unassignedSessionCount": 0 }));
    let told = stream.wait_type("project_deleted", DEADLINE);
    assert_eq!(told["payload"], json!({ "projectId": id, "sessionIds": [] }));
    assert_eq!(told["threadId"], Value::Null);
    refused(&delete(&app, &id), 404, "not_found");
    assert_eq!(names(&app), ["alpha", "BETA", "Gamma"]);
}

#[test]
fn what_names_no_project_is_not_found_and_what_is_no_body_is_refused() {
    let app = embedded().start();
    let known = project(&app, "Known");
    let session = create(&app);
    for id in ["nope", "constructor", "__proto__", "toString", "a%20b", "%2e%2e", &"x".repeat(300)]
    {
        let name = match id {
            "a%20b" => "a b",
            "%2e%2e" => "..",
            other => other,
        };
        for reply in [
            rename(&app, id, json!({ "name": "x" })),
            delete(&app, id),
            app.get(&format!("/api/projects/{id}/agent-sessions")),
            move_all(&app, id, "unassigned"),
            delete_all(&app, id),
        ] {
            // The server's own routing makes another path of one that climbs.
            if name == ".." {
                assert!((400..500).contains(&reply.status), "{}", reply.text);
                continue;
            }
            refused(&reply, 404, "not_found");
            assert_eq!(
                (&reply.body["status"], &reply.body["projectId"]),
                (&json!("not_found"), &json!(name))
            );
        }
        assert!(listed(&app, &format!("projectId={id}")).is_empty(), "{id}");
    }
    let long = "x".repeat(121);
    for body in [
        json!({}),
        json!({ "name": " " }),
        json!({ "name": 1 }),
        json!({ "name": null }),
        json!({ "name": long }),
        json!({ "name": "ok", "workingDirectory": " " }),
        json!({ "name": "ok", "workingDirectory": 1 }),
        json!({ "name": "ok", "workingDirectory": "x".repeat(2001) }),
        json!(null),
        json!([]),
    ] {
        for reply in [app.post("/api/projects", body.clone()), rename(&app, "nope", body.clone())] {
            refused(&reply, 400, "invalid_request");
        }
    }
    app.post("/api/projects", json!({ "name": "x".repeat(120), "workingDirectory": null }))
        .expect_status(200);
    for body in [json!({}), json!({ "destination": "elsewhere" }), json!({ "destination": null })] {
        let reply = app.post(&format!("/api/projects/{known}/chats/move-all"), body);
        refused(&reply, 400, "invalid_request");
    }
    // The body of a delete-all is not looked at; no agent has a session.
    let path = format!("/api/projects/{known}/chats/delete-all");
    app.request("POST", &path, &[], None).expect_status(200);
    for owner in [known, format!("session:{session}")] {
        let body =
            app.get(&format!("/api/projects/{owner}/agent-sessions")).expect_status(200).body;
        assert_eq!(body, json!({ "status": "ok", "projectId": owner, "data": [] }));
    }
    refused(&app.get("/api/projects/session:/agent-sessions"), 404, "not_found");
    for query in ["projectId=", "projectId=%20"] {
        refused(&app.get(&format!("/api/sessions?{query}")), 400, "invalid_request");
    }
}

#[test]
fn a_session_is_put_into_a_project_and_taken_out() {
    let app = embedded().start();
    let (one, other) = (project(&app, "One"), project(&app, "Other"));
    let session = create(&app);
    let mut stream = subscriber(&app);
    let assigned = |project: Value, previous: Value| {
        json!({ "status": "ok", "sessionId": session, "projectId": project,
                "previousProjectId": previous })
    };
    for (wanted, previous) in [
        (json!(one), Value::Null),
        (json!(other), json!(one)),
        (Value::Null, json!(other)),
        (json!(format!(" {one} ")), Value::Null),
    ] {
        let body = assign(&app, &session, wanted).expect_status(200).body;
        let now = body["projectId"].clone();
        assert_eq!(body, assigned(now.clone(), previous));
        let told = stream.wait_type("session_project_updated", DEADLINE);
        assert_eq!((&told["threadId"], &told["payload"]), (&json!(session), &body));
        let told = stream.wait_type("session_updated", DEADLINE);
        assert_eq!(told["payload"]["reason"], "project");
        assert_eq!(told["payload"]["session"]["projectId"], now);
        assert_eq!(detail(&app, &session)["projectId"], now);
        // What is so already is said again, and told to nobody.
        let again = assign(&app, &session, now.clone()).expect_status(200).body;
        assert_eq!(again, assigned(now.clone(), now));
    }
    let updates = stream.frames();
    let updates = updates.iter().filter(|frame| frame["type"] == "session_project_updated");
    assert_eq!(updates.count(), 4);
    assert_eq!(members(&app, &one), [session.as_str()]);

    // In the order of version 1: deleted, body, project, session.
    let not_there = |reply: &Reply, id: &str, project: &str| {
        refused(reply, 404, "not_found");
        assert_eq!(reply.body["status"], "project_not_found", "{}", reply.text);
        assert_eq!(
            (&reply.body["sessionId"], &reply.body["projectId"]),
            (&json!(id), &json!(project))
        );
    };
    let no_session = |reply: &Reply, id: &str| {
        refused(reply, 404, "not_found");
        assert_eq!(
            (&reply.body["status"], &reply.body["sessionId"]),
            (&json!("not_found"), &json!(id))
        );
    };
    for id in [session.as_str(), "00000000-0000-7000-8000-000000000000", "constructor"] {
        for project in ["nope", "__proto__", "a b"] {
            not_there(&assign(&app, id, project), id, project);
        }
        for body in [
            json!({}),
            json!({ "projectId": " " }),
            json!({ "projectId": 1 }),
            json!(null),
            json!({ "projectId": "x".repeat(201) }),
        ] {
            refused(
                &app.post(&format!("/api/sessions/{id}/project"), body),
                400,
                "invalid_request",
            );
        }
    }
    no_session(&assign(&app, "constructor", one.as_str()), "constructor");
    no_session(&assign(&app, "constructor", Value::Null), "constructor");
    not_there(&assign(&app, "a%20b", "nope"), "a b", "nope");
    no_session(&assign(&app, "a%20b", one.as_str()), "a b");
    app.delete(&format!("/api/sessions/{session}")).expect_status(200);
    for reply in [
        assign(&app, &session, one.as_str()),
        assign(&app, &session, "nope"),
        assign(&app, &session, "a b"),
        app.post(&format!("/api/sessions/{session}/project"), json!({})),
    ] {
        refused(&reply, 410, "deleted");
    }
    // Sessions that are gone keep no project.
    assert!(members(&app, &one).is_empty());
    delete(&app, &one).expect_status(200);
}

#[test]
fn lists_of_a_project_come_in_pages_and_follow_the_archive() {
    let app = start(Behaviour::correct());
    let project = project(&app, "P");
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        inside.push(session_in(&app, &project));
        outside.push(create(&app));
    }
    for (wanted, expected) in [(project.as_str(), &inside), ("none", &outside)] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for size in [2, 2, 1] {
            let path = format!("/api/sessions?limit=2&projectId={wanted}{cursor}");
            let page = app.get(&path).expect_status(200).body;
            let rows = page["data"].as_array().unwrap();
            assert_eq!(rows.len(), size, "every page but the last is full: {page}");
            seen.extend(rows.iter().map(|row| text(&row["sessionId"])));
            cursor = match page["nextCursor"].as_str() {
                Some(next) => format!("&cursor={}", next.replace('|', "%7C")),
                None => String::new(),
            };
        }
        assert!(cursor.is_empty(), "the last page says that it is");
        assert_eq!(sorted(seen), sorted(expected.clone()));
    }
    // Archived sessions keep their project.
    let archived = inside.pop().unwrap();
    app.post(&format!("/api/sessions/{archived}/archive"), json!({})).expect_status(200);
    assert_eq!(listed(&app, &format!("projectId={project}")), sorted(inside));
    assert_eq!(listed(&app, &format!("projectId={project}&archived=true")), [archived.as_str()]);
    assert!(listed(&app, "projectId=none&archived=true").is_empty());
    let full = delete(&app, &project);
    refused(&full, 409, "project_not_empty");
    let body = (&full.body["status"], &full.body["projectId"], &full.body["sessionCount"]);
    assert_eq!(body, (&json!("project_not_empty"), &json!(project), &json!(5)));
    app.post(&format!("/api/sessions/{archived}/unarchive"), json!({})).expect_status(200);
    assert_eq!(detail(&app, &archived)["projectId"], json!(project));
}
