//! `GET /metrics`, and where every family is from.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::{HttpResponse, web};
use cm_actors::clock;
use cm_actors::metrics::{CallEnd, CallStats, SessionStats, Stats, StreamStats};
use cm_actors::supervisor::ChildState;
use cm_core::error::ErrorCode;

use super::http::{CLASSES, HttpStats};
use super::page::{Page, number};
use super::process;
use crate::answer::ApiError;
use crate::api::Api;

/// What Prometheus asks for, and every other reader understands.
const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Microseconds in a second.
const MICROS: f64 = 1_000_000.0;

/// `GET /metrics`
pub(crate) async fn scrape(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let mut page = Page::default();
    program(&mut page, &api);
    actors(&mut page, &api);
    calls(&mut page, api.app_server.calls());
    sessions(&mut page, &api.stats.sessions);
    store(&mut page, &api.stats);
    stream(&mut page, &api.stats.stream);
    requests(&mut page, &api.http);
    let failed = |error: String| {
        tracing::error!(error, "the metrics cannot be written");
        ApiError::new(ErrorCode::Internal, "The metrics cannot be written; see the log.")
    };
    let text = web::block(move || {
        process::describe(&mut page);
        page.text()
    });
    let text = text.await.map_err(|error| failed(error.to_string()))?;
    let text = text.map_err(|error| failed(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

fn read(counter: &AtomicU64) -> f64 {
    number(counter.load(Ordering::Relaxed))
}

fn program(page: &mut Page, api: &Api) {
    page.gauges(
        "codex_manager_info",
        "Always 1; the labels name the program's version and the runtime in use.",
        [(vec![("version", api.info.version.as_str()), ("runtime", api.info.runtime)], 1.0)],
    );
    let stopping = api.stopping.load(Ordering::Relaxed);
    page.gauge("codex_manager_stopping", "1 while the manager stops.", f64::from(stopping));
}

/// What the supervisor knows of each child. The app-server's actor is the child process.
fn actors(page: &mut Page, api: &Api) {
    let vitals = &api.vitals;
    let cells = [
        ("state", &vitals.state),
        ("store", &vitals.store),
        ("journal", &vitals.journal),
        ("threads", &vitals.sessions),
    ];
    let mut states: Vec<(&str, u64, bool)> = Vec::new();
    for (name, cell) in cells {
        let ChildState { state, restarts, .. } = *cell.read();
        states.push((name, restarts, state == "running"));
    }
    let status = api.app_server.status();
    states.push(("app_server", status.restarts, status.state == "running"));
    page.counters(
        "codex_manager_actor_restarts_total",
        "Restarts of supervised actors; those of app_server are restarts of the child process.",
        states.iter().map(|(name, restarts, _)| (vec![("actor", *name)], number(*restarts))),
    );
    page.gauges(
        "codex_manager_actor_up",
        "1 while a supervised actor runs, 0 while it waits for its restart or has failed.",
        states.iter().map(|(name, _, up)| (vec![("actor", *name)], f64::from(*up))),
    );
    page.gauge(
        "codex_manager_runtime_ready",
        "1 while the child takes calls.",
        f64::from(status.initialized),
    );
}

fn calls(page: &mut Page, stats: &CallStats) {
    page.gauge(
        "codex_manager_calls_in_flight",
        "Calls that wait for the child's answer.",
        read(&stats.in_flight),
    );
    page.gauge(
        "codex_manager_calls_waiting",
        "Calls that wait for a place among those in flight.",
        read(&stats.waiting),
    );
    page.counter(
        "codex_manager_calls_overloaded_total",
        "Calls that were refused because too many waited.",
        read(&stats.overloaded),
    );
    let methods = stats.methods();
    page.counters(
        "codex_manager_calls_total",
        "Calls to the child that ended, by method and end: answered, refused with an error, late, \
         lost with the child.",
        methods.iter().flat_map(|view| {
            CallEnd::ALL.into_iter().zip(view.ends).map(|(end, count)| {
                (vec![("method", view.method), ("end", end.as_str())], number(count))
            })
        }),
    );
    page.histograms(
        "codex_manager_call_duration_seconds",
        "Time from asking for a call to its end, waiting for a place included.",
        MICROS,
        methods.iter().map(|view| (vec![("method", view.method)], view.took.clone())),
    );
}

fn sessions(page: &mut Page, stats: &SessionStats) {
    page.gauges(
        "codex_manager_sessions",
        "Sessions that lists show.",
        [
            (vec![("archived", "false")], read(&stats.listed)),
            (vec![("archived", "true")], read(&stats.archived)),
        ],
    );
    page.gauge(
        "codex_manager_threads_alive",
        "Threads' actors in memory.",
        number(stats.threads_alive.get()),
    );
    page.gauge(
        "codex_manager_requests_pending",
        "Requests of the agent that have not ended.",
        number(stats.requests_pending.get()),
    );
    page.counter(
        "codex_manager_thread_panics_total",
        "Threads' actors that panicked and were rebuilt from the store.",
        read(&stats.panics),
    );
}

fn store(page: &mut Page, stats: &Stats) {
    let view = stats.store();
    page.histograms(
        "codex_manager_store_commit_duration_seconds",
        "Time of commits that succeeded, from their first change to the end of fdatasync.",
        MICROS,
        [(Vec::new(), view.commit_micros)],
    );
    page.histograms(
        "codex_manager_store_commit_batches",
        "Batches that were committed together.",
        1.0,
        [(Vec::new(), view.commit_batches)],
    );
    page.counter(
        "codex_manager_store_commit_failures_total",
        "Commits that failed: the disk is full, or broken.",
        number(view.failures),
    );
    page.counter(
        "codex_manager_store_batches_lost_total",
        "Recorded batches that were given up because writing did not work again in time.",
        number(view.lost),
    );
    page.gauge(
        "codex_manager_store_backlog",
        "Recorded batches that wait until writing works again.",
        number(view.backlog),
    );
    let waiting = u64::try_from(stats.store_waiting()).unwrap_or(u64::MAX);
    page.gauge(
        "codex_manager_store_jobs_waiting",
        "Writes and reads that wait for the store.",
        number(waiting),
    );
}

fn stream(page: &mut Page, stats: &StreamStats) {
    page.counters(
        "codex_manager_stream_frames_total",
        "Frames that were numbered, by durability class.",
        [
            (vec![("class", "ephemeral")], read(&stats.frames_ephemeral)),
            (vec![("class", "recorded")], read(&stats.frames_recorded)),
            (vec![("class", "durable_first")], read(&stats.frames_durable_first)),
        ],
    );
    let counters: [(&str, &str, &AtomicU64); 5] = [
        ("bytes_total", "Bytes of numbered frames, each counted once.", &stats.bytes),
        ("resets_total", "Cursors that were told to start anew.", &stats.resets),
        (
            "evictions_total",
            "Subscribers that were cut because they did not read.",
            &stats.evictions,
        ),
        (
            "gap_closes_total",
            "Subscribers without a cursor that fell off the ring and were closed.",
            &stats.gap_closes,
        ),
        ("replays_total", "Subscriptions that began behind the head.", &stats.replays),
    ];
    for (name, help, counter) in counters {
        page.counter(&format!("codex_manager_stream_{name}"), help, read(counter));
    }
    page.gauge(
        "codex_manager_stream_cursor_lag_bytes",
        "The most that a subscriber was behind the head since the last look.",
        number(stats.take_lag()),
    );
    let gauges: [(&str, &str, &AtomicU64); 4] = [
        ("subscribers", "Subscribers that are connected.", &stats.sockets),
        ("ring_bytes", "Bytes that the ring takes in memory.", &stats.ring_bytes),
        ("ring_segments", "Segments in the ring.", &stats.ring_segments),
        ("log_bytes", "Bytes of frames on the disk, for older cursors.", &stats.log_bytes),
    ];
    for (name, help, gauge) in gauges {
        page.gauge(&format!("codex_manager_stream_{name}"), help, read(gauge));
    }
    let oldest = stats.ring_oldest_ms.load(Ordering::Relaxed);
    let now = u64::try_from(clock::now_ms()).unwrap_or_default();
    let age = if oldest == 0 { 0 } else { now.saturating_sub(oldest) };
    page.gauge(
        "codex_manager_stream_ring_age_seconds",
        "Age of the oldest frame in the ring: how far back a cursor may be.",
        number(age) / 1000.0,
    );
}

fn requests(page: &mut Page, stats: &HttpStats) {
    let routes = stats.routes();
    page.counters(
        "codex_manager_http_requests_total",
        "Requests that were answered, by route, method and class of status.",
        routes.iter().flat_map(|view| {
            let counted = CLASSES.into_iter().zip(view.classes).filter(|(_, count)| *count > 0);
            counted.map(|(class, count)| {
                let labels = vec![
                    ("route", view.route.as_str()),
                    ("method", view.method),
                    ("status", class),
                ];
                (labels, number(count))
            })
        }),
    );
    page.histograms(
        "codex_manager_http_request_duration_seconds",
        "Time until an answer began.",
        MICROS,
        routes.iter().map(|view| {
            (vec![("route", view.route.as_str()), ("method", view.method)], view.took.clone())
        }),
    );
}
