//! What happens to requests that nobody decides.

use std::fmt::Debug;
use std::time::Duration;

use cm_core::request::{AtDeadline, RequestKind, RequestRecord};

/// Who decided, in the record of a request that a policy has decided.
pub const POLICY: &str = "policy";

/// Says until when a request waits for a person or a program, and what happens then.
///
/// It is asked on the control arbiter, so it answers at once and from memory.
pub trait RequestPolicy: Debug + Send + Sync {
    /// How long the request waits, from its arrival on; `None`: for ever. Asked once, before the
    /// request is stored and shown.
    fn patience(&self, request: &RequestRecord) -> Option<Duration>;

    /// What happens to a request whose time is over. Asked at that moment.
    fn at_deadline(&self, request: &RequestRecord) -> AtDeadline;
}

/// How long the runtime waits for fresh tokens, where nothing else is said.
const AUTH_PATIENCE: Duration = Duration::from_secs(60);

/// The same for every request but one: the runtime never waits for ever for fresh tokens, whose
/// absence holds up every turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedPolicy {
    /// How long a request waits; `None`: for ever.
    pub patience: Option<Duration>,
    /// What happens then.
    pub at_deadline: AtDeadline,
    /// How long a request for fresh tokens waits before it is refused.
    pub auth_patience: Duration,
}

impl Default for FixedPolicy {
    fn default() -> Self {
        Self { patience: None, at_deadline: AtDeadline::Wait, auth_patience: AUTH_PATIENCE }
    }
}

impl RequestPolicy for FixedPolicy {
    fn patience(&self, request: &RequestRecord) -> Option<Duration> {
        if request.kind == RequestKind::AuthRefresh {
            return Some(self.auth_patience);
        }
        // Waiting has no end that would be worth telling.
        self.patience.filter(|_| self.at_deadline != AtDeadline::Wait)
    }

    fn at_deadline(&self, request: &RequestRecord) -> AtDeadline {
        match request.kind {
            RequestKind::AuthRefresh => AtDeadline::Decline,
            _ => self.at_deadline,
        }
    }
}
