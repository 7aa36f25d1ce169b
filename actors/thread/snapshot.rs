//! How sessions with something unfinished stand, for subscribers that missed deltas.

use std::time::Duration;

use actix::prelude::*;
use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use cm_core::transcript;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::actor::Thread;
use super::registry::ThreadRegistry;
use super::view;
use crate::supervisor::Observe;

/// How long one session has to say how it stands.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Asks how sessions with something unfinished stand: those that run or wait now, and those that
/// did when the manager ended last. Sent by routes for a subscriber that comes back.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<(ThreadId, Value)>, SlowSession>")]
pub(super) struct GetSnapshots {
    /// The only session to look at.
    pub(super) filter: Option<String>,
}

/// A session that did not say in time how it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session {0} does not say how it stands")]
pub(super) struct SlowSession(pub(super) ThreadId);

/// Asks a thread how it stands. Sent by the registry; answered with nothing by a thread that has
/// nothing unfinished, unless it had when the manager ended last.
#[derive(Debug, Message)]
#[rtype(result = "Option<Value>")]
pub(super) struct GetSnapshot {
    /// Whether something was unfinished when the manager ended last.
    pub(super) settled: bool,
}

impl Handler<GetSnapshots> for ThreadRegistry {
    type Result = ResponseFuture<Result<Vec<(ThreadId, Value)>, SlowSession>>;

    fn handle(
        &mut self,
        GetSnapshots { filter }: GetSnapshots,
        _: &mut Self::Context,
    ) -> Self::Result {
        let wanted = |id: &ThreadId| filter.as_deref().is_none_or(|filter| filter == id.as_str());
        let looks: Vec<_> = self
            .threads
            .iter()
            .filter(|(id, _)| wanted(id))
            .map(|(id, entry)| {
                let question = GetSnapshot { settled: self.settled.contains(id) };
                let look = entry.address.send(question).timeout(DEADLINE);
                let id = id.clone();
                async move {
                    match look.await {
                        Ok(snapshot) => Ok(snapshot.map(|snapshot| (id, snapshot))),
                        // It was let go, or is being rebuilt, which shows in what it publishes.
                        Err(MailboxError::Closed) => Ok(None),
                        Err(MailboxError::Timeout) => Err(SlowSession(id)),
                    }
                }
            })
            .collect();
        // One that was settled and let go since has nothing unfinished: its row says the rest.
        let let_go = self.settled.iter().filter(|id| wanted(id) && !self.threads.contains_key(*id));
        let settled: Vec<(ThreadId, Value)> = let_go
            .filter_map(|id| {
                let row = self.shared.index.get(id)?;
                let session: Value = serde_json::from_slice(&row.json).ok()?;
                Some((id.clone(), nothing_unfinished(session)))
            })
            .collect();
        Box::pin(async move {
            let mut snapshots = settled;
            for look in join_all(looks).await {
                snapshots.extend(look?);
            }
            Ok(snapshots)
        })
    }
}

/// The snapshot of a session in which nothing runs or waits.
fn nothing_unfinished(session: Value) -> Value {
    json!({
        "session": session, "turn": null,
        "approvals": [], "toolInputs": [], "toolCalls": [], "requests": [],
    })
}

impl Handler<GetSnapshot> for Thread {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, question: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        if !question.settled && self.current_activity() == view::IDLE {
            return MessageResult(None);
        }
        let mut pending: Vec<_> = self
            .requests
            .values()
            .map(|live| &live.record)
            .filter(|record| record.is_pending())
            .collect();
        pending.sort_by_key(|record| record.ordinal);
        let of = |family: RequestFamily| {
            pending.iter().copied().filter(move |record| record.kind.family() == family)
        };
        MessageResult(Some(json!({
            "session": self.summary(),
            "turn": self.state.active_turn().map(|turn| json!({
                "id": turn.id,
                "status": turn.status.as_str(),
                "startedAt": turn.started_ms.div_euclid(1000),
            })),
            "approvals": of(RequestFamily::Approval).map(transcript::approval).collect::<Vec<_>>(),
            "toolInputs": of(RequestFamily::ToolInput).map(transcript::tool_input).collect::<Vec<_>>(),
            "toolCalls": of(RequestFamily::ToolCall).map(transcript::tool_call).collect::<Vec<_>>(),
            "requests": of(RequestFamily::Extended).map(transcript::agent_request).collect::<Vec<_>>(),
        })))
    }
}

impl Handler<Observe> for Thread {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(json!({
            "activity": self.current_activity(),
            "turn": self.state.active_turn().map(|turn| &turn.id),
            "requests": self.requests.len(),
            "calls": self.pending.len(),
            "loaded": self.is_loaded(),
            "recovers": self.recovery.running,
            "problem": self.state.record.problem.as_ref().map(|problem| &problem.code),
        }))
    }
}
