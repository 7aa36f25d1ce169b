//! `GET /metrics`: every line is of the format, and each number moves when its cause happens.

use std::collections::BTreeMap;
use std::path::Path;

use cm_testkit::app::TestApp;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::wait_until;
use serde_json::json;

use crate::common::{DEADLINE, turn_end};
use crate::fake_app::{begin, create, send, start, with_fake};
use crate::flow_resume::{position, since};

/// A page that was read line by line.
#[derive(Debug)]
struct Scrape {
    /// Families and their kinds.
    kinds: BTreeMap<String, String>,
    /// Samples as they are written, name and labels together.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    #[track_caller]
    fn of(app: &TestApp) -> Self {
        let reply = app.get("/metrics").expect_status(200);
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4"));
        Self::read(&reply.text)
    }

    /// Reads a page; anything that is not of the format ends the test.
    #[track_caller]
    fn read(text: &str) -> Self {
        let mut page = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let mut helped = String::new();
        let mut family = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(help.ends_with('.'), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert_eq!(name, helped, "every family says what it is");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                let twice = page.kinds.insert(name.to_owned(), kind.to_owned());
                assert!(twice.is_none(), "{name} twice");
                family = name.to_owned();
            } else {
                let (sample, value) = line.rsplit_once(' ').expect(line);
                let name = sample.split('{').next().expect(line);
                let suffix = name.strip_prefix(&family).expect(line);
                match page.kinds[&family].as_str() {
                    "histogram" => {
                        assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}");
                    }
                    _ => assert_eq!(suffix, "", "{line}"),
                }
                let prefixed = ["codex_manager_", "process_"];
                assert!(prefixed.iter().any(|prefix| name.starts_with(prefix)), "{line}");
                if let Some(labels) = sample.strip_prefix(name).filter(|rest| !rest.is_empty()) {
                    let labels = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
                    for label in labels.expect(line).split("\",") {
                        let (label, value) = label.split_once("=\"").expect(line);
                        assert!(label.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
                        assert!(!value.trim_end_matches('"').is_empty(), "{line}");
                    }
                }
                let value: f64 = value.parse().expect(line);
                assert!(value >= 0.0, "{line}");
                let twice = page.samples.insert(sample.to_owned(), value);
                assert!(twice.is_none(), "{sample} twice");
            }
        }
        page
    }

    /// A sample; 0 when there is none.
    fn value(&self, sample: &str) -> f64 {
        let name = format!("codex_manager_{sample}");
        self.samples.get(&name).copied().unwrap_or_default()
    }

    /// The values of a histogram: those up to each bound ascend, and the last are all.
    #[track_caller]
    fn count(&self, family: &str, labels: &str) -> f64 {
        let (all, own) = match labels {
            "" => (String::new(), String::new()),
            labels => (format!("{{{labels}}}"), format!("{labels},")),
        };
        let prefix = format!("codex_manager_{family}_bucket{{{own}le=");
        let mut buckets: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter_map(|(sample, count)| {
                let bound = sample.strip_prefix(&prefix)?.trim_matches(['"', '}']);
                Some((bound.parse().expect(sample), *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        let count = self.value(&format!("{family}_count{all}"));
        let last = buckets.last().copied().unwrap_or((f64::INFINITY, 0.0));
        assert_eq!(last, (f64::INFINITY, count));
        count
    }
}

/// Asserts that every family has its place in the documentation.
#[track_caller]
fn documented(page: &Scrape) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/metrics.md");
    let text = std::fs::read_to_string(path).expect("the page of the metrics");
    // A table names `codex_manager_stream_ring_bytes`, `…_ring_segments` in one row.
    let short = |name: &str| name.replace("codex_manager_stream", "…");
    let missing: Vec<&String> = page
        .kinds
        .keys()
        .filter(|name| !text.contains(*name) && !text.contains(&short(name)))
        .collect();
    assert!(missing.is_empty(), "not in docs/operations/metrics.md: {missing:?}");
}

/// Waits until a sample has a value.
#[track_caller]
fn wait_value(app: &TestApp, sample: &str, expected: f64) {
    let what = format!("{sample} is {expected}");
    wait_until(&what, DEADLINE, || Scrape::of(app).value(sample) == expected);
}

#[test]
fn requests_are_counted_by_route_method_and_status() {
    let app = start(Behaviour::correct());
    let session = create(&app);
    app.get("/nothing/here").expect_status(404);
    let before = Scrape::of(&app);
    for _ in 0..3 {
        app.get("/api/health").expect_status(200);
    }
    app.get(&format!("/api/sessions/{session}")).expect_status(200);
    app.get("/api/sessions/unknown").expect_status(404);
    app.get("/another/path").expect_status(404);
    app.request("GET", "/api/health", &[("Host", "evil.example")], None).expect_status(403);
    let after = Scrape::of(&app);
    let moved = |labels: &str| {
        let sample = format!("http_requests_total{{{labels}}}");
        after.value(&sample) - before.value(&sample)
    };
    assert_eq!(moved("route=\"/api/health\",method=\"GET\",status=\"2xx\""), 3.0);
    assert_eq!(moved("route=\"/api/health\",method=\"GET\",status=\"4xx\""), 1.0);
    assert_eq!(moved("route=\"/api/sessions/{id}\",method=\"GET\",status=\"2xx\""), 1.0);
    assert_eq!(moved("route=\"/api/sessions/{id}\",method=\"GET\",status=\"4xx\""), 1.0);
    assert_eq!(moved("route=\"none\",method=\"GET\",status=\"4xx\""), 1.0);
    assert_eq!(moved("route=\"/metrics\",method=\"GET\",status=\"2xx\""), 1.0);
    let took = |page: &Scrape| {
        let labels = "route=\"/api/health\",method=\"GET\"";
        page.count("http_request_duration_seconds", labels)
    };
    assert_eq!(took(&after) - took(&before), 4.0);
    documented(&after);
    let text = app.get("/metrics").text;
    assert!(!text.contains(&session) && !text.contains("another"), "{text}");
}

#[test]
fn sessions_calls_and_requests_are_counted() {
    let dir = cm_testkit::dirs::TestDir::new("record");
    let behaviour = Behaviour::correct()
        .turn([step::command_approval("ls", &dir.join("answers"))])
        .method("thread/unarchive", MethodRule::error(-32600, "no"));
    let app = start(behaviour);
    let before = Scrape::of(&app);
    assert_eq!(before.value("sessions{archived=\"false\"}"), 0.0);
    let (one, other) = (create(&app), create(&app));
    app.post(&format!("/api/sessions/{other}/archive"), json!({})).expect_status(200);
    app.post(&format!("/api/sessions/{other}/unarchive"), json!({})).expect_status(409);
    let page = Scrape::of(&app);
    assert_eq!(page.value("sessions{archived=\"false\"}"), 1.0);
    assert_eq!(page.value("sessions{archived=\"true\"}"), 1.0);
    assert_eq!(page.value("threads_alive"), 2.0);
    assert_eq!(page.value("calls_total{method=\"thread/start\",end=\"answered\"}"), 2.0);
    assert_eq!(page.value("calls_total{method=\"thread/unarchive\",end=\"refused\"}"), 1.0);
    assert_eq!(page.count("call_duration_seconds", "method=\"thread/start\""), 2.0);
    let mut stream = app.stream(Some(&one));
    let turn = begin(&app, &one);
    let approval = stream.wait_type("approval", DEADLINE);
    assert_eq!(Scrape::of(&app).value("requests_pending"), 1.0);
    let id = approval["payload"]["approvalId"].as_str().expect("an id");
    app.post(&format!("/api/approvals/{id}/decision"), json!({ "decision": "accept" }))
        .expect_status(200);
    turn_end(&mut stream, &turn);
    wait_value(&app, "requests_pending", 0.0);
    app.delete(&format!("/api/sessions/{one}")).expect_status(200);
    wait_value(&app, "threads_alive", 1.0);
    assert_eq!(Scrape::of(&app).value("sessions{archived=\"false\"}"), 0.0);
}

#[test]
fn the_childs_deaths_and_what_was_lost_with_it_are_counted() {
    let never = Behaviour::correct().method("turn/start", MethodRule::never());
    let script = FakeScript::starts([never]);
    let app = with_fake(script).start();
    let session = create(&app);
    let page = Scrape::of(&app);
    assert_eq!(page.value("actor_restarts_total{actor=\"app_server\"}"), 0.0);
    assert_eq!(page.value("runtime_ready"), 1.0);
    for actor in ["state", "store", "journal", "threads", "app_server"] {
        assert_eq!(page.value(&format!("actor_up{{actor=\"{actor}\"}}")), 1.0, "{actor}");
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| send(&app, &session, "go"));
        wait_value(&app, "calls_in_flight", 1.0);
        let pid = app.kill_child();
        waiting.join().expect("a reply").expect_status(503);
        app.wait_new_child(pid, DEADLINE);
    });
    let page = Scrape::of(&app);
    assert_eq!(page.value("actor_restarts_total{actor=\"app_server\"}"), 1.0);
    assert_eq!(page.value("calls_total{method=\"turn/start\",end=\"lost\"}"), 1.0);
    assert_eq!(page.value("calls_in_flight"), 0.0);
}

#[test]
fn a_call_that_the_child_does_not_answer_is_counted_as_late() {
    let never = Behaviour::correct().method("thread/archive", MethodRule::never());
    let app =
        with_fake(FakeScript::always(never)).env("CODEX_MANAGER_CALL_TIMEOUT_MS", "300").start();
    let session = create(&app);
    app.post(&format!("/api/sessions/{session}/archive"), json!({})).expect_status(504);
    let page = Scrape::of(&app);
    assert_eq!(page.value("calls_total{method=\"thread/archive\",end=\"late\"}"), 1.0);
    assert_eq!(page.count("call_duration_seconds", "method=\"thread/archive\""), 1.0);
}

#[test]
fn calls_that_find_no_place_wait_and_are_counted() {
    // 64 calls are in flight at the most.
    let late = Behaviour::correct().method("thread/start", MethodRule::late(1500));
    let app = with_fake(FakeScript::always(late)).start();
    let body = json!({ "cwd": app.workspace() });
    std::thread::scope(|scope| {
        for _ in 0..66 {
            scope.spawn(|| app.post("/api/sessions", body.clone()).expect_status(200));
        }
        wait_value(&app, "calls_waiting", 2.0);
        assert_eq!(Scrape::of(&app).value("calls_in_flight"), 64.0);
    });
    wait_value(&app, "calls_waiting", 0.0);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_shows_its_memory_its_time_and_its_files() {
    let app = start(Behaviour::correct());
    let before = Scrape::of(&app);
    let process = |page: &Scrape, name: &str| page.samples[&format!("process_{name}")];
    assert!(process(&before, "resident_memory_bytes") > 1_000_000.0);
    assert!(process(&before, "virtual_memory_bytes") > process(&before, "resident_memory_bytes"));
    assert!(process(&before, "threads") >= 3.0);
    assert!(process(&before, "max_fds") >= process(&before, "open_fds"));
    assert!(process(&before, "start_time_seconds") > 1_600_000_000.0);
    let streams: Vec<_> = (0..20).map(|_| app.stream(None)).collect();
    let after = Scrape::of(&app);
    // A connection that was just closed may still be among those before.
    assert!(process(&after, "open_fds") - process(&before, "open_fds") >= 20.0);
    assert!(process(&after, "cpu_seconds_total") > 0.0);
    drop(streams);
    wait_until("the files are closed", DEADLINE, || {
        process(&Scrape::of(&app), "open_fds") <= process(&before, "open_fds")
    });
}

#[test]
fn the_stores_commits_and_their_failures_are_counted() {
    let dir = cm_testkit::dirs::TestDir::new("fault");
    let fault = dir.join("fault");
    let app = with_fake(FakeScript::always(Behaviour::correct()))
        .env("CM_FAULT_FILE", fault.to_str().expect("a path"))
        .start();
    let commits = |page: &Scrape| page.value("store_commit_duration_seconds_count");
    let before = Scrape::of(&app);
    assert!(commits(&before) >= 1.0, "numbers are reserved at the start");
    let session = create(&app);
    let after = Scrape::of(&app);
    assert!(commits(&after) > commits(&before));
    assert_eq!(after.count("store_commit_duration_seconds", ""), commits(&after));
    assert_eq!(after.count("store_commit_batches", ""), commits(&after));
    assert!(after.value("store_commit_batches_sum") >= commits(&after));
    assert_eq!(after.value("store_commit_failures_total"), 0.0);
    std::fs::write(&fault, "store.before_batch:28\n").expect("a fault");
    let rename = format!("/api/sessions/{session}/rename");
    app.post(&rename, json!({ "title": "Full" })).expect_status(507);
    assert!(Scrape::of(&app).value("store_commit_failures_total") >= 1.0);
    std::fs::remove_file(&fault).expect("no fault");
    app.post(&rename, json!({ "title": "Room" })).expect_status(200);
    let page = Scrape::of(&app);
    assert!(commits(&page) > commits(&after));
    assert_eq!(page.value("store_backlog"), 0.0);
}

#[test]
fn frames_subscribers_and_the_ring_are_counted() {
    let app = start(Behaviour::correct().turn([step::deltas(50, 20, 0)]));
    let session = create(&app);
    let before = Scrape::of(&app);
    assert_eq!(before.value("stream_subscribers"), 0.0);
    let mut stream = app.stream(None);
    let ready = stream.wait_type("ready", DEADLINE);
    let turn = begin(&app, &session);
    turn_end(&mut stream, &turn);
    app.post(&format!("/api/sessions/{session}/rename"), json!({ "title": "New" }))
        .expect_status(200);
    let resumed = since(&app, &position(&ready));
    wait_value(&app, "stream_subscribers", 2.0);
    let after = Scrape::of(&app);
    let moved = |sample: &str| after.value(sample) - before.value(sample);
    // Each delta goes out twice to the default view.
    assert!(moved("stream_frames_total{class=\"ephemeral\"}") >= 100.0);
    for class in ["recorded", "durable_first"] {
        assert!(moved(&format!("stream_frames_total{{class=\"{class}\"}}")) >= 1.0, "{class}");
    }
    for growing in ["stream_bytes_total", "stream_ring_bytes", "stream_ring_segments"] {
        assert!(moved(growing) >= 1.0, "{growing}");
    }
    assert!(after.value("stream_log_bytes") > 0.0);
    assert!(after.value("stream_ring_age_seconds") > before.value("stream_ring_age_seconds"));
    assert_eq!(moved("stream_replays_total"), 1.0);
    drop((stream, resumed));
    wait_value(&app, "stream_subscribers", 0.0);
}

/// Runs a turn of many deltas to its end; who does not read falls behind.
fn flood(app: &TestApp, session: &str) {
    send(app, session, "go").expect_status(202);
    wait_until("the turn has ended", DEADLINE, || {
        let session = &app.get("/api/sessions").expect_status(200).body["data"][0];
        session["activity"] == "idle" && session["materialized"] == true
    });
}

#[test]
fn subscribers_that_fall_off_the_ring_are_counted() {
    let behaviour = Behaviour::correct().turn([step::deltas(60_000, 200, 0)]);
    let app =
        with_fake(FakeScript::always(behaviour)).env("CODEX_MANAGER_RING_BYTES", "65536").start();
    let session = create(&app);
    let mut without = app.stream(None);
    let ready = without.wait_type("ready", DEADLINE);
    let mut with_position = since(&app, &position(&ready));
    with_position.wait_type("ready", DEADLINE);
    without.stop_reading();
    with_position.stop_reading();
    flood(&app, &session);
    assert!(Scrape::of(&app).value("stream_cursor_lag_bytes") > 0.0);
    without.resume_reading();
    with_position.resume_reading();
    without.wait_closed(DEADLINE);
    with_position.wait_type("reset", DEADLINE);
    let page = Scrape::of(&app);
    assert_eq!(page.value("stream_gap_closes_total"), 1.0);
    // It may have fallen behind again.
    assert!(page.value("stream_resets_total") >= 1.0);
}

/// Takes as long as the server has patience with a subscriber: ten seconds.
#[test]
fn a_subscriber_that_is_cut_because_it_does_not_read_is_counted() {
    let app = start(Behaviour::correct().turn([step::deltas(60_000, 200, 0)]));
    let session = create(&app);
    let mut stuck = app.stream(None);
    stuck.wait_type("ready", DEADLINE);
    stuck.stop_reading();
    flood(&app, &session);
    assert_eq!(Scrape::of(&app).value("stream_evictions_total"), 0.0);
    wait_value(&app, "stream_evictions_total", 1.0);
    wait_value(&app, "stream_subscribers", 0.0);
    assert_eq!(Scrape::of(&app).value("stream_evictions_total"), 1.0);
}
