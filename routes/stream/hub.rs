//! The worker's hub: it hears of new frames and wakes the sockets of its worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_actors::journal::{Attached, JournalHandle, NewSegment};
use tokio::sync::Notify;

use super::connection::Connection;
use super::outlet::{Outlet, close};
use super::ring::Ring;

/// Announcements that may wait. Overflow rule: the hub notices the gap by the numbers and asks
/// the journal for what it missed.
const MAILBOX: usize = 1024;

/// How often sockets are looked at for progress.
const CHECK: Duration = Duration::from_millis(500);

/// How long the hub waits before it asks a journal that is being restarted again.
const ATTACH_AGAIN: Duration = Duration::from_millis(50);

/// How long a client waits for a worker that has not reached the journal yet.
const ATTACH_PATIENCE: Duration = Duration::from_secs(5);

/// What a hub needs to know.
#[derive(Debug, Clone, Copy)]
pub struct HubSettings {
    /// Bytes of frames that the ring keeps; the journal's own bound.
    pub ring_bytes: usize,
    /// How long a socket may have something to write without taking it.
    pub patience: Duration,
}

struct Subscriber {
    outlet: Rc<RefCell<Outlet>>,
    connection: Option<Connection>,
}

/// The hub of one worker.
pub struct Hub {
    journal: JournalHandle,
    settings: HubSettings,
    shared: Rc<HubShared>,
}

#[derive(Default)]
struct HubShared {
    /// `None` until the journal was reached for the first time.
    ring: RefCell<Option<Rc<RefCell<Ring>>>>,
    subscribers: RefCell<HashMap<u64, Subscriber>>,
    next_id: RefCell<u64>,
    /// Set when the server stops: no new subscribers.
    closing: RefCell<bool>,
    /// Tells those who wait that one of the two above has changed.
    changed: Notify,
}

/// How the sockets of a worker reach their hub. It never leaves the worker's thread.
#[derive(Clone)]
pub struct HubHandle {
    shared: Rc<HubShared>,
}

/// Closes every subscriber of the worker. Sent by the shutdown.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CloseAll;

/// Cuts every connection that is still there. Sent by the shutdown after the closing frames had
/// their time.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CutAll;

impl Hub {
    /// Starts the hub of the current worker.
    pub fn start_on_worker(
        journal: JournalHandle,
        settings: HubSettings,
    ) -> (HubHandle, Addr<Self>) {
        let shared = Rc::new(HubShared::default());
        let hub = Self { journal, settings, shared: Rc::clone(&shared) };
        let address = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            hub
        });
        (HubHandle { shared }, address)
    }

    /// Attaches to the journal, again and again until it is reached.
    fn attach(&self, ctx: &mut Context<Self>) {
        let journal = self.journal.clone();
        let recipient = ctx.address().recipient::<NewSegment>();
        let work = async move {
            loop {
                if let Ok(Some(attached)) = journal.attach(recipient.clone()).await {
                    return attached;
                }
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
        };
        ctx.spawn(work.into_actor(self).map(|attached, hub, ctx| hub.attached(attached, ctx)));
    }

    fn attached(&mut self, attached: Attached, ctx: &mut Context<Self>) {
        let Attached { head, life, ring } = attached;
        let mut known = self.shared.ring.borrow_mut();
        match known.as_ref() {
            // The journal was restarted: its ring is new, and cursors into the old one find a gap.
            Some(known) => {
                let mut known = known.borrow_mut();
                known.epoch = head.epoch;
                known.restart(head.seq, ring);
            }
            None => {
                let capacity = self.settings.ring_bytes;
                let ring = Ring::new(head.epoch, head.seq, ring, capacity);
                *known = Some(Rc::new(RefCell::new(ring)));
            }
        }
        drop(known);
        self.shared.changed.notify_waiters();
        self.wake_all();
        let over = async move {
            // An error is the end as well: the journal is gone.
            life.await.ok();
        };
        ctx.spawn(over.into_actor(self).map(|(), hub, ctx| hub.attach(ctx)));
    }

    fn wake_all(&self) {
        for subscriber in self.shared.subscribers.borrow().values() {
            subscriber.outlet.borrow_mut().wake();
        }
    }

    /// Asks for what was missed; what cannot be had any more is a gap for every cursor.
    fn catch_up(&self, ctx: &mut Context<Self>) {
        let Some(ring) = self.shared.ring.borrow().clone() else {
            return;
        };
        let journal = self.journal.clone();
        let after = ring.borrow().head;
        let work = async move { journal.catch_up(after).await };
        ctx.wait(work.into_actor(self).map(move |missed, hub, _| {
            match missed {
                Ok(missed) if missed.complete => {
                    for segment in missed.segments {
                        ring.borrow_mut().push(segment);
                    }
                }
                Ok(missed) => {
                    tracing::warn!("a worker missed frames that the ring no longer has");
                    ring.borrow_mut().restart(missed.head, missed.segments);
                }
                // The journal is being restarted: the hub attaches to the next one.
                Err(error) => tracing::debug!(%error, "no journal to catch up with"),
            }
            hub.wake_all();
        }));
    }

    fn check(&self) {
        let now = Instant::now();
        for subscriber in self.shared.subscribers.borrow().values() {
            if subscriber.outlet.borrow().is_stuck(now, self.settings.patience)
                && let Some(connection) = &subscriber.connection
            {
                tracing::warn!("evicting a subscriber that does not read");
                connection.cut();
            }
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.attach(ctx);
        ctx.run_interval(CHECK, |hub, _| hub.check());
    }
}

impl Handler<NewSegment> for Hub {
    type Result = ();

    fn handle(&mut self, NewSegment(segment): NewSegment, ctx: &mut Self::Context) {
        let ring = self.shared.ring.borrow().clone();
        let Some(ring) = ring else { return };
        if ring.borrow_mut().push(segment) {
            self.wake_all();
        } else {
            self.catch_up(ctx);
        }
    }
}

impl Handler<CloseAll> for Hub {
    type Result = ();

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) {
        *self.shared.closing.borrow_mut() = true;
        self.shared.changed.notify_waiters();
        for subscriber in self.shared.subscribers.borrow().values() {
            subscriber.outlet.borrow_mut().close(close::GOING_AWAY, "shutting_down");
        }
    }
}

impl Handler<CutAll> for Hub {
    type Result = ();

    fn handle(&mut self, _: CutAll, _: &mut Self::Context) {
        for subscriber in self.shared.subscribers.borrow().values() {
            if let Some(connection) = &subscriber.connection {
                connection.cut();
            }
        }
    }
}

impl HubHandle {
    /// The ring. A client may connect before its worker has reached the journal for the first
    /// time; it waits for that. `None` when that takes too long, or the server stops.
    pub(super) async fn attached_ring(&self) -> Option<Rc<RefCell<Ring>>> {
        let attached = async {
            loop {
                let changed = self.shared.changed.notified();
                let ring = self.ring();
                if ring.is_some() || *self.shared.closing.borrow() {
                    return ring;
                }
                changed.await;
            }
        };
        tokio::time::timeout(ATTACH_PATIENCE, attached).await.ok().flatten()
    }

    /// The ring, once the journal was reached; `None` also while the server stops.
    fn ring(&self) -> Option<Rc<RefCell<Ring>>> {
        if *self.shared.closing.borrow() {
            return None;
        }
        self.shared.ring.borrow().clone()
    }

    /// Adds a subscriber; it is woken until the answer is dropped.
    pub(super) fn subscribe(
        &self,
        outlet: Rc<RefCell<Outlet>>,
        connection: Option<Connection>,
    ) -> Subscription {
        let mut next_id = self.shared.next_id.borrow_mut();
        *next_id += 1;
        let id = *next_id;
        self.shared.subscribers.borrow_mut().insert(id, Subscriber { outlet, connection });
        Subscription { shared: Rc::clone(&self.shared), id }
    }
}

/// Keeps a subscriber known to its hub.
pub(super) struct Subscription {
    shared: Rc<HubShared>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.borrow_mut().remove(&self.id);
    }
}
