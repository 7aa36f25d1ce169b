//! What is asked of a list, and where its pages start.

use std::sync::Arc;

use cm_core::ids::{ProjectId, ThreadId};

use super::row::{SessionRow, SessionStatus};

/// Which page of which list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Archived sessions instead of the others.
    pub archived: bool,
    /// Those of one project, or of none.
    pub project: ProjectFilter,
    /// Only those in whose title this is, in lower case.
    pub text: Option<String>,
    /// Only those that are doing this.
    pub status: Option<SessionStatus>,
    /// Only those that have changed at this time or later, in epoch seconds.
    pub since: Option<i64>,
    /// In which order.
    pub order: ListOrder,
    /// How many.
    pub limit: usize,
    /// Where the page before this one ended.
    pub cursor: Option<ListCursor>,
}

impl ListQuery {
    /// Whether a row of the list is asked for.
    pub(super) fn wants(&self, row: &SessionRow) -> bool {
        let is_in_project = match &self.project {
            ProjectFilter::Any => true,
            ProjectFilter::Unassigned => row.project.is_none(),
            ProjectFilter::Of(project) => row.project.as_ref() == Some(project),
        };
        is_in_project
            && self.since.is_none_or(|since| row.updated_at >= since)
            && self.status.is_none_or(|status| row.status == status)
            && self.text.as_ref().is_none_or(|text| row.title.contains(text.as_str()))
    }
}

/// Whether a list is of sessions of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProjectFilter {
    /// All sessions.
    #[default]
    Any,
    /// Those that are in no project.
    Unassigned,
    /// Those of a project.
    Of(ProjectId),
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    /// When sessions changed last.
    #[default]
    UpdatedAt,
    /// When they were made.
    CreatedAt,
}

/// The order of a list: the newest first by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListOrder {
    /// What it is sorted by.
    pub by: SortBy,
    /// Whether the oldest is first.
    pub ascending: bool,
}

/// A session's place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    updated_at: i64,
    created_at: i64,
    id: ThreadId,
}

impl Place {
    pub(super) fn of(row: &SessionRow) -> Self {
        let (updated_at, created_at, id) = (row.updated_at, row.created_at, row.id.clone());
        Self { updated_at, created_at, id }
    }

    pub(super) fn row(&self) -> Arc<SessionRow> {
        SessionRow::place(self.updated_at, self.created_at, self.id.clone())
    }

    fn parse<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let updated_at = parts.next()?.parse().ok()?;
        let created_at = parts.next()?.parse().ok()?;
        Some(Self { updated_at, created_at, id: ThreadId::parse(parts.next()?).ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing in a number or an id needs an escape in JSON.
        write!(f, "{}|{}|{}", self.updated_at, self.created_at, self.id)
    }
}

/// The place where a page of a list ended. It is the key of the page's last session, so that one
/// that changes in between is not shown twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor {
    pub(super) order: ListOrder,
    pub(super) last: Place,
    /// The last place of the list when the first page was read, where sessions that change come
    /// behind it: those would be shown twice.
    pub(super) end: Option<Place>,
}

impl ListCursor {
    /// Reads a cursor of a list of an order; `None` for what is none, or one of another order.
    pub fn parse(order: ListOrder, cursor: &str) -> Option<Self> {
        let mut parts = cursor.split('|');
        if let Some(word) = word(order)
            && parts.next() != Some(word)
        {
            return None;
        }
        let last = Place::parse(parts.by_ref())?;
        let end = match order {
            ListOrder { by: SortBy::UpdatedAt, ascending: true } => {
                Some(Place::parse(parts.by_ref())?)
            }
            _ => None,
        };
        parts.next().is_none().then_some(Self { order, last, end })
    }
}

/// What cursors of an order begin with; those of version 1's order with nothing.
fn word(order: ListOrder) -> Option<&'static str> {
    match (order.by, order.ascending) {
        (SortBy::UpdatedAt, false) => None,
        (SortBy::UpdatedAt, true) => Some("updated"),
        (SortBy::CreatedAt, false) => Some("made-last"),
        (SortBy::CreatedAt, true) => Some("made"),
    }
}

impl std::fmt::Display for ListCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(word) = word(self.order) {
            write!(f, "{word}|")?;
        }
        write!(f, "{}", self.last)?;
        match &self.end {
            Some(end) => write!(f, "|{end}"),
            None => Ok(()),
        }
    }
}
