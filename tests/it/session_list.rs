//! Lists of sessions: filters, orders, pages.

use cm_testkit::app::TestApp;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text};
use crate::fake_app::{create, embedded, send};
use crate::openapi::Described;

/// The sessions of all pages of a list.
#[track_caller]
fn listed(app: &TestApp, query: &str, limit: usize) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/sessions?{query}&limit={limit}{cursor}");
        let page = app.get(&path).expect_status(200).body;
        let rows = page["data"].as_array().cloned().unwrap_or_default();
        assert!(page["nextCursor"].is_null() || rows.len() == limit, "{page}");
        all.extend(rows.iter().map(|row| text(&row["sessionId"])));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('|', "%7C")),
            None => return all,
        }
    }
}

/// Without regard to the order, which for sessions of the same second says nothing.
#[track_caller]
fn assert_listed(app: &TestApp, query: &str, expected: &[&String]) {
    let mut expected: Vec<String> = expected.iter().map(|id| (*id).clone()).collect();
    expected.sort();
    for limit in [1, 2, 200] {
        let mut shown = listed(app, query, limit);
        shown.sort();
        assert_eq!(shown, expected, "{query} by {limit}");
    }
}

#[test]
fn sessions_are_filtered_by_title_status_time_project_and_archive() {
    let app = embedded().start();
    let [one, two, three, four] = std::array::from_fn(|_| create(&app));
    let name = |session: &str, title: &str| {
        let path = format!("/api/sessions/{session}/rename");
        app.post(&path, json!({ "title": title })).expect_status(200);
    };
    name(&one, "Fix the Parser");
    name(&two, "parse ÄRGER");
    name(&three, "something else");
    assert_listed(&app, "q=PARSE", &[&one, &two]);
    assert_listed(&app, "q=%C3%A4rger", &[&two]);
    assert_listed(&app, "q=new%20chat", &[&four]);
    assert_listed(&app, "q=none%20of%20them", &[]);
    name(&one, "other words");
    assert_listed(&app, "q=parse", &[&two]);
    let project = app.post("/api/projects", json!({ "name": "p" })).expect_status(200).body;
    let project = text(&project["project"]["projectId"]);
    app.post(&format!("/api/sessions/{two}/project"), json!({ "projectId": project }))
        .expect_status(200);
    assert_listed(&app, &format!("q=parse&projectId={project}"), &[&two]);
    assert_listed(&app, "q=parse&projectId=none", &[]);
    // What a session is doing.
    let mut stream = app.stream(None);
    send(&app, &three, "/slow 30000 20 word").expect_status(202);
    assert_listed(&app, "status=running", &[&three]);
    assert_listed(&app, "status=idle", &[&one, &two, &four]);
    app.post(&format!("/api/sessions/{three}/interrupt"), json!({})).expect_status(200);
    stream.wait_type("app_server.turn.completed", DEADLINE);
    send(&app, &one, "/ask which? | a | b").expect_status(202);
    stream.wait_type("tool_user_input_requested", DEADLINE);
    assert_listed(&app, "status=waiting", &[&one]);
    assert_listed(&app, "status=running", &[]);
    // Since when.
    let detail = app.detail(&one)["session"].clone();
    let updated = detail["updatedAt"].as_i64().unwrap();
    let all = [&one, &two, &three, &four];
    assert_listed(&app, "since=0", &all);
    assert_listed(&app, &format!("since={}", (updated + 1000) * 1000), &[]);
    assert_listed(&app, "since=2020-01-01T00:00:00Z", &all);
    assert_listed(&app, "since=2999-01-01T00:00:00.5%2B02:00&sort=createdAt", &[]);
    assert_listed(&app, "archived=true&since=0", &[]);
}

#[test]
fn sessions_are_sorted_by_change_or_creation_both_ways() {
    let app = embedded().start();
    let sessions: Vec<String> = (0..7).map(|_| create(&app)).collect();
    let key = |row: &Value, name: &str| {
        (row[name].as_i64().unwrap(), row["createdAt"].as_i64().unwrap(), text(&row["sessionId"]))
    };
    let all = app.get("/api/sessions").expect_status(200);
    Described::read(&app).check("get", "/api/sessions", &all);
    let all = all.body["data"].as_array().cloned().unwrap();
    assert_eq!(all.len(), sessions.len());
    for sort in ["updatedAt", "createdAt"] {
        let mut expected: Vec<_> = all.iter().map(|row| key(row, sort)).collect();
        expected.sort();
        let mut expected: Vec<String> = expected.into_iter().map(|(_, _, id)| id).collect();
        for limit in [1, 3, 200] {
            assert_eq!(listed(&app, &format!("sort={sort}&order=asc"), limit), expected);
        }
        expected.reverse();
        for limit in [1, 3, 200] {
            assert_eq!(listed(&app, &format!("sort={sort}&order=desc"), limit), expected);
            assert_eq!(listed(&app, &format!("sort={sort}"), limit), expected);
        }
    }
}

#[test]
fn bad_filters_are_refused_with_what_is_wrong() {
    let app = embedded().start();
    for _ in 0..2 {
        create(&app);
    }
    let long = format!("q={}", "x".repeat(201));
    for (query, member) in [
        ("archived=yes", "archived"),
        ("status=busy", "status"),
        ("status=", "status"),
        ("since=yesterday", "since"),
        ("since=", "since"),
        ("sort=title", "sort"),
        ("order=down", "order"),
        ("q=%20", "q"),
        (&long, "q"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=1%7C2", "cursor"),
        ("projectId=", "projectId"),
        ("includeSystemOwned=1", "includeSystemOwned"),
        ("limit=1&limit=2", "limit"),
    ] {
        let body = app.get(&format!("/api/sessions?{query}")).expect_status(400).body;
        assert_eq!(body["code"], "invalid_request", "{query}: {body}");
        assert_eq!(body["issues"][0]["path"], json!([member]), "{query}: {body}");
    }
    // A cursor is of one order.
    let page = app.get("/api/sessions?limit=1&sort=createdAt").expect_status(200).body;
    let cursor = text(&page["nextCursor"]).replace('|', "%7C");
    let body = app.get(&format!("/api/sessions?limit=1&cursor={cursor}")).expect_status(400).body;
    assert_eq!(body["issues"][0]["path"], json!(["cursor"]), "{body}");
}
