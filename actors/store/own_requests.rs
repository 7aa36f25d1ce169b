//! Requests of the child that belong to no thread.

use cm_core::ids::RequestId;
use cm_core::request::RequestRecord;
use serde::{Deserialize, Serialize};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::records::{put, put_request, read_record, read_request, remove_request};

/// Ended requests that are kept, to say what was decided. Overflow rule: the oldest goes.
const KEPT: usize = 100;

/// The latest requests of the child that belong to no thread, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRequests {
    /// The life of the manager in which the newest came.
    pub boot: String,
    /// Their ids.
    pub requests: Vec<RequestId>,
}

impl OwnRequests {
    /// Adds a request to what is to be stored, and takes out what is too old.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when it cannot be written as JSON.
    pub fn put(
        &mut self,
        batch: &mut WriteBatch,
        record: &RequestRecord,
    ) -> Result<(), StoreError> {
        self.requests.push(record.id.clone());
        let excess = self.requests.len().saturating_sub(KEPT);
        for old in self.requests.drain(..excess) {
            remove_request(batch, &old);
        }
        put_request(batch, record)?;
        put(batch, keys::OWN_REQUESTS.to_vec(), self)
    }

    /// Reads what there is, and the requests among it that have not ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn read(store: &dyn Store) -> Result<(Self, Vec<RequestRecord>), StoreError> {
        let own: Self = read_record(store, keys::OWN_REQUESTS)?.unwrap_or_default();
        let mut open = Vec::new();
        for request in &own.requests {
            open.extend(read_request(store, request)?.filter(|record| !record.is_closed()));
        }
        Ok((own, open))
    }
}
