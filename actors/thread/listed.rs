//! What other clients of the runtime did to a session.

use cm_core::thread::{ListedChange, Writes};

use super::actor::Thread;
use super::calls::Pending;
use crate::clock;

impl Thread {
    /// The runtime's list says that another client changed the session; `asked` is the number of
    /// the moment at which the list was asked for.
    pub(super) fn listed(&mut self, change: ListedChange, asked: u64) {
        let busy = |pending: &Pending| {
            matches!(
                pending,
                Pending::Archive { .. } | Pending::Unarchive { .. } | Pending::Rename { .. }
            )
        };
        // What was done here since, or is being done, is newer than the list.
        if self.touched > asked || self.pending.values().any(busy) {
            return;
        }
        let record = &mut self.state.record;
        if let Some(name) = &change.name {
            record.take_name(name);
        }
        let moved = change.archived.filter(|archived| *archived != record.archived);
        if let Some(archived) = moved {
            record.archived = archived;
        }
        self.note(Writes { thread: true, ..Writes::default() });
        if change.name.is_some() {
            self.tell_with_change("renamed");
        }
        match moved {
            Some(true) => self.tell_with_change("archived"),
            Some(false) => self.tell_with_change("unarchived"),
            None => {}
        }
    }

    /// The runtime has changed the thread since its history was read.
    pub(super) fn fell_behind(&mut self, at: i64) {
        if self.state.record.seen_updated_at() < Some(at) {
            self.recovery.behind = self.recovery.behind.max(Some(at));
        }
    }

    /// The history was compared with what is stored; `goes_on` while another client runs a turn. The
    /// runtime tells of changes by the second: one that is not over may bring more.
    pub(super) fn caught_up(&mut self, goes_on: bool) {
        let now = clock::now_ms().div_euclid(1000);
        if let Some(at) = self.recovery.behind.take()
            && at < now
            && !goes_on
        {
            self.state.record.note_updated_at(at);
            self.note(Writes { thread: true, ..Writes::default() });
        }
    }
}
