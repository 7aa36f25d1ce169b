//! Coming back to the stream: positions, resets, snapshots, and the same over server-sent events.

use std::collections::BTreeSet;

use cm_testkit::app::{Frame, StreamClient, StreamOptions, TestApp};
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, over_runtimes, turn_end};

over_runtimes!(
    a_position_brings_everything_since,
    a_position_outlives_a_restart_of_the_manager,
    server_sent_events_go_on_where_they_left_off,
);

/// The position of a frame.
pub(crate) fn position(frame: &Frame) -> String {
    format!("{}:{}", frame["epoch"].as_str().unwrap(), frame["seq"])
}

/// A subscriber that goes on behind a position.
#[track_caller]
pub(crate) fn since(app: &TestApp, position: &str) -> StreamClient {
    let options = StreamOptions::default().query("since", position);
    app.try_stream(options).unwrap_or_else(|reply| panic!("refused: {}", reply.text))
}

/// The numbered frames of a client, up to one that matches.
#[track_caller]
pub(crate) fn numbered(client: &mut StreamClient, until: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    client.wait_for(&until, DEADLINE);
    let mut frames = client.frames();
    let end = frames.iter().position(&until).unwrap();
    frames.truncate(end + 1);
    frames.retain(|frame| frame.get("seq").is_some() && frame["type"] != "ready");
    frames
}

/// Whether a frame is kept beyond the ring.
pub(crate) fn is_durable(frame: &Frame) -> bool {
    let method = frame["payload"]["method"].as_str().unwrap_or_default();
    let delta = method.ends_with("Delta") || method.ends_with("/delta");
    let usage = ["thread/tokenUsage/updated", "account/rateLimits/updated"].contains(&method);
    let alias = ["thread_token_usage_updated", "account_rate_limits_updated"];
    !delta && !usage && !alias.contains(&frame["type"].as_str().unwrap_or_default())
}

fn is_end_of(turn: &str) -> impl Fn(&Frame) -> bool {
    let turn = turn.to_owned();
    move |frame| {
        frame["type"] == "notification"
            && frame["payload"]["method"] == "turn/completed"
            && frame["payload"]["params"]["turn"]["id"] == turn
    }
}

fn a_position_brings_everything_since(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut uncut = bench.app.stream(None);
    let ready = uncut.wait_type("ready", DEADLINE);
    let turn = bench.send(&session, &[Act::Say("one two three")]);
    let all = numbered(&mut uncut, is_end_of(&turn));
    for cut in [0, 1, all.len() / 2, all.len() - 1] {
        let from = cut.checked_sub(1).map_or_else(|| position(&ready), |last| position(&all[last]));
        let mut again = since(&bench.app, &from);
        assert_eq!(numbered(&mut again, is_end_of(&turn)), all[cut..], "cut at {cut}");
    }
    // The same over the command, on a socket that is there already.
    let mut live = bench.app.stream(None);
    live.wait_type("ready", DEADLINE);
    live.send(&json!({ "type": "subscribe", "after": position(&ready) }));
    assert_eq!(numbered(&mut live, is_end_of(&turn)), all);
    let filtered = StreamOptions::default().query("since", &position(&ready));
    let mut filtered = bench.app.try_stream(filtered.query("threadId", &session)).unwrap();
    let mine: Vec<Frame> =
        all.iter().filter(|frame| frame["threadId"] == session).cloned().collect();
    let heard = numbered(&mut filtered, is_end_of(&turn));
    let heard: Vec<Frame> =
        heard.into_iter().filter(|frame| frame["threadId"] == session).collect();
    assert_eq!(heard, mine);
}

fn a_position_outlives_a_restart_of_the_manager(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    let mut uncut = bench.app.stream(None);
    let ready = uncut.wait_type("ready", DEADLINE);
    let turn = bench.send(&session, &[Act::Say("one two three")]);
    let all = numbered(&mut uncut, is_end_of(&turn));
    bench.app.restart();
    // What happened between the cut and the end of the manager is told behind it.
    let mut again = since(&bench.app, &position(&ready));
    let durable: Vec<Frame> = all.iter().filter(|frame| is_durable(frame)).cloned().collect();
    let heard = numbered(&mut again, is_end_of(&turn));
    let heard: Vec<Frame> = heard.into_iter().filter(is_durable).collect();
    assert_eq!(heard, durable);
    // What comes now has higher numbers, and nothing was told twice.
    bench.act(&session, "rename", json!({ "title": "After the restart" })).expect_status(200);
    again.wait_for(|frame| frame["payload"]["reason"] == "renamed", DEADLINE);
    let frames = again.frames();
    let numbers: Vec<u64> = frames[1..].iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let distinct: BTreeSet<&u64> = numbers.iter().collect();
    assert_eq!(distinct.len(), numbers.len());
    assert!(frames.iter().all(|frame| frame["type"] != "reset"), "an orderly end loses nothing");
    let epochs: BTreeSet<&str> =
        frames.iter().filter_map(|frame| frame["epoch"].as_str()).collect();
    assert_eq!(epochs.len(), 1);
}

fn server_sent_events_go_on_where_they_left_off(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut socket = bench.app.stream(None);
    socket.wait_type("ready", DEADLINE);
    let mut first = bench.app.events("/api/events", None);
    let ready = first.next(DEADLINE);
    assert_eq!(ready.data["type"], "ready");
    let turn = bench.send(&session, &[Act::Say("one two three")]);
    let ends = |event: &cm_testkit::app::Event| {
        event.data["type"] == "app_server.turn.completed"
            && event.data["payload"]["params"]["turn"]["id"] == turn
    };
    first.wait_for(ends, DEADLINE);
    turn_end(&mut socket, &turn);
    let all = first.all();
    // Each thing once: no raw notification, no alias; and an event's id is its position.
    let repeats = |kind: &str| {
        kind == "notification"
            || ["turn_diff_updated", "thread_token_usage_updated"].contains(&kind)
    };
    for event in &all[1..] {
        assert!(!repeats(event.data["type"].as_str().unwrap()), "{event:?}");
        assert_eq!(event.id, position(&event.data));
    }
    let on_socket: Vec<Value> = socket
        .frames()
        .into_iter()
        .filter(|frame| frame["threadId"] == session)
        // The socket was there before.
        .filter(|frame| frame["seq"].as_u64() > ready.data["seq"].as_u64())
        .filter(|frame| !repeats(frame["type"].as_str().unwrap()))
        .collect();
    let on_events: Vec<Value> = all
        .iter()
        .map(|event| &event.data)
        .filter(|data| data["threadId"] == session)
        .cloned()
        .collect();
    let length = on_socket.len().min(on_events.len());
    assert_eq!(on_events[..length], on_socket[..length]);
    let cut = all.len() / 2;
    let mut again =
        bench.app.events(&format!("/api/sessions/{session}/events"), Some(&all[cut].id));
    again.wait_for(ends, DEADLINE);
    let expected: Vec<_> =
        all[cut + 1..].iter().filter(|event| event.data["threadId"] == session).cloned().collect();
    let heard: Vec<_> = again
        .all()
        .into_iter()
        .filter(|event| event.data["threadId"] == session)
        .take(expected.len())
        .collect();
    assert_eq!(heard, expected);
}
