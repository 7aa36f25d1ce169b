//! Why something asked of a project did not happen.

use cm_core::error::Failure;
use cm_core::ids::ProjectId;
use cm_core::project::Refused;

use crate::handle::CallError;
use crate::store::StoreError;
use crate::thread::SessionError;

/// Why something asked of a project did not happen.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectError {
    /// There is no such project.
    NotFound,
    /// Another project has the name: this one.
    NameTaken(ProjectId),
    /// So many sessions are in it.
    NotEmpty(usize),
    /// The session did not do its part.
    Session(SessionError),
    /// Anything else.
    Failed(Failure),
}

impl From<Refused> for ProjectError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::NotFound,
            Refused::NameTaken(owner) => Self::NameTaken(owner),
        }
    }
}

impl From<SessionError> for ProjectError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<StoreError> for ProjectError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.failure())
    }
}

impl From<CallError> for ProjectError {
    fn from(error: CallError) -> Self {
        Self::Failed(error.failure("registry of projects"))
    }
}
