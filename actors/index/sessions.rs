//! The index of the control arbiter, and how it tells its readers.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::prelude::*;
use cm_core::ids::{ProjectId, ThreadId};
use tokio::sync::{Notify, oneshot};

use super::query::ListQuery;
use super::row::SessionRow;
use super::rows::{Member, SessionRows};
use crate::metrics::SessionStats;

/// Changes that are kept for the next announcement. Overflow rule: they are dropped, and every
/// reader is told of a gap, so that it asks for everything anew.
pub(super) const MAX_UNSENT: usize = 4096;

/// The number of the newest change to any list. It grows while the process lives, over all lives of
/// the registry.
#[derive(Debug, Clone, Default)]
pub struct ListVersion(Arc<AtomicU64>);

impl ListVersion {
    /// The newest change. A copy of that age or younger shows everything that was answered before.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Only the control arbiter raises it.
    fn raise(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// One change of the lists.
#[derive(Debug, Clone)]
pub enum RowChange {
    /// A session is new, or another one than before.
    Put(Arc<SessionRow>),
    /// A session is gone.
    Removed(ThreadId),
}

/// Changes of the lists, in order. Sent by the index to its readers.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RowsChanged {
    /// The version that they follow. A reader of another one has a gap: it attaches anew.
    pub after: u64,
    /// The version after them.
    pub version: u64,
    /// The changes.
    pub changes: Arc<[RowChange]>,
}

/// What a reader starts from.
#[derive(Debug)]
pub struct AttachedReader {
    /// The version of the rows.
    pub version: u64,
    /// All rows.
    pub rows: Vec<Arc<SessionRow>>,
    /// Ends when the rows are read anew; a reader then attaches again.
    pub life: oneshot::Receiver<()>,
}

struct Reader {
    recipient: Recipient<RowsChanged>,
    /// Whether a message for it waits for room in its mailbox.
    nudged: Rc<Cell<bool>>,
    /// Dropped when the rows are read anew.
    _life: oneshot::Sender<()>,
}

/// The rows of all sessions, on the control arbiter. Cloned into every actor that changes a row;
/// all of them live on that one thread.
#[derive(Clone)]
pub struct SessionIndex {
    shared: Rc<Shared>,
}

struct Shared {
    state: RefCell<State>,
    version: ListVersion,
    stats: Arc<SessionStats>,
    /// Tells those who wait that the rows were read.
    built: Notify,
}

#[derive(Default)]
struct State {
    rows: SessionRows,
    /// While rows are read from the store: sessions that changed meanwhile, whose stored rows may
    /// be older than that.
    reading: Option<HashSet<ThreadId>>,
    readers: Vec<Reader>,
    /// Changes that readers were not told of.
    unsent: Vec<RowChange>,
    /// Whether changes were dropped that readers were not told of.
    gap: bool,
    /// The version that readers were told of.
    told: u64,
    /// Whether an announcement is due.
    announcing: bool,
}

impl std::fmt::Debug for SessionIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionIndex").field("version", &self.shared.version).finish()
    }
}

impl SessionIndex {
    /// Makes an index whose rows are still to be read.
    pub fn new(version: ListVersion, stats: Arc<SessionStats>) -> Self {
        let state = State { reading: Some(HashSet::new()), ..State::default() };
        let (state, built) = (RefCell::new(state), Notify::new());
        Self { shared: Rc::new(Shared { state, version, stats, built }) }
    }

    /// Forgets all rows: they are about to be read from the store. Readers attach anew, and lists
    /// wait until the rows are there.
    pub fn begin_reading(&self) {
        let mut state = self.shared.state.borrow_mut();
        let announcing = state.announcing;
        *state = State { reading: Some(HashSet::new()), announcing, ..State::default() };
        drop(state);
        self.shared.version.raise();
        self.count();
    }

    /// Adds rows that were read. A session that changed since is newer here already.
    pub fn add_read(&self, rows: Vec<SessionRow>) {
        let mut state = self.shared.state.borrow_mut();
        let State { rows: known, reading: Some(changed), .. } = &mut *state else { return };
        for row in rows {
            if !changed.contains(&row.id) {
                known.put(Arc::new(row));
            }
        }
    }

    /// Everything was read: lists are answered from now on.
    pub fn end_reading(&self) {
        let mut state = self.shared.state.borrow_mut();
        if state.reading.take().is_none() {
            return;
        }
        state.told = self.shared.version.current();
        drop(state);
        self.count();
        self.shared.built.notify_waiters();
    }

    /// Returns when the rows are there. The caller sets the deadline.
    pub async fn is_built(&self) {
        loop {
            let built = self.shared.built.notified();
            if self.shared.state.borrow().reading.is_none() {
                return;
            }
            built.await;
        }
    }

    /// Shows a session as it is now. Called before anything that depends on the change is answered.
    pub fn put(&self, row: SessionRow) {
        let row = Arc::new(row);
        let mut state = self.shared.state.borrow_mut();
        if let Some(changed) = &mut state.reading {
            changed.insert(row.id.clone());
        }
        if state.rows.put(Arc::clone(&row)) {
            self.changed(&mut state, RowChange::Put(row));
        }
    }

    /// Shows a session no more. Called before anything that depends on the change is answered.
    pub fn remove(&self, id: &ThreadId) {
        let mut state = self.shared.state.borrow_mut();
        if let Some(changed) = &mut state.reading {
            changed.insert(id.clone());
        }
        if state.rows.remove(id).is_some() {
            self.changed(&mut state, RowChange::Removed(id.clone()));
        }
    }

    /// The row of a session.
    pub fn get(&self, id: &ThreadId) -> Option<Arc<SessionRow>> {
        self.shared.state.borrow().rows.get(id).cloned()
    }

    /// The sessions of a project; without one those of every project.
    pub fn members(&self, project: Option<&ProjectId>) -> Vec<Member> {
        self.shared.state.borrow().rows.members(project)
    }

    /// A page of a list, as the body of its answer.
    pub fn page(&self, query: &ListQuery) -> Vec<u8> {
        self.shared.state.borrow().rows.page(query)
    }

    /// Makes a reader hear of changes. It must not be called before the rows are there.
    pub fn attach(&self, recipient: Recipient<RowsChanged>) -> AttachedReader {
        self.announce();
        let mut state = self.shared.state.borrow_mut();
        let (held, life) = oneshot::channel();
        // A reader that attaches anew is told once.
        state.readers.retain(|reader| reader.recipient != recipient);
        state.readers.push(Reader { recipient, nudged: Rc::default(), _life: held });
        AttachedReader { version: self.shared.version.current(), rows: state.rows.all(), life }
    }

    fn count(&self) {
        let state = self.shared.state.borrow();
        self.shared.stats.listed(state.rows.count(false), state.rows.count(true));
    }

    /// Counts a change and sees to it that readers are told.
    fn changed(&self, state: &mut State, change: RowChange) {
        self.shared.version.raise();
        if state.reading.is_some() {
            return;
        }
        self.shared.stats.listed(state.rows.count(false), state.rows.count(true));
        if state.unsent.len() >= MAX_UNSENT {
            state.unsent.clear();
            state.gap = true;
        }
        if !state.gap {
            state.unsent.push(change);
        }
        if !state.announcing {
            state.announcing = true;
            let index = self.clone();
            // Runs once, when the arbiter has done what it is at: one message for many changes.
            actix::spawn(async move { index.announce() });
        }
    }

    /// Tells readers what changed.
    fn announce(&self) {
        let mut state = self.shared.state.borrow_mut();
        state.announcing = false;
        let version = self.shared.version.current();
        if state.reading.is_some() || state.told == version {
            return;
        }
        // A message that follows itself is a gap for everyone who is not there yet.
        let after = if std::mem::take(&mut state.gap) { version } else { state.told };
        let changes: Arc<[RowChange]> = std::mem::take(&mut state.unsent).into();
        let message = RowsChanged { after, version, changes };
        state.told = version;
        state.readers.retain(|reader| self.tell(reader, message.clone()));
    }

    /// Tells one reader; answers whether it is still there.
    fn tell(&self, reader: &Reader, message: RowsChanged) -> bool {
        match reader.recipient.try_send(message) {
            Ok(()) => true,
            Err(SendError::Closed(_)) => false,
            Err(SendError::Full(message)) => {
                // One message that waits for room is enough: it is followed by the newest version,
                // by which the reader notices what it missed.
                if !reader.nudged.replace(true) {
                    let waiting = reader.recipient.send(message);
                    let (recipient, nudged) = (reader.recipient.clone(), Rc::clone(&reader.nudged));
                    let index = self.clone();
                    actix::spawn(async move {
                        // A reader that is gone is forgotten at the next announcement.
                        waiting.await.ok();
                        nudged.set(false);
                        index.tell_version(&recipient);
                    });
                }
                true
            }
        }
    }

    /// Tells a reader that was not told of everything how far the lists are.
    fn tell_version(&self, recipient: &Recipient<RowsChanged>) {
        let state = self.shared.state.borrow();
        let version = state.told;
        let message = RowsChanged { after: version, version, changes: Arc::default() };
        if let Some(reader) = state.readers.iter().find(|reader| reader.recipient == *recipient)
            && !self.tell(reader, message)
        {
            tracing::debug!("a reader of the lists is gone");
        }
    }
}
