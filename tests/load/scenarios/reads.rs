//! What is read most: health, lists, transcripts.

use std::time::{Duration, Instant};

use super::bench::{Bench, TURN_DEADLINE};
use super::crowd::{Asked, ask_for, nanoseconds};
use super::table::Sizes;
use crate::client::HttpConnection;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::report::{Figures, Samples};

/// Pause between two looks at a session.
const LOOK: Duration = Duration::from_millis(5);

/// Reads of a long session, one after another.
const READS: usize = 20;

/// Asks a crowd for a page.
fn crowd(manager: &Manager, sizes: Sizes, path: &str) -> Result<Asked, LoadError> {
    ask_for(manager, sizes.subscribers, sizes.seconds, |connection, _| {
        connection.load(path).map(|_| ())
    })
}

fn add(figures: &mut Figures, asked: &Asked) {
    figures.add("per_s", asked.per_s);
    figures.add("p50_ms", asked.times.percentile_us(50.0) / 1_000.0);
    figures.add("p99_ms", asked.times.percentile_us(99.0) / 1_000.0);
    figures.count("answers", asked.times.len() as u64);
}

/// Health.
pub(super) fn health(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let manager = Manager::start(&bench.program)?;
    let mut figures = Figures::default();
    add(&mut figures, &crowd(&manager, sizes, "/api/health")?);
    Ok(figures)
}

/// The first page of the list, and a walk through all of it.
pub(super) fn list(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let manager = Manager::start(&bench.program)?;
    manager.sessions(sizes.sessions)?;
    let mut figures = Figures::default();
    add(&mut figures, &crowd(&manager, sizes, "/api/sessions?limit=100")?);
    let mut connection = manager.connect()?;
    let (mut walks, mut seen) = (Vec::new(), 0);
    for _ in 0..5 {
        let began = Instant::now();
        seen = walk(&mut connection)?;
        walks.push(nanoseconds(began.elapsed()));
    }
    figures.add("walk_ms", Samples::new(walks).percentile_us(50.0) / 1_000.0);
    figures.count("walked", seen as u64);
    Ok(figures)
}

/// Walks through the list in pages of 200; answers how many sessions there are.
fn walk(connection: &mut HttpConnection) -> Result<usize, LoadError> {
    let (mut cursor, mut seen) = (String::new(), 0);
    loop {
        let path = format!("/api/sessions?limit=200{cursor}");
        let page = connection.load(&path)?;
        seen += page.matches("\"sessionId\":").count();
        let next = page.split("\"nextCursor\":\"").nth(1).and_then(|rest| rest.split('"').next());
        match next {
            Some(next) => cursor = format!("&cursor={}", next.replace('|', "%7C")),
            None => return Ok(seen),
        }
    }
}

/// A session with so many items; returns when its turn has ended.
fn session_with_items(manager: &Manager, sizes: Sizes) -> Result<String, LoadError> {
    let session = manager.sessions(1)?.remove(0);
    let mut connection = manager.connect()?;
    // One more row is the message itself.
    let count = sizes.messages.saturating_sub(1);
    let text = format!("items count={count} bytes={}", sizes.bytes);
    manager.send(&mut connection, &session, &text)?;
    let path = "/api/sessions?status=idle";
    let began = Instant::now();
    loop {
        if connection.load(path)?.contains(&session) {
            return Ok(session);
        }
        if began.elapsed() > TURN_DEADLINE {
            return Err(manager.late("the end of the turn", TURN_DEADLINE));
        }
        std::thread::sleep(LOOK);
    }
}

/// A short session: whole, and as a page.
pub(super) fn transcript(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let manager = Manager::start(&bench.program)?;
    let session = session_with_items(&manager, sizes)?;
    let mut figures = Figures::default();
    let path = format!("/api/sessions/{session}");
    add(&mut figures, &crowd(&manager, sizes, &path)?);
    let page = crowd(&manager, sizes, &format!("{path}/transcript?limit=200"))?;
    figures.add("page_per_s", page.per_s);
    figures.add("page_p50_ms", page.times.percentile_us(50.0) / 1_000.0);
    let rows = manager.connect()?.load(&path)?.matches("\"messageId\":").count();
    figures.count("rows", rows as u64);
    Ok(figures)
}

/// A long session: whole and its first page, when it was read before and when it was not.
pub(super) fn long_transcript(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut manager = Manager::start(&bench.program)?;
    let session = session_with_items(&manager, sizes)?;
    let path = format!("/api/sessions/{session}");
    let page = format!("{path}/transcript?limit=100");
    let mut figures = Figures::default();
    let mut rows = 0;
    for (path, first, again) in
        [(&page, "first_page_cold_ms", "first_page_ms"), (&path, "whole_cold_ms", "whole_ms")]
    {
        // Nothing of it is in memory.
        manager = manager.restart()?;
        let mut connection = manager.connect()?;
        connection.load("/api/health")?;
        let mut times = Vec::new();
        for number in 0..READS {
            let asked = Instant::now();
            let answer = connection.load(path)?;
            let time = nanoseconds(asked.elapsed());
            if number == 0 {
                figures.add(first, Samples::new(vec![time]).percentile_us(50.0) / 1_000.0);
            } else {
                times.push(time);
            }
            rows = answer.matches("\"messageId\":").count();
        }
        figures.add(again, Samples::new(times).percentile_us(50.0) / 1_000.0);
    }
    figures.count("rows", rows as u64);
    Ok(figures)
}
