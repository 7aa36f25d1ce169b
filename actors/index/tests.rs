//! The index and its readers.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::ids::ThreadId;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::sessions::MAX_UNSENT;
use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

/// A reader that hands on what it is told.
struct Ear(mpsc::Sender<RowsChanged>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<RowsChanged> for Ear {
    type Result = ();

    fn handle(&mut self, message: RowsChanged, _: &mut Self::Context) {
        self.0.try_send(message).unwrap();
    }
}

/// Keeps a reader from its mailbox until it is told.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(oneshot::Receiver<()>);

impl Handler<Hold> for Ear {
    type Result = ();

    fn handle(&mut self, Hold(until): Hold, ctx: &mut Self::Context) {
        ctx.wait(async move { drop(until.await) }.into_actor(self));
    }
}

fn row(id: &str, updated_at: i64) -> SessionRow {
    let id = ThreadId::parse(id).unwrap();
    let json = format!("{{\"id\":\"{id}\",\"updated\":{updated_at}}}").into_bytes();
    let place = SessionRow::place(updated_at, 0, id);
    let mut row = Arc::into_inner(place).unwrap();
    row.json = json.into();
    row
}

fn index() -> (SessionIndex, ListVersion) {
    let version = ListVersion::default();
    (SessionIndex::new(version.clone(), Arc::default()), version)
}

fn listed(index: &SessionIndex) -> Vec<(String, i64)> {
    let query = ListQuery { limit: 100, ..ListQuery::default() };
    let page: Value = serde_json::from_slice(&index.page(&query)).unwrap();
    let rows = page["data"].as_array().unwrap().iter();
    let pair =
        |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["updated"].as_i64().unwrap());
    rows.map(pair).collect()
}

fn reader(capacity: usize) -> (Addr<Ear>, mpsc::Receiver<RowsChanged>) {
    let (tell, told) = mpsc::channel(1000);
    let ear = Ear::create(|ctx| {
        ctx.set_mailbox_capacity(capacity);
        Ear(tell)
    });
    (ear, told)
}

fn on_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

#[test]
fn what_changes_while_rows_are_read_is_newer_than_what_is_read() {
    on_system(async {
        let (index, version) = index();
        index.begin_reading();
        index.put(row("changed", 9));
        index.remove(&row("deleted", 0).id);
        index.add_read(vec![row("changed", 1), row("deleted", 1), row("old", 1)]);
        assert!(timeout(Duration::from_millis(1), index.is_built()).await.is_err());
        index.end_reading();
        timeout(DEADLINE, index.is_built()).await.unwrap();
        assert_eq!(listed(&index), [("changed".to_owned(), 9), ("old".to_owned(), 1)]);
        assert!(version.current() > 0);
    });
}

#[test]
fn the_version_is_raised_by_each_change_and_by_nothing_else() {
    on_system(async {
        let (index, version) = index();
        index.end_reading();
        index.put(row("a", 1));
        let before = version.current();
        index.put(row("a", 1));
        index.remove(&row("b", 1).id);
        assert_eq!(version.current(), before);
        index.put(row("a", 2));
        index.remove(&row("a", 2).id);
        assert_eq!(version.current(), before + 2);
    });
}

#[test]
fn many_changes_are_one_message() {
    on_system(async {
        let (index, version) = index();
        index.end_reading();
        let (ear, mut told) = reader(16);
        let attached = index.attach(ear.recipient());
        for updated in 0..50 {
            index.put(row("a", updated));
        }
        let message = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
        assert_eq!((message.after, message.version), (attached.version, version.current()));
        assert_eq!(message.changes.len(), 50);
    });
}

#[test]
fn a_reader_whose_mailbox_was_full_hears_of_the_gap() {
    on_system(async {
        let (index, version) = index();
        index.end_reading();
        let (ear, mut told) = reader(1);
        let attached = index.attach(ear.clone().recipient());
        let (release, held) = oneshot::channel();
        ear.send(Hold(held)).await.unwrap();
        for updated in 0..20 {
            index.put(row("a", updated));
            // The announcement runs before the next change.
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        let mut known = attached.version;
        let mut gap = false;
        while known < version.current() {
            let message = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
            gap |= message.after > known;
            known = message.version;
        }
        assert!(gap, "some of 20 messages did not fit");
    });
}

#[test]
fn too_many_changes_at_once_are_a_gap() {
    on_system(async {
        let (index, version) = index();
        index.end_reading();
        let (ear, mut told) = reader(16);
        let attached = index.attach(ear.recipient());
        for updated in 0..=i64::try_from(MAX_UNSENT).unwrap() {
            index.put(row("a", updated));
        }
        let message = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
        assert!(message.after > attached.version && message.changes.is_empty());
        assert_eq!(message.version, version.current());
    });
}

#[test]
fn readers_attach_anew_when_rows_are_read_anew() {
    on_system(async {
        let (index, version) = index();
        index.end_reading();
        let (ear, _told) = reader(16);
        let attached = index.attach(ear.recipient());
        index.begin_reading();
        assert!(timeout(DEADLINE, attached.life).await.unwrap().is_err());
        assert!(version.current() > attached.version, "a copy of that age is too old");
    });
}
