//! A subscription that comes back after the connection broke.

use std::time::{Duration, Instant};

use cm_core::ids::ThreadId;
use cm_core::wire::StreamFrame;

use crate::failure::Failure;
use crate::http::Api;
use crate::stream::{EventStream, Received};

/// The first pause before a connection is tried again; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How long the server may be away before the command gives up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What a subscription brought.
#[derive(Debug)]
pub(crate) enum Watched {
    /// A frame: its text and what it says.
    Frame(String, Box<StreamFrame>),
    /// Nothing yet.
    Nothing,
    /// The connection broke and stands again, and what came in between follows.
    Resumed,
    /// The connection broke and stands again: events were missed.
    Back,
    /// The connection broke.
    Lost(String),
}

struct Outage {
    since: Instant,
    retry_at: Instant,
    pause: Duration,
}

/// A subscription to the events of one session.
pub(crate) struct Watch {
    api: Api,
    session: ThreadId,
    stream: Option<EventStream>,
    /// Where to go on.
    position: Option<String>,
    outage: Option<Outage>,
}

impl Watch {
    /// Subscribes.
    ///
    /// # Errors
    ///
    /// When the subscription does not stand at the first try.
    pub(crate) fn start(api: &Api, session: &ThreadId) -> Result<Self, Failure> {
        let stream = EventStream::connect(api, session, None)?;
        Ok(Self {
            api: api.clone(),
            session: session.clone(),
            position: stream.position().map(str::to_owned),
            stream: Some(stream),
            outage: None,
        })
    }

    /// Waits for what comes next, at most for about the given time.
    ///
    /// # Errors
    ///
    /// When the server refuses the subscription, or was away for too long.
    pub(crate) fn next(&mut self, wait: Duration) -> Result<Watched, Failure> {
        let Some(stream) = &mut self.stream else {
            return self.come_back(wait);
        };
        match stream.next(wait) {
            // The server cannot tell what came in between.
            Received::Frame(_, frame) if frame.kind == "reset" => Ok(Watched::Back),
            Received::Frame(text, frame) => Ok(Watched::Frame(text, Box::new(frame))),
            Received::Nothing => Ok(Watched::Nothing),
            Received::Broken(reason) => {
                self.position = stream.position().map(str::to_owned);
                self.stream = None;
                let now = Instant::now();
                self.outage = Some(Outage { since: now, retry_at: now, pause: FIRST_PAUSE });
                Ok(Watched::Lost(reason))
            }
        }
    }

    fn come_back(&mut self, wait: Duration) -> Result<Watched, Failure> {
        let now = Instant::now();
        let outage =
            self.outage.get_or_insert(Outage { since: now, retry_at: now, pause: FIRST_PAUSE });
        if now < outage.retry_at {
            std::thread::sleep(wait.min(outage.retry_at - now));
            return Ok(Watched::Nothing);
        }
        let since = self.position.as_deref();
        let passing = match EventStream::connect(&self.api, &self.session, since) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.outage = None;
                // A server that gave no position knows none.
                let resumed = self.position.is_some();
                return Ok(if resumed { Watched::Resumed } else { Watched::Back });
            }
            Err(failure) => failure,
        };
        let may_pass = passing.is_passing()
            || matches!(passing, Failure::Unreachable { .. } | Failure::TimedOut { .. });
        if !may_pass || outage.since.elapsed() >= GIVE_UP {
            return Err(passing);
        }
        outage.retry_at = Instant::now() + outage.pause;
        outage.pause = (outage.pause * 2).min(LONGEST_PAUSE);
        Ok(Watched::Nothing)
    }
}
