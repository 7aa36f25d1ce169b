//! A crowd of subscribers: who reads gets everything, whatever others do.

use cm_testkit::app::{StreamClient, StreamOptions, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::wait_until;

use crate::common::{DEADLINE, turn_end};
use crate::fake_app::{begin, create, with_fake};

/// Subscribers that read as fast as they can.
const GOOD: usize = 98;

/// Bytes of a delta.
const DELTA: usize = 8 * 1024;

/// Microseconds between two of them: the crowd keeps up, also in a debug build.
const PACE: u64 = 5_000;

/// Deltas that fill the ring, and what carries frames, before anything is measured.
const BEFORE: u64 = 1_200;

/// Deltas while one has stopped and one is slow: more than sockets and ring can hold.
const MEANWHILE: u64 = 2_400;

/// Deltas for which the slow one reads nothing, again and again; far less than it may do so.
const PAUSE: usize = 500;

/// What the manager may take more while one does not read: less than what that one was not given.
const MOST_GROWTH: u64 = 12 << 20;

/// Bytes of a row of proc_pid_status(5).
fn memory(pid: u32, row: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn subscriber(app: &TestApp, options: StreamOptions) -> StreamClient {
    let mut client = app.try_stream(options.query("view", "single")).expect("a stream");
    client.wait_type("ready", DEADLINE);
    client
}

/// The numbers behind one that a client was told, and whether it was told of a hole.
fn told(client: &StreamClient, start: u64) -> (Vec<u64>, bool) {
    client.read(|frames| {
        let events = frames.iter().filter(|frame| frame.get("type").is_none());
        let numbers = events.filter_map(|frame| frame["seq"].as_u64());
        let reset = frames.iter().any(|frame| frame["type"] == "reset");
        (numbers.filter(|number| *number > start).collect(), reset)
    })
}

fn evictions(app: &TestApp) -> Option<String> {
    let page = app.get("/metrics").expect_status(200).text;
    let line =
        page.lines().find_map(|line| line.strip_prefix("codex_manager_stream_evictions_total "));
    line.map(str::to_owned)
}

#[test]
fn one_that_stops_and_one_that_is_slow_cost_a_hundred_subscribers_nothing() {
    let flood = |count| [step::paced_open_deltas(count, DELTA, PACE)];
    let behaviour = Behaviour::correct().turn(flood(BEFORE)).turn(flood(MEANWHILE));
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_RING_BYTES", "16MiB").start();
    let session = create(&app);
    let brief = || subscriber(&app, StreamOptions::default().numbers_only());
    let mut good: Vec<StreamClient> = (0..GOOD).map(|_| brief()).collect();
    let (mut slow, stopped) = (brief(), brief());
    let mut end = app.stream(Some(&session));
    // It reads whole frames, and so knows what the numbers of the others are.
    let mut witness = subscriber(&app, StreamOptions::default());
    let start = witness.read(|frames| frames[0]["seq"].as_u64()).expect("a number");
    turn_end(&mut end, &begin(&app, &session));
    drop(end);

    stopped.stop_reading();
    let before = memory(app.pid(), "VmRSS:");
    let turn = begin(&app, &session);
    let is_delta =
        |frame: &&cm_testkit::app::Frame| frame["type"] == "app_server.item.agent_message.delta";
    let deltas = BEFORE + MEANWHILE;
    for _ in 0..MEANWHILE as usize / PAUSE / 2 {
        for reads in [false, true] {
            if reads {
                slow.resume_reading()
            } else {
                slow.stop_reading()
            }
            let mut left = PAUSE;
            while left > 0 {
                witness.wait_for(|frame| is_delta(&frame), DEADLINE);
                left -= 1;
            }
        }
    }
    let last = witness.wait_for(
        |frame| {
            frame["type"] == "app_server.turn.completed"
                && frame["payload"]["params"]["turn"]["id"] == turn.as_str()
        },
        DEADLINE,
    );
    let count = witness.read(|frames| frames.iter().filter(is_delta).count());
    assert_eq!(count as u64, deltas);
    let last = last["seq"].as_u64().expect("a number");
    let mut all = witness.read(|frames| {
        frames[1..].iter().filter_map(|frame| frame["seq"].as_u64()).collect::<Vec<_>>()
    });
    all.retain(|number| *number <= last);

    for client in &mut good {
        client.wait_for(|frame| frame["seq"].as_u64() >= Some(last), DEADLINE);
        let (mut numbers, reset) = told(client, start);
        numbers.retain(|number| *number <= last);
        assert!(!reset && numbers == all, "{} of {} frames", numbers.len(), all.len());
    }
    slow.wait_for(|frame| frame["seq"].as_u64() >= Some(last), DEADLINE);
    let (mut numbers, reset) = told(&slow, start);
    numbers.retain(|number| *number <= last);
    assert!(numbers.is_sorted_by(|one, next| one < next));
    assert!(reset || numbers == all, "the slow one misses frames and was not told so");

    wait_until("who stopped is cut off", DEADLINE, || evictions(&app).as_deref() == Some("1"));
    let grown = memory(app.pid(), "VmHWM:").saturating_sub(before);
    println!("{grown} bytes more, the slow one was reset: {reset}");
    assert!(grown < MOST_GROWTH, "{grown} bytes more");
    stopped.resume_reading();
    assert_eq!(stopped.wait_closed(DEADLINE).code, None, "there was no room for a closing frame");
    let (numbers, _) = told(&stopped, start);
    assert!(numbers.len() < all.len() && all.starts_with(&numbers), "a part from the start");
}
