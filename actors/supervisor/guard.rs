//! How a supervisor learns that a child ended.

use cm_core::ids::Incarnation;
use cm_core::restart::ExitKind;

use super::handle::{ChildExited, SupervisorHandle};

/// A field of every supervised actor. Dropping it reports the end.
///
/// actix has no monitors: a panicking handler just drops its actor. The drop runs while the
/// thread unwinds, which is how a panic is told from an end in order.
#[derive(Debug)]
pub struct ExitGuard {
    supervisor: SupervisorHandle,
    child: &'static str,
    incarnation: Incarnation,
    /// What the actor said about its end before it stopped.
    said: Option<(ExitKind, String)>,
}

impl ExitGuard {
    /// Makes the guard of one incarnation.
    pub(super) fn new(
        supervisor: SupervisorHandle,
        child: &'static str,
        incarnation: Incarnation,
    ) -> Self {
        Self { supervisor, child, incarnation, said: None }
    }

    /// The life that this guard belongs to.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Says how the actor is about to end. Without it an end counts as in order.
    pub fn will_end(&mut self, kind: ExitKind, why: impl Into<String>) {
        self.said = Some((kind, why.into()));
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let (kind, why) = if std::thread::panicking() {
            (ExitKind::Panicked, "panicked".to_owned())
        } else {
            self.said.take().unwrap_or_else(|| (ExitKind::Normal, "ended in order".to_owned()))
        };
        self.supervisor.child_exited(ChildExited {
            child: self.child,
            incarnation: self.incarnation,
            kind,
            why,
        });
    }
}
