//! A turn from the message to the transcript.

use cm_core::event::{Method, normalise};
use cm_testkit::app::Frame;
use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, is_notification, notified, over_runtimes, rows, text, turn_end,
};

over_runtimes!(
    a_turn_streams_as_in_version_1,
    what_was_said_is_in_the_transcript,
    a_failing_model_fails_the_turn_and_the_next_one_works,
    a_session_keeps_what_it_was_created_with,
    controls_that_come_with_a_message_stay,
);

/// Recorded of version 1: who listens gets `ready` first, then for every notification
/// `app_server.*`, its alias if it has one, and `notification`.
fn a_turn_streams_as_in_version_1(kind: Kind) {
    let bench = Bench::start(kind);
    let mut stream = bench.app.stream(None);
    let ready = stream.next(DEADLINE);
    assert_eq!((&ready["type"], &ready["threadId"]), (&json!("ready"), &Value::Null));
    let session = bench.session();
    let started = notified(&mut stream, "thread/started");
    assert_eq!(started["thread"]["id"], session);
    let turn =
        bench.send(&session, &[Act::Say("Hello from the flow suite, in more than one delta.")]);
    let ended = turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "completed", "{ended}");

    let frames = stream.frames();
    let epoch = text(&ready["epoch"]);
    let mut last = ready["seq"].as_u64().unwrap();
    for frame in &frames[1..] {
        assert_eq!(frame["epoch"], epoch, "one history: {frame}");
        let seq = frame["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} after {last}: {frame}");
        last = seq;
    }
    let complete = frames.len()
        - usize::from(!frames.last().is_some_and(|frame| frame["type"] == "notification"));
    check_groups(&frames[..complete]);
    check_order(&frames, &turn);
}

/// Every notification of the child travels as a group of frames that nothing of the same session
/// interrupts.
fn check_groups(frames: &[Frame]) {
    let mut groups = 0;
    for (index, frame) in frames.iter().enumerate() {
        let Some(envelope) =
            frame["type"].as_str().and_then(|name| name.strip_prefix("app_server."))
        else {
            continue;
        };
        let payload = &frame["payload"];
        let method = text(&payload["method"]);
        assert_eq!(envelope, normalise(&method));
        assert_eq!(payload["source"], "app_server");
        assert_eq!(payload["signalType"], "notification");
        assert_eq!(payload["eventType"], frame["type"]);
        assert_eq!(payload["context"]["threadId"], frame["threadId"]);
        let mut rest =
            frames[index + 1..].iter().filter(|later| later["threadId"] == frame["threadId"]);
        if let Some((name, _)) = Method::new(&method).alias {
            let next = rest.next().unwrap();
            assert_eq!((&next["type"], &next["payload"]), (&json!(name), &payload["params"]));
        }
        let raw = rest
            .find(|later| !later["type"].as_str().unwrap().starts_with("session_"))
            .unwrap_or_else(|| panic!("nothing follows {frame}"));
        assert!(is_notification(raw, &method), "{raw} follows {frame}");
        assert_eq!(raw["payload"]["params"], payload["params"]);
        groups += 1;
    }
    let raw = frames.iter().filter(|frame| frame["type"] == "notification");
    assert_eq!(raw.count(), groups, "every notification comes twice");
}

/// The course of a turn, as codex has it and version 1 passes it on.
fn check_order(frames: &[Frame], turn: &str) {
    let course: Vec<String> = frames
        .iter()
        .filter(|frame| frame["type"] == "notification")
        .filter_map(|frame| {
            let (method, params) = (&frame["payload"]["method"], &frame["payload"]["params"]);
            let of_turn = params["turnId"] == turn || params["turn"]["id"] == turn;
            let detail = match method.as_str()? {
                "thread/status/changed" => &params["status"]["type"],
                "turn/started" | "turn/completed" if of_turn => &params["turn"]["status"],
                "item/started" | "item/completed" if of_turn => &params["item"]["type"],
                "item/agentMessage/delta" | "thread/tokenUsage/updated" if of_turn => &Value::Null,
                _ => return None,
            };
            Some(format!("{} {}", method.as_str()?, detail.as_str().unwrap_or("-")))
        })
        .collect();
    let mut once = course;
    once.dedup();
    // Codex has a thread that was just started idle already; what counts is from the turn on.
    let from = once.iter().position(|line| line == "thread/status/changed active").unwrap();
    let expected = [
        "thread/status/changed active",
        "turn/started inProgress",
        "item/started userMessage",
        "item/completed userMessage",
        "item/started agentMessage",
        "item/agentMessage/delta -",
        "item/completed agentMessage",
        "thread/tokenUsage/updated -",
        "thread/status/changed idle",
        "turn/completed completed",
    ];
    assert_eq!(once[from..], expected);
}

fn what_was_said_is_in_the_transcript(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["materialized"], false);
    assert_eq!(detail["transcript"], json!([]));
    assert_eq!(detail["thread"]["turns"], json!([]));

    let first = bench.complete_turn(&session, &[Act::Say("first words")]);
    let second = bench.complete_turn(&session, &[Act::Say("second words")]);
    assert_ne!(first, second);
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["materialized"], true);
    assert_eq!(detail["session"]["activity"], "idle");
    let asked =
        [kind.message(&[Act::Say("first words")]), kind.message(&[Act::Say("second words")])];
    let transcript = detail["transcript"].as_array().unwrap();
    let told: Vec<[&str; 4]> = transcript
        .iter()
        .map(|row| ["turnId", "role", "type", "content"].map(|name| row[name].as_str().unwrap()))
        .collect();
    let expected = [
        [&first, "user", "userMessage", &asked[0]],
        [&first, "assistant", "agentMessage", "first words"],
        [&second, "user", "userMessage", &asked[1]],
        [&second, "assistant", "agentMessage", "second words"],
    ];
    assert_eq!(told, expected);
    for row in transcript {
        assert_eq!(row["status"], "complete", "{row}");
        let (started, completed) = (row["startedAt"].as_i64(), row["completedAt"].as_i64());
        assert!(started.is_some() && started <= completed, "{row}");
    }
    let turns = detail["thread"]["turns"].as_array().unwrap();
    let turns: Vec<_> =
        turns.iter().map(|turn| (turn["id"].as_str(), turn["status"].as_str())).collect();
    let done = Some("completed");
    assert_eq!(turns, [(Some(first.as_str()), done), (Some(second.as_str()), done)]);
    let items = detail["thread"]["turns"][0]["items"].as_array().unwrap();
    let kinds: Vec<_> = items.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["userMessage", "agentMessage"]);
}

fn a_failing_model_fails_the_turn_and_the_next_one_works(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Fail("scripted trouble")]);
    let ended = turn_end(&mut stream, &turn);
    assert_eq!(ended["status"], "failed", "{ended}");
    let detail = bench.detail(&session);
    let errors = rows(&detail, "turn.error");
    assert_eq!(errors.len(), 1, "{detail}");
    assert_eq!((&errors[0]["status"], &errors[0]["turnId"]), (&json!("error"), &json!(turn)));
    assert!(text(&errors[0]["content"]).contains("scripted trouble"), "{}", errors[0]);
    assert_eq!(detail["thread"]["turns"][0]["status"], "failed");
    bench.complete_turn(&session, &[Act::Say("all is well")]);
}

fn a_session_keeps_what_it_was_created_with(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let summary = bench.detail(&session)["session"].clone();
    assert_eq!(summary["sessionId"], session);
    assert_eq!(summary["title"], "New chat");
    assert_eq!(summary["cwd"], json!(bench.app.workspace()));
    assert_eq!(summary["approvalPolicy"], "on-request");
    let controls = json!({
        "model": null, "approvalPolicy": "on-request", "networkAccess": "restricted",
        "filesystemSandbox": "workspace-write", "settings": {},
    });
    assert_eq!(summary["sessionControls"], controls);
    assert_eq!(bench.detail(&session)["thread"]["id"], session);
    for list in ["approvals", "tool-input", "tool-calls"] {
        let reply = bench.app.get(&format!("/api/sessions/{session}/{list}"));
        assert_eq!(reply.expect_status(200).body, json!({ "data": [] }));
    }
}

fn controls_that_come_with_a_message_stay(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let message = json!({
        "text": kind.message(&[Act::Say("hello")]), "approvalPolicy": "never",
        "filesystemSandbox": "read-only", "networkAccess": "enabled", "effort": "low",
    });
    let sent = bench.act(&session, "messages", message).expect_status(202);
    assert_eq!(turn_end(&mut stream, &text(&sent.body["turnId"]))["status"], "completed");
    let controls = json!({
        "model": null, "approvalPolicy": "never", "networkAccess": "enabled",
        "filesystemSandbox": "read-only", "settings": {},
    });
    assert_eq!(bench.detail(&session)["session"]["sessionControls"], controls);
    bench.app.restart();
    assert_eq!(bench.detail(&session)["session"]["sessionControls"], controls);
    // They hold: what would have to be asked is not asked and not done.
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Run("touch never"), Act::Say("could not")]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(!stream.frames().iter().any(|frame| frame["type"] == "approval"));
    assert!(!bench.app.workspace().join("never").exists());
}
