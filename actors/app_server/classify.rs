//! Whose answers are whose.

use cm_core::ids::Incarnation;

use super::boot::OwnCall;
use super::calls::{CallTable, Settled};
use super::messages::{Batch, CallOutcome, Inbound, InboundKind, Owner};
use super::parse::Parsed;

/// What the lines of one read become.
pub(super) struct Classified {
    /// What goes to the registry.
    pub(super) batch: Batch,
    /// Answers to calls of the actor itself.
    pub(super) own: Vec<(OwnCall, CallOutcome)>,
    /// Whether the child said that its account changed.
    pub(super) account_changed: bool,
}

/// Settles the calls that the lines answer.
pub(super) fn classify(
    parsed: Parsed,
    incarnation: Incarnation,
    calls: &mut CallTable,
) -> Classified {
    let Parsed { received_at, mut items, answers, account_changed, .. } = parsed;
    let mut own = Vec::new();
    for (place, id, outcome) in answers {
        match calls.answered(&id, outcome) {
            Settled::Own(call, outcome) => own.push((call, outcome)),
            Settled::Owner(owner, outcome) => {
                if let (Some(answer), Some(item)) = (settle(owner, outcome), items.get_mut(place)) {
                    *item = answer;
                }
            }
            Settled::Again => {}
            Settled::Unknown => {
                tracing::debug!(%id, "an answer to no call: late, or given twice");
            }
        }
    }
    let batch = Batch { incarnation, received_at, items };
    Classified { batch, own, account_changed }
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
    Some(Inbound { thread_id, turn_id: None, kind })
}
