//! The sorted lists and their pages.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use cm_core::ids::{ProjectId, ThreadId};

use super::query::{ListCursor, ListOrder, ListQuery, Place, ProjectFilter, SortBy};
use super::row::{ByAge, ByCreation, ById, SessionRow, SessionStatus};

/// Some sessions in the two orders of lists.
#[derive(Debug, Default)]
struct List {
    by_age: BTreeSet<ByAge>,
    by_creation: BTreeSet<ByCreation>,
}

impl List {
    fn insert(&mut self, row: &Arc<SessionRow>) {
        self.by_age.insert(ByAge(Arc::clone(row)));
        self.by_creation.insert(ByCreation(Arc::clone(row)));
    }

    fn remove(&mut self, row: &Arc<SessionRow>) {
        self.by_age.remove(&ByAge(Arc::clone(row)));
        self.by_creation.remove(&ByCreation(Arc::clone(row)));
    }

    /// The rows behind a place, in an order.
    fn behind<'a>(
        &'a self,
        order: ListOrder,
        cursor: Option<&ListCursor>,
    ) -> Box<dyn Iterator<Item = &'a Arc<SessionRow>> + 'a> {
        let last = cursor.map(|cursor| cursor.last.row());
        match order.by {
            SortBy::UpdatedAt => {
                let end = cursor.and_then(|cursor| cursor.end.as_ref()).map(Place::row);
                let range = range(order.ascending, last.map(ByAge), end.map(ByAge));
                let rows = range.map(|range| self.by_age.range(range));
                directed(order.ascending, rows.into_iter().flatten().map(|ByAge(row)| row))
            }
            SortBy::CreatedAt => {
                let range = range(order.ascending, last.map(ByCreation), None);
                let rows = range.map(|range| self.by_creation.range(range));
                directed(order.ascending, rows.into_iter().flatten().map(|ByCreation(row)| row))
            }
        }
    }
}

fn directed<'a>(
    ascending: bool,
    rows: impl DoubleEndedIterator<Item = &'a Arc<SessionRow>> + 'a,
) -> Box<dyn Iterator<Item = &'a Arc<SessionRow>> + 'a> {
    if ascending { Box::new(rows) } else { Box::new(rows.rev()) }
}

/// What is behind a place, up to an end that belongs to it; `None` where that is nothing.
fn range<T: Ord>(ascending: bool, last: Option<T>, end: Option<T>) -> Option<(Bound<T>, Bound<T>)> {
    // A set panics at a range that ends before it begins.
    if last.as_ref().zip(end.as_ref()).is_some_and(|(last, end)| last >= end) {
        return None;
    }
    let last = last.map_or(Bound::Unbounded, Bound::Excluded);
    let end = end.map_or(Bound::Unbounded, Bound::Included);
    Some(if ascending { (last, end) } else { (Bound::Unbounded, last) })
}

/// The two lists of some sessions.
#[derive(Debug, Default)]
struct Lists {
    listed: List,
    archived: List,
}

impl Lists {
    fn one(&self, archived: bool) -> &List {
        if archived { &self.archived } else { &self.listed }
    }

    fn one_mut(&mut self, archived: bool) -> &mut List {
        if archived { &mut self.archived } else { &mut self.listed }
    }

    fn is_empty(&self) -> bool {
        self.listed.by_age.is_empty() && self.archived.by_age.is_empty()
    }
}

/// The rows of all sessions. Each is in the lists of all and in those of its project (or of no
/// project), and those that do something are in lists of their own: none is ever searched for
/// another one's.
#[derive(Debug, Default)]
pub struct SessionRows {
    all: Lists,
    /// Those that do something: few, however many there are.
    busy: Lists,
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
            lists.one_mut(archived).insert(&row);
        }
        if row.status != SessionStatus::Idle {
            self.busy.one_mut(archived).insert(&row);
        }
        self.by_id.insert(ById(row));
        true
    }

    /// Takes a row away.
    pub fn remove(&mut self, id: &ThreadId) -> Option<Arc<SessionRow>> {
        let ById(row) = self.by_id.take(id.as_str())?;
        self.all.one_mut(row.archived).remove(&row);
        if row.status != SessionStatus::Idle {
            self.busy.one_mut(row.archived).remove(&row);
        }
        if let Some(lists) = self.by_project.get_mut(&row.project) {
            lists.one_mut(row.archived).remove(&row);
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
        self.all.one(archived).by_age.len()
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
            members.extend(list.by_age.iter().rev().filter_map(|ByAge(row)| Member::of(row)));
        }
        members
    }

    /// All rows, in no particular order.
    pub fn all(&self) -> Vec<Arc<SessionRow>> {
        self.by_id.iter().map(|ById(row)| Arc::clone(row)).collect()
    }

    /// One page as the body of its answer ([`SessionList`](cm_core::wire::SessionList)). It costs the
    /// same with any number of sessions, but for a text that few titles have: each title is looked
    /// at.
    pub fn page(&self, query: &ListQuery) -> Vec<u8> {
        let is_busy = query.status.is_some_and(|status| status != SessionStatus::Idle);
        let lists = match &query.project {
            _ if is_busy => Some(&self.busy),
            ProjectFilter::Any => Some(&self.all),
            ProjectFilter::Unassigned => self.by_project.get(&None),
            ProjectFilter::Of(project) => self.by_project.get(&Some(project.clone())),
        };
        let list = lists.map(|lists| lists.one(query.archived));
        let rows = list.map(|list| list.behind(query.order, query.cursor.as_ref()));
        // The rest of such a list is older than what is asked for.
        let newest_first = query.order == ListOrder::default();
        let since = query.since.filter(|_| newest_first);
        let rows = rows.into_iter().flatten();
        let rows = rows.take_while(|row| since.is_none_or(|since| row.updated_at >= since));
        let mut rest = rows.filter(|row| query.wants(row));
        let shown: Vec<&SessionRow> = rest.by_ref().take(query.limit).map(Arc::as_ref).collect();
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
                let cursor = next_cursor(query, row, list);
                body.extend_from_slice(format!("\"{cursor}\"").as_bytes());
            }
            None => body.extend_from_slice(b"null"),
        }
        let archived = if query.archived { "true" } else { "false" };
        body.extend_from_slice(format!(",\"archived\":{archived}}}").as_bytes());
        body
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

/// Where the page behind a row starts.
fn next_cursor(query: &ListQuery, last: &SessionRow, list: Option<&List>) -> ListCursor {
    let moves_behind = query.order == ListOrder { by: SortBy::UpdatedAt, ascending: true };
    let known = query.cursor.as_ref().and_then(|cursor| cursor.end.clone());
    let newest = || list?.by_age.last().map(|ByAge(row)| Place::of(row));
    let end = if moves_behind { known.or_else(newest) } else { None };
    ListCursor { order: query.order, last: Place::of(last), end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::row::SessionStatus;
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
        let title = format!("title {}", id.as_str()).into_boxed_str();
        let status = if updated_at == 3 { SessionStatus::Running } else { SessionStatus::Idle };
        let json = json.into();
        Arc::new(SessionRow { updated_at, created_at, id, archived, project, title, status, json })
    }

    fn query(archived: bool, limit: usize, cursor: Option<String>) -> ListQuery {
        let cursor = cursor.map(|cursor| ListCursor::parse(ListOrder::default(), &cursor).unwrap());
        ListQuery { archived, limit, cursor, ..ListQuery::default() }
    }

    /// A project, or none for 0.
    fn project(number: u8) -> Option<ProjectId> {
        (number > 0).then(|| ProjectId::parse(&format!("p{number}")).unwrap())
    }

    /// The ids of a page, and where the next one starts.
    fn page(rows: &SessionRows, query: &ListQuery) -> (Vec<String>, Option<String>) {
        let body: Value = serde_json::from_slice(&rows.page(query)).unwrap();
        assert_eq!(body["archived"], query.archived);
        let ids = body["data"].as_array().unwrap().iter();
        let ids = ids.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        (ids, body["nextCursor"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_page_is_what_the_wire_types_say() {
        let body = SessionRows::default().page(&query(true, 5, None));
        let list: cm_core::wire::SessionList = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::to_vec(&list).unwrap(), body);
        assert!(list.data.is_empty() && list.next_cursor.is_none() && list.archived);
    }

    const ORDERS: [ListOrder; 4] = [
        ListOrder { by: SortBy::UpdatedAt, ascending: false },
        ListOrder { by: SortBy::UpdatedAt, ascending: true },
        ListOrder { by: SortBy::CreatedAt, ascending: false },
        ListOrder { by: SortBy::CreatedAt, ascending: true },
    ];

    #[test]
    fn a_foreign_cursor_is_refused() {
        for order in ORDERS {
            for cursor in ["", "x", "1|2", "1|2|", "1|x|t", "1|2|a/b", "1|2|...", "1|2|t|", "made|"]
            {
                assert_eq!(ListCursor::parse(order, cursor), None, "{cursor}");
            }
            let mut rows = SessionRows::default();
            rows.put(row(1, 1, 1, false));
            rows.put(row(2, 1, 2, false));
            let (_, cursor) = page(&rows, &ListQuery { order, ..query(false, 1, None) });
            let cursor = cursor.unwrap();
            for other in ORDERS {
                assert_eq!(ListCursor::parse(other, &cursor).is_some(), other == order, "{cursor}");
            }
        }
    }

    #[test]
    fn a_list_that_is_sorted_by_changes_shows_none_twice_while_sessions_change() {
        for order in ORDERS {
            let mut rows = SessionRows::default();
            for number in 0..40 {
                rows.put(row(i64::from(number), 1, number, false));
            }
            let (mut seen, mut cursor) = (Vec::new(), None);
            for now in 100.. {
                let query = ListQuery { order, cursor, ..query(false, 3, None) };
                let (ids, next) = page(&rows, &query);
                assert!(next.is_none() || ids.len() == 3);
                // What was just shown, and something else, changes.
                let shown = ids[0][1..].parse().unwrap();
                rows.put(row(now, 1, shown, false));
                rows.put(row(now, 1, 39 - shown, false));
                seen.extend(ids);
                cursor = next.map(|next| ListCursor::parse(order, &next).unwrap());
                if cursor.is_none() {
                    break;
                }
            }
            let shown = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), shown, "{order:?}");
            assert!(order.by == SortBy::UpdatedAt || shown == 40, "{order:?}: {shown}");
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
        /// Filters and orders change which rows are shown, and where, and nothing else.
        #[test]
        fn filtered_pages_are_full_and_show_everything_once(
            made in proptest::collection::vec((0i64..5, 0i64..3, 0u8..40, any::<bool>()), 0..60),
            since in proptest::option::of(0i64..6),
            running in proptest::option::of(any::<bool>()),
            text in proptest::option::of("[13]"),
            limit in 1usize..5,
        ) {
            let mut rows = SessionRows::default();
            for (updated, created, id, archived) in made {
                rows.put(row(updated, created, id, archived));
            }
            let status = running.map(|running| match running {
                true => SessionStatus::Running,
                false => SessionStatus::Idle,
            });
            for (order, archived) in ORDERS.map(|order| [(order, false), (order, true)]).concat() {
                let mut expected: Vec<_> = rows.all();
                expected.retain(|row| {
                    row.archived == archived
                        && since.is_none_or(|since| row.updated_at >= since)
                        && running.is_none_or(|running| (row.updated_at == 3) == running)
                        && text.as_ref().is_none_or(|text| row.id.as_str().contains(text))
                });
                expected.sort_by(|a, b| match order.by {
                    SortBy::UpdatedAt => a.key().cmp(&b.key()),
                    SortBy::CreatedAt => (a.created_at, &a.id).cmp(&(b.created_at, &b.id)),
                });
                if !order.ascending {
                    expected.reverse();
                }
                let expected: Vec<String> = expected.iter().map(|row| row.id.to_string()).collect();
                let (mut shown, mut cursor) = (Vec::new(), None);
                loop {
                    let query = ListQuery {
                        since, status, text: text.clone(), order, cursor,
                        ..query(archived, limit, None)
                    };
                    let (ids, next) = page(&rows, &query);
                    prop_assert!(next.is_none() || ids.len() == limit);
                    shown.extend(ids);
                    cursor = next.map(|next| ListCursor::parse(order, &next).unwrap());
                    if cursor.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(shown, expected);
            }
        }

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
