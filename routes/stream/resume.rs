//! What a subscriber missed, from the position that it names on.
//!
//! Where the ring reaches back to the position, there is nothing to do: the cursor is set. Further
//! back lies the log of events, which is read in pages; then follows a snapshot of each session
//! with something unfinished, since deltas are not in the log. What cannot be told is a `reset`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cm_actors::journal::{History, ResetReason};
use cm_core::ids::{Epoch, Seq};
use serde_json::json;

use super::hub::HubHandle;
use super::outlet::Outlet;

/// How long a client has to take one page.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);

/// How often a log whose last records are still on their way is asked again, and how long it
/// waits in between.
const TRIES: u32 = 100;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A position in a history: `<epoch>:<seq>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: Epoch,
    pub(super) after: Seq,
}

impl Position {
    /// Reads a position; `None` for every other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.trim().rsplit_once(':')?;
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let after = seq.parse().ok().filter(|_| digits).map(Seq)?;
        Some(Self { epoch: Epoch::parse(epoch).ok()?, after })
    }
}

/// Serves a subscriber from a position on. What has to be fetched is fetched by a task, one for
/// each subscriber at the most, that ends with it.
pub(super) fn resume(hub: &HubHandle, outlet: &Rc<RefCell<Outlet>>, position: Position) {
    let Some(ring) = hub.ring() else { return };
    let (same_history, known) = {
        let ring = ring.borrow();
        (ring.epoch == position.epoch, position.after <= ring.head)
    };
    let mut subscriber = outlet.borrow_mut();
    subscriber.resumable = true;
    if !same_history {
        return subscriber.reset(ResetReason::EpochChanged);
    }
    subscriber.resume_from(position.after);
    if !known {
        // Another worker may have shown it a moment ago: the journal knows every number.
        subscriber.await_history();
    }
    subscriber.wanted = subscriber.is_resuming().then_some(position);
    if subscriber.wanted.is_some() && !subscriber.fetching {
        subscriber.fetching = true;
        drop(subscriber);
        actix::spawn(serve(hub.clone(), Rc::clone(outlet)));
    }
}

/// Fetches for one subscriber until it wants nothing more.
async fn serve(hub: HubHandle, outlet: Rc<RefCell<Outlet>>) {
    loop {
        let (wanted, generation) = {
            let mut outlet = outlet.borrow_mut();
            (outlet.wanted.take(), outlet.generation())
        };
        let Some(position) = wanted else {
            outlet.borrow_mut().fetching = false;
            return;
        };
        let fetch = Fetch { hub: &hub, outlet: &outlet, generation };
        // Given up when the subscriber is over, or wants to go on from elsewhere.
        fetch.run(position).await;
    }
}

/// What is fetched for a subscriber from one position on.
struct Fetch<'a> {
    hub: &'a HubHandle,
    outlet: &'a Rc<RefCell<Outlet>>,
    generation: u64,
}

impl Fetch<'_> {
    /// Whether what is fetched is still wanted.
    fn is_wanted(&self) -> bool {
        let outlet = self.outlet.borrow();
        !outlet.is_over() && outlet.generation() == self.generation
    }

    fn reset(&self, reason: ResetReason) -> Option<()> {
        if self.is_wanted() {
            self.outlet.borrow_mut().reset(reason);
        }
        None
    }

    async fn run(&self, position: Position) -> Option<()> {
        let Position { epoch, mut after } = position;
        let mut tries = 0;
        loop {
            let page = self.hub.journal().history(epoch.clone(), after).await;
            if !self.is_wanted() {
                return None;
            }
            let (segments, upto) = match page {
                Ok(History::Frames { segments, upto }) => (segments, upto),
                Ok(History::Reset { reason }) => return self.reset(reason),
                Err(error) => {
                    tracing::warn!(%error, "the log of events does not answer");
                    return self.reset(ResetReason::Unavailable);
                }
            };
            // The number was given, and this worker is about to hear of it.
            let ahead = self.hub.ring().is_some_and(|ring| ring.borrow().head < after);
            if ahead {
                self.await_head(after).await?;
                self.outlet.borrow_mut().go_live();
                return Some(());
            }
            let is_news = !segments.is_empty();
            self.outlet.borrow_mut().add_backlog(segments);
            if is_news {
                self.taken().await?;
            }
            self.outlet.borrow_mut().caught_up(upto);
            let reaches = self.hub.ring().is_some_and(|ring| ring.borrow().reaches(upto));
            if reaches {
                break;
            }
            tries = if upto > after { 0 } else { tries + 1 };
            if tries > TRIES {
                return self.reset(ResetReason::Behind);
            }
            if upto == after {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            after = upto;
        }
        self.show_open_sessions(&epoch).await?;
        self.outlet.borrow_mut().go_live();
        Some(())
    }

    /// Waits until this worker has heard of a number that was given.
    async fn await_head(&self, after: Seq) -> Option<()> {
        for _ in 0..TRIES {
            if self.hub.ring().is_some_and(|ring| ring.borrow().head >= after) {
                return self.is_wanted().then_some(());
            }
            tokio::time::sleep(TRY_AGAIN).await;
            if !self.is_wanted() {
                return None;
            }
        }
        self.reset(ResetReason::Unavailable)
    }

    /// Waits until a page was taken.
    async fn taken(&self) -> Option<()> {
        let wait = async {
            loop {
                let notify = self.outlet.borrow().drained();
                let drained = notify.notified();
                if self.outlet.borrow().is_drained() || !self.is_wanted() {
                    return;
                }
                drained.await;
            }
        };
        // A client that takes nothing is evicted by its hub; this is for one that takes too little.
        if tokio::time::timeout(PAGE_PATIENCE, wait).await.is_err() {
            return self.reset(ResetReason::Behind);
        }
        self.is_wanted().then_some(())
    }

    /// Shows how sessions with something unfinished stand.
    async fn show_open_sessions(&self, epoch: &Epoch) -> Option<()> {
        let filter = self.outlet.borrow().filter.clone();
        let snapshots = self.hub.threads().snapshots(filter).await;
        if !self.is_wanted() {
            return None;
        }
        match snapshots {
            Ok(snapshots) => {
                for (thread_id, payload) in snapshots {
                    self.outlet.borrow_mut().say(&json!({
                        "type": "snapshot",
                        "threadId": thread_id,
                        "epoch": epoch,
                        "payload": payload,
                    }));
                }
                Some(())
            }
            // Without them a client could take a cut item for one that still grows.
            Err(error) => {
                tracing::warn!(?error, "open sessions cannot be shown to a subscriber");
                self.reset(ResetReason::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_an_epoch_and_a_number() {
        let position = Position::parse("abc:17").unwrap();
        assert_eq!((position.epoch.as_str(), position.after), ("abc", Seq(17)));
        for text in
            ["", "17", "abc:", ":17", "abc:-1", "abc:+1", "a b:1", "abc:99999999999999999999"]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
