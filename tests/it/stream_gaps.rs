//! Subscribers whose worker misses something, and positions that are given while others are served.

use cm_testkit::app::{Frame, StreamClient, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::wait_until;
use serde_json::json;

use crate::common::{DEADLINE, notified};
use crate::fake_app::{begin, create, with_fake};
use crate::flow_resume::{numbered, position, since};

/// Gives a session a title; whether that was answered well does not matter.
fn rename(app: &TestApp, session: &str, title: &str) {
    app.post(&format!("/api/sessions/{session}/rename"), json!({ "title": title }));
}

fn has_title(title: &str) -> impl Fn(&Frame) -> bool {
    let title = title.to_owned();
    move |frame| {
        frame["type"] == "session_updated" && frame["payload"]["session"]["title"] == title.as_str()
    }
}

/// How often the journal was restarted.
fn restarts(app: &TestApp) -> u64 {
    let tree = app.get("/api/runtime").expect_status(200).body["tree"].clone();
    let journal = &tree["children"][0]["children"][1];
    assert_eq!(journal["name"], "journal", "{tree}");
    journal["restarts"].as_u64().expect("a number")
}

/// The journal ends between giving a frame its number and telling the workers of it.
#[test]
fn what_a_worker_misses_while_the_journal_restarts_is_told_as_a_gap() {
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CM_FAULT", "journal.announce:EIO:25")
        .start();
    let session = create(&app);
    let mut plain = app.stream(None);
    let ready = plain.wait_type("ready", DEADLINE);
    let mut positioned = since(&app, &position(&ready));
    let mut events = app.events("/api/events", Some(&position(&ready)));
    rename(&app, &session, "before");
    plain.wait_for(has_title("before"), DEADLINE);
    positioned.wait_for(has_title("before"), DEADLINE);
    events.wait_for(|event| has_title("before")(&event.data), DEADLINE);
    let mut titles = 0..;
    wait_until("the journal ends and a worker finds the next one", DEADLINE, || {
        rename(&app, &session, &format!("title {:?}", titles.next()));
        positioned.read(|frames| frames.iter().any(|frame| frame["type"] == "reset"))
    });
    assert_eq!(restarts(&app), 1);
    let closed = plain.wait_closed(DEADLINE);
    assert_eq!((closed.code, closed.reason.as_str()), (Some(1013), "stream_gap"));
    let reset = positioned.wait_type("reset", DEADLINE);
    assert_eq!(reset["reason"], "behind");
    let told = events.wait_for(|event| event.data["type"] == "reset", DEADLINE);
    assert_eq!(told.id, position(&told.data));
    // They go on from there.
    rename(&app, &session, "afterwards");
    positioned.wait_for(has_title("afterwards"), DEADLINE);
    events.wait_for(|event| has_title("afterwards")(&event.data), DEADLINE);
    let mut again = since(&app, &told.id);
    again.wait_for(has_title("afterwards"), DEADLINE);
    assert!(again.frames().iter().all(|frame| frame["type"] != "reset"));
}

/// The program with more history than its ring holds, one session with a turn that does not end,
/// and the position before all of it.
fn with_history(items: u64) -> (TestApp, String, String) {
    let behaviour = Behaviour::correct().turn([step::items(items, 1_000)]).turn([step::hang()]);
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_RING_BYTES", "64KiB").start();
    let (session, open) = (create(&app), create(&app));
    let mut stream = app.stream(Some(&open));
    let start = position(&stream.wait_type("ready", DEADLINE));
    begin(&app, &session);
    // Not from a stream: one that cannot keep up with so small a ring is told of a gap, in which the
    // turn's end may be.
    wait_until("the turn has ended", DEADLINE, || {
        app.detail(&session)["thread"]["turns"][0]["status"] == "completed"
    });
    begin(&app, &open);
    // The last of what is told of its turn: nothing is live from here on.
    notified(&mut stream, "item/completed");
    (app, open, start)
}

/// Sends it, and something behind which it is known to have been read.
fn subscribe(client: &mut StreamClient, after: &str) {
    client.send(&json!({ "type": "subscribe", "after": after }));
    client.send(&json!({ "type": "ping" }));
}

#[test]
fn a_position_that_is_given_while_another_one_is_served_replaces_it() {
    let (app, session, start) = with_history(3_000);
    rename(&app, &session, "first");
    let all = numbered(&mut since(&app, &start), has_title("first"));
    let middle = all.len() / 2;
    for had in [0, 1, 2, 10, 100, 300, 1_000] {
        let mut client = app.stream(None);
        client.wait_type("ready", DEADLINE);
        client.send(&json!({ "type": "subscribe", "after": start }));
        if had > 0 {
            client.wait_for(|frame| frame["seq"] == all[had - 1]["seq"], DEADLINE);
        }
        let before = position(&all[middle]);
        subscribe(&mut client, &before);
        client.wait_type("pong", DEADLINE);
        let title = format!("had {had}");
        rename(&app, &session, &title);
        let told = numbered(&mut client, has_title(&title));
        let rest = numbered(&mut since(&app, &before), has_title(&title));
        assert!(told.ends_with(&rest), "{had}: not everything behind the second position");
        // Before that it was served from the first position on, and nothing else.
        let served = &told[..told.len() - rest.len()];
        assert!(served.len() >= had && all.starts_with(served), "{had}: {} frames", served.len());
    }
}

#[test]
fn whoever_is_reset_is_told_nothing_more_of_what_was_asked_before() {
    let (app, session, start) = with_history(1_000);
    let all = numbered(&mut since(&app, &start), |frame| frame["threadId"] == session.as_str());
    let other = "0123456789abcdef0123456789abcdef:1";
    for (round, further) in all.iter().enumerate().take(10) {
        let mut client = app.stream(None);
        client.wait_type("ready", DEADLINE);
        for after in [&start, &position(further), other] {
            client.send(&json!({ "type": "subscribe", "after": after }));
        }
        let reset = client.wait_type("reset", DEADLINE);
        assert_eq!(reset["reason"], "epoch_changed");
        // Served later than whatever may still be fetched for the first one.
        since(&app, &start).wait_type("snapshot", DEADLINE);
        client.send(&json!({ "type": "ping" }));
        client.wait_type("pong", DEADLINE);
        let frames = client.frames();
        let at = frames.iter().position(|frame| *frame == reset).expect("it came");
        let behind: Vec<&Frame> = frames[at + 1..].iter().collect();
        assert!(behind.len() == 1 && behind[0]["type"] == "pong", "round {round}: {behind:#?}");
    }
}
