//! What people do with projects, for the suites about them.

use cm_testkit::app::{StreamClient, TestApp};
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::create;

/// `POST /api/projects`; answers the id.
#[track_caller]
pub(crate) fn project(app: &TestApp, name: &str) -> String {
    let reply = app.post("/api/projects", json!({ "name": name })).expect_status(200);
    text(&reply.body["project"]["projectId"])
}

/// `POST /api/projects/<id>/rename`.
pub(crate) fn rename(app: &TestApp, project: &str, body: Value) -> Reply {
    app.post(&format!("/api/projects/{project}/rename"), body)
}

/// `DELETE /api/projects/<id>`.
pub(crate) fn delete(app: &TestApp, project: &str) -> Reply {
    app.delete(&format!("/api/projects/{project}"))
}

/// `POST /api/projects/<id>/chats/move-all`.
pub(crate) fn move_all(app: &TestApp, project: &str, destination: &str) -> Reply {
    let path = format!("/api/projects/{project}/chats/move-all");
    app.post(&path, json!({ "destination": destination }))
}

/// `POST /api/projects/<id>/chats/delete-all`.
pub(crate) fn delete_all(app: &TestApp, project: &str) -> Reply {
    app.post(&format!("/api/projects/{project}/chats/delete-all"), json!({}))
}

/// `POST /api/sessions/<id>/project`.
pub(crate) fn assign(app: &TestApp, session: &str, project: impl Into<Value>) -> Reply {
    let project: Value = project.into();
    app.post(&format!("/api/sessions/{session}/project"), json!({ "projectId": project }))
}

/// A session in a project.
#[track_caller]
pub(crate) fn session_in(app: &TestApp, project: &str) -> String {
    let session = create(app);
    assign(app, &session, project).expect_status(200);
    session
}

/// The names of all projects, in their order.
#[track_caller]
pub(crate) fn names(app: &TestApp) -> Vec<String> {
    let list = app.get("/api/projects").expect_status(200).body;
    list["data"].as_array().unwrap().iter().map(|project| text(&project["name"])).collect()
}

/// The ids of a list of sessions, sorted.
#[track_caller]
pub(crate) fn listed(app: &TestApp, query: &str) -> Vec<String> {
    let page = app.get(&format!("/api/sessions?limit=200&{query}")).expect_status(200).body;
    let rows = page["data"].as_array().unwrap().iter();
    let mut ids: Vec<String> = rows.map(|row| text(&row["sessionId"])).collect();
    ids.sort();
    ids
}

/// Sorts ids, to compare them with those of a list.
pub(crate) fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// The sessions of a project, archived ones included, sorted.
pub(crate) fn members(app: &TestApp, project: &str) -> Vec<String> {
    let mut all = listed(app, &format!("projectId={project}"));
    all.extend(listed(app, &format!("projectId={project}&archived=true")));
    sorted(all)
}

/// A session as it describes itself.
#[track_caller]
pub(crate) fn detail(app: &TestApp, session: &str) -> Value {
    app.get(&format!("/api/sessions/{session}")).expect_status(200).body["session"].clone()
}

/// A subscriber of another session: it hears only what goes to everyone.
pub(crate) fn subscriber(app: &TestApp) -> StreamClient {
    let mut stream = app.stream(Some("another-session"));
    stream.wait_type("ready", DEADLINE);
    stream
}
