//! The worker's hub: it hears of new frames and wakes the subscribers of its worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use cm_actors::journal::{Attached, FramesPublished, JournalHandle, WorkerFlow};
use cm_actors::metrics::StreamStats;
use cm_actors::thread::ThreadsHandle;
use tokio::sync::Notify;

use super::close;
use super::connection::Connection;
use super::outlet::Outlet;
use super::ring::{Encoding, Ring};
use super::subscribers::Subscribers;

/// Announcements that may wait. Overflow rule: the hub notices the gap by the numbers and asks
/// the journal for what it missed.
const MAILBOX: usize = 1024;

/// How often subscribers are looked at for progress.
const CHECK: Duration = Duration::from_millis(500);

/// How often, at the most, subscribers that are far behind are looked for while frames come in.
const LOOK_BACK: Duration = Duration::from_millis(5);

/// How often server-sent events say that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

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

/// The hub of one worker.
pub struct Hub {
    settings: HubSettings,
    shared: Rc<HubShared>,
    /// What this worker tells the pipe's side.
    flow: Rc<WorkerFlow>,
    looked_back: Instant,
}

struct HubShared {
    journal: JournalHandle,
    threads: ThreadsHandle,
    stats: Arc<StreamStats>,
    /// `None` until the journal was reached for the first time.
    ring: RefCell<Option<Rc<RefCell<Ring>>>>,
    subscribers: RefCell<Subscribers>,
    /// Set when the server stops: no new subscribers.
    closing: RefCell<bool>,
    /// Tells those who wait that ring or closing has changed.
    changed: Notify,
}

/// How the subscribers of a worker reach their hub. It never leaves the worker's thread.
#[derive(Clone)]
pub struct HubHandle {
    shared: Rc<HubShared>,
}

/// The worker's hub as application data. The application's data never leaves its worker, but
/// actix-web asks for a type of its own.
pub struct HubCell(pub HubHandle);

/// Closes every subscriber of the worker. Sent by the shutdown.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CloseSubscribers;

/// Cuts every connection that is still there. Sent by the shutdown after the closing frames had
/// their time.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CutConnections;

impl Hub {
    /// Starts the hub of the current worker.
    pub fn start_on_worker(
        journal: JournalHandle,
        threads: ThreadsHandle,
        settings: HubSettings,
    ) -> (HubHandle, Addr<Self>) {
        let flow = Rc::new(journal.flow().join());
        let shared = Rc::new(HubShared {
            stats: journal.stats(),
            journal,
            threads,
            ring: RefCell::default(),
            subscribers: RefCell::default(),
            closing: RefCell::default(),
            changed: Notify::default(),
        });
        let hub = Self { settings, shared: Rc::clone(&shared), flow, looked_back: Instant::now() };
        let address = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            hub
        });
        (HubHandle { shared }, address)
    }

    /// Attaches to the journal, again and again until it is reached.
    fn attach(&self, ctx: &mut Context<Self>) {
        let journal = self.shared.journal.clone();
        let recipient = ctx.address().recipient::<FramesPublished>();
        let work = async move {
            loop {
                if let Ok(Some(attached)) = journal.attach(recipient.clone()).await {
                    return attached;
                }
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
        };
        // Frames that are announced meanwhile wait in the mailbox: they follow what it starts from.
        ctx.wait(work.into_actor(self).map(|attached, hub, ctx| hub.attached(attached, ctx)));
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
        self.shared.subscribers.borrow().wake_all();
        let over = async move {
            // An error is the end as well: the journal is gone.
            life.await.ok();
        };
        ctx.spawn(over.into_actor(self).map(|(), hub, ctx| hub.attach(ctx)));
    }

    /// Asks for what was missed; what cannot be had any more is a gap for every cursor.
    fn catch_up(&self, ctx: &mut Context<Self>) {
        let Some(ring) = self.shared.ring.borrow().clone() else {
            return;
        };
        let journal = self.shared.journal.clone();
        let after = ring.borrow().head;
        for outlet in self.shared.subscribers.borrow().outlets() {
            outlet.borrow_mut().pass_to_head();
        }
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
            hub.shared.subscribers.borrow().wake_all();
            hub.acknowledge(&ring);
        }));
    }

    /// Tells the pipe's side that every subscriber that could be written had its turn.
    fn acknowledge(&self, ring: &Rc<RefCell<Ring>>) {
        let position = ring.borrow().position;
        let flow = Rc::clone(&self.flow);
        // What was woken stands before this in the worker's queue of tasks.
        actix::spawn(async move { flow.taken(position) });
    }

    /// Looks for subscribers that are far behind and worth waiting for.
    fn look_back(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked_back) < LOOK_BACK {
            return;
        }
        self.looked_back = now;
        let subscribers = self.shared.subscribers.borrow();
        let deserving =
            subscribers.outlets().filter(|outlet| outlet.borrow_mut().deserves_patience(now));
        self.flow.deserving(deserving.count());
    }

    fn check(&mut self) {
        let subscribers = self.shared.subscribers.borrow();
        let evicted = subscribers.evict(Instant::now(), self.settings.patience);
        drop(subscribers);
        self.shared.stats.evictions.fetch_add(evicted, Ordering::Relaxed);
        self.look_back();
    }

    fn heartbeat(&self) {
        for outlet in self.shared.subscribers.borrow().outlets() {
            outlet.borrow_mut().heartbeat();
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.attach(ctx);
        ctx.run_interval(CHECK, |hub, _| hub.check());
        ctx.run_interval(HEARTBEAT, |hub, _| hub.heartbeat());
    }
}

impl Handler<FramesPublished> for Hub {
    type Result = ();

    fn handle(&mut self, published: FramesPublished, ctx: &mut Self::Context) {
        let FramesPublished(segments) = published;
        let Some(ring) = self.shared.ring.borrow().clone() else { return };
        for segment in segments.iter() {
            if !ring.borrow_mut().push(Arc::clone(segment)) {
                return self.catch_up(ctx);
            }
        }
        self.shared.subscribers.borrow().wake_for(&segments);
        self.acknowledge(&ring);
        self.look_back();
    }
}

impl Handler<CloseSubscribers> for Hub {
    type Result = ();

    fn handle(&mut self, _: CloseSubscribers, _: &mut Self::Context) {
        *self.shared.closing.borrow_mut() = true;
        self.shared.changed.notify_waiters();
        for outlet in self.shared.subscribers.borrow().outlets() {
            outlet.borrow_mut().close(close::GOING_AWAY, "shutting_down");
        }
    }
}

impl Handler<CutConnections> for Hub {
    type Result = ();

    fn handle(&mut self, _: CutConnections, _: &mut Self::Context) {
        self.shared.subscribers.borrow().cut_all();
    }
}

impl HubHandle {
    /// A new subscriber at the head. A client may connect before its worker has reached the
    /// journal for the first time; it waits for that. `None` when that takes too long, or the
    /// server stops.
    pub(super) async fn outlet(
        &self,
        encoding: Encoding,
        filter: Option<String>,
        single: bool,
    ) -> Option<Outlet> {
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
        let ring = tokio::time::timeout(ATTACH_PATIENCE, attached).await.ok().flatten()?;
        let stats = Arc::clone(&self.shared.stats);
        Some(Outlet::new(ring, stats, encoding, filter, single))
    }

    /// The ring, once the journal was reached; `None` also while the server stops.
    pub(super) fn ring(&self) -> Option<Rc<RefCell<Ring>>> {
        if *self.shared.closing.borrow() {
            return None;
        }
        self.shared.ring.borrow().clone()
    }

    pub(super) fn journal(&self) -> &JournalHandle {
        &self.shared.journal
    }

    pub(super) fn threads(&self) -> &ThreadsHandle {
        &self.shared.threads
    }

    /// Adds a subscriber; it is woken until the answer is dropped.
    pub(super) fn subscribe(
        &self,
        outlet: Rc<RefCell<Outlet>>,
        connection: Option<Connection>,
    ) -> Subscription {
        let id = self.shared.subscribers.borrow_mut().add(outlet, connection);
        self.shared.stats.sockets.fetch_add(1, Ordering::Relaxed);
        Subscription { shared: Rc::clone(&self.shared), id }
    }
}

/// Keeps a subscriber known to its hub.
pub(super) struct Subscription {
    shared: Rc<HubShared>,
    id: u64,
}

impl Subscription {
    /// Changes what the subscriber hears of.
    pub(super) fn set_filter(&self, filter: Option<String>) {
        self.shared.subscribers.borrow_mut().set_filter(self.id, filter);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.borrow_mut().remove(self.id);
        self.shared.stats.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What server-sent events say when nothing else is to be said.
pub(super) const HEARTBEAT_COMMENT: Bytes = Bytes::from_static(b": \n\n");
