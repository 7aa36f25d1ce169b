//! The records of projects.

use cm_core::project::ProjectRecord;

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::records::{decode, put};
use super::scan::Scan;

/// Adds a project's record.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_project(batch: &mut WriteBatch, record: &ProjectRecord) -> Result<(), StoreError> {
    put(batch, keys::project(&record.id), record)
}

/// All projects of a store.
#[derive(Debug, Default)]
pub struct StoredProjects {
    /// The projects.
    pub records: Vec<ProjectRecord>,
    /// Why others are not among them: what was read is no project.
    pub damaged: Vec<StoreError>,
}

/// Reads all projects. A record that cannot be understood costs no other one its place.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_projects(store: &dyn Store) -> Result<StoredProjects, StoreError> {
    let mut projects = StoredProjects::default();
    for (key, value) in store.scan(&Scan::prefix(keys::projects()))? {
        match decode(&key, &value) {
            Ok(record) => projects.records.push(record),
            Err(error) => projects.damaged.push(error),
        }
    }
    Ok(projects)
}

#[cfg(test)]
mod tests {
    use cm_core::ids::ProjectId;
    use cm_core::project::ProjectBook;

    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn what_was_put_is_read_and_a_damaged_one_is_passed_over() {
        let store = MemoryStore::default();
        let (book, mut batch) = (ProjectBook::default(), WriteBatch::default());
        let id = |text: &str| ProjectId::parse(text).unwrap();
        let record = book.draft(id("a"), "A".to_owned(), None, 1).unwrap();
        put_project(&mut batch, &record).unwrap();
        batch.put(keys::project(&id("b")), b"{".to_vec());
        store.commit(&[batch]).unwrap();
        let read = read_projects(&store).unwrap();
        assert_eq!((read.records, read.damaged.len()), (vec![record], 1));
    }
}
