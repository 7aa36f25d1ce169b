//! The ways in which a subscriber comes back, and what it knows by the time it is cut off again.

use std::time::Duration;

use cm_testkit::app::{EventClient, Frame, StreamClient, StreamOptions, TestApp};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::told::{Interest, Told};

/// How a position is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// `GET /api/stream?since=`.
    Query,
    /// `subscribe` with `after`, on a socket that begins at the head.
    Command,
    /// Server-sent events with `Last-Event-ID`.
    Events,
}

enum Connection {
    Socket(StreamClient),
    Events(EventClient),
}

/// A subscriber that has come back.
pub(crate) struct Comeback {
    connection: Connection,
    pub(crate) way: Way,
    interest: Interest,
    /// What it was told. Nothing of it counts before `settled`.
    frames: Vec<Frame>,
    /// The newest number among them.
    newest: Option<u64>,
    /// Where it left off. A worker that is behind the one that told it of that may bring it again
    /// before it has read the position.
    after: Option<u64>,
    /// Whether the answer to the command behind `subscribe` is there.
    answered: bool,
    /// Whether it is known that the frames are those behind the position. A socket that is there
    /// already may bring what happens between its opening and `subscribe`. All of that is behind
    /// the position as well, so that it comes again: then the numbers step back.
    settled: bool,
}

impl Comeback {
    /// Comes back to where `told` ends, in any way, for everything or for one of the sessions. For
    /// the first time it simply connects.
    #[track_caller]
    pub(crate) fn connect(
        app: &TestApp,
        view: &str,
        told: &Told,
        sessions: &[String],
        choices: &mut StdRng,
    ) -> Self {
        let any = [Way::Query, Way::Command, Way::Events][choices.random_range(0..3)];
        let session = sessions[choices.random_range(0..sessions.len())].clone();
        let session = choices.random_ratio(1, 2).then_some(session);
        let Some(position) = told.position() else {
            let options = StreamOptions::default().query("view", view);
            let socket = app.try_stream(options).expect("a stream");
            let interest = Interest { single: view == "single", session: None };
            return Self::new(Connection::Socket(socket), Way::Query, interest, None);
        };
        let interest =
            Interest { single: view == "single" || any == Way::Events, session: session.clone() };
        let mut options = StreamOptions::default().query("view", view);
        if let Some(session) = &session {
            options = options.query("threadId", session);
        }
        if any == Way::Query {
            options = options.query("since", &position);
        }
        let connection = match any {
            Way::Events => {
                let all = || "/api/events".to_owned();
                let path = session.map_or_else(all, |id| format!("/api/sessions/{id}/events"));
                Connection::Events(app.events(&path, Some(&position)))
            }
            Way::Query | Way::Command => {
                Connection::Socket(app.try_stream(options).expect("a stream"))
            }
        };
        if let (Way::Command, Connection::Socket(socket)) = (any, &connection) {
            let mut subscribe = json!({ "type": "subscribe", "after": position });
            if let Some(session) = &interest.session {
                subscribe["threadId"] = json!(session);
            }
            socket.send(&subscribe);
            socket.send(&json!({ "type": "ping" }));
        }
        let after = position.rsplit(':').next().and_then(|after| after.parse().ok());
        Self::new(connection, any, interest, after)
    }

    fn new(connection: Connection, way: Way, interest: Interest, after: Option<u64>) -> Self {
        let settled = way != Way::Command;
        let (frames, newest, answered) = (Vec::new(), None, false);
        Self { connection, way, interest, frames, newest, after, answered, settled }
    }

    /// Reads one more frame; answers whether one came in time.
    #[track_caller]
    pub(crate) fn read(&mut self, patience: Duration) -> bool {
        let next = match &mut self.connection {
            Connection::Socket(socket) => socket.try_wait_for(|_| true, patience).ok(),
            Connection::Events(events) => {
                let event = events.try_wait_for(|_| true, patience).ok();
                if let Some(event) = event.as_ref().filter(|event| event.data["seq"].is_u64()) {
                    let place = format!(
                        "{}:{}",
                        event.data["epoch"].as_str().unwrap_or(""),
                        event.data["seq"]
                    );
                    assert_eq!(event.id, place, "what a client remembers is where it is");
                }
                event.map(|event| event.data)
            }
        };
        let came = next.is_some();
        next.into_iter().for_each(|frame| self.take(frame));
        came
    }

    fn take(&mut self, frame: Frame) {
        let number = match frame["type"].as_str() {
            Some("pong") => return self.answered = true,
            Some("ready" | "snapshot" | "reset") => None,
            _ => frame["seq"].as_u64(),
        };
        if !self.settled && !self.answered && number.is_some() && number <= self.after {
            return;
        }
        let steps_back = number.is_some() && number <= self.newest || frame["type"] == "reset";
        if !self.settled && steps_back {
            self.frames.clear();
        }
        self.settled |= steps_back || (self.answered && number.is_some());
        self.newest = number.or(self.newest);
        self.frames.push(frame);
    }

    /// Is cut off, and tells what it was told; answers whether that was anything.
    #[track_caller]
    pub(crate) fn cut(self, told: &mut Told) -> bool {
        if !self.settled {
            return false;
        }
        let before = told.position();
        told.comes_back(self.interest);
        self.frames.into_iter().for_each(|frame| told.take(frame));
        before.is_some() && told.position() != before
    }
}
