//! What is asked of the child's actor.

use std::sync::Arc;

use actix::prelude::*;
use cm_core::rpc::{encode_error, encode_result};
use cm_process::{Child, StdinError};
use serde_json::json;

use super::actor::{AppServer, Phase};
use super::calls::{Caller, Settled};
use super::failure::CallFailure;
use super::messages::{Announce, Call, Respond, RuntimeEvent, RuntimeUp};
use crate::supervisor::Observe;

impl Handler<Call> for AppServer {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Self::Context) {
        let timeout = call.deadline.unwrap_or(self.config.call_timeout);
        if self.phase != Phase::Ready {
            let failed = Settled::Owner(call.owner, Err(CallFailure::Unavailable));
            self.settle_all(vec![failed], ctx);
            return;
        }
        let caller = Caller::Owner(call.owner);
        let added = self.calls.add(caller, call.method, call.params, timeout, call.background);
        if let Err(Caller::Owner(owner)) = added {
            let failed = Settled::Owner(owner, Err(CallFailure::Overloaded));
            self.settle_all(vec![failed], ctx);
        }
        self.write_calls(ctx);
    }
}

impl Handler<Respond> for AppServer {
    type Result = Result<(), CallFailure>;

    fn handle(&mut self, respond: Respond, _: &mut Self::Context) -> Self::Result {
        let alive = matches!(self.phase, Phase::Ready | Phase::Stopping | Phase::Starting);
        let child = self.child.as_ref().filter(|_| alive).ok_or(CallFailure::Unavailable)?;
        // An answer never crosses into another life: ids start at 0 in each.
        if respond.incarnation != self.incarnation {
            return Err(CallFailure::Unavailable);
        }
        let line = match &respond.outcome {
            Ok(result) => encode_result(&respond.id, result),
            Err(error) => encode_error(&respond.id, error),
        };
        let line = line.map_err(|_| CallFailure::Unavailable)?;
        child.stdin().write(line).map_err(|error| match error {
            StdinError::Full => CallFailure::Overloaded,
            _ => CallFailure::Unavailable,
        })
    }
}

impl Handler<Announce> for AppServer {
    type Result = ();

    fn handle(&mut self, _: Announce, ctx: &mut Self::Context) {
        if self.phase == Phase::Ready {
            let profile = Arc::clone(&self.status.read().profile);
            let up = RuntimeUp { incarnation: self.incarnation, profile };
            self.outbox.push_back(RuntimeEvent::Up(up));
            self.pump(ctx);
        }
    }
}

impl Handler<Observe> for AppServer {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(json!({
            "phase": format!("{:?}", self.phase).to_lowercase(),
            "pid": self.child.as_ref().map(Child::pid),
            "inFlight": self.calls.in_flight(),
            "outbox": self.outbox.len(),
        }))
    }
}

/// Ends the process in order. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Stop;

impl Handler<Stop> for AppServer {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        if self.phase == Phase::Gone {
            return;
        }
        self.phase = Phase::Stopping;
        if let Some(child) = &self.child {
            child.stop(self.config.stop);
        }
        // Nobody waits for a child that was told to end.
        let abandoned = self.calls.abandon();
        self.settle_all(abandoned, ctx);
    }
}
