//! How everyone reaches the child.

use std::sync::Arc;
use std::time::Duration;

use cm_core::ids::Incarnation;
use cm_core::rpc::{RpcError, RpcId};
use serde_json::Value;
use tokio::sync::oneshot;

use super::actor::AppServer;
use super::failure::CallFailure;
use super::messages::{Announce, Call, CallOutcome, Owner, Respond};
use super::status::{AppServerStatus, StatusCell};
use crate::handle::{CallError, Handle};
use crate::metrics::CallStats;

/// How long an answer to the child may take to be queued.
const RESPOND_DEADLINE: Duration = Duration::from_secs(5);

/// A stable way to reach the child.
#[derive(Debug, Clone, Default)]
pub struct AppServerHandle {
    pub(super) actor: Handle<AppServer>,
    pub(super) status: StatusCell,
    pub(super) calls: Arc<CallStats>,
}

impl AppServerHandle {
    /// Makes a handle; the spec fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// What can be seen of the child.
    pub fn status(&self) -> Arc<AppServerStatus> {
        self.status.read()
    }

    /// What is counted of calls, over all lives of the child.
    pub fn calls(&self) -> &CallStats {
        &self.calls
    }

    /// Starts a call. The answer goes to its owner.
    ///
    /// # Errors
    ///
    /// [`CallFailure`] at once when there is no child or no room; the owner gets no answer then.
    pub fn start_call(&self, call: Call) -> Result<(), CallFailure> {
        self.actor.tell(call).map_err(of_call_error)
    }

    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`CallFailure`].
    pub async fn call(
        &self,
        method: &'static str,
        params: Value,
        deadline: Option<Duration>,
        background: bool,
    ) -> CallOutcome {
        let (told, answer) = oneshot::channel();
        let owner = Owner::Direct(told);
        self.start_call(Call { owner, method, params, deadline, background })?;
        // The actor drops the sender when it ends: that is an answer too.
        answer.await.unwrap_or(Err(CallFailure::Unavailable))
    }

    /// Answers a request of the child.
    ///
    /// # Errors
    ///
    /// [`CallFailure::Unavailable`] when the life that asked is over.
    pub async fn respond(
        &self,
        incarnation: Incarnation,
        id: RpcId,
        outcome: Result<Value, RpcError>,
    ) -> Result<(), CallFailure> {
        let answer = Respond { incarnation, id, outcome };
        match self.actor.ask(answer, RESPOND_DEADLINE).await {
            Ok(result) => result,
            Err(error) => Err(of_call_error(error)),
        }
    }

    /// Answers a request of the child without waiting until the answer is queued.
    pub fn respond_later(
        &self,
        incarnation: Incarnation,
        id: RpcId,
        outcome: Result<Value, RpcError>,
    ) {
        let handle = self.clone();
        actix::spawn(async move {
            if let Err(error) = handle.respond(incarnation, id.clone(), outcome).await {
                tracing::warn!(%id, %error, "a request of the app-server could not be answered");
            }
        });
    }

    /// Asks the actor to say again whether the child is up.
    pub fn announce(&self) {
        if let Err(error) = self.actor.tell(Announce) {
            tracing::debug!(%error, "no app-server to announce");
        }
    }
}

fn of_call_error(error: CallError) -> CallFailure {
    match error {
        CallError::Unavailable => CallFailure::Unavailable,
        CallError::Full => CallFailure::Overloaded,
        CallError::Timeout => CallFailure::Timeout,
    }
}
