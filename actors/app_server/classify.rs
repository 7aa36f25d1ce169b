//! From lines to what they say.

use cm_core::ids::Incarnation;
use cm_core::rpc::{self, Line, RpcId, ThreadRef, parse_line};
use serde_json::value::RawValue;

use super::calls::{CallTable, Settled};
use super::failure::CallFailure;
use super::messages::{Batch, CallOutcome, Inbound, InboundKind, Owner};
use crate::clock;

/// Prefix of the notifications by which codex 0.106 repeats every event in an older form.
const LEGACY_PREFIX: &str = "codex/event/";

/// What a batch of lines becomes.
pub(super) struct Classified {
    /// What goes to the registry.
    pub(super) batch: Batch,
    /// Answers to calls of the actor itself.
    pub(super) own: Vec<(super::boot::OwnCall, CallOutcome)>,
    /// Whether the child said that its account changed.
    pub(super) account_changed: bool,
}

/// Classifies lines, settling the calls that they answer.
pub(super) fn classify(
    lines: Vec<Line>,
    incarnation: Incarnation,
    calls: &mut CallTable,
) -> Classified {
    let batch = Batch { incarnation, received_at: clock::now_iso(), items: Vec::new() };
    let mut classified = Classified { batch, own: Vec::new(), account_changed: false };
    for line in lines {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong { bytes } => {
                classified.unreadable(format!("a line of {bytes} bytes is over the limit"));
                continue;
            }
            Line::NotUtf8 { bytes } => {
                classified.unreadable(format!("a line of {bytes} bytes is not UTF-8"));
                continue;
            }
            Line::Partial { bytes } => {
                classified.unreadable(format!(
                    "the output ended in the middle of a line ({bytes} bytes)"
                ));
                continue;
            }
        };
        match parse_line(&text) {
            Ok(rpc::Inbound::Notification { method, params }) => {
                if !method.starts_with(LEGACY_PREFIX) {
                    classified.account_changed |= method == "account/updated";
                    let ids = ThreadRef::of(params);
                    let params = params.map(RawValue::to_owned);
                    classified.push(ids, InboundKind::Notification { method, params });
                }
            }
            Ok(rpc::Inbound::Request { id, method, params }) => {
                let ids = ThreadRef::of(params);
                let params = params.map(RawValue::to_owned);
                classified.push(ids, InboundKind::Request { id, method, params });
            }
            Ok(rpc::Inbound::Answer { id, outcome }) => {
                let outcome = match outcome {
                    Ok(Some(result)) => Ok(result.to_owned()),
                    Ok(None) => Ok(null()),
                    Err(error) => Err(CallFailure::Rpc(error)),
                };
                classified.answer(&id, outcome, calls);
            }
            Err(error) => classified.unreadable(format!("a line is {error}")),
        }
    }
    classified
}

impl Classified {
    fn push(&mut self, ids: ThreadRef, kind: InboundKind) {
        let ThreadRef { thread_id, turn_id, item_id } = ids;
        self.batch.items.push(Inbound { thread_id, turn_id, item_id, kind });
    }

    fn unreadable(&mut self, what: String) {
        tracing::warn!(what, "unreadable output of the app-server; going on");
        self.push(ThreadRef::default(), InboundKind::Unreadable { what });
    }

    fn answer(&mut self, id: &RpcId, outcome: CallOutcome, calls: &mut CallTable) {
        match calls.answered(id, outcome) {
            Settled::Own(own, outcome) => self.own.push((own, outcome)),
            Settled::Owner(owner, outcome) => {
                if let Some(item) = settle(owner, outcome) {
                    self.batch.items.push(item);
                }
            }
            Settled::Again => {}
            Settled::Unknown => {
                tracing::debug!(%id, "an answer to no call: late, or given twice");
            }
        }
    }
}

/// Hands an outcome to its owner; what is to travel in a batch is answered.
pub(super) fn settle(owner: Owner, outcome: CallOutcome) -> Option<Inbound> {
    let (thread_id, token) = match owner {
        Owner::Direct(waiting) => {
            // Whoever asked may have stopped waiting.
            waiting.send(outcome).ok();
            return None;
        }
        Owner::Thread { thread_id, token } => (Some(thread_id), token),
        Owner::Registry { token } => (None, token),
    };
    let kind = InboundKind::Answer { token, outcome };
    Some(Inbound { thread_id, turn_id: None, item_id: None, kind })
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}
