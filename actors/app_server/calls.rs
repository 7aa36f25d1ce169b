//! Calls that wait for their turn or for an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cm_core::rpc::{RpcId, encode_request};
use serde_json::Value;

use super::boot::OwnCall;
use super::failure::CallFailure;
use super::messages::{CallOutcome, Owner};
use crate::metrics::{CallEnd, CallStats};

/// Calls in flight at the most. Up to 128 pipelined requests are always answered; beyond that
/// answers get lost (measured on codex 0.106 – 0.169).
pub(super) const MAX_IN_FLIGHT: usize = 64;

/// Background calls in flight at the most, so that they never take all places.
pub(super) const MAX_BACKGROUND: usize = 32;

/// Calls that wait for a place at the most. Overflow rule: the call fails with `overloaded`.
const MAX_WAITING: usize = 1024;

/// How often a call is tried again for which the child was not ready.
const MAX_RETRIES: u32 = 5;

/// Ceiling of the first pause before it is.
const RETRY_START: Duration = Duration::from_millis(50);

/// Methods that may be called again when the child was not ready.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "thread/resume" | "initialize")
        || method.ends_with("/read")
        || method.ends_with("/list")
}

/// Who a call belongs to.
#[derive(Debug)]
pub(super) enum Caller {
    /// The actor itself.
    Own(OwnCall),
    /// Someone else.
    Owner(Owner),
}

#[derive(Debug)]
struct Pending {
    caller: Caller,
    method: &'static str,
    params: Value,
    /// When it was asked for.
    since: Instant,
    deadline: Instant,
    background: bool,
    attempts: u32,
}

/// What an answer settles.
#[derive(Debug)]
pub(super) enum Settled {
    /// A call of the actor itself.
    Own(OwnCall, CallOutcome),
    /// Someone else's call.
    Owner(Owner, CallOutcome),
    /// Nothing yet: the child was overloaded, and the call will be made again.
    Again,
    /// No call.
    Unknown,
}

/// The calls of one incarnation.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    next_id: i64,
    in_flight: HashMap<i64, Pending>,
    background: usize,
    foreground_queue: VecDeque<Pending>,
    background_queue: VecDeque<Pending>,
    /// Calls for which the child was not ready, and when they are made again.
    retries: Vec<(Instant, Pending)>,
    /// What is counted of calls, over all incarnations.
    counted: Arc<CallStats>,
}

impl CallTable {
    /// A table without calls.
    pub(super) fn new(counted: Arc<CallStats>) -> Self {
        Self { counted, ..Self::default() }
    }

    fn waiting(&self) -> usize {
        self.foreground_queue.len() + self.background_queue.len() + self.retries.len()
    }

    /// Tells metrics how many calls there are.
    fn count(&self) {
        self.counted.in_flight.store(self.in_flight.len() as u64, Ordering::Relaxed);
        self.counted.waiting.store(self.waiting() as u64, Ordering::Relaxed);
    }

    /// Calls in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes a call; `Err` gives the caller back when too many wait already.
    pub(super) fn add(
        &mut self,
        caller: Caller,
        method: &'static str,
        params: Value,
        timeout: Duration,
        background: bool,
    ) -> Result<(), Caller> {
        if self.waiting() >= MAX_WAITING {
            self.counted.overloaded.fetch_add(1, Ordering::Relaxed);
            return Err(caller);
        }
        let since = Instant::now();
        let deadline = since + timeout;
        let pending = Pending { caller, method, params, since, deadline, background, attempts: 0 };
        self.queue(pending);
        self.count();
        Ok(())
    }

    fn queue(&mut self, pending: Pending) {
        if pending.background {
            self.background_queue.push_back(pending);
        } else {
            self.foreground_queue.push_back(pending);
        }
    }

    /// The next line to write and its call's number, while there are places.
    pub(super) fn next_line(&mut self, now: Instant) -> Option<(i64, Vec<u8>)> {
        while let Some(index) = self.retries.iter().position(|(due, _)| *due <= now) {
            let (_, pending) = self.retries.swap_remove(index);
            self.queue(pending);
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let mut pending = match self.foreground_queue.pop_front() {
            Some(pending) => pending,
            None if self.background < MAX_BACKGROUND => self.background_queue.pop_front()?,
            None => return None,
        };
        self.next_id += 1;
        let id = self.next_id;
        pending.attempts += 1;
        self.background += usize::from(pending.background);
        let params = (!pending.params.is_null()).then_some(&pending.params);
        // A `Value` always encodes; an empty line would be skipped by the child.
        let line = encode_request(&RpcId::Number(id), pending.method, params).unwrap_or_default();
        self.in_flight.insert(id, pending);
        self.count();
        Some((id, line))
    }

    /// Settles a call that could not be written.
    pub(super) fn failed(&mut self, id: i64, failure: CallFailure) -> Settled {
        let Some(pending) = self.in_flight.remove(&id) else { return Settled::Unknown };
        self.background -= usize::from(pending.background);
        self.settle(pending, Err(failure))
    }

    /// Settles the call that an answer belongs to.
    pub(super) fn answered(&mut self, id: &RpcId, outcome: CallOutcome) -> Settled {
        let RpcId::Number(id) = id else {
            return Settled::Unknown;
        };
        let Some(pending) = self.in_flight.remove(id) else {
            return Settled::Unknown;
        };
        self.background -= usize::from(pending.background);
        let asks_again = outcome.as_ref().is_err_and(CallFailure::asks_again);
        if asks_again && is_idempotent(pending.method) && pending.attempts <= MAX_RETRIES {
            let ceiling = RETRY_START * 2u32.saturating_pow(pending.attempts);
            let due = Instant::now() + ceiling.mul_f64(rand::random());
            if due < pending.deadline {
                self.retries.push((due, pending));
                self.count();
                return Settled::Again;
            }
        }
        self.settle(pending, outcome)
    }

    /// Calls whose deadline has passed, wherever they are.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Settled> {
        let late: Vec<i64> = self
            .in_flight
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        let mut expired: Vec<Pending> =
            late.iter().filter_map(|id| self.in_flight.remove(id)).collect();
        self.background -= expired.iter().filter(|pending| pending.background).count();
        for queue in [&mut self.foreground_queue, &mut self.background_queue] {
            let (late, rest) =
                queue.drain(..).partition::<VecDeque<_>, _>(|pending| pending.deadline <= now);
            *queue = rest;
            expired.extend(late);
        }
        let late = expired.into_iter();
        late.map(|pending| self.settle(pending, Err(CallFailure::Timeout))).collect()
    }

    /// Everything that waits, as failed: the child is gone.
    pub(super) fn abandon(&mut self) -> Vec<Settled> {
        let mut all: Vec<Pending> = self.in_flight.drain().map(|(_, pending)| pending).collect();
        all.extend(self.foreground_queue.drain(..));
        all.extend(self.background_queue.drain(..));
        all.extend(self.retries.drain(..).map(|(_, pending)| pending));
        self.background = 0;
        let all = all.into_iter();
        all.map(|pending| self.settle(pending, Err(CallFailure::Unavailable))).collect()
    }

    fn settle(&self, pending: Pending, outcome: CallOutcome) -> Settled {
        let end = match &outcome {
            Ok(_) => CallEnd::Answered,
            Err(CallFailure::Timeout) => CallEnd::Late,
            Err(CallFailure::Unavailable | CallFailure::Overloaded) => CallEnd::Lost,
            Err(CallFailure::Rpc(_)) => CallEnd::Refused,
        };
        self.counted.ended(pending.method, end, pending.since.elapsed());
        self.count();
        settle(pending, outcome)
    }
}

fn settle(pending: Pending, outcome: CallOutcome) -> Settled {
    match pending.caller {
        Caller::Own(own) => Settled::Own(own, outcome),
        Caller::Owner(owner) => Settled::Owner(owner, outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::rpc::{RpcError, code};
    use serde_json::json;

    const LONG: Duration = Duration::from_secs(60);

    fn add(table: &mut CallTable, method: &'static str, background: bool) {
        let caller = Caller::Owner(Owner::Registry { token: 0 });
        table.add(caller, method, json!({}), LONG, background).unwrap();
    }

    fn lines(table: &mut CallTable, now: Instant) -> usize {
        std::iter::from_fn(|| table.next_line(now)).count()
    }

    fn overloaded() -> CallOutcome {
        let message = "Server overloaded; retry later.".to_owned();
        Err(CallFailure::Rpc(RpcError { code: code::OVERLOADED, message, data: None }))
    }

    #[test]
    fn foreground_calls_find_a_place_among_background_ones() {
        let mut table = CallTable::default();
        for _ in 0..100 {
            add(&mut table, "thread/read", true);
        }
        assert_eq!(lines(&mut table, Instant::now()), MAX_BACKGROUND);
        for _ in 0..100 {
            add(&mut table, "turn/start", false);
        }
        assert_eq!(lines(&mut table, Instant::now()), MAX_IN_FLIGHT - MAX_BACKGROUND);
        assert_eq!(table.in_flight(), MAX_IN_FLIGHT);
    }

    #[test]
    fn only_an_idempotent_call_is_made_again() {
        let mut table = CallTable::default();
        add(&mut table, "turn/start", false);
        add(&mut table, "thread/read", false);
        let now = Instant::now();
        assert_eq!(lines(&mut table, now), 2);
        assert!(matches!(table.answered(&RpcId::Number(1), overloaded()), Settled::Owner(..)));
        assert!(matches!(table.answered(&RpcId::Number(2), overloaded()), Settled::Again));
        assert_eq!(lines(&mut table, now + Duration::from_secs(2)), 1);
        let mut id = 3;
        while matches!(table.answered(&RpcId::Number(id), overloaded()), Settled::Again) {
            assert_eq!(lines(&mut table, now + LONG), 1);
            id += 1;
        }
        assert!(id < 20, "retries end");
    }

    #[test]
    fn a_thread_that_is_still_closing_is_resumed_again() {
        let mut table = CallTable::default();
        add(&mut table, "thread/resume", false);
        lines(&mut table, Instant::now());
        let message = "thread t is closing; retry thread/resume after the thread is closed";
        let error =
            RpcError { code: code::INVALID_REQUEST, message: message.to_owned(), data: None };
        let closing = Err(CallFailure::Rpc(error));
        assert!(matches!(table.answered(&RpcId::Number(1), closing), Settled::Again));
    }

    #[test]
    fn a_second_answer_settles_nothing() {
        let mut table = CallTable::default();
        add(&mut table, "thread/read", false);
        lines(&mut table, Instant::now());
        let null = || Ok(cm_core::rpc::RawJson::null());
        assert!(matches!(table.answered(&RpcId::Number(1), null()), Settled::Owner(..)));
        assert!(matches!(table.answered(&RpcId::Number(1), null()), Settled::Unknown));
        assert!(matches!(table.answered(&RpcId::Text("1".to_owned()), null()), Settled::Unknown));
    }

    #[test]
    fn calls_expire_in_flight_and_while_they_wait() {
        let mut table = CallTable::default();
        for _ in 0..(MAX_IN_FLIGHT + 3) {
            add(&mut table, "turn/start", false);
        }
        lines(&mut table, Instant::now());
        assert!(table.expired(Instant::now()).is_empty());
        assert_eq!(table.expired(Instant::now() + LONG).len(), MAX_IN_FLIGHT + 3);
        assert_eq!(table.in_flight(), 0);
    }

    #[test]
    fn when_the_child_is_gone_every_call_fails_at_once() {
        let mut table = CallTable::default();
        for _ in 0..70 {
            add(&mut table, "turn/start", false);
        }
        lines(&mut table, Instant::now());
        assert_eq!(table.abandon().len(), 70);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut table = CallTable::default();
        for _ in 0..MAX_WAITING {
            add(&mut table, "turn/start", false);
        }
        let caller = Caller::Owner(Owner::Registry { token: 0 });
        assert!(table.add(caller, "turn/start", json!({}), LONG, false).is_err());
    }
}
