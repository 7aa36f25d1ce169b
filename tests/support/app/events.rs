//! A subscriber of the server-sent events that keeps every event.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::mailbox::{Mailbox, WaitError};

/// Bytes of events that are kept.
const BYTE_LIMIT: usize = 256 * 1024 * 1024;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The id that a client remembers after it: the event's own, else the last one before.
    pub id: String,
    /// The data as JSON; text that is not JSON is a JSON string.
    pub data: Value,
}

/// A connected subscriber. Its thread ends with the connection; dropped, both end with the next line
/// that comes, a comment at the latest.
#[derive(Debug)]
pub struct EventClient {
    events: Arc<Mailbox<Event>>,
    /// Events that `next` and `wait_for` have passed.
    position: usize,
}

impl EventClient {
    /// Connects to `path`, with the id of the last event that was had.
    ///
    /// # Panics
    ///
    /// When the answer is no stream of events.
    #[track_caller]
    pub fn connect(address: SocketAddr, path: &str, last_id: Option<&str>) -> Self {
        let mut request = ureq::get(format!("http://{address}{path}"));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => panic!("failed to open the events: {error}"),
        };
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("text/event-stream"));
        let events = Arc::new(Mailbox::new(BYTE_LIMIT));
        let kept = Arc::clone(&events);
        std::thread::spawn(move || {
            let lines = BufReader::new(response.into_body().into_reader()).lines();
            let wanted = lines.map_while(Result::ok).take_while(|_| kept.closed().is_none());
            read(wanted, &kept);
            kept.close("the events have ended");
        });
        Self { events, position: 0 }
    }

    /// The next event.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn next(&mut self, deadline: Duration) -> Event {
        self.wait_for(|_| true, deadline)
    }

    /// The next event that matches; the events before it are passed.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    #[track_caller]
    pub fn wait_for(&mut self, matches: impl Fn(&Event) -> bool, deadline: Duration) -> Event {
        match self.try_wait_for(matches, deadline) {
            Ok(event) => event,
            Err(error) => panic!("the events brought {error}: {:#?}", self.all()),
        }
    }

    /// The next event that matches; the events before it are passed. Without one, none is passed.
    ///
    /// # Errors
    ///
    /// [`WaitError`] when none comes in time or the events end.
    pub fn try_wait_for(
        &mut self,
        matches: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Result<Event, WaitError> {
        let from = self.position;
        let (index, event) = self.events.wait(deadline, |all| {
            let rest = all.get(from..).unwrap_or_default();
            let offset = rest.iter().position(&matches)?;
            Some((from + offset, rest.get(offset)?.clone()))
        })?;
        self.position = index + 1;
        Ok(event)
    }

    /// Every event since the connection.
    pub fn all(&self) -> Vec<Event> {
        self.events.read(<[Event]>::to_vec)
    }

    /// Waits until the server has ended the events.
    ///
    /// # Panics
    ///
    /// When they go on.
    #[track_caller]
    pub fn wait_closed(&self, deadline: Duration) {
        if let Err(error) = self.events.wait_closed(deadline) {
            panic!("the events go on: {error}");
        }
    }
}

impl Drop for EventClient {
    fn drop(&mut self) {
        self.events.close("the client was dropped");
    }
}

/// Reads events as the HTML standard says (§9.2.6); only `id` and `data` mean something here.
fn read(lines: impl Iterator<Item = String>, events: &Mailbox<Event>) {
    let (mut id, mut data) = (String::new(), String::new());
    for line in lines {
        if let Some(value) = line.strip_prefix("id: ") {
            id = value.to_owned();
        } else if let Some(value) = line.strip_prefix("data: ") {
            data.push_str(value);
        } else if line.is_empty() && !data.is_empty() {
            let text = std::mem::take(&mut data);
            let size = text.len();
            let data = serde_json::from_str(&text).unwrap_or(Value::String(text));
            events.push(Event { id: id.clone(), data }, size);
        }
    }
}
