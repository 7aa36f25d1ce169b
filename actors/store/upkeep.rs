//! What is done for a store besides reading and writing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backend::{StoreError, Upkeep, Visitor};
use super::chunks;
use super::engine::Engine;
use super::keys;
use super::layered::{Layered, PAGE_KEYS, write_error};
use super::scan::Scan;

impl<E: Engine> Upkeep for Layered<E> {
    fn heal(&self) -> Result<(), StoreError> {
        let mut writing = self.writing();
        self.engine.room(0).map_err(|error| write_error(&error))?;
        self.guarded(&mut writing, |_, _| Ok(()))
    }

    fn tidy(&self) -> Result<bool, StoreError> {
        let mut writing = self.writing();
        if self.broken.load(Ordering::Acquire) {
            return Ok(false);
        }
        let Some(generation) = writing.loose.front().copied() else {
            return Ok(false);
        };
        self.guarded(&mut writing, |store, writing| {
            if chunks::remove_some(&store.engine, generation)? {
                writing.loose.pop_front();
            }
            Ok(())
        })?;
        Ok(!writing.loose.is_empty())
    }

    fn damaged_records(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.damaged_count)
    }

    fn bytes_on_disk(&self) -> u64 {
        self.engine.bytes_on_disk()
    }

    fn last_commit(&self) -> u64 {
        self.commits()
    }

    fn walk(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut scan = Scan::prefix(Vec::new()).limit(PAGE_KEYS);
        scan.after = after.map(<[u8]>::to_vec);
        let mut read = 0;
        loop {
            let rows = self.engine.page(&scan).map_err(|error| self.read_error(&error))?;
            let Some((last, _)) = rows.last() else {
                return Ok(None);
            };
            scan.after = Some(last.clone());
            for (key, stored) in rows {
                read += key.len() + stored.len();
                if keys::is_internal(&key) {
                    continue;
                }
                if let Some(resolved) = self.resolved(&key, stored)? {
                    read += resolved.as_ref().map_or(0, Vec::len);
                    visit(&key, resolved.map(Some))?;
                }
                if read >= bytes {
                    return Ok(Some(key));
                }
            }
            if read >= bytes {
                return Ok(scan.after);
            }
        }
    }

    fn watch(&self, on: bool) {
        self.writing().touched = on.then(BTreeSet::new);
    }

    fn settle(&self, most: usize, visit: &mut Visitor<'_>) -> Result<Option<u64>, StoreError> {
        let mut writing = self.writing();
        let touched = writing.touched.get_or_insert_default();
        if touched.len() > most {
            return Ok(None);
        }
        for key in std::mem::take(touched) {
            visit(&key, self.current(&key)?)?;
        }
        Ok(Some(writing.commits))
    }

    fn catch_up(&self, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        let touched = self.writing().touched.as_mut().map(std::mem::take).unwrap_or_default();
        for key in touched {
            visit(&key, self.current(&key)?)?;
        }
        Ok(())
    }
}
