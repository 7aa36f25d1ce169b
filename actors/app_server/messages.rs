//! Messages to and from the child's actor.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::compat::Profile;
use cm_core::event::Method;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::rpc::{RawJson, RpcError, RpcId};
use serde_json::Value;
use tokio::sync::oneshot;

use super::failure::CallFailure;

/// What became of a call: the raw result (`null` when the child sent none), or why it failed.
pub type CallOutcome = Result<RawJson, CallFailure>;

/// Who gets the answer of a call.
#[derive(Debug)]
pub enum Owner {
    /// A thread; the answer travels in the batch that holds it, in stdout order.
    Thread {
        /// The thread.
        thread_id: ThreadId,
        /// The thread's own number of the call.
        token: u64,
    },
    /// The registry, in the same way.
    Registry {
        /// The registry's own number of the call.
        token: u64,
    },
    /// Someone who waits elsewhere.
    Direct(oneshot::Sender<CallOutcome>),
}

/// Calls a method of the child. Sent by threads, the registry and routes; answered to its owner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Call {
    /// Who gets the answer.
    pub owner: Owner,
    /// The method.
    pub method: &'static str,
    /// Its params; `Null` omits the member.
    pub params: Value,
    /// How long it may take, waiting for its turn included; `None` for the configured time.
    pub deadline: Option<Duration>,
    /// Whether it must not take the places that foreground calls need.
    pub background: bool,
}

/// Answers a request of the child. Sent by requests; answered when the line is queued for the
/// child's stdin.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CallFailure>")]
pub struct Respond {
    /// The life of the child that asked; any other one is refused.
    pub incarnation: Incarnation,
    /// The id to answer with.
    pub id: RpcId,
    /// The answer.
    pub outcome: Result<Value, RpcError>,
}

/// Asks the actor to say again whether the child is up. Sent by a registry that started anew.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Announce;

/// What happens to the child, in order. Sent to the registry, which answers when it has taken it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum RuntimeEvent {
    /// It is ready: introduced, its methods and its account known.
    Up(RuntimeUp),
    /// The child wrote something.
    Batch(Arc<Batch>),
    /// The child is gone.
    Down(RuntimeDown),
}

/// The child is ready.
#[derive(Debug, Clone)]
pub struct RuntimeUp {
    /// Which life.
    pub incarnation: Incarnation,
    /// What it can do.
    pub profile: Arc<Profile>,
}

/// The child is gone. Nothing of its life comes after this.
#[derive(Debug, Clone)]
pub struct RuntimeDown {
    /// Which life.
    pub incarnation: Incarnation,
    /// Why, as a sentence.
    pub why: String,
}

/// Lines that were read together.
#[derive(Debug)]
pub struct Batch {
    /// The life of the child that wrote them.
    pub incarnation: Incarnation,
    /// When they were read, ISO-8601 UTC.
    pub received_at: String,
    /// What they say, in order.
    pub items: Vec<Inbound>,
}

/// What one line says.
#[derive(Debug)]
pub struct Inbound {
    /// The thread it belongs to.
    pub thread_id: Option<ThreadId>,
    /// The turn it names.
    pub turn_id: Option<Arc<str>>,
    /// What it is.
    pub kind: InboundKind,
}

/// The kinds of line.
#[derive(Debug)]
pub enum InboundKind {
    /// A notification.
    Notification {
        /// Its method.
        method: Arc<Method>,
        /// Its raw params.
        params: Option<RawJson>,
    },
    /// A request that waits for an answer.
    Request {
        /// The id to answer with.
        id: RpcId,
        /// Its method.
        method: Arc<Method>,
        /// Its raw params.
        params: Option<RawJson>,
    },
    /// The answer to a call of a thread or of the registry.
    Answer {
        /// The owner's own number of the call.
        token: u64,
        /// What became of it.
        outcome: CallOutcome,
    },
    /// A line that could not be used: too long, not UTF-8, not JSON, cut off.
    Unreadable {
        /// What was wrong with it.
        what: String,
    },
    /// A line that says nothing to anybody but the child's actor: the answer to one of its own
    /// calls, or to no call.
    Nothing,
}
