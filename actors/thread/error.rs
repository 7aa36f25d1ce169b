//! Why something asked of a session did not happen.

use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::{RequestId, ThreadId};
use cm_core::request::{Misfit, Refusal};

use super::messages::Deleted;
use crate::store::StoreError;

/// Why something asked of a session did not happen.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionError {
    /// There is no such session.
    NotFound(ThreadId),
    /// It was deleted.
    Deleted(Deleted),
    /// It never had a turn.
    NotMaterialized(ThreadId),
    /// It is in another project by now, or in none.
    NotInProject(ThreadId),
    /// No turn runs, or not the one that was named.
    NoActiveTurn(ThreadId),
    /// There is no such request.
    NoRequest(RequestId),
    /// The request was decided before, or is gone.
    Refused {
        /// The request.
        id: RequestId,
        /// Its session, if it has one.
        thread_id: Option<ThreadId>,
        /// Why.
        refusal: Refusal,
    },
    /// The decision does not fit the request, which still waits.
    Misfit(Misfit),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.failure())
    }
}

impl SessionError {
    /// Makes a failure of a code.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(code, message))
    }
}
