//! The life of sessions: names, archive, lists, deletion.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use cm_testkit::model::config_toml;
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, approval, notified, over_runtimes, text, turn_end,
};

over_runtimes!(
    a_configuration_that_opens_the_network_opens_no_session,
    a_session_is_renamed,
    a_session_is_archived_and_comes_back,
    a_deleted_session_is_gone,
    a_resumed_session_goes_on,
    a_session_that_waits_can_be_deleted,
    a_session_that_runs_can_be_archived,
    a_folder_that_codex_trusts_from_now_on_is_said,
);

fn a_session_is_renamed(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let mut elsewhere = bench.app.stream(Some("another-session"));
    elsewhere.wait_type("ready", DEADLINE);
    let reply = bench.act(&session, "rename", json!({ "title": "  A new name " }));
    let body = reply.expect_status(200).body;
    assert_eq!((&body["status"], &body["session"]["title"]), (&json!("ok"), &json!("A new name")));
    let told = elsewhere.wait_for(
        |frame| frame["type"] == "session_updated" && frame["payload"]["reason"] == "renamed",
        DEADLINE,
    );
    assert_eq!(told["payload"]["session"]["title"], "A new name", "lists everywhere hear of it");
    assert_eq!(bench.detail(&session)["session"]["title"], "A new name");
    assert_eq!(listed(&bench, "")[0]["title"], "A new name");
}

fn a_session_is_archived_and_comes_back(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("hello")]);
    for _ in 0..2 {
        let reply = bench.act(&session, "archive", json!({})).expect_status(200);
        assert_eq!(reply.body, json!({ "status": "ok", "sessionId": session }));
        assert_eq!(ids(&listed(&bench, "?archived=true")), [session.as_str()]);
        assert!(listed(&bench, "").is_empty());
        assert_eq!(bench.detail(&session)["session"]["archived"], true);
        let refused = bench.act(&session, "messages", json!({ "text": "hello?" }));
        let refused = refused.expect_status(409).body;
        assert_eq!(refused["code"], "invalid_state");
        let call = json!({ "method": "turn/start", "sessionId": session });
        assert_eq!(refused["details"], call, "as version 1 says it");

        let reply = bench.act(&session, "unarchive", json!({})).expect_status(200);
        assert_eq!(reply.body["status"], "ok");
        assert_eq!(reply.body["session"]["sessionId"], session);
        assert_eq!(ids(&listed(&bench, "")), [session.as_str()]);
        assert!(listed(&bench, "?archived=true").is_empty());
        bench.complete_turn(&session, &[Act::Say("here I am")]);
    }
    // What is so already stays so.
    let again = bench.act(&session, "unarchive", json!({}));
    assert!(again.status < 500, "{} {}", again.status, again.text);
    bench.act(&session, "archive", json!({})).expect_status(200);
    let again = bench.act(&session, "archive", json!({}));
    assert!(again.status < 500, "{} {}", again.status, again.text);
    assert_eq!(ids(&listed(&bench, "?archived=true")), [session.as_str()]);
}

fn a_deleted_session_is_gone(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let kept = bench.session();
    let mut elsewhere = bench.app.stream(Some("another-session"));
    elsewhere.wait_type("ready", DEADLINE);
    let path = format!("/api/sessions/{session}");
    let file = text(&bench.app.get(&path).expect_status(200).body["thread"]["path"]);
    assert!(std::path::Path::new(&file).is_file(), "{file}");
    let body = bench.app.delete(&path).expect_status(200).body;
    assert_eq!((&body["status"], &body["sessionId"]), (&json!("ok"), &json!(session)));
    assert_eq!(body["deletedFileCount"], 1);
    assert!(!std::path::Path::new(&file).exists(), "{file}");
    let told = elsewhere.wait_type("session_deleted", DEADLINE);
    assert_eq!(told["payload"]["sessionId"], session);
    assert_eq!(told["payload"]["status"], "deleted");
    for reply in [
        bench.app.get(&path),
        bench.app.delete(&path),
        bench.act(&session, "messages", json!({ "text": "hello?" })),
        bench.act(&session, "rename", json!({ "title": "x" })),
    ] {
        let body = reply.expect_status(410).body;
        assert_eq!((&body["status"], &body["sessionId"]), (&json!("deleted"), &json!(session)));
        assert!(body["deletedAt"].is_string());
    }
    assert_eq!(ids(&listed(&bench, "")), [kept.as_str()]);
    bench.app.restart();
    let body = bench.app.get(&path).expect_status(404).body;
    assert_eq!((&body["status"], &body["sessionId"]), (&json!("not_found"), &json!(session)));
    assert_eq!(ids(&listed(&bench, "")), [kept.as_str()]);
}

fn a_resumed_session_goes_on(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let body = bench.act(&session, "resume", json!({})).expect_status(200).body;
    assert_eq!(body["session"]["sessionId"], session, "before its first turn");
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let body = bench.act(&session, "resume", json!({})).expect_status(200).body;
    assert_eq!(body["session"]["sessionId"], session);
    assert_eq!(body["thread"]["id"], session);
    bench.complete_turn(&session, &[Act::Say("again")]);
}

fn a_session_that_waits_can_be_deleted(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    bench.send(&session, &[Act::Run("touch never")]);
    let id = approval(&mut stream);
    bench.app.delete(&format!("/api/sessions/{session}")).expect_status(200);
    // As in version 1: first what waited expires, then the session is gone.
    let expired = stream.wait_type("approval_resolved", DEADLINE);
    assert_eq!(expired["payload"], json!({ "approvalId": id, "status": "expired" }));
    stream.wait_type("session_deleted", DEADLINE);
    let refused = bench.decide(&id, json!({ "decision": "accept" }));
    assert!((400..500).contains(&refused.status), "{} {}", refused.status, refused.text);
    let next = bench.session();
    bench.complete_turn(&next, &[Act::Say("another session works")]);
    assert!(!bench.app.workspace().join("never").exists());
}

fn a_session_that_runs_can_be_archived(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    bench.act(&session, "archive", json!({})).expect_status(200);
    let ended = turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "interrupted", "{ended}");
    let detail = bench.detail(&session);
    let shown = (&detail["session"]["archived"], &detail["session"]["activity"]);
    assert_eq!(shown, (&json!(true), &json!("idle")));
    bench.release();
    bench.act(&session, "unarchive", json!({})).expect_status(200);
    bench.complete_turn(&session, &[Act::Say("here I am")]);
}

/// Paging is the manager's own, so one runtime shows it.
#[test]
fn a_list_comes_in_pages_newest_first() {
    let bench = Bench::start(Kind::Embedded);
    let made: Vec<String> = (0..5).map(|_| bench.session()).collect();
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    for expected in [2, 2, 1] {
        let path = format!("/api/sessions{query}");
        let page = bench.app.get(&path).expect_status(200).body;
        assert_eq!(page["archived"], false);
        let rows = page["data"].as_array().unwrap();
        assert_eq!(rows.len(), expected, "{page}");
        seen.extend(rows.iter().map(|row| text(&row["sessionId"])));
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={}", encode(cursor)),
            None => query.clear(),
        }
    }
    assert!(query.is_empty(), "the last page says that it is");
    let mut sorted = seen.clone();
    sorted.sort();
    let mut expected = made.clone();
    expected.sort();
    assert_eq!(sorted, expected, "each once");
    let newest = listed(&bench, "")[0]["updatedAt"].as_u64();
    wait_until("another second has begun, the unit of the order", DEADLINE, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Some(now.as_secs()) > newest
    });
    bench.complete_turn(&made[0], &[Act::Say("I am the newest now")]);
    assert_eq!(listed(&bench, "")[0]["sessionId"], made[0]);
    for wrong in ["?limit=0", "?limit=201", "?limit=x", "?archived=1", "?cursor="] {
        let body = bench.app.get(&format!("/api/sessions{wrong}")).expect_status(400).body;
        assert_eq!(body["code"], "invalid_request", "{wrong}");
    }
}

/// Percent-encodes what a query may not hold.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[track_caller]
fn listed(bench: &Bench, query: &str) -> Vec<Value> {
    let page = bench.app.get(&format!("/api/sessions{query}")).expect_status(200).body;
    page["data"].as_array().cloned().unwrap_or_default()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["sessionId"].as_str()).collect()
}

fn a_folder_that_codex_trusts_from_now_on_is_said(kind: Kind) {
    let bench = Bench::start(kind);
    let config = bench.app.codex_home().join("config.toml");
    let trusted =
        || fs::read_to_string(&config).is_ok_and(|text| text.contains("trust_level = \"trusted\""));
    let says = |sandbox: &str| {
        let body = json!({ "cwd": bench.app.workspace(), "filesystemSandbox": sandbox });
        let created = bench.app.post("/api/sessions", body).expect_status(200).body;
        created.get("trustsProject").cloned()
    };
    assert_eq!((says("read-only"), trusted()), (None, false));
    let said = says("workspace-write");
    assert_eq!(said, trusted().then_some(json!(true)));
    // The newest trusts repositories only, and the tests may run outside of one.
    assert!(kind != Kind::CodexOld || trusted());
}

fn a_configuration_that_opens_the_network_opens_no_session(kind: Kind) {
    let open = |model: &str| {
        format!("{}\n[sandbox_workspace_write]\nnetwork_access = true\n", config_toml(model))
    };
    let bench = Bench::start_configured(kind, open, |builder| builder);
    let in_force = |answer: &Value| {
        let controls = &answer["runtimeControls"];
        let sandbox = &controls["sandbox"];
        (
            text(&controls["approvalPolicy"]),
            text(&sandbox["type"]),
            sandbox["networkAccess"].clone(),
        )
    };
    let shut = ("on-request".to_owned(), "workspaceWrite".to_owned(), json!(false));
    let made = |network: &str| {
        let body = json!({
            "cwd": bench.app.workspace(), "approvalPolicy": "on-request",
            "filesystemSandbox": "workspace-write", "networkAccess": network,
        });
        bench.app.post("/api/sessions", body).expect_status(200).body
    };
    let created = made("restricted");
    assert_eq!(in_force(&created), shut);
    assert_eq!(in_force(&made("enabled")).2, json!(true));
    let session = text(&created["session"]["sessionId"]);
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let forked = bench.act(&session, "fork", json!({})).expect_status(200).body;
    assert_eq!(in_force(&forked), shut);
    let child = bench.app.kill_child();
    bench.app.wait_new_child(child, DEADLINE);
    bench.app.wait_ready(DEADLINE);
    let resumed = bench.act(&session, "resume", json!({})).expect_status(200).body;
    assert_eq!(in_force(&resumed), shut);
}
