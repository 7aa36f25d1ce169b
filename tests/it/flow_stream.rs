//! What a page may expect of `/api/stream`: filters and commands.

use cm_testkit::app::{Frame, StreamClient, StreamOptions};
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, notified, over_runtimes, turn_end};

over_runtimes!(
    a_filtered_socket_hears_of_its_session_and_of_what_concerns_everybody,
    a_socket_changes_its_filter,
);

fn a_filtered_socket_hears_of_its_session_and_of_what_concerns_everybody(kind: Kind) {
    let bench = Bench::start(kind);
    let (mine, other) = (bench.session(), bench.session());
    let mut all = bench.app.stream(None);
    let mut filtered = bench.app.stream(Some(&mine));
    let ready = filtered.next(DEADLINE);
    assert_eq!((&ready["type"], &ready["threadId"]), (&json!("ready"), &json!(mine)));
    all.wait_type("ready", DEADLINE);
    bench.act(&other, "rename", json!({ "title": "Another name" })).expect_status(200);
    let foreign = bench.send(&other, &[Act::Say("not for you")]);
    turn_end(&mut all, &foreign);
    let own = bench.send(&mine, &[Act::Say("for you")]);
    turn_end(&mut all, &own);
    turn_end(&mut filtered, &own);

    let heard = filtered.frames();
    let (of_mine, of_others): (Vec<&Frame>, Vec<&Frame>) =
        heard[1..].iter().partition(|frame| frame["threadId"] == mine);
    assert!(!of_mine.is_empty());
    for frame in of_others {
        let name = frame["type"].as_str().unwrap();
        let broadcast = ["session_updated", "runtime_state"].contains(&name)
            || name.starts_with("account_")
            || ["app_list_updated", "mcp_oauth_completed"].contains(&name);
        assert!(broadcast, "a filtered socket heard {frame}");
    }
    let renamed = |frame: &&Frame| frame["payload"]["reason"] == "renamed";
    assert!(heard.iter().any(|frame| renamed(&frame)), "lists on every page are kept current");
    // What both heard has the same numbers: there is one order.
    let numbers = |client: &StreamClient| -> Vec<(u64, Value)> {
        let frames = client.frames();
        let mine = frames.iter().filter(|frame| frame["threadId"] == mine);
        let pairs = mine.filter(|frame| frame["type"] != "ready");
        pairs.map(|frame| (frame["seq"].as_u64().unwrap(), frame["type"].clone())).collect()
    };
    let (from_all, from_filtered) = (numbers(&all), numbers(&filtered));
    let first = from_filtered[0].0;
    let from_all: Vec<_> = from_all.into_iter().filter(|(seq, _)| *seq >= first).collect();
    let length = from_all.len().min(from_filtered.len());
    assert_eq!(from_all[..length], from_filtered[..length]);
}

fn a_socket_changes_its_filter(kind: Kind) {
    let bench = Bench::start(kind);
    let (first, second) = (bench.session(), bench.session());
    let mut stream = bench.app.stream(Some(&first));
    stream.wait_type("ready", DEADLINE);
    stream.send(&json!({ "type": "subscribe", "threadId": second, "more": true }));
    ping(&mut stream);
    bench.complete_turn(&first, &[Act::Say("not heard")]);
    let turn = bench.send(&second, &[Act::Say("heard")]);
    turn_end(&mut stream, &turn);
    assert!(!heard(&stream, &first), "the new filter replaces the old one");

    stream.send(&json!({ "type": "unsubscribe" }));
    ping(&mut stream);
    let turn = bench.send(&first, &[Act::Say("heard now")]);
    turn_end(&mut stream, &turn);
    let readies = stream.read(|all| all.iter().filter(|frame| frame["type"] == "ready").count());
    assert_eq!(readies, 1, "a subscription is not answered");
}

/// The socket's own, so one runtime shows it.
#[test]
fn commands_that_are_none_are_answered_and_the_socket_lives_on() {
    let bench = Bench::start(Kind::Embedded);
    let session = bench.session();
    let mut stream = bench.app.stream(None);
    stream.wait_type("ready", DEADLINE);
    let error = json!({ "type": "error", "message": "invalid websocket command" });
    for wrong in [
        "{",
        "[]",
        "null",
        "7",
        "{}",
        r#"{"type":"dance"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","threadId":""}"#,
        r#"{"type":"subscribe","threadId":7}"#,
    ] {
        stream.send_text(wrong);
        assert_eq!(control(&mut stream), error, "{wrong}");
    }
    stream.send_binary(br#"{"type":"ping"}"#);
    assert_eq!(control(&mut stream), json!({ "type": "pong" }), "bytes are read as text");
    stream.send_text("");
    ping(&mut stream);
    bench.send(&session, &[Act::Say("still here")]);
    notified(&mut stream, "turn/completed");
}

/// An empty filter is none, and so is one that is given twice.
#[test]
fn an_empty_or_repeated_filter_is_none() {
    let bench = Bench::start(Kind::Embedded);
    let empty = StreamOptions::default().query("threadId", "");
    let twice = StreamOptions::default().query("threadId", "a").query("threadId", "b");
    for options in [empty, twice] {
        let mut stream = bench.app.try_stream(options).unwrap();
        assert_eq!(stream.next(DEADLINE)["threadId"], Value::Null);
    }
}

/// The next frame that answers a command: only those have no number.
#[track_caller]
fn control(stream: &mut StreamClient) -> Frame {
    stream.wait_for(|frame| frame["seq"].is_null(), DEADLINE)
}

/// Returns when the server has read everything that was sent before.
#[track_caller]
fn ping(stream: &mut StreamClient) {
    stream.send(&json!({ "type": "ping" }));
    assert_eq!(stream.wait_type("pong", DEADLINE), json!({ "type": "pong" }));
}

fn heard(stream: &StreamClient, session: &str) -> bool {
    stream.read(|all| {
        all.iter().any(|frame| frame["type"] == "notification" && frame["threadId"] == session)
    })
}
