//! The actor of one request.

use std::sync::Arc;
use std::time::Duration;

use actix::WeakRecipient;
use actix::prelude::*;
use cm_core::ids::ThreadId;
use cm_core::request::{
    AtDeadline, Decision, ExpiryReason, Misfit, Refusal, RequestFamily, RequestRecord, RequestState,
};
use cm_core::rpc::RpcError;
use cm_core::wire::{ApprovalDecision, ApprovalScope, DecideApproval};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::policy::{POLICY, RequestPolicy};

use crate::app_server::{AppServerHandle, CallFailure};
use crate::clock;
use crate::journal::JournalHandle;
use crate::store::{StoreError, StoreHandle, WriteBatch, put_request};
use crate::supervisor::Observe;
use crate::thread::{DecisionInput, RequestNews, SessionError};

/// Decides the request. Sent by whoever it belongs to; answered through `reply`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Decide {
    pub(crate) input: DecisionInput,
    pub(crate) by: String,
    pub(crate) reply: oneshot::Sender<Result<Option<ThreadId>, SessionError>>,
}

/// Ends the request without an answer. Sent by whoever it belongs to when the turn, the child or the
/// session is gone, or when the child says that it no longer waits.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Expire {
    pub(crate) reason: ExpiryReason,
}

/// One pending request. It ends when its owner (its thread, or the registry), told that its end is
/// stored, lets go of its address: by then whatever was asked of it meanwhile has been answered.
pub(crate) struct Request {
    record: RequestRecord,
    store: StoreHandle,
    journal: JournalHandle,
    app_server: AppServerHandle,
    /// The thread that it belongs to, or the registry; weak, so that the two do not keep each other
    /// alive when the registry has let go of the thread.
    owner: WeakRecipient<RequestNews>,
    /// Whether a decision is on its way.
    deciding: bool,
    /// What the child is answered, where that must not be in the record.
    secret: Option<Value>,
    /// An end that was noticed meanwhile. A quick child goes on before the decision's own
    /// bookkeeping is done; whether it had the answer is known only then.
    postponed: Option<ExpiryReason>,
    /// What happens when nobody decides.
    policy: Arc<dyn RequestPolicy>,
    /// The wait for the deadline. It would keep an actor alive that nobody needs any more.
    timer: Option<SpawnHandle>,
}

/// How long the thread may take to show a change before it is stored all the same.
const SHOWING: Duration = Duration::from_secs(5);

/// How long what could not be stored, written or said waits for its next try.
const RETRY: Duration = Duration::from_secs(1);

impl Request {
    pub(crate) fn new(
        record: RequestRecord,
        store: StoreHandle,
        journal: JournalHandle,
        app_server: AppServerHandle,
        owner: WeakRecipient<RequestNews>,
        policy: Arc<dyn RequestPolicy>,
    ) -> Self {
        Self {
            record,
            store,
            journal,
            app_server,
            owner,
            deciding: false,
            secret: None,
            postponed: None,
            policy,
            timer: None,
        }
    }

    /// Gives the wait for the deadline up once there is nothing left to decide.
    fn stop_waiting(&mut self, ctx: &mut Context<Self>) {
        if !self.record.is_pending()
            && let Some(timer) = self.timer.take()
        {
            ctx.cancel_future(timer);
        }
    }

    /// Stores the record as it is.
    fn save(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let mut batch = WriteBatch::default();
        let put = put_request(&mut batch, &self.record);
        let store = self.store.clone();
        async move {
            put?;
            store.commit(batch).await
        }
    }

    /// Shows what became of the request, then stores it. The word of it is in the queue for the log
    /// of events before the record is: whoever comes back after a crash is told what the record
    /// says, whatever the moment of the crash.
    fn show_and_save(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let news = RequestNews::Changed(Box::new(self.record.clone()));
        let told = self.owner.upgrade().map(|thread| thread.send(news).timeout(SHOWING));
        let (journal, saved) = (self.journal.clone(), self.save());
        let request = self.record.id.clone();
        async move {
            // A thread that is gone is being rebuilt from what was stored.
            if let Some(told) = told {
                if let Err(error) = told.await {
                    tracing::warn!(%request, %error, "the thread was not told of a change");
                }
                journal.taken().await;
            }
            saved.await
        }
    }

    /// Leaves a change that could not be stored to the store, which writes it first when it can
    /// again: the thread has shown it and keeps no mark of the request any more. The record as it
    /// is now is left, so that it cannot be older than one that was stored meanwhile.
    /// Answers whether the store has taken it.
    fn leave_to_store(&self, error: &StoreError) -> impl Future<Output = bool> + use<> {
        let request = self.record.id.clone();
        tracing::error!(%request, %error, "what became of a request is not stored yet");
        let mut batch = WriteBatch::default();
        let put = put_request(&mut batch, &self.record);
        let store = self.store.clone();
        async move {
            let left = match put {
                Ok(()) => store.record(batch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &left {
                tracing::error!(%request, %error, "what became of a request was not stored");
            }
            left.is_ok()
        }
    }

    /// Shows what became of the request and stores it, now or when the store can be written again.
    fn show_and_keep(&self) -> ResponseActFuture<Self, ()> {
        self.keep(self.show_and_save())
    }

    /// Sees to it that what is saved is kept: by the store when it can be written again, or by
    /// another try when the store takes nothing at all.
    fn keep(
        &self,
        saved: impl Future<Output = Result<(), StoreError>> + 'static,
    ) -> ResponseActFuture<Self, ()> {
        Box::pin(saved.into_actor(self).then(|saved, request: &mut Self, _| {
            let left = saved.err().map(|error| request.leave_to_store(&error));
            let kept = async move {
                match left {
                    None => true,
                    Some(left) => left.await,
                }
            };
            kept.into_actor(request).map(|kept, request, ctx| {
                if kept {
                    request.tell_kept(ctx);
                } else if request.record.is_closed() {
                    ctx.run_later(RETRY, |request, ctx| {
                        let kept = request.keep(request.save());
                        ctx.spawn(kept);
                    });
                }
            })
        }))
    }

    /// Lets the thread forget a request that has ended.
    fn tell_kept(&self, ctx: &mut Context<Self>) {
        // A thread that is gone is being rebuilt from what was stored.
        let Some(thread) = self.owner.upgrade().filter(|_| self.record.is_closed()) else {
            return;
        };
        let kept = RequestNews::Kept(Box::new(self.record.clone()));
        if let Err(SendError::Full(_)) = thread.try_send(kept) {
            ctx.run_later(RETRY, |request, ctx| request.tell_kept(ctx));
        }
    }

    /// Ends the request; answers whether anything changed.
    fn end(&mut self, reason: ExpiryReason) -> bool {
        let now = clock::now_ms();
        let at = clock::iso(now);
        match reason {
            ExpiryReason::ResolvedByRuntime => self.record.resolved(now, &at),
            _ => self.record.expire(reason, now, &at),
        }
    }

    /// Waits for the deadline, if there is one.
    fn wait_for_deadline(&mut self, ctx: &mut Context<Self>) {
        let Some(deadline) = self.record.deadline_ms.filter(|_| self.record.is_pending()) else {
            return;
        };
        let left = u64::try_from(deadline.saturating_sub(clock::now_ms())).unwrap_or(0);
        self.ask_policy_in(Duration::from_millis(left), ctx);
    }

    fn ask_policy_in(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        self.timer = Some(ctx.run_later(wait, |request, ctx| {
            request.timer = None;
            if request.owner.upgrade().is_none() {
                // The thread is being rebuilt, and this request with it.
                ctx.stop();
            } else if request.record.is_pending() {
                request.decide_by_policy(ctx);
            }
        }));
    }

    /// The time is over: the policy decides like anybody else.
    fn decide_by_policy(&mut self, ctx: &mut Context<Self>) {
        let decision = match self.policy.at_deadline(&self.record) {
            AtDeadline::Wait => return,
            AtDeadline::Decline => ApprovalDecision::Decline,
            AtDeadline::Cancel => ApprovalDecision::Cancel,
        };
        tracing::info!(
            request = %self.record.id, thread = ?self.record.thread_id, ?decision,
            "nobody decided a request in time"
        );
        let result = self.record.kind.refusal_result(decision).unwrap_or_default();
        let input = match self.record.kind.family() {
            RequestFamily::Approval | RequestFamily::Extended => {
                let body = DecideApproval::of(decision, ApprovalScope::Turn);
                DecisionInput::Approval(Box::new(body))
            }
            RequestFamily::ToolInput => DecisionInput::ToolInput { decision, result },
            RequestFamily::ToolCall => DecisionInput::ToolCall { success: false, result },
        };
        let (reply, decided) = oneshot::channel();
        ctx.notify(Decide { input, by: POLICY.to_owned(), reply });
        ctx.spawn(decided.into_actor(self).map(|decided, request, ctx| {
            if !matches!(decided, Ok(Ok(_))) && request.record.is_pending() {
                request.ask_policy_in(RETRY, ctx);
            }
        }));
    }

    /// A claim whose actor ended before it wrote the answer: the same answer is written now. The
    /// child ignores a second answer to a request that it has done with.
    fn deliver_claim(&mut self, ctx: &mut Context<Self>) {
        let RequestState::Deciding { decision } = &self.record.state else { return };
        if self.deciding {
            return;
        }
        let handle = self.app_server.clone();
        let (incarnation, rpc_id) = (self.record.incarnation, self.record.rpc_id.clone());
        let outcome = self.outcome(decision);
        self.deciding = true;
        let work = async move { handle.respond(incarnation, rpc_id, outcome).await };
        ctx.wait(work.into_actor(self).then(|outcome, request: &mut Self, _| {
            if outcome.is_ok() {
                request.record.delivered(clock::now_ms());
            }
            request.deciding = false;
            request.show_and_keep()
        }));
    }

    fn refused(&self, refusal: Refusal) -> SessionError {
        SessionError::Refused {
            id: self.record.id.clone(),
            thread_id: self.record.thread_id.clone(),
            refusal,
        }
    }

    /// What the child is answered.
    fn outcome(&self, decision: &Decision) -> Result<Value, RpcError> {
        self.secret.clone().map_or_else(|| decision.outcome(), Ok)
    }

    /// The decision, if it fits the request.
    fn decision(&self, input: DecisionInput, by: String) -> Result<Decision, Misfit> {
        let at = clock::now_iso();
        let (label, scope, success, result) = match input {
            DecisionInput::Approval(body) => {
                let result = self.record.approval_answer(&body)?;
                (body.decision.as_str(), Some(body.scope.as_str().to_owned()), None, result)
            }
            DecisionInput::ToolInput { decision, result } => {
                (decision.as_str(), None, None, Some(result))
            }
            DecisionInput::ToolCall { success, result } => {
                (if success { "success" } else { "failure" }, None, Some(success), Some(result))
            }
        };
        Ok(Decision { label: label.to_owned(), scope, success, result, by, at })
    }

    /// The answer reached the child, or did not.
    fn written(&mut self, result: Result<(), CallFailure>) -> Result<(), SessionError> {
        match result {
            Ok(()) => {
                self.record.delivered(clock::now_ms());
                Ok(())
            }
            Err(error) => {
                // Only what certainly did not reach the child may be decided anew. A claim whose
                // child is gone is about to expire, with what was decided.
                if error == CallFailure::Overloaded {
                    self.record.release();
                }
                Err(error.failure(&self.record.method).into())
            }
        }
    }
}

/// Decisions that may wait. Overflow rule: the decision is refused with `overloaded`.
const MAILBOX: usize = 256;

impl Actor for Request {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.wait_for_deadline(ctx);
        self.deliver_claim(ctx);
    }
}

impl Handler<Decide> for Request {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, decide: Decide, _: &mut Self::Context) -> Self::Result {
        let Decide { input, by, reply } = decide;
        // Whoever asked may have stopped waiting, so a failed send is nothing to report.
        if !input.decides(self.record.kind) {
            reply.send(Err(SessionError::NoRequest(self.record.id.clone()))).ok();
            return Box::pin(actix::fut::ready(()));
        }
        let mut decision = match self.decision(input, by) {
            Ok(decision) => decision,
            Err(misfit) => {
                // What became of a request that is over is more than what is wrong with an answer.
                let error = match self.record.refusal_of_more() {
                    Some(refusal) => self.refused(refusal),
                    None => SessionError::Misfit(misfit),
                };
                reply.send(Err(error)).ok();
                return Box::pin(actix::fut::ready(()));
            }
        };
        let outcome = decision.outcome();
        let secret = decision.result.take_if(|_| self.record.kind.is_secret());
        // The claim is taken before anything is awaited: the first decision wins.
        if let Err(refusal) = self.record.claim(decision) {
            reply.send(Err(self.refused(refusal))).ok();
            return Box::pin(actix::fut::ready(()));
        }
        self.secret = secret;
        self.deciding = true;
        let saved = self.save();
        let work = saved.into_actor(self).then(move |saved, request: &mut Self, _| {
            let handle = request.app_server.clone();
            let incarnation = request.record.incarnation;
            let rpc_id = request.record.rpc_id.clone();
            async move {
                saved.map_err(SessionError::from)?;
                Ok(handle.respond(incarnation, rpc_id, outcome).await)
            }
            .into_actor(request)
        });
        Box::pin(work.then(move |outcome: Result<_, SessionError>, request, _| {
            let in_doubt = matches!(outcome, Ok(Err(CallFailure::Timeout)));
            let mut answer = match outcome {
                Ok(written) => request.written(written),
                Err(error) => {
                    request.record.release();
                    Err(error)
                }
            };
            if let Some(reason) = request.postponed.take() {
                request.end(reason);
                // The child was gone before the answer reached it.
                if let RequestState::Expired { reason, at, decision } = &request.record.state {
                    let decision = decision.clone().map(Box::new);
                    let refusal = Refusal::Expired { reason: *reason, at: at.clone(), decision };
                    answer = Err(request.refused(refusal));
                }
            }
            // The decision is on the disk already, and what the child makes of it is still on its
            // way to the thread: told now, the stream has the two in this order.
            let kept = request.show_and_keep();
            let thread_id = request.record.thread_id.clone();
            kept.map(move |(), request: &mut Self, ctx| {
                request.deciding = false;
                request.stop_waiting(ctx);
                if in_doubt {
                    ctx.run_later(RETRY, Self::deliver_claim);
                }
                reply.send(answer.map(|()| thread_id)).ok();
                if let Some(reason) = request.postponed.take() {
                    ctx.notify(Expire { reason });
                }
            })
        }))
    }
}

impl Handler<Expire> for Request {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Expire { reason }: Expire, ctx: &mut Self::Context) -> Self::Result {
        if self.deciding {
            self.postponed.get_or_insert(reason);
            return Box::pin(actix::fut::ready(()));
        }
        if !self.end(reason) {
            return Box::pin(actix::fut::ready(()));
        }
        self.stop_waiting(ctx);
        self.show_and_keep()
    }
}

impl Handler<Observe> for Request {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let observed: Value = json!({
            "method": self.record.method,
            "status": self.record.status(),
            "createdAt": self.record.created_at,
        });
        MessageResult(observed)
    }
}
