//! One message, its turn, and everything that happens until the turn ends.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cm_core::ids::ThreadId;
use cm_core::wire::{Interrupt, MessageAccepted, SendMessage, SessionDetail, StreamFrame};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::catch_up::{TurnState, show_rows, state_of, take_requests, turns_of};
use super::desk::Desk;
use super::send::patiently;
use super::watch::{Watch, Watched};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::render::{LiveView, TurnEnd, one_line};
use crate::visible::one_line_json;

/// How long one look at the stream waits. Bounds how late a key press is noticed.
const TICK: Duration = Duration::from_millis(50);

/// How long the stream may be silent before the turn is looked up over REST.
pub(crate) const IDLE_CHECK: Duration = Duration::from_secs(10);

/// How long an interrupted turn may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How long the call that interrupts may take: it answers only when the turn has stopped.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a runtime that is not there yet is waited for.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// A turn that is over.
#[derive(Debug)]
pub(crate) struct Followed {
    /// How it ended.
    pub(crate) end: TurnEnd,
    /// What the agent said last.
    pub(crate) words: Option<String>,
    /// Requests that were declined because nobody could be asked.
    pub(crate) nobody_to_ask: u32,
}

/// Sends messages to one session and follows their turns.
pub(crate) struct Follow<'a> {
    /// The server.
    pub(crate) api: &'a Api,
    /// Where to print.
    pub(crate) console: &'a mut Console,
    /// The session.
    pub(crate) session: ThreadId,
    /// Where requests are answered.
    pub(crate) desk: Desk,
    /// Set when the person at the keyboard wants to stop.
    pub(crate) interrupted: &'a AtomicBool,
    /// When everything must be over.
    pub(crate) deadline: Instant,
    /// How long that was, for the message.
    pub(crate) limit: Duration,
    /// How long the stream may be silent before the turn is looked up, [`IDLE_CHECK`] outside of
    /// tests.
    pub(crate) idle_check: Duration,
}

impl Follow<'_> {
    /// Sends a message and follows its turn to the end.
    ///
    /// # Errors
    ///
    /// When the turn cannot be started or followed. A turn that ends badly is not an error here.
    pub(crate) fn send(mut self, message: &SendMessage, is_new: bool) -> Result<Followed, Failure> {
        // What happens between the answer and the subscription would be lost, so it comes first.
        let mut watch = Watch::start(self.api, &self.session)?;
        let turn_id = self.deliver(message, is_new)?;
        let mut view = LiveView::of_turn(turn_id.clone());
        let end = self.until_end(&mut watch, &mut view, &turn_id)?;
        Ok(Followed {
            end,
            words: view.last_words().map(str::to_owned),
            nobody_to_ask: self.desk.nobody_to_ask,
        })
    }

    /// Sends the message once. A runtime that went away with the message in its hands may have
    /// taken it, so before another try the session is asked whether it has a new turn.
    fn deliver(&mut self, message: &SendMessage, is_new: bool) -> Result<String, Failure> {
        let detail_route = format!("/sessions/{}", self.session);
        let message_route = format!("{detail_route}/messages");
        let api = self.api;
        let until = self.deadline.min(Instant::now() + START_LIMIT);
        let console = &mut *self.console;
        let mut known: Option<HashSet<String>> = is_new.then(HashSet::new);
        let mut tried = false;
        let accepted = patiently(
            until,
            self.interrupted,
            |failure| {
                console.note(&format!("waiting: {}", one_line(&failure.to_string())), Style::Dim);
            },
            || {
                if known.is_none() || tried {
                    let detail: SessionDetail = api.get(&detail_route)?;
                    let turns = turns_of(&detail);
                    match &known {
                        None => known = Some(turns.into_iter().collect()),
                        Some(known) => {
                            if let Some(taken) = turns.into_iter().find(|t| !known.contains(t)) {
                                return Ok((taken, Vec::new()));
                            }
                        }
                    }
                }
                tried = true;
                let accepted: MessageAccepted = api.post(&message_route, message)?;
                Ok((accepted.turn_id, accepted.warnings))
            },
        )?;
        for warning in &accepted.1 {
            console.note(&format!("warning: {}", one_line(warning)), Style::Yellow);
        }
        Ok(accepted.0)
    }

    fn until_end(
        &mut self,
        watch: &mut Watch,
        view: &mut LiveView,
        turn_id: &str,
    ) -> Result<TurnEnd, Failure> {
        let mut last_news = Instant::now();
        let mut stop_by: Option<Instant> = None;
        let mut doubts = 0;
        loop {
            let now = Instant::now();
            if self.interrupted.swap(false, Ordering::SeqCst) {
                if stop_by.is_some() {
                    return Err(Failure::Interrupted);
                }
                self.console.note("interrupting; press Ctrl-C again to leave", Style::Yellow);
                self.interrupt(turn_id);
                stop_by = Some(now + STOP_LIMIT);
            }
            if stop_by.is_some_and(|by| now >= by) {
                return Err(Failure::TimedOut {
                    what: "stopping the turn".to_owned(),
                    limit: STOP_LIMIT,
                });
            }
            if now >= self.deadline {
                self.interrupt(turn_id);
                let what = "the turn (which was told to stop)".to_owned();
                return Err(Failure::TimedOut { what, limit: self.limit });
            }
            let look_up = match watch.next(TICK)? {
                Watched::Frame(text, frame) => {
                    last_news = now;
                    doubts = 0;
                    let (end, look_up) = self.frame(&text, &frame, view)?;
                    if let Some(end) = end {
                        return Ok(end);
                    }
                    look_up
                }
                Watched::Lost(reason) => {
                    let reason = one_line(&reason);
                    self.console.note(&format!("connection lost ({reason})"), Style::Yellow);
                    false
                }
                Watched::Resumed => {
                    self.console.note("connection is back", Style::Dim);
                    false
                }
                Watched::Back => {
                    view.missed_events();
                    self.console.note("connection is back", Style::Dim);
                    true
                }
                Watched::Nothing => last_news.elapsed() >= self.idle_check,
            };
            if look_up {
                last_news = now;
                if let Some(end) = self.look_up(view, turn_id, &mut doubts)? {
                    return Ok(end);
                }
            }
            self.desk.work(view, self.api, self.console);
        }
    }

    /// Takes a frame. Returns the end of the turn if it says so, and whether REST must be asked.
    fn frame(
        &mut self,
        text: &str,
        frame: &StreamFrame,
        view: &mut LiveView,
    ) -> Result<(Option<TurnEnd>, bool), Failure> {
        if frame.thread_id.as_deref() != Some(self.session.as_str()) || frame.kind == "ready" {
            return Ok((None, false));
        }
        if self.console.json {
            self.console.out_line(&one_line_json(text))?;
        }
        match frame.kind.as_str() {
            "notification" => {
                let method =
                    frame.payload.get("method").and_then(Value::as_str).unwrap_or_default();
                let params = frame.payload.get("params").unwrap_or(&Value::Null);
                // A frame that is too big for subscribers comes without its content.
                if params.get("truncated").and_then(Value::as_bool) == Some(true) {
                    view.missed_events();
                    return Ok((None, method == "turn/completed"));
                }
                if method == "turn/completed" && view.has_missed_events() {
                    self.show_missed(view, params);
                }
                return Ok((view.notification(method, params, self.console)?, false));
            }
            "approval" => {
                if let Some(approval) = self.request(frame, view) {
                    self.desk.approval(approval, self.api, self.console);
                }
            }
            "tool_user_input_requested" => {
                if let Some(input) = self.request(frame, view) {
                    self.desk.question(input, self.api, self.console);
                }
            }
            "tool_call_requested" => {
                if let Some(call) = self.request(frame, view) {
                    self.desk.call(&call, self.api, self.console);
                }
            }
            "approval_resolved" | "tool_user_input_resolved" | "tool_call_resolved" => {
                let id = frame.payload.get("approvalId").or_else(|| frame.payload.get("requestId"));
                let id = id.and_then(Value::as_str).unwrap_or_default();
                self.desk.resolved(id, &frame.payload, self.console);
            }
            "session_deleted" => {
                return Err(Failure::NotFound("the session was deleted".to_owned()));
            }
            _ => {}
        }
        Ok((None, false))
    }

    /// The request in a frame, if it is one of this turn that this version can read.
    fn request<T: DeserializeOwned>(&self, frame: &StreamFrame, view: &LiveView) -> Option<T> {
        let turn = frame.payload.get("turnId").and_then(Value::as_str);
        if !view.shows(turn) {
            return None;
        }
        serde_json::from_value(frame.payload.clone()).ok()
    }

    /// Asks REST how far the turn is and what waits.
    fn look_up(
        &mut self,
        view: &mut LiveView,
        turn_id: &str,
        doubts: &mut u32,
    ) -> Result<Option<TurnEnd>, Failure> {
        let detail: SessionDetail = match self.api.get(&format!("/sessions/{}", self.session)) {
            Ok(detail) => detail,
            Err(failure @ Failure::Refused(_)) if !failure.is_passing() => return Err(failure),
            // The server or its runtime is on its way back; the next look will tell.
            Err(_) => return Ok(None),
        };
        let end = match state_of(&detail, turn_id) {
            TurnState::Running => None,
            TurnState::Ended(end) => Some(end),
            TurnState::Doubtful => {
                *doubts += 1;
                // The answer to a message may be a little ahead of what the session shows.
                (*doubts > 1).then(|| TurnEnd {
                    turn_id: turn_id.to_owned(),
                    status: "interrupted".to_owned(),
                    error: Some("the server does not say how it ended".to_owned()),
                })
            }
        };
        if let Some(end) = end {
            view.missed_events();
            show_rows(view, &detail, turn_id, self.console)?;
            return Ok(Some(end));
        }
        // A list that cannot be read now is read at the next look.
        let _ = take_requests(self.api, &self.session, view, &mut self.desk, self.console);
        Ok(None)
    }

    /// Shows what was missed, before the end of the turn is shown. Without it the turn ends all the
    /// same.
    fn show_missed(&mut self, view: &mut LiveView, params: &Value) {
        let turn_id = params.pointer("/turn/id").and_then(Value::as_str).unwrap_or_default();
        let detail = self.api.get::<SessionDetail>(&format!("/sessions/{}", self.session));
        if let (true, Ok(detail)) = (view.shows(Some(turn_id)), detail) {
            let _ = show_rows(view, &detail, turn_id, self.console);
        }
    }

    fn interrupt(&mut self, turn_id: &str) {
        let route = format!("/sessions/{}/interrupt", self.session);
        let body = Interrupt { turn_id: Some(turn_id.to_owned()) };
        match self.api.with_timeout(INTERRUPT_TIMEOUT).post_value(&route, &body) {
            Ok(_) | Err(Failure::TimedOut { .. }) => {}
            Err(failure) => self.console.note(&one_line(&failure.to_string()), Style::Yellow),
        }
    }
}
