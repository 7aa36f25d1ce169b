//! What needs a queue of jobs answers as version 1 does with its queue off.

use serde_json::json;

use crate::fake_app::{create, embedded};

#[test]
fn what_needs_the_queue_says_that_it_is_off() {
    let app = embedded().start();
    let session = create(&app);
    let off = json!({
        "status": "error", "code": "job_conflict", "message": "orchestrator queue is unavailable",
    });
    let project = "/api/projects/session:a/orchestrator/jobs";
    for reply in [
        app.get("/api/orchestrator/jobs/a"),
        app.get(project),
        app.get(&format!("{project}?state=running")),
        app.request("POST", "/api/orchestrator/jobs/a/cancel", &[], None),
        app.post("/api/orchestrator/jobs/a/cancel", json!({})),
    ] {
        let mut body = reply.expect_status(503).body;
        assert!(body["requestId"].take().is_string());
        body.as_object_mut().expect("an object").remove("requestId");
        assert_eq!(body, off);
    }
    let wrong = app.get(&format!("{project}?state=lost")).expect_status(400).body;
    assert_eq!(
        (&wrong["code"], &wrong["issues"][0]["path"][0]),
        (&json!("invalid_request"), &json!("state"))
    );
    for rest in ["suggested-request", "suggested-request/jobs", "suggested-request/upsert"] {
        let path = |session: &str| format!("/api/sessions/{session}/{rest}");
        for body in [json!({}), json!({ "effort": "invalid" })] {
            app.post(&path("nope"), body.clone()).expect_status(404);
            let reply = app.post(&path(&session), body).expect_status(503).body;
            assert_eq!((&reply["code"], &reply["sessionId"]), (&off["code"], &json!(session)));
        }
    }
    app.delete(&format!("/api/sessions/{session}")).expect_status(200);
    let deleted = app.post(&format!("/api/sessions/{session}/suggested-request"), json!({}));
    assert_eq!(deleted.expect_status(410).body["status"], "deleted");
    assert_eq!(app.get("/api/health").body["orchestratorQueue"]["enabled"], false);
}
