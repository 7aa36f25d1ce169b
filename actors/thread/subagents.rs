//! Subagents: threads that the agent of another thread starts, and that the child speaks of without
//! having said that they were started.

use std::collections::HashMap;

use actix::prelude::*;
use cm_core::event::Audience;
use cm_core::ids::ThreadId;
use cm_core::request::RequestRecord;
use cm_core::thread::Writes;
use serde_json::Value;

use super::actor::Thread;
use super::messages::{Command, ToThread};
use super::registry::ThreadRegistry;

/// Links that are remembered. Overflow rule: they are begun anew; what is stored of the sessions
/// still has them.
const MAX_LINKS: usize = 10_000;

/// Generations between a session and one that is looked for above it.
const GENERATIONS: usize = 16;

/// One thread is the subagent of another. Sent by whichever of them learns of it to the registry,
/// which tells both.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(super) struct Link {
    pub(super) parent: ThreadId,
    pub(super) child: ThreadId,
}

impl Thread {
    /// Takes over the runtime's thread object.
    pub(super) fn adopt(&mut self, thread: &Value) {
        self.state.record.adopt(thread);
        if let Some(parent) = self.state.record.named_parent() {
            self.link(parent, self.id.clone());
        }
    }

    /// Lets the registry know of a link that is new here.
    pub(super) fn link(&self, parent: ThreadId, child: ThreadId) {
        let record = &self.state.record;
        let is_known = record.parent.as_ref() == Some(&parent) || record.subagents.contains(&child);
        if is_known || parent == child {
            return;
        }
        if let Err(error) = self.shared.registry.tell(Link { parent, child }) {
            tracing::warn!(thread = %self.id, %error, "a subagent was not linked");
        }
    }

    /// Keeps a link: this is one of the two.
    pub(super) fn linked(&mut self, Link { parent, child }: Link) {
        let record = &mut self.state.record;
        if record.id == parent {
            if !record.add_subagent(child) {
                return;
            }
        } else {
            // The first parent that is heard of is the one.
            if record.parent.is_some() {
                return;
            }
            record.parent = Some(parent);
            let records = self.requests.values().map(|live| live.record.clone());
            let pending: Vec<_> = records.filter(RequestRecord::is_pending).collect();
            pending.iter().for_each(|record| self.show_pending(record));
        }
        self.note(Writes { thread: true, ..Writes::default() });
        self.session_updated("linked");
    }

    /// Who is told of its requests: its own subscribers, and those of the session whose subagent
    /// it is.
    pub(super) fn audience_of_requests(&self) -> Audience {
        let thread = self.id.clone();
        match self.state.record.parent.clone() {
            Some(parent) => Audience::Family { thread, parent },
            None => Audience::Thread(thread),
        }
    }
}

/// Whether a session is among those whose subagent, over any generation, another one is.
pub(super) fn is_under(
    parents: &HashMap<ThreadId, ThreadId>,
    child: &ThreadId,
    session: &ThreadId,
) -> bool {
    let above = std::iter::successors(parents.get(child), |parent| parents.get(*parent));
    above.take(GENERATIONS).any(|above| above == session)
}

impl ThreadRegistry {
    /// Remembers whose subagent a session is.
    pub(super) fn remember_parent(&mut self, child: &ThreadId, parent: &ThreadId) {
        if self.parents.len() >= MAX_LINKS {
            self.parents.clear();
        }
        self.parents.entry(child.clone()).or_insert_with(|| parent.clone());
    }
}

impl Handler<Link> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, link: Link, ctx: &mut Self::Context) {
        let link = Link {
            parent: self.session_of(&link.parent).clone(),
            child: self.session_of(&link.child).clone(),
        };
        let Link { parent, child } = &link;
        let has_another = self.parents.get(child).is_some_and(|known| known != parent);
        if has_another || is_under(&self.parents, parent, child) {
            return;
        }
        self.remember_parent(child, parent);
        // A subagent that has not been heard of yet is linked when it is.
        for thread_id in [parent, child] {
            let command = Command::Linked(link.clone());
            ctx.notify(ToThread { thread_id: thread_id.clone(), command });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_subagent_a_session_is_has_an_end() {
        let id = |id: &str| ThreadId::parse(id).unwrap();
        let mut parents = HashMap::from([(id("c"), id("b")), (id("b"), id("a"))]);
        assert!(is_under(&parents, &id("c"), &id("a")) && is_under(&parents, &id("c"), &id("b")));
        assert!(!is_under(&parents, &id("a"), &id("c")) && !is_under(&parents, &id("c"), &id("c")));
        parents.insert(id("a"), id("c"));
        assert!(!is_under(&parents, &id("c"), &id("x")), "a circle is left");
    }
}
