//! Many connections that ask for the same again and again.

use std::time::{Duration, Instant};

use super::bench::per;
use crate::client::HttpConnection;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::report::Samples;

/// Questions of each connection before those that count.
const WARM_UP: usize = 20;

/// What a crowd was answered.
pub(super) struct Asked {
    /// Answers per second of all connections together.
    pub(super) per_s: f64,
    /// How long each answer took.
    pub(super) times: Samples,
}

/// Asks on so many connections, each for so long and one question after another. `ask` gets the
/// connection and the number of the question.
///
/// # Errors
///
/// The first error of a connection.
pub(super) fn ask_for<A>(
    manager: &Manager,
    connections: usize,
    seconds: u64,
    ask: A,
) -> Result<Asked, LoadError>
where
    A: Fn(&mut HttpConnection, usize) -> Result<(), LoadError> + Sync,
{
    let mut opened = Vec::new();
    for _ in 0..connections.max(1) {
        opened.push(manager.connect()?);
    }
    let until = Duration::from_secs(seconds.max(1));
    let one = |connection: &mut HttpConnection| {
        for number in 0..WARM_UP {
            ask(connection, number)?;
        }
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < until {
            let asked = Instant::now();
            ask(connection, times.len())?;
            times.push(nanoseconds(asked.elapsed()));
        }
        Ok((times, began.elapsed().as_secs_f64()))
    };
    let one = &one;
    let results: Vec<Result<(Vec<u64>, f64), LoadError>> = std::thread::scope(|scope| {
        let asking: Vec<_> = opened.iter_mut().map(|open| scope.spawn(move || one(open))).collect();
        let lost = || Err(LoadError::system("ask")(std::io::Error::other("a client panicked")));
        asking.into_iter().map(|asking| asking.join().unwrap_or_else(|_| lost())).collect()
    });
    let (mut all, mut rate) = (Vec::new(), 0.0);
    for result in results {
        let (times, seconds) = result?;
        rate += per(times.len() as f64, seconds);
        all.extend(times);
    }
    Ok(Asked { per_s: rate, times: Samples::new(all) })
}

/// A duration in nanoseconds.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
