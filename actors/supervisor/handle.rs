//! What a supervisor is asked, and how it is reached.

use std::time::Duration;

use actix::prelude::*;
use cm_core::ids::Incarnation;
use cm_core::restart::ExitKind;
use cm_core::wire::TreeNode;

use super::actor::Supervisor;
use crate::handle::{CallError, Handle};

/// A child ended. Sent by its `ExitGuard`; ignored when the incarnation is not the current one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChildExited {
    /// The child's name.
    pub child: &'static str,
    /// Which life ended.
    pub incarnation: Incarnation,
    /// How.
    pub kind: ExitKind,
    /// Why, for the log and the tree.
    pub why: String,
}

/// Asks for the tree. Sent by routes and tests; answered with every child and what it shows.
#[derive(Debug, Message)]
#[rtype(result = "TreeNode")]
pub struct GetTree;

/// Ends a child and starts it at once, forgiving its past. Sent when an operator asks for it;
/// answered with the life that is being ended, or `None` for an unknown child and during a shutdown.
#[derive(Debug, Message)]
#[rtype(result = "Option<Incarnation>")]
pub struct RestartChild(pub String);

/// Ends the children in reverse order and starts none again. Answered when all have ended or
/// used up their deadlines.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ShutDown;

/// How everyone reaches a supervisor.
#[derive(Debug, Clone, Default)]
pub struct SupervisorHandle {
    pub(super) handle: Handle<Supervisor>,
}

impl SupervisorHandle {
    pub(super) fn child_exited(&self, exited: ChildExited) {
        let child = exited.child;
        if let Err(error) = self.handle.tell(exited) {
            // While the system goes down nobody is left to be told.
            tracing::debug!(child, %error, "nobody to report the exit to");
        }
    }

    /// The tree with what each actor shows of itself.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the supervisor does not answer within two seconds.
    pub async fn tree(&self) -> Result<TreeNode, CallError> {
        self.handle.ask(GetTree, Duration::from_secs(2)).await
    }

    /// Restarts a child by hand.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the supervisor does not answer within two seconds.
    pub async fn restart(&self, child: &str) -> Result<Option<Incarnation>, CallError> {
        self.handle.ask(RestartChild(child.to_owned()), Duration::from_secs(2)).await
    }

    /// Ends every child, the last one first.
    ///
    /// # Errors
    ///
    /// [`CallError::Timeout`] when the children used up more than `deadline`.
    pub async fn shut_down(&self, deadline: Duration) -> Result<(), CallError> {
        self.handle.ask(ShutDown, deadline).await
    }
}
