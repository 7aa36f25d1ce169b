//! What is stored of a request, and its transitions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::kind::RequestKind;
use crate::ids::{Incarnation, RequestId, ThreadId};
use crate::rpc::{RpcError, RpcId, code};
use crate::wire::{ApprovalDecision, present};

/// A decision and the answer it stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `accept`, `decline`, `cancel`; for tool calls `success` or `failure`.
    pub label: String,
    /// How far an acceptance reaches; `turn`, `session` or `always`.
    pub scope: Option<String>,
    /// For tool calls: whether the tool did its work.
    pub success: Option<bool>,
    /// The JSON-RPC result that goes to the child; `None` where it is told an error, and in what is
    /// stored of a secret.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Who decided.
    pub by: String,
    /// When, ISO-8601 UTC.
    pub at: String,
}

impl Decision {
    /// What the child is answered.
    pub fn outcome(&self) -> Result<Value, RpcError> {
        refused_without(self.result.clone())
    }
}

/// The answer to the child: the result, or the error that stands for none.
fn refused_without(result: Option<Value>) -> Result<Value, RpcError> {
    result.ok_or_else(|| RpcError {
        code: code::INTERNAL,
        message: "the request was refused".to_owned(),
        data: None,
    })
}

/// Why a request ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryReason {
    /// Its turn ended.
    TurnEnded,
    /// The child process that asked is gone.
    RuntimeDown,
    /// The manager stopped or died while it was pending.
    ManagerRestarted,
    /// The session was deleted.
    SessionDeleted,
    /// The child says that it no longer waits.
    ResolvedByRuntime,
}

/// What happens to a request that nobody has decided when its deadline comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtDeadline {
    /// Nothing: it waits on.
    Wait,
    /// It is refused; the turn goes on.
    Decline,
    /// It is refused, and its turn is stopped.
    Cancel,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for a decision.
    Pending,
    /// A decision has claimed it and is on its way to the child.
    Deciding {
        /// The decision.
        decision: Decision,
    },
    /// The answer was written to the child.
    Delivered {
        /// The decision.
        decision: Decision,
    },
    /// The child has gone on, or its turn has ended.
    Resolved {
        /// The decision.
        decision: Decision,
    },
    /// It ended without a known answer.
    Expired {
        /// Why.
        reason: ExpiryReason,
        /// When, ISO-8601 UTC.
        at: String,
        /// A decision that had claimed it but is not known to have reached the child.
        decision: Option<Decision>,
    },
}

/// Why a decision was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Another decision is on its way.
    InFlight(Box<Decision>),
    /// It was decided.
    Decided(Box<Decision>),
    /// It expired.
    Expired {
        /// Why.
        reason: ExpiryReason,
        /// When, ISO-8601 UTC.
        at: String,
        /// What had been decided without being known to have reached the child.
        decision: Option<Box<Decision>>,
    },
}

/// A request as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Our opaque id.
    pub id: RequestId,
    /// Kind.
    pub kind: RequestKind,
    /// The app-server's method.
    pub method: String,
    /// Thread; `None` for what the runtime asks for itself.
    pub thread_id: Option<ThreadId>,
    /// Turn, when known.
    pub turn_id: Option<String>,
    /// Item, when named.
    pub item_id: Option<String>,
    /// Call id of a tool call.
    pub call_id: Option<String>,
    /// The life of the child that asked.
    pub incarnation: Incarnation,
    /// The id to answer with, valid in that life only.
    pub rpc_id: RpcId,
    /// The app-server's params, unchanged; long members of very long ones are replaced, see
    /// [`RequestRecord::params_bytes`].
    pub params: Value,
    /// Length of the params where they are too long to be shown: they lie beside this record as
    /// they came.
    #[serde(default)]
    pub params_bytes: Option<u64>,
    /// When it arrived, ISO-8601 UTC.
    pub created_at: String,
    /// When it arrived, epoch milliseconds.
    pub created_ms: i64,
    /// When it ended, epoch milliseconds.
    pub ended_ms: Option<i64>,
    /// Until when somebody has to decide, ISO-8601 UTC; `None`: for ever.
    #[serde(default)]
    pub deadline_at: Option<String>,
    /// The same in epoch milliseconds.
    #[serde(default)]
    pub deadline_ms: Option<i64>,
    /// Position of its row among the thread's transcript rows.
    pub ordinal: u64,
    /// How far it is.
    pub state: RequestState,
}

/// Current [`RequestRecord::version`].
pub const REQUEST_RECORD_VERSION: u32 = 1;

impl RequestRecord {
    /// What the child is answered when nobody decides.
    pub fn refusal(&self) -> Result<Value, RpcError> {
        refused_without(self.kind.refusal_result(ApprovalDecision::Decline))
    }

    /// Whether it can still be decided.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, RequestState::Pending)
    }

    /// Whether nothing more will happen to it.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, RequestState::Resolved { .. } | RequestState::Expired { .. })
    }

    /// The word that lists show: `pending`, `resolved` or `expired`.
    pub fn status(&self) -> &'static str {
        match self.state {
            RequestState::Pending | RequestState::Deciding { .. } => "pending",
            RequestState::Delivered { .. } | RequestState::Resolved { .. } => "resolved",
            RequestState::Expired { .. } => "expired",
        }
    }

    /// The decision, when one reached the child or is on its way.
    pub fn decision(&self) -> Option<&Decision> {
        match &self.state {
            RequestState::Deciding { decision }
            | RequestState::Delivered { decision }
            | RequestState::Resolved { decision } => Some(decision),
            RequestState::Expired { decision, .. } => decision.as_ref(),
            RequestState::Pending => None,
        }
    }

    /// Claims the request for a decision.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when it was claimed, decided or has expired; nothing changes then.
    pub fn claim(&mut self, decision: Decision) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal_of_more() {
            return Err(refusal);
        }
        self.state = RequestState::Deciding { decision };
        Ok(())
    }

    /// What one more decision is told; `None` while the request waits for its first.
    pub fn refusal_of_more(&self) -> Option<Refusal> {
        Some(match &self.state {
            RequestState::Pending => return None,
            RequestState::Deciding { decision } => Refusal::InFlight(Box::new(decision.clone())),
            RequestState::Delivered { decision } | RequestState::Resolved { decision } => {
                Refusal::Decided(Box::new(decision.clone()))
            }
            RequestState::Expired { reason, at, decision } => Refusal::Expired {
                reason: *reason,
                at: at.clone(),
                decision: decision.clone().map(Box::new),
            },
        })
    }

    /// Gives a claim back because the decision could not be stored or written.
    pub fn release(&mut self) {
        if matches!(self.state, RequestState::Deciding { .. }) {
            self.state = RequestState::Pending;
        }
    }

    /// Notes that the answer was written to the child.
    pub fn delivered(&mut self, now_ms: i64) {
        if let RequestState::Deciding { decision } = &self.state {
            self.state = RequestState::Delivered { decision: decision.clone() };
            self.ended_ms = Some(now_ms);
        }
    }

    /// Notes that the child has gone on. A request that nobody had decided expires.
    ///
    /// Answers whether anything changed.
    pub fn resolved(&mut self, now_ms: i64, at: &str) -> bool {
        match &self.state {
            RequestState::Delivered { decision } => {
                self.state = RequestState::Resolved { decision: decision.clone() };
                true
            }
            RequestState::Pending => self.expire(ExpiryReason::ResolvedByRuntime, now_ms, at),
            _ => false,
        }
    }

    /// Ends it without an answer. A delivered decision counts as resolved instead.
    ///
    /// Answers whether anything changed.
    pub fn expire(&mut self, reason: ExpiryReason, now_ms: i64, at: &str) -> bool {
        match &self.state {
            RequestState::Pending => {
                self.state = RequestState::Expired { reason, at: at.to_owned(), decision: None };
                self.ended_ms = Some(now_ms);
                true
            }
            RequestState::Deciding { decision } => {
                let decision = Some(decision.clone());
                self.state = RequestState::Expired { reason, at: at.to_owned(), decision };
                self.ended_ms = Some(now_ms);
                true
            }
            RequestState::Delivered { decision } => {
                self.state = RequestState::Resolved { decision: decision.clone() };
                true
            }
            RequestState::Resolved { .. } | RequestState::Expired { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn decision(label: &str) -> Decision {
        Decision {
            label: label.to_owned(),
            scope: None,
            success: None,
            result: Some(json!({ "decision": label })),
            by: "test".to_owned(),
            at: "now".to_owned(),
        }
    }

    fn record() -> RequestRecord {
        RequestRecord {
            version: REQUEST_RECORD_VERSION,
            id: RequestId::from_random([7; 16]),
            kind: RequestKind::CommandApproval,
            method: "item/commandExecution/requestApproval".to_owned(),
            thread_id: Some(ThreadId::parse("t").unwrap()),
            turn_id: None,
            item_id: None,
            call_id: None,
            incarnation: Incarnation(1),
            rpc_id: RpcId::Number(0),
            params: Value::Null,
            params_bytes: None,
            created_at: "then".to_owned(),
            created_ms: 1,
            ended_ms: None,
            deadline_at: None,
            deadline_ms: None,
            ordinal: 0,
            state: RequestState::Pending,
        }
    }

    #[test]
    fn the_first_decision_wins_and_later_ones_are_told() {
        let mut request = record();
        assert_eq!(request.claim(decision("accept")), Ok(()));
        assert_eq!(
            request.claim(decision("decline")),
            Err(Refusal::InFlight(Box::new(decision("accept"))))
        );
        request.delivered(2);
        assert_eq!(
            request.claim(decision("decline")),
            Err(Refusal::Decided(Box::new(decision("accept"))))
        );
        assert!(request.resolved(3, "later"));
        assert_eq!(
            request.claim(decision("decline")),
            Err(Refusal::Decided(Box::new(decision("accept"))))
        );
    }

    #[test]
    fn an_expired_request_is_never_answered() {
        let mut request = record();
        assert!(request.expire(ExpiryReason::RuntimeDown, 2, "then"));
        assert!(matches!(
            request.claim(decision("accept")),
            Err(Refusal::Expired { reason: ExpiryReason::RuntimeDown, .. })
        ));
        assert!(!request.expire(ExpiryReason::TurnEnded, 3, "then"));
    }

    #[test]
    fn a_decision_that_did_not_reach_the_child_is_told_all_the_same() {
        let mut request = record();
        request.claim(decision("accept")).unwrap();
        assert!(request.expire(ExpiryReason::ManagerRestarted, 2, "then"));
        assert_eq!(request.status(), "expired");
        let refused = request.claim(decision("decline"));
        let Err(Refusal::Expired { decision: Some(told), .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(*told, decision("accept"));
    }

    #[test]
    fn a_stored_decision_without_a_result_is_an_error_for_the_child() {
        let mut stored = json!(decision("accept"));
        let read = |stored: &Value| serde_json::from_value::<Decision>(stored.clone()).unwrap();
        assert_eq!(read(&stored).outcome(), Ok(json!({ "decision": "accept" })));
        stored["result"] = Value::Null;
        assert_eq!(read(&stored).outcome(), Ok(Value::Null), "`null` is an answer too");
        stored.as_object_mut().unwrap().remove("result");
        assert!(read(&stored).outcome().is_err());
    }

    #[test]
    fn a_claim_that_could_not_be_written_is_given_back() {
        let mut request = record();
        request.claim(decision("accept")).unwrap();
        request.release();
        assert!(request.is_pending());
        assert_eq!(request.claim(decision("decline")), Ok(()));
    }

    proptest! {
        /// Whatever happens in whatever order, at most one decision is ever accepted.
        #[test]
        fn at_most_one_decision(steps in prop::collection::vec(0u8..5, 0..40)) {
            let mut request = record();
            let mut delivered = 0;
            for step in steps {
                match step {
                    0 => { let _ = request.claim(decision("accept")); }
                    1 => {
                        let before = request.state.clone();
                        request.delivered(1);
                        if before != request.state { delivered += 1; }
                    }
                    2 => { request.resolved(1, "x"); }
                    3 => { request.expire(ExpiryReason::TurnEnded, 1, "x"); }
                    _ => request.release(),
                }
                if request.is_closed() {
                    prop_assert!(request.claim(decision("again")).is_err());
                }
            }
            prop_assert!(delivered <= 1);
        }
    }
}
