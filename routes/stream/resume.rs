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

/// Serves a subscriber from a position on. What has to be fetched is fetched by a task that ends
/// with the subscriber.
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
    if subscriber.is_resuming() {
        drop(subscriber);
        actix::spawn(fetch(hub.clone(), Rc::clone(outlet), position));
    }
}

/// Fetches what was missed. Named `fetch`; ends when the subscriber is live or over.
async fn fetch(hub: HubHandle, outlet: Rc<RefCell<Outlet>>, position: Position) {
    let Position { epoch, mut after } = position;
    let mut tries = 0;
    loop {
        let page = hub.journal().history(epoch.clone(), after).await;
        if outlet.borrow().is_over() {
            return;
        }
        let (segments, upto) = match page {
            Ok(History::Frames { segments, upto }) => (segments, upto),
            Ok(History::Reset { reason }) => return outlet.borrow_mut().reset(reason),
            Err(error) => {
                tracing::warn!(%error, "the log of events does not answer");
                return outlet.borrow_mut().reset(ResetReason::Unavailable);
            }
        };
        let is_news = !segments.is_empty();
        outlet.borrow_mut().add_backlog(segments);
        if is_news && !taken(&outlet).await {
            return;
        }
        outlet.borrow_mut().caught_up(upto);
        let reaches = hub.ring().is_some_and(|ring| ring.borrow().reaches(upto));
        if reaches {
            break;
        }
        tries = if upto > after { 0 } else { tries + 1 };
        if tries > TRIES {
            return outlet.borrow_mut().reset(ResetReason::Behind);
        }
        if upto == after {
            tokio::time::sleep(TRY_AGAIN).await;
        }
        after = upto;
    }
    show_open_sessions(&hub, &outlet, &epoch).await;
    outlet.borrow_mut().go_live();
}

/// Waits until a page was taken; answers whether the subscriber is still there.
async fn taken(outlet: &Rc<RefCell<Outlet>>) -> bool {
    let wait = async {
        loop {
            let notify = outlet.borrow().drained();
            let drained = notify.notified();
            if outlet.borrow().is_drained() || outlet.borrow().is_over() {
                return;
            }
            drained.await;
        }
    };
    // A client that takes nothing is evicted by its hub; this is for one that takes too little.
    let in_time = tokio::time::timeout(PAGE_PATIENCE, wait).await.is_ok();
    if !in_time {
        outlet.borrow_mut().reset(ResetReason::Behind);
    }
    in_time && !outlet.borrow().is_over()
}

/// Shows how sessions with something unfinished stand.
async fn show_open_sessions(hub: &HubHandle, outlet: &Rc<RefCell<Outlet>>, epoch: &Epoch) {
    let filter = outlet.borrow().filter.clone();
    match hub.threads().snapshots(filter).await {
        Ok(snapshots) => {
            for (thread_id, payload) in snapshots {
                outlet.borrow_mut().say(&json!({
                    "type": "snapshot",
                    "threadId": thread_id,
                    "epoch": epoch,
                    "payload": payload,
                }));
            }
        }
        // Without them a client could take a cut item for one that still grows.
        Err(error) => {
            tracing::warn!(?error, "open sessions cannot be shown to a subscriber");
            outlet.borrow_mut().reset(ResetReason::Unavailable);
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
