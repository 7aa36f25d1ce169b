//! What the runtime's own list says of threads, compared with what is stored of them.
//!
//! Other clients of the runtime work on the same threads: they make some, go on with some, name and
//! archive them. Of all that the manager hears only what its own child does.

use serde::Deserialize;
use serde_json::Value;

use super::record::{ThreadRecord, Title};
use crate::ids::ThreadId;
use crate::wire::UNTITLED;

/// A thread as the runtime lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedThread {
    /// The thread.
    pub id: ThreadId,
    /// Which of the runtime's lists it is in.
    pub archived: bool,
    /// The runtime's thread object, without its turns.
    pub thread: Value,
}

/// A page of `thread/list`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListedPage {
    /// The threads that can be sessions.
    pub threads: Vec<ListedThread>,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
}

/// How a thread of the runtime's list differs from what is stored of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedChange {
    /// It has another name than when the runtime was last asked.
    pub name: Option<String>,
    /// It is in the other list.
    pub archived: Option<bool>,
    /// The runtime changed it at this time (epoch seconds): its history may have more than is
    /// stored.
    pub behind: Option<i64>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    data: Vec<Value>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Option<String>,
}

/// Reads the result of `thread/list`; `None` when it is none. Threads without an id that can be
/// one of a session, and those that are kept nowhere, are left out.
pub fn read_listed_page(result: &str, archived: bool) -> Option<ListedPage> {
    let page: Page = serde_json::from_str(result).ok()?;
    let thread = |mut thread: Value| {
        let object = thread.as_object_mut()?;
        object.remove("turns");
        let id = ThreadId::parse(object.get("id")?.as_str()?).ok()?;
        let is_ephemeral = object.get("ephemeral").and_then(Value::as_bool).unwrap_or(false);
        (!is_ephemeral).then_some(ListedThread { id, archived, thread })
    };
    let threads = page.data.into_iter().filter_map(thread).collect();
    Some(ListedPage { threads, next_cursor: page.next_cursor.filter(|cursor| !cursor.is_empty()) })
}

fn seconds(thread: &Value, name: &str) -> Option<i64> {
    thread.get(name).and_then(Value::as_i64)
}

/// The runtime's name of a thread, if it has one.
fn name(thread: &Value) -> Option<&str> {
    let names = ["name", "threadName"].into_iter().filter_map(|name| thread.get(name)?.as_str());
    names.map(str::trim).find(|name| !name.is_empty())
}

impl ListedThread {
    /// Whether it is the thread of a subagent: it is shown with its parent, or not at all.
    pub fn is_subagent(&self) -> bool {
        let of_source = self.thread.get("source").is_some_and(|source| {
            source.get("subAgent").is_some() || source.as_str().is_some_and(is_subagent_source)
        });
        of_source || self.thread.get("parentThreadId").is_some_and(|parent| !parent.is_null())
    }

    /// How it differs from what is stored of it.
    pub fn change(&self, record: &ThreadRecord) -> ListedChange {
        // The manager names every new thread so, and version 1 did: it is no name that anybody chose.
        let named = name(&self.thread).filter(|name| *name != UNTITLED);
        let title = record.title.as_ref().map(|title| title.text.as_str());
        let is_news = named.is_some() && named != name(&record.thread) && named != title;
        ListedChange {
            name: named.filter(|_| is_news).map(str::to_owned),
            archived: (self.archived != record.archived).then_some(self.archived),
            behind: self.updated_at().filter(|at| record.seen_updated_at() < Some(*at)),
        }
    }

    /// When the runtime changed it, in epoch seconds.
    pub fn updated_at(&self) -> Option<i64> {
        seconds(&self.thread, "updatedAt")
    }

    /// Makes the record of a thread that was not known. Its history is still to be read.
    #[must_use]
    pub fn adopted(&self, mut record: ThreadRecord) -> ThreadRecord {
        record.adopt(&self.thread);
        record.materialized = true;
        record.archived = self.archived;
        let updated = self.updated_at().unwrap_or(record.updated_at);
        record.updated_at = updated;
        record.created_at = seconds(&self.thread, "createdAt").unwrap_or(updated);
        record.forget_updated_at();
        record
    }
}

fn is_subagent_source(source: &str) -> bool {
    source.starts_with("subAgent")
}

impl ListedChange {
    /// Whether nothing differs that lists show.
    pub fn is_shown(&self) -> bool {
        self.name.is_some() || self.archived.is_some()
    }
}

impl ThreadRecord {
    /// When the runtime had changed the thread as far as its history was compared with what is
    /// stored, in epoch seconds.
    pub fn seen_updated_at(&self) -> Option<i64> {
        match self.compared_at {
            Some(at) => Some(at).filter(|at| *at > 0),
            None => seconds(&self.thread, "updatedAt"),
        }
    }

    /// The history of the thread was compared up to a time of the runtime.
    pub fn note_updated_at(&mut self, at: i64) {
        self.compared_at = self.seen_updated_at().max(Some(at));
        let shown = seconds(&self.thread, "updatedAt").max(Some(at));
        if let Some(object) = self.thread.as_object_mut() {
            object.insert("updatedAt".to_owned(), Value::from(shown));
        }
        self.updated_at = self.updated_at.max(at);
    }

    /// The history of the thread is still to be compared.
    pub(crate) fn forget_updated_at(&mut self) {
        self.compared_at = Some(0);
    }

    /// Another client named the thread.
    pub fn take_name(&mut self, name: &str) {
        self.title = Some(Title { text: name.to_owned(), chosen: true });
        self.know_name(name);
    }

    /// The runtime's name of the thread is known, whoever gave it.
    pub fn know_name(&mut self, name: &str) {
        if let Some(object) = self.thread.as_object_mut() {
            object.insert("name".to_owned(), Value::from(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controls::Controls;
    use crate::thread::{Kept, THREAD_RECORD_VERSION};

    fn record() -> ThreadRecord {
        ThreadRecord {
            version: THREAD_RECORD_VERSION,
            id: ThreadId::parse("t").unwrap(),
            runtime_id: None,
            replaced: Vec::new(),
            title: None,
            cwd: "/".to_owned(),
            controls: Controls::default(),
            dynamic_tools: None,
            materialized: false,
            archived: false,
            created_at: 1,
            updated_at: 1,
            project_id: None,
            compared_at: None,
            thread: json!({ "id": "t" }),
            next_turn: 0,
            next_row: 0,
            kept: Kept::default(),
            problem: None,
            parent: None,
            subagents: Vec::new(),
        }
    }

    fn listed(thread: Value) -> ListedThread {
        let page = json!({ "data": [thread], "nextCursor": "" }).to_string();
        let page = read_listed_page(&page, false).unwrap();
        assert_eq!(page.next_cursor, None);
        page.threads[0].clone()
    }

    #[test]
    fn what_is_no_thread_is_left_out() {
        let threads = json!([null, {}, { "id": "a/b" }, { "id": "gone", "ephemeral": true },
                             { "id": "t", "turns": [1] }]);
        let page = json!({ "data": threads, "nextCursor": "c" }).to_string();
        let page = read_listed_page(&page, true).unwrap();
        assert_eq!(page.next_cursor.as_deref(), Some("c"));
        let [thread] = &page.threads[..] else { panic!("{page:?}") };
        assert_eq!((thread.archived, &thread.thread), (true, &json!({ "id": "t" })));
        assert_eq!(read_listed_page("7", true), None);
    }

    #[test]
    fn an_unknown_thread_becomes_a_session_whose_history_is_to_be_read() {
        let thread = json!({ "id": "t", "cwd": "/w", "preview": "first", "name": null,
                             "createdAt": 5, "updatedAt": 9, "source": "cli" });
        let thread = listed(thread);
        let record = thread.adopted(record());
        assert_eq!((record.created_at, record.updated_at, record.cwd.as_str()), (5, 9, "/w"));
        assert_eq!((record.shown_title(), record.source()), ("first", "cli"));
        assert!(record.materialized && !record.archived);
        assert_eq!(thread.change(&record).behind, Some(9));
        let mut compared = record;
        compared.note_updated_at(9);
        assert_eq!(thread.change(&compared), ListedChange::default());
    }

    #[test]
    fn a_change_is_news_until_the_history_was_compared_whatever_is_stored_of_it() {
        let changed = listed(json!({ "id": "t", "updatedAt": 9 }));
        let mut record = record();
        record.thread = Value::Null;
        record.adopt(&json!({ "id": "t", "updatedAt": 5 }));
        assert_eq!(record.seen_updated_at(), Some(5), "a new thread has no history");
        // Loaded, it says when it was changed: lists show that, and it is still to be compared.
        record.adopt(&changed.thread);
        assert_eq!((record.updated_at, record.thread["updatedAt"].as_i64()), (9, Some(9)));
        let kept = serde_json::to_string(&record).unwrap();
        let mut record: ThreadRecord = serde_json::from_str(&kept).unwrap();
        assert_eq!(changed.change(&record).behind, Some(9));
        record.note_updated_at(9);
        assert_eq!(changed.change(&record).behind, None);
        record.adopt(&changed.thread);
        assert_eq!(changed.change(&record).behind, None);
    }

    #[test]
    fn a_name_is_taken_over_when_another_client_changed_it() {
        let named = |name: &str| listed(json!({ "id": "t", "name": name }));
        let mut record = record();
        assert_eq!(named("New chat").change(&record).name, None, "that is no name");
        assert_eq!(named("theirs").change(&record).name.as_deref(), Some("theirs"));
        record.take_name("theirs");
        assert_eq!(named("theirs").change(&record).name, None);
        // One that the runtime took before it was changed here while it could not be told.
        record.know_name("ours of before");
        record.title = Some(Title { text: "ours of now".to_owned(), chosen: true });
        assert_eq!(named("ours of before").change(&record).name, None);
        record.know_name("theirs");
        // A title of ours that the runtime did not take, or took under its own name.
        record.title = Some(Title { text: "ours".to_owned(), chosen: true });
        assert_eq!(named("theirs").change(&record).name, None);
        assert_eq!(named("ours").change(&record).name, None);
        assert_eq!(named("again theirs").change(&record).name.as_deref(), Some("again theirs"));
        assert_eq!(named(" ").change(&record).name, None);
    }

    #[test]
    fn subagents_are_told_in_every_spelling() {
        for thread in [
            json!({ "id": "t", "source": { "subAgent": "review" } }),
            json!({ "id": "t", "source": "subAgentThreadSpawn" }),
            json!({ "id": "t", "source": "vscode", "parentThreadId": "p" }),
        ] {
            assert!(listed(thread).is_subagent());
        }
        assert!(
            !listed(json!({ "id": "t", "source": "cli", "parentThreadId": null })).is_subagent()
        );
    }
}
