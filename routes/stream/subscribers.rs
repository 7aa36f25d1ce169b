//! The subscribers of one worker, and whom new frames concern.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cm_actors::journal::Segment;
use cm_core::event::Audience;

use super::connection::Connection;
use super::outlet::Outlet;

struct Subscriber {
    outlet: Rc<RefCell<Outlet>>,
    connection: Option<Connection>,
}

/// The subscribers of one worker. Frames of one session wake those who want them, not everybody.
#[derive(Default)]
pub(super) struct Subscribers {
    all: BTreeMap<u64, Subscriber>,
    /// Those without a filter.
    unfiltered: BTreeSet<u64>,
    /// Those with a filter, by session.
    filtered: HashMap<String, BTreeSet<u64>>,
    next_id: u64,
}

impl Subscribers {
    pub(super) fn add(
        &mut self,
        outlet: Rc<RefCell<Outlet>>,
        connection: Option<Connection>,
    ) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let filter = outlet.borrow().filter.clone();
        self.all.insert(id, Subscriber { outlet, connection });
        self.list(id, filter);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(subscriber) = self.all.remove(&id) {
            let filter = subscriber.outlet.borrow().filter.clone();
            self.unlist(id, filter.as_deref());
        }
    }

    /// Changes what a subscriber hears of.
    pub(super) fn set_filter(&mut self, id: u64, filter: Option<String>) {
        let Some(subscriber) = self.all.get(&id) else { return };
        let before = subscriber.outlet.borrow_mut().set_filter(filter.clone());
        self.unlist(id, before.as_deref());
        self.list(id, filter);
    }

    fn list(&mut self, id: u64, filter: Option<String>) {
        match filter {
            None => self.unfiltered.insert(id),
            Some(filter) => self.filtered.entry(filter).or_default().insert(id),
        };
    }

    fn unlist(&mut self, id: u64, filter: Option<&str>) {
        let Some(filter) = filter else {
            self.unfiltered.remove(&id);
            return;
        };
        if let Some(ids) = self.filtered.get_mut(filter) {
            ids.remove(&id);
            if ids.is_empty() {
                self.filtered.remove(filter);
            }
        }
    }

    pub(super) fn outlets(&self) -> impl Iterator<Item = &Rc<RefCell<Outlet>>> {
        self.all.values().map(|subscriber| &subscriber.outlet)
    }

    /// Wakes those whom any of the frames concern.
    pub(super) fn wake_for(&self, segments: &[Arc<Segment>]) {
        let Some(first) = segments.first() else { return };
        let audiences = || segments.iter().flat_map(|segment| segment.audiences());
        if audiences().any(|audience| *audience == Audience::Everyone) {
            for outlet in self.outlets() {
                outlet.borrow_mut().wake_for(first.follows);
            }
            return;
        }
        let mut concerned: BTreeSet<u64> = BTreeSet::new();
        if !self.filtered.is_empty() {
            for audience in audiences() {
                let threads = match audience {
                    Audience::Thread(thread) => [Some(thread), None],
                    Audience::Family { thread, parent } => [Some(thread), Some(parent)],
                    Audience::Unfiltered | Audience::Everyone => [None, None],
                };
                for thread in threads.into_iter().flatten() {
                    concerned.extend(self.filtered.get(thread.as_str()).into_iter().flatten());
                }
            }
        }
        for id in self.unfiltered.iter().chain(&concerned) {
            if let Some(subscriber) = self.all.get(id) {
                subscriber.outlet.borrow_mut().wake_for(first.follows);
            }
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        for outlet in self.outlets() {
            outlet.borrow_mut().wake();
        }
    }

    /// Cuts those who leave what is ready for them; answers how many.
    pub(super) fn evict(&self, now: Instant, patience: Duration) -> u64 {
        let mut evicted = 0;
        for subscriber in self.all.values() {
            if subscriber.outlet.borrow().is_stuck(now, patience)
                && let Some(connection) = &subscriber.connection
                && connection.cut()
            {
                tracing::warn!("evicted a subscriber that does not read");
                evicted += 1;
            }
        }
        evicted
    }

    /// Cuts everybody.
    pub(super) fn cut_all(&self) {
        for connection in self.all.values().filter_map(|each| each.connection.as_ref()) {
            connection.cut();
        }
    }
}
