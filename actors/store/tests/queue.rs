//! The store's thread: what shares a group, what waits for what, and what becomes of writes while
//! nothing can be written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::handle::QUEUE;
use super::super::{Faults, MemoryStore, Operation, StoreError, StoreHandle, WriteBatch, writer};
use super::{noise, puts};

/// A store's thread.
fn running(store: MemoryStore) -> StoreHandle {
    let handle = StoreHandle::default();
    let (sender, queue) = mpsc::channel(QUEUE);
    handle.fill(sender);
    let for_thread = handle.clone();
    std::thread::spawn(move || writer::run(Arc::new(store), queue, &for_thread));
    handle
}

async fn value(handle: &StoreHandle, key: &'static [u8]) -> Option<Vec<u8>> {
    handle.read(move |store| store.get(key)).await.unwrap()
}

#[actix::test]
async fn a_read_sees_what_was_queued_before_it() {
    let handle = running(MemoryStore::default());
    for round in 0..500_u32 {
        let batch = puts(&[(b"counter", &round.to_be_bytes())]);
        let _ticket = handle.try_commit(batch).unwrap();
        assert_eq!(value(&handle, b"counter").await, Some(round.to_be_bytes().to_vec()));
    }
}

#[actix::test]
async fn what_waits_is_bounded_by_its_bytes() {
    let handle = StoreHandle::default();
    let (sender, mut queue) = mpsc::channel(QUEUE);
    handle.fill(sender);
    let long = || {
        let mut batch = WriteBatch::default();
        batch.put(b"k".to_vec(), vec![7; 1 << 20]);
        batch
    };
    let fitted = (0..QUEUE).take_while(|_| handle.try_record(long()).is_ok()).count();
    assert!((1..=4).contains(&fitted), "{fitted} MiB wait");
    // The log of events is not held up behind them.
    assert!(handle.try_commit_following(long()).is_ok());
    let waiting = handle.clone();
    let waits = actix::spawn(async move { waiting.record(long()).await });
    drop(queue.recv().await);
    waits.await.unwrap().unwrap();
    // Larger than all room there is: it waits for all of it, and not for ever.
    while queue.try_recv().is_ok() {}
    let mut huge = WriteBatch::default();
    huge.put(b"k".to_vec(), vec![7; 20 << 20]);
    assert!(handle.try_record(huge).is_ok());
    assert!(handle.try_record(puts(&[(b"small", b"1")])).is_err());
}

#[actix::test]
async fn nothing_behind_a_long_item_is_acknowledged_before_it_is_durable() {
    let faults = Faults::default();
    let handle = running(MemoryStore::with_faults(faults.clone()));
    let long = bytes::Bytes::from(vec![7; 20 << 20]);
    for round in 0..5_u8 {
        let key = vec![b'i', round];
        let mut item = WriteBatch::default();
        item.put(key.clone(), long.clone());
        // Nobody waits for it.
        drop(handle.try_commit(item).unwrap());
        handle.commit(puts(&[(b"small", &[round])])).await.unwrap();
        assert!(faults.is_durable(&key), "acknowledged before what was queued first");
    }
}

#[actix::test]
async fn a_long_read_holds_up_no_commit() {
    let handle = running(MemoryStore::default());
    let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (told, begun) = oneshot::channel();
    let reader = handle.clone();
    let long = actix::spawn(async move {
        reader
            .read(move |store| {
                told.send(()).ok();
                wait.recv_timeout(Duration::from_secs(30)).ok();
                store.get(b"late")
            })
            .await
    });
    begun.await.unwrap();
    for round in 0..10_u8 {
        handle.commit(puts(&[(b"late", &[round])])).await.unwrap();
    }
    go_on.send(()).unwrap();
    assert_eq!(long.await.unwrap().unwrap(), Some(vec![9]));
}

#[actix::test]
async fn a_read_that_panics_ends_alone() {
    let handle = running(MemoryStore::default());
    let broken = handle.read(|_| -> Result<(), StoreError> { panic!("a bug") }).await;
    assert_eq!(broken, Err(StoreError::Unavailable));
    handle.commit(puts(&[(b"a", b"1")])).await.unwrap();
    assert_eq!(value(&handle, b"a").await, Some(b"1".to_vec()));
}

#[actix::test]
async fn one_bad_write_does_not_fail_its_group() {
    let handle = running(MemoryStore::refusing(b"bad"));
    // A read that waits keeps the thread's reader, not the thread, so that the writes are queued
    // together by being sent without waiting.
    let tickets: Vec<_> = (0..20_u8)
        .map(|index| {
            let key: &[u8] = if index == 7 { b"bad" } else { b"good" };
            handle.try_commit(puts(&[(key, &[index])])).unwrap()
        })
        .collect();
    for (index, ticket) in tickets.into_iter().enumerate() {
        let result = ticket.durable().await;
        // What is queued behind the failed one may have been refused with it, as on a full disk.
        assert!(if index == 7 { result.is_err() } else { result.is_ok() || index > 7 });
    }
    handle.commit(puts(&[(b"good", b"again")])).await.unwrap();
    assert_eq!(value(&handle, b"good").await, Some(b"again".to_vec()));
}

#[actix::test]
async fn what_was_recorded_while_nothing_could_be_written_is_written_first() {
    let faults = Faults::default();
    let handle = running(MemoryStore::with_faults(faults.clone()));
    handle.commit(puts(&[(b"row", b"0")])).await.unwrap();
    faults.set(Operation::Sync, true);
    faults.set(Operation::Reopen, true);
    handle.record(puts(&[(b"row", b"1"), (b"recorded", b"yes")])).await.unwrap();
    let refused = handle.commit(puts(&[(b"row", b"2")])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Write(_)), "{refused:?}");
    assert!(handle.failing().load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(handle.stats().read().backlog, 1);
    assert!(value(&handle, b"row").await.is_some());
    faults.set(Operation::Sync, false);
    faults.set(Operation::Reopen, false);
    handle.commit(puts(&[(b"other", b"3")])).await.unwrap();
    // The refused one was told so and is not there; the recorded one is.
    assert_eq!(value(&handle, b"row").await, Some(b"1".to_vec()));
    assert_eq!(value(&handle, b"recorded").await, Some(b"yes".to_vec()));
    let stats = handle.stats().read();
    assert_eq!((stats.backlog, stats.lost), (0, 0));
    assert!(stats.failures >= 1);
    assert!(!handle.failing().load(std::sync::atomic::Ordering::Relaxed));
}

#[actix::test]
async fn what_waits_to_be_written_is_bounded() {
    let faults = Faults::default();
    let handle = running(MemoryStore::with_faults(faults.clone()));
    faults.set_full(true);
    for index in 0..10_u8 {
        let mut batch = WriteBatch::default();
        batch.put(vec![b'r', index], noise(10 << 20, index.into()));
        handle.record(batch).await.unwrap();
    }
    assert!(handle.commit(puts(&[(b"a", b"1")])).await.is_err());
    let stats = handle.stats().read();
    assert_eq!((stats.backlog, stats.lost), (6, 4));
    faults.set_full(false);
    handle.commit(puts(&[(b"a", b"1")])).await.unwrap();
    // The newest ones are there.
    let keys = handle.read(|store| store.keys(&super::super::Scan::prefix(b"r"))).await.unwrap();
    assert_eq!(keys, (4..10_u8).map(|index| vec![b'r', index]).collect::<Vec<_>>());
}

#[actix::test]
async fn writing_works_again_by_itself() {
    use crate::supervisor::{StateCell, Strategy, Supervisor};
    let faults = Faults::default();
    let handle = StoreHandle::default();
    let store = std::sync::Mutex::new(Some(MemoryStore::with_faults(faults.clone())));
    let opener = Box::new(move || {
        let store = store.lock().unwrap().take().ok_or(StoreError::Unavailable)?;
        Ok(Box::new(store) as Box<dyn super::super::Store>)
    });
    let policy = cm_core::restart::Policy::default();
    let spec = super::super::store_spec(handle.clone(), policy, opener, &StateCell::default());
    let tree = Supervisor::start_tree("root", Strategy::OneForOne, vec![spec]);
    // Whoever commits waits for room in the queue, which is there once the thread runs.
    while handle.commit(puts(&[(b"a", b"1")])).await.is_err() {
        tokio::task::yield_now().await;
    }
    faults.set_full(true);
    handle.record(puts(&[(b"recorded", b"yes")])).await.unwrap();
    // Answered behind the try to write what was recorded.
    assert!(handle.commit(puts(&[(b"a", b"2")])).await.is_err());
    assert_eq!(handle.stats().read().backlog, 1);
    faults.set_full(false);
    let again = tokio::time::timeout(Duration::from_secs(10), faults.durable_key(b"recorded"));
    again.await.expect("it was tried again");
    // Answered behind the try.
    assert_eq!(value(&handle, b"recorded").await, Some(b"yes".to_vec()));
    assert!(!handle.failing().load(std::sync::atomic::Ordering::Relaxed));
    tree.shut_down(Duration::from_secs(5)).await.unwrap();
}
