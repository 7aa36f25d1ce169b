//! What is written with many sessions there, and what an idle one takes.

use std::time::Instant;

use serde_json::json;

use super::bench::{Bench, mib, per};
use super::crowd::{ask_for, nanoseconds};
use super::table::Sizes;
use crate::client::HttpConnection;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::process::memory;
use crate::report::{Figures, Samples};

/// What a manager has to come to rest after its start.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);

/// Times of writes one after another, the median in milliseconds.
fn p50(
    connection: &mut HttpConnection,
    count: usize,
    write: impl Fn(&mut HttpConnection, usize) -> Result<(), LoadError>,
) -> Result<f64, LoadError> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let asked = Instant::now();
        write(connection, number)?;
        times.push(nanoseconds(asked.elapsed()));
    }
    Ok(Samples::new(times).percentile_us(50.0) / 1_000.0)
}

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut manager = Manager::start(&bench.program)?;
    manager = manager.restart()?;
    std::thread::sleep(SETTLE);
    let empty = memory(manager.pid()).resident;
    let cwd = manager.workspace();
    let create = |connection: &mut HttpConnection| {
        let path = "/api/sessions";
        connection.post(path, &json!({ "cwd": cwd }))?.expect(200, path).map(|_| ())
    };
    let began = Instant::now();
    let creates = sizes.sessions.div_ceil(sizes.subscribers.max(1));
    let made = std::thread::scope(|scope| {
        let making: Vec<_> = (0..sizes.subscribers.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = manager.connect()?;
                    (0..creates).try_for_each(|_| create(&mut connection))
                })
            })
            .collect();
        let lost = || Err(LoadError::system("ask")(std::io::Error::other("a client panicked")));
        making.into_iter().try_for_each(|making| making.join().unwrap_or_else(|_| lost()))
    });
    made?;
    let creating = began.elapsed().as_secs_f64();
    let made = creates * sizes.subscribers.max(1);
    manager = manager.restart()?;
    std::thread::sleep(SETTLE);
    let full = memory(manager.pid()).resident;
    let mut connection = manager.connect()?;
    let mut figures = Figures::default();
    figures.add("creates_per_s", per(made as f64, creating));
    figures.add("resident_mib", mib(full));
    figures.add("kib_per_idle_session", per(full.saturating_sub(empty) as f64, made as f64));
    let project = p50(&mut connection, sizes.messages, |connection, number| {
        let path = "/api/projects";
        let body = json!({ "name": format!("project {number}") });
        connection.post(path, &body)?.expect(200, path).map(|_| ())
    })?;
    figures.add("project_p50_ms", project);
    let session = p50(&mut connection, sizes.messages, |connection, _| create(connection))?;
    figures.add("session_p50_ms", session);
    let sessions = manager.sessions(sizes.messages)?;
    let rename = p50(&mut connection, sizes.messages, |connection, number| {
        let path = format!("/api/sessions/{}/rename", sessions[number]);
        let body = json!({ "title": format!("title {number}") });
        connection.post(&path, &body)?.expect(200, &path).map(|_| ())
    })?;
    figures.add("rename_p50_ms", rename);
    let message = p50(&mut connection, sizes.messages, |connection, number| {
        manager.send(connection, &sessions[number], "end")
    })?;
    figures.add("message_p50_ms", message);
    // Connections beside one another, as those of several programs are.
    let many =
        ask_for(&manager, sizes.subscribers, sizes.seconds, |connection, _| create(connection))?;
    figures.add("creates_per_s_then", many.per_s);
    figures.count("sessions", made as u64);
    Ok(figures)
}
