//! Projects: what is stored of one, and whose name is whose.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ids::ProjectId;

/// Current [`ProjectRecord::version`].
pub const PROJECT_RECORD_VERSION: u32 = 1;

/// What is stored of a project. Its sessions name it; it does not name them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Its id.
    pub id: ProjectId,
    /// Its name, as it was given.
    pub name: String,
    /// Where its sessions work by default, as it was given.
    pub working_directory: Option<String>,
    /// Epoch milliseconds.
    pub created_ms: i64,
    /// Epoch milliseconds.
    pub updated_ms: i64,
}

/// A name without what tells upper from lower case, in any script. Names with the same form are
/// the same name; lists are sorted by it.
///
/// Mapped back and forth: some letters meet only in one of the cases (`ς` and `σ`, `K` and the sign
/// of Kelvin).
pub fn folded(name: &str) -> String {
    name.to_lowercase().to_uppercase().to_lowercase()
}

/// Why a project was not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such project.
    #[error("there is no such project")]
    Unknown,
    /// Another project has the name.
    #[error("another project has the name")]
    NameTaken(ProjectId),
}

#[derive(Debug)]
struct Entry {
    record: ProjectRecord,
    folded: String,
}

/// All projects.
#[derive(Debug, Default)]
pub struct ProjectBook {
    entries: HashMap<ProjectId, Entry>,
    /// Whose name it is, by its [`folded`] form.
    names: HashMap<String, ProjectId>,
}

impl ProjectBook {
    /// A project.
    pub fn get(&self, id: &ProjectId) -> Option<&ProjectRecord> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All projects, sorted by name without regard to case.
    pub fn sorted(&self) -> Vec<&ProjectRecord> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by(|a, b| (&a.folded, &a.record.id).cmp(&(&b.folded, &b.record.id)));
        entries.into_iter().map(|entry| &entry.record).collect()
    }

    /// What a new project would be; [`ProjectBook::put`] adds it.
    ///
    /// # Errors
    ///
    /// [`Refused::NameTaken`].
    pub fn draft(
        &self,
        id: ProjectId,
        name: String,
        working_directory: Option<String>,
        now_ms: i64,
    ) -> Result<ProjectRecord, Refused> {
        self.check_name(&id, &name)?;
        let (created_ms, updated_ms) = (now_ms, now_ms);
        let version = PROJECT_RECORD_VERSION;
        Ok(ProjectRecord { version, id, name, working_directory, created_ms, updated_ms })
    }

    /// What a project would be with another name and, where one is given, another working directory;
    /// [`ProjectBook::put`] makes it so. Its time changes only if something else does.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn revised(
        &self,
        id: &ProjectId,
        name: String,
        working_directory: Option<Option<String>>,
        now_ms: i64,
    ) -> Result<ProjectRecord, Refused> {
        let known = self.get(id).ok_or(Refused::Unknown)?;
        self.check_name(id, &name)?;
        let mut revised = known.clone();
        revised.name = name;
        if let Some(directory) = working_directory {
            revised.working_directory = directory;
        }
        if revised != *known {
            revised.updated_ms = now_ms;
        }
        Ok(revised)
    }

    fn check_name(&self, id: &ProjectId, name: &str) -> Result<(), Refused> {
        match self.names.get(&folded(name)) {
            Some(owner) if owner != id => Err(Refused::NameTaken(owner.clone())),
            _ => Ok(()),
        }
    }

    /// Adds or replaces a project.
    pub fn put(&mut self, record: ProjectRecord) {
        self.remove(&record.id);
        let folded = folded(&record.name);
        self.names.insert(folded.clone(), record.id.clone());
        self.entries.insert(record.id.clone(), Entry { record, folded });
    }

    /// Takes a project away.
    pub fn remove(&mut self, id: &ProjectId) {
        if let Some(entry) = self.entries.remove(id)
            && self.names.get(&entry.folded) == Some(id)
        {
            self.names.remove(&entry.folded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ProjectId {
        ProjectId::parse(text).unwrap()
    }

    fn book(names: &[(&str, &str)]) -> ProjectBook {
        let mut book = ProjectBook::default();
        for (project, name) in names {
            let draft = book.draft(id(project), (*name).to_owned(), None, 1).unwrap();
            book.put(draft);
        }
        book
    }

    fn names(book: &ProjectBook) -> Vec<&str> {
        book.sorted().into_iter().map(|record| record.name.as_str()).collect()
    }

    #[test]
    fn names_differ_by_more_than_case_in_any_script() {
        for (one, other) in [
            ("Api", "aPI"),
            ("ÄRGER", "ärger"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "οδος"),
            ("ПРОЕКТ", "проект"),
            ("STRASSE", "straße"),
            ("\u{212a}elvin", "kelvin"),
        ] {
            assert_eq!(folded(one), folded(other));
            let book = book(&[("a", one)]);
            let refused = book.draft(id("b"), other.to_owned(), None, 2).unwrap_err();
            assert_eq!(refused, Refused::NameTaken(id("a")), "{one} {other}");
        }
        assert_ne!(folded("api"), folded("apí"));
    }

    #[test]
    fn projects_are_sorted_by_name_without_regard_to_case() {
        let book =
            book(&[("1", "beta"), ("2", "Alpha"), ("3", "álpha"), ("4", "_x"), ("5", "Gamma")]);
        assert_eq!(names(&book), ["_x", "Alpha", "beta", "Gamma", "álpha"]);
        assert_eq!(book.len(), 5);
    }

    #[test]
    fn a_project_may_keep_its_name_and_gives_an_old_one_back() {
        let mut book = book(&[("a", "One"), ("b", "Two")]);
        assert_eq!(
            book.revised(&id("a"), "two".to_owned(), None, 2),
            Err(Refused::NameTaken(id("b")))
        );
        assert_eq!(book.revised(&id("c"), "x".to_owned(), None, 2), Err(Refused::Unknown));
        let same = book.revised(&id("a"), "One".to_owned(), None, 2).unwrap();
        assert_eq!(same.updated_ms, 1, "nothing changed");
        let other = book.revised(&id("a"), "ONE".to_owned(), None, 2).unwrap();
        assert_eq!((other.name.as_str(), other.updated_ms), ("ONE", 2));
        let renamed = book.revised(&id("a"), "Three".to_owned(), None, 2).unwrap();
        book.put(renamed);
        assert!(book.draft(id("c"), "one".to_owned(), None, 3).is_ok());
        book.remove(&id("b"));
        assert!(book.draft(id("c"), "TWO".to_owned(), None, 3).is_ok());
        assert_eq!(names(&book), ["Three"]);
        book.remove(&id("a"));
        assert!(book.is_empty());
    }

    #[test]
    fn a_working_directory_is_kept_cleared_or_set() {
        let mut book = book(&[]);
        let draft = book.draft(id("a"), "A".to_owned(), Some("/one".to_owned()), 1).unwrap();
        book.put(draft);
        let directory = |given: Option<Option<&str>>| {
            let given = given.map(|given| given.map(str::to_owned));
            book.revised(&id("a"), "A".to_owned(), given, 2).unwrap().working_directory
        };
        assert_eq!(directory(None).as_deref(), Some("/one"));
        assert_eq!(directory(Some(None)), None);
        assert_eq!(directory(Some(Some("/two"))).as_deref(), Some("/two"));
    }

    #[test]
    fn two_that_were_stored_with_one_name_are_both_there() {
        let mut book = book(&[("a", "Same")]);
        let mut twin = book.get(&id("a")).unwrap().clone();
        twin.id = id("b");
        book.put(twin);
        assert_eq!(names(&book), ["Same", "Same"]);
        book.remove(&id("a"));
        assert_eq!(book.check_name(&id("c"), "same"), Err(Refused::NameTaken(id("b"))));
    }

    #[test]
    fn a_stored_record_is_read_again() {
        let book = book(&[("a", "A")]);
        let record = book.get(&id("a")).unwrap();
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"id":"a","name":"A","working_directory":null,"created_ms":1,"updated_ms":1}"#
        );
        assert_eq!(&serde_json::from_str::<ProjectRecord>(&text).unwrap(), record);
    }
}
