//! One session as lists show it.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cm_core::ids::{ProjectId, ThreadId};
use cm_core::wire::SessionSummary;

/// One session, encoded once for everyone who lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Epoch seconds; lists are sorted by this first.
    pub updated_at: i64,
    /// Epoch seconds; lists are sorted by this second.
    pub created_at: i64,
    /// The session; lists are sorted by this last.
    pub id: ThreadId,
    /// Which of the two lists it is in.
    pub archived: bool,
    /// The project that it is in.
    pub project: Option<ProjectId>,
    /// Its title in lower case, for those who look for words in it.
    pub title: Box<str>,
    /// What it is doing.
    pub status: SessionStatus,
    /// The row as JSON. A box, because rows are shared as a whole and bytes of their own handle
    /// would cost a second count for each of many thousand sessions.
    pub json: Box<[u8]>,
}

impl SessionRow {
    /// Encodes a session.
    ///
    /// # Errors
    ///
    /// When the summary is no JSON, which its types rule out.
    pub fn encode(summary: &SessionSummary) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(summary)?.into_boxed_slice();
        let project = summary.project_id.as_deref();
        Ok(Self {
            updated_at: summary.updated_at,
            created_at: summary.created_at,
            id: summary.session_id.clone(),
            archived: summary.archived,
            project: project.and_then(|project| ProjectId::parse(project).ok()),
            title: summary.title.to_lowercase().into_boxed_str(),
            status: SessionStatus::parse(&summary.activity).unwrap_or_default(),
            json,
        })
    }

    /// A row that stands for a place in a list.
    pub(super) fn place(updated_at: i64, created_at: i64, id: ThreadId) -> Arc<Self> {
        Arc::new(Self {
            updated_at,
            created_at,
            id,
            archived: false,
            project: None,
            title: Box::default(),
            status: SessionStatus::Idle,
            json: Box::default(),
        })
    }

    /// What lists are sorted by, newest first.
    pub fn key(&self) -> (i64, i64, &ThreadId) {
        (self.updated_at, self.created_at, &self.id)
    }
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionStatus {
    /// Nothing.
    #[default]
    Idle,
    /// A turn runs.
    Running,
    /// A request waits for a decision.
    Waiting,
}

impl SessionStatus {
    /// Reads the word that lists show.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "idle" => Some(Self::Idle),
            "running" => Some(Self::Running),
            "waiting" => Some(Self::Waiting),
            _ => None,
        }
    }
}

/// A row in the order of lists.
#[derive(Debug, Clone)]
pub(super) struct ByAge(pub(super) Arc<SessionRow>);

impl PartialEq for ByAge {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByAge {}

impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByAge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(&other.0.key())
    }
}

/// A row in the order in which sessions were made.
#[derive(Debug, Clone)]
pub(super) struct ByCreation(pub(super) Arc<SessionRow>);

impl ByCreation {
    fn key(&self) -> (i64, &ThreadId) {
        (self.0.created_at, &self.0.id)
    }
}

impl PartialEq for ByCreation {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ByCreation {}

impl PartialOrd for ByCreation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByCreation {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A row that is found by its session.
#[derive(Debug, Clone)]
pub(super) struct ById(pub(super) Arc<SessionRow>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the id's text hashes, by which rows are looked up.
        self.0.id.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}
