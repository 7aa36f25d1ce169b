//! The sorted lists and their pages.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use cm_core::ids::{ProjectId, ThreadId};

use super::row::{ByAge, ById, SessionRow};

/// Which page of which list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Archived sessions instead of the others.
    pub archived: bool,
    /// Those of one project, or of none.
    pub project: ProjectFilter,
    /// How many.
    pub limit: usize,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
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

/// A cursor that no list gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of this list's")]
pub struct BadCursor;

/// The two lists of some sessions.
#[derive(Debug, Default)]
struct Lists {
    listed: BTreeSet<ByAge>,
    archived: BTreeSet<ByAge>,
}

impl Lists {
    fn one(&self, archived: bool) -> &BTreeSet<ByAge> {
        if archived { &self.archived } else { &self.listed }
    }

    fn one_mut(&mut self, archived: bool) -> &mut BTreeSet<ByAge> {
        if archived { &mut self.archived } else { &mut self.listed }
    }

    fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.archived.is_empty()
    }
}

/// The rows of all sessions. Each is in the lists of all and in those of its project (or of no
/// project): two references, so that neither is ever searched for the other's.
#[derive(Debug, Default)]
pub struct SessionRows {
    all: Lists,
    by_project: HashMap<Option<ProjectId>, Lists>,
    by_id: HashSet<ById>,
}

impl SessionRows {
    /// Adds or replaces a row; answers whether anything changed.
    pub fn put(&mut self, row: Arc<SessionRow>) -> bool {
        if self.by_id.get(row.id.as_str()).is_some_and(|ById(known)| *known == row) {
            return false;
        }
        self.remove(&row.id);
        let archived = row.archived;
        let lists = self.by_project.entry(row.project.clone()).or_default();
        for lists in [&mut self.all, lists] {
            lists.one_mut(archived).insert(ByAge(Arc::clone(&row)));
        }
        self.by_id.insert(ById(row));
        true
    }

    /// Takes a row away.
    pub fn remove(&mut self, id: &ThreadId) -> Option<Arc<SessionRow>> {
        let ById(row) = self.by_id.take(id.as_str())?;
        let place = ByAge(Arc::clone(&row));
        self.all.one_mut(row.archived).remove(&place);
        if let Some(lists) = self.by_project.get_mut(&row.project) {
            lists.one_mut(row.archived).remove(&place);
            if lists.is_empty() {
                self.by_project.remove(&row.project);
            }
        }
        Some(row)
    }

    /// The row of a session.
    pub fn get(&self, id: &ThreadId) -> Option<&Arc<SessionRow>> {
        self.by_id.get(id.as_str()).map(|ById(row)| row)
    }

    /// How many sessions one of the lists has.
    pub fn count(&self, archived: bool) -> usize {
        self.all.one(archived).len()
    }

    /// The sessions of a project, newest first and archived ones last; without one those of every
    /// project.
    pub fn members(&self, project: Option<&ProjectId>) -> Vec<Member> {
        let mut members = Vec::new();
        let wanted = project.cloned().map(Some);
        let lists: Vec<&Lists> = match &wanted {
            Some(project) => self.by_project.get(project).into_iter().collect(),
            None => self.by_project.values().collect(),
        };
        for list in lists.into_iter().flat_map(|lists| [&lists.listed, &lists.archived]) {
            members.extend(list.iter().rev().filter_map(|ByAge(row)| Member::of(row)));
        }
        members
    }

    /// All rows, in no particular order.
    pub fn all(&self) -> Vec<Arc<SessionRow>> {
        self.by_id.iter().map(|ById(row)| Arc::clone(row)).collect()
    }

    /// One page, newest first, as the body of its answer
    /// ([`SessionList`](cm_core::wire::SessionList)). A cursor is the key of the page's last
    /// session, so that one that changes in between is not shown twice.
    ///
    /// # Errors
    ///
    /// [`BadCursor`].
    pub fn page(&self, query: &ListQuery) -> Result<Vec<u8>, BadCursor> {
        let start = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let upper = start.map_or(Bound::Unbounded, Bound::Excluded);
        let lists = match &query.project {
            ProjectFilter::Any => Some(&self.all),
            ProjectFilter::Unassigned => self.by_project.get(&None),
            ProjectFilter::Of(project) => self.by_project.get(&Some(project.clone())),
        };
        let list = lists.map(|lists| lists.one(query.archived));
        let range = (Bound::Unbounded, upper);
        let mut rest = list.into_iter().flat_map(|list| list.range(range.clone()).rev());
        let shown: Vec<&SessionRow> =
            rest.by_ref().take(query.limit).map(|ByAge(row)| row.as_ref()).collect();
        let more = rest.next().is_some();
        let bytes: usize = shown.iter().map(|row| row.json.len() + 1).sum();
        let mut body = Vec::with_capacity(bytes + 200);
        body.extend_from_slice(b"{\"data\":[");
        for (position, row) in shown.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&row.json);
        }
        body.extend_from_slice(b"],\"nextCursor\":");
        match shown.last().filter(|_| more) {
            Some(row) => {
                let (updated, created, id) = row.key();
                // Nothing in a number or an id needs an escape in JSON.
                body.extend_from_slice(format!("\"{updated}|{created}|{id}\"").as_bytes());
            }
            None => body.extend_from_slice(b"null"),
        }
        let archived = if query.archived { "true" } else { "false" };
        body.extend_from_slice(format!(",\"archived\":{archived}}}").as_bytes());
        Ok(body)
    }
}

/// A session of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The session.
    pub id: ThreadId,
    /// Its project.
    pub project: ProjectId,
    /// Whether it is archived.
    pub archived: bool,
}

impl Member {
    fn of(row: &SessionRow) -> Option<Self> {
        let project = row.project.clone()?;
        Some(Self { id: row.id.clone(), project, archived: row.archived })
    }
}

/// The place of a cursor in its list.
fn parse_cursor(cursor: &str) -> Result<ByAge, BadCursor> {
    let (updated_at, rest) = cursor.split_once('|').ok_or(BadCursor)?;
    let (created_at, id) = rest.split_once('|').ok_or(BadCursor)?;
    let row = SessionRow {
        updated_at: updated_at.parse().map_err(|_| BadCursor)?,
        created_at: created_at.parse().map_err(|_| BadCursor)?,
        id: ThreadId::parse(id).map_err(|_| BadCursor)?,
        archived: false,
        project: None,
        json: Box::default(),
    };
    Ok(ByAge(Arc::new(row)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn row(updated_at: i64, created_at: i64, id: u8, archived: bool) -> Arc<SessionRow> {
        row_in(updated_at, created_at, id, archived, None)
    }

    fn row_in(
        updated_at: i64,
        created_at: i64,
        id: u8,
        archived: bool,
        project: Option<ProjectId>,
    ) -> Arc<SessionRow> {
        let id = ThreadId::parse(&format!("t{id}")).unwrap();
        let json = format!("{{\"id\":\"{id}\",\"updated\":{updated_at}}}").into_bytes();
        Arc::new(SessionRow { updated_at, created_at, id, archived, project, json: json.into() })
    }

    fn query(archived: bool, limit: usize, cursor: Option<String>) -> ListQuery {
        ListQuery { archived, project: ProjectFilter::Any, limit, cursor }
    }

    /// A project, or none for 0.
    fn project(number: u8) -> Option<ProjectId> {
        (number > 0).then(|| ProjectId::parse(&format!("p{number}")).unwrap())
    }

    /// The ids of a page, and where the next one starts.
    fn page(rows: &SessionRows, query: &ListQuery) -> (Vec<String>, Option<String>) {
        let body: Value = serde_json::from_slice(&rows.page(query).unwrap()).unwrap();
        assert_eq!(body["archived"], query.archived);
        let ids = body["data"].as_array().unwrap().iter();
        let ids = ids.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        (ids, body["nextCursor"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_page_is_what_the_wire_types_say() {
        let body = SessionRows::default().page(&query(true, 5, None)).unwrap();
        let list: cm_core::wire::SessionList = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::to_vec(&list).unwrap(), body);
        assert!(list.data.is_empty() && list.next_cursor.is_none() && list.archived);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let rows = SessionRows::default();
        for cursor in ["", "x", "1|2", "1|2|", "1|x|t", "1|2|a/b", "1|2|..."] {
            let query = query(false, 5, Some(cursor.to_owned()));
            assert_eq!(rows.page(&query), Err(BadCursor), "{cursor}");
        }
    }

    #[test]
    fn a_row_that_is_the_same_changes_nothing() {
        let mut rows = SessionRows::default();
        assert!(rows.put(row(1, 1, 1, false)));
        assert!(!rows.put(row(1, 1, 1, false)));
        assert!(rows.put(row(2, 1, 1, false)));
        assert!(rows.put(row(2, 1, 1, true)));
        assert_eq!((rows.count(false), rows.count(true)), (0, 1));
        assert!(rows.remove(&row(0, 0, 1, false).id).is_some());
        assert_eq!(rows.count(true), 0);
        assert!(rows.remove(&row(0, 0, 1, false).id).is_none());
    }

    proptest! {
        /// Whatever was put and removed, pages of any size show every row of their list once, in
        /// the order of version 1, and all pages but the last are full; so do those of a project.
        #[test]
        fn pages_show_everything_once_and_in_order(
            changes in proptest::collection::vec(
                (0i64..5, 0i64..3, 0u8..40, any::<bool>(), 0u8..4, 0u8..3), 0..120),
            limit in 1usize..9,
        ) {
            let mut rows = SessionRows::default();
            let mut model = std::collections::HashMap::new();
            for (updated, created, id, archived, what, number) in changes {
                let row = row_in(updated, created, id, archived, project(number));
                if what == 0 {
                    rows.remove(&row.id);
                    model.remove(&row.id);
                } else {
                    rows.put(Arc::clone(&row));
                    model.insert(row.id.clone(), row);
                }
            }
            let of = |number: Option<u8>| match number.map(project) {
                None => ProjectFilter::Any,
                Some(None) => ProjectFilter::Unassigned,
                Some(Some(project)) => ProjectFilter::Of(project),
            };
            let lists = [None, Some(0), Some(1), Some(2), Some(3)];
            for (archived, number) in lists.map(|n| [(false, n), (true, n)]).concat() {
                let is_in = |row: &SessionRow| number.is_none_or(|n| row.project == project(n));
                let mut expected: Vec<_> =
                    model.values().filter(|row| row.archived == archived && is_in(row)).collect();
                expected.sort_by(|a, b| b.key().cmp(&a.key()));
                let expected: Vec<String> =
                    expected.into_iter().map(|row| row.id.to_string()).collect();
                if number.is_none() {
                    prop_assert_eq!(rows.count(archived), expected.len());
                }
                let mut shown = Vec::new();
                let mut cursor = None;
                loop {
                    let query = ListQuery { project: of(number), ..query(archived, limit, cursor) };
                    let (ids, next) = page(&rows, &query);
                    prop_assert!(next.is_none() || ids.len() == limit);
                    shown.extend(ids);
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(&shown, &expected);
                if let Some(project) = number.and_then(project) {
                    let members = rows.members(Some(&project));
                    let members = members.iter().filter(|member| member.archived == archived);
                    let members: Vec<_> = members.map(|member| member.id.to_string()).collect();
                    prop_assert_eq!(members, expected);
                }
            }
            let assigned = model.values().filter(|row| row.project.is_some()).count();
            prop_assert_eq!(rows.members(None).len(), assigned);
            let lists = rows.by_project.values();
            prop_assert!(lists.into_iter().all(|lists| !lists.is_empty()), "empty lists go");
        }
    }
}
