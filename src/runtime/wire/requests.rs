//! Requests to the client that wait for an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cm_core::rpc::{RpcError, RpcId};
use serde_json::Value;

use super::lock;
use crate::turn::Inbox;

/// What the client answered.
pub(crate) type Answer = Result<Value, RpcError>;

/// Ids are integers from 0 for every process, shared over all threads, as in codex. At most one
/// request per running turn is open, so the map is bounded by the number of turns.
#[derive(Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: i64,
    open: HashMap<i64, Arc<Inbox>>,
}

impl Requests {
    /// Reserves the next id; the answer will reach `inbox`.
    pub(crate) fn open(&self, inbox: &Arc<Inbox>) -> i64 {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Arc::clone(inbox));
        id
    }

    /// Forgets a request; a later answer is ignored.
    pub(crate) fn abandon(&self, id: i64) {
        lock(&self.state).open.remove(&id);
    }

    /// Delivers an answer. An unknown or late one is ignored, as in codex.
    pub(crate) fn answer(&self, id: &RpcId, answer: Answer) {
        let inbox = match id {
            RpcId::Number(number) => lock(&self.state).open.remove(number),
            RpcId::Text(_) => None,
        };
        match inbox {
            Some(inbox) => inbox.put_answer(answer),
            None => tracing::debug!(%id, "answer to no open request"),
        }
    }
}
