//! Projects, and the sessions in them.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use cm_core::error::ErrorCode;
use cm_core::ids::{ProjectId, ThreadId};
use cm_core::wire::{ProjectSummary, SessionList};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::SessionError;
use super::bench::{
    Bench, DEADLINE, Disk, notification, on_system, thread, turn_ended, turn_started,
};
use crate::index::{ListQuery, Member, ProjectFilter};
use crate::project::{Moved, ProjectError, Removed};
use crate::store::{MemoryStore, Store, WriteBatch, put_thread, read_projects, read_thread};

/// A session in which nothing happens, which the child told of.
async fn session(bench: &Bench, id: &str) -> ThreadId {
    let turn = json!({ "id": format!("turn-{id}"), "status": "completed" });
    let params = json!({ "threadId": id, "turn": turn });
    let both = ["turn/started", "turn/completed"].map(|method| notification(method, &params));
    bench.says(both.into()).await;
    ThreadId::parse(id).unwrap()
}

async fn project(bench: &Bench, name: &str) -> ProjectId {
    bench.projects.create(name.to_owned(), None).await.unwrap().project_id
}

async fn rename(bench: &Bench, id: &ProjectId, name: &str) -> Result<ProjectSummary, ProjectError> {
    bench.projects.update(id.clone(), name.to_owned(), None).await
}

async fn names(bench: &Bench) -> Vec<String> {
    bench.projects.list().await.unwrap().into_iter().map(|project| project.name).collect()
}

/// The sessions of a list.
async fn listed(bench: &Bench, project: ProjectFilter) -> Vec<String> {
    let query = ListQuery { project, limit: 100, ..ListQuery::default() };
    let page = bench.threads.list(query).await.unwrap();
    let page: SessionList = serde_json::from_slice(&page).unwrap();
    let mut ids: Vec<_> = page.data.iter().map(|row| row.session_id.to_string()).collect();
    ids.sort();
    ids
}

/// Lets everything go on that waits for nothing else.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

fn code(error: &ProjectError) -> Option<ErrorCode> {
    match error {
        ProjectError::Failed(failure) | ProjectError::Session(SessionError::Failed(failure)) => {
            Some(failure.code)
        }
        _ => None,
    }
}

#[test]
fn an_assignment_is_told_once_and_outlives_registry_and_manager() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        let (one, other) = (session(&bench, "t").await, session(&bench, "t2").await);
        let project = project(&bench, "P").await;
        let told = bench.frame("project_upserted").await;
        assert_eq!(
            (&told["threadId"], &told["payload"]["project"]["name"]),
            (&Value::Null, &json!("P"))
        );
        let assigned = bench.projects.assign(one.clone(), Some(project.clone())).await.unwrap();
        assert_eq!(
            (&assigned.project_id, &assigned.previous_project_id),
            (&Some(project.clone()), &None)
        );
        let told = bench.frame("session_project_updated").await;
        assert_eq!((&told["threadId"], &told["payload"]), (&json!("t"), &json!(assigned)));
        let told = bench.frame("session_updated").await;
        assert_eq!(told["payload"]["reason"], "project");
        assert_eq!(told["payload"]["session"]["projectId"], project.as_str());
        // What is so already is said again to whoever asks, and to nobody else.
        let again = bench.projects.assign(one.clone(), Some(project.clone())).await.unwrap();
        assert_eq!(again.previous_project_id, again.project_id);
        bench.says(vec![notification("after", &json!({ "threadId": "t" }))]).await;
        let next = bench.frames.recv().await.unwrap();
        assert_eq!(next["type"], "app_server.after");
        assert_eq!(next["payload"]["session"]["projectId"], project.as_str());
        let of = |project: &ProjectId| ProjectFilter::Of(project.clone());
        for _ in 0..2 {
            assert_eq!(listed(&bench, of(&project)).await, ["t"]);
            assert_eq!(listed(&bench, ProjectFilter::Unassigned).await, ["t2"]);
            assert_eq!(listed(&bench, ProjectFilter::Any).await, ["t", "t2"]);
            bench.supervisor.restart("threads").await.unwrap();
            bench.supervisor.tree().await.unwrap();
        }
        drop(bench);
        let bench = Bench::new(disk).await;
        assert_eq!(names(&bench).await, ["P"]);
        assert_eq!(listed(&bench, of(&project)).await, ["t"]);
        let moved = bench.projects.assign(one, None).await.unwrap();
        assert_eq!((moved.project_id, moved.previous_project_id), (None, Some(project)));
        bench.projects.assign(other, None).await.unwrap();
        assert_eq!(listed(&bench, ProjectFilter::Unassigned).await, ["t", "t2"]);
    });
}

#[test]
fn an_assignment_that_cannot_be_stored_has_not_happened() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        let session = session(&bench, "t").await;
        let project = project(&bench, "P").await;
        bench.frame("project_upserted").await;
        for broken in [&disk.full, &disk.doubtful] {
            broken.store(true, Ordering::Relaxed);
            let refused = bench.projects.assign(session.clone(), Some(project.clone())).await;
            assert_eq!(code(&refused.unwrap_err()), Some(ErrorCode::StoreUnavailable));
            broken.store(false, Ordering::Relaxed);
            assert_eq!(listed(&bench, ProjectFilter::Of(project.clone())).await, [""; 0]);
            bench.says(vec![notification("after", &json!({ "threadId": "t" }))]).await;
            let next = bench.frames.recv().await.unwrap();
            assert_eq!(next["type"], "app_server.after", "nothing was told");
            assert_eq!(next["payload"]["session"]["projectId"], Value::Null);
            assert_eq!(bench.frame("notification").await["payload"]["method"], "after");
            // Whatever of it came to the disk, what comes last is that it did not happen.
            rename(&bench, &project, "P").await.unwrap();
            bench.frame("project_upserted").await;
            let stored = read_thread(&disk, &session).unwrap().unwrap();
            assert_eq!(stored.record.project_id, None);
        }
        bench.projects.delete(project).await.unwrap();
    });
}

#[test]
fn nothing_is_answered_or_told_before_it_is_on_the_disk() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        let session = session(&bench, "t").await;
        let (first, second) = (project(&bench, "P").await, project(&bench, "Q").await);
        bench.projects.assign(session.clone(), Some(first.clone())).await.unwrap();
        while bench.frame("session_updated").await["payload"]["reason"] != "project" {}
        let answered = Cell::new(0);
        disk.pass(Some(0));
        let (projects, frames) = (&bench.projects, &mut bench.frames);
        let assigned = async {
            projects.assign(session.clone(), Some(second.clone())).await.unwrap();
            answered.set(answered.get() + 1);
        };
        let created = async {
            projects.create("R".to_owned(), None).await.unwrap();
            answered.set(answered.get() + 1);
        };
        let release = async {
            settle().await;
            assert_eq!((answered.get(), frames.try_recv().ok()), (0, None));
            disk.pass(None);
        };
        tokio::join!(assigned, created, release);
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(bench.frames.recv().await.unwrap()["type"].as_str().unwrap().to_owned());
        }
        told.sort();
        assert_eq!(told, ["project_upserted", "session_project_updated", "session_updated"]);
        assert_eq!(listed(&bench, ProjectFilter::Of(second)).await, ["t"]);
        bench.projects.delete(first).await.unwrap();
    });
}

#[test]
fn a_deletion_waits_for_assignments_and_sees_them() {
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        let session = session(&bench, "t").await;
        let project = project(&bench, "P").await;
        disk.pass(Some(0));
        let release = async {
            settle().await;
            disk.pass(None);
        };
        let (assigned, deleted, ()) = tokio::join!(
            bench.projects.assign(session.clone(), Some(project.clone())),
            bench.projects.delete(project.clone()),
            release,
        );
        assert_eq!(assigned.unwrap().project_id, Some(project.clone()));
        assert_eq!(deleted, Err(ProjectError::NotEmpty(1)));
        assert!(bench.projects.exists(&project).await.unwrap());
    });
}

#[test]
fn an_assignment_waits_for_a_deletion_and_finds_no_project() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        let session = session(&bench, "t").await;
        let project = project(&bench, "P").await;
        disk.pass(Some(0));
        let release = async {
            settle().await;
            disk.pass(None);
        };
        let (deleted, again, assigned, ()) = tokio::join!(
            bench.projects.delete(project.clone()),
            bench.projects.delete(project.clone()),
            bench.projects.assign(session.clone(), Some(project.clone())),
            release,
        );
        assert_eq!(deleted, Ok(()));
        assert_eq!((again, assigned), (Err(ProjectError::NotFound), Err(ProjectError::NotFound)));
        let told = bench.frame("project_deleted").await;
        assert_eq!(told["payload"], json!({ "projectId": project, "sessionIds": [] }));
        assert_eq!(listed(&bench, ProjectFilter::Unassigned).await, ["t"]);
    });
}

#[test]
fn the_next_life_of_the_actor_waits_for_assignments_of_the_one_before() {
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        let session = session(&bench, "t").await;
        let (first, project) = (project(&bench, "First").await, project(&bench, "P").await);
        // Nothing else is on its way to the disk.
        bench.detail().await;
        settle().await;
        disk.pass(Some(0));
        let rest = async {
            settle().await;
            // The first assignment is on its way to the disk, the second waits behind it in the
            // thread, and the next life reads what was stored before both are over.
            bench.supervisor.restart("projects").await.unwrap();
            bench.supervisor.tree().await.unwrap();
            disk.pass(Some(1));
            assert!(bench.projects.exists(&project).await.unwrap());
            let release = async {
                settle().await;
                disk.pass(None);
            };
            tokio::join!(bench.projects.delete(project.clone()), release).0
        };
        let (_, assigned, deleted) = tokio::join!(
            bench.projects.assign(session.clone(), Some(first)),
            bench.projects.assign(session.clone(), Some(project.clone())),
            rest,
        );
        // Whoever asked the life that ended is told that it is gone; the session is moved.
        assert_eq!(code(&assigned.unwrap_err()), Some(ErrorCode::RuntimeUnavailable));
        assert_eq!(deleted, Err(ProjectError::NotEmpty(1)));
        assert_eq!(listed(&bench, ProjectFilter::Of(project)).await, ["t"]);
    });
}

#[test]
fn of_two_that_want_a_name_at_once_one_gets_it() {
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        let create = |name: &str| bench.projects.create(name.to_owned(), Some("/d".to_owned()));
        let (one, other) = tokio::join!(create("Straße"), create("STRASSE"));
        let one = one.unwrap();
        assert_eq!(other, Err(ProjectError::NameTaken(one.project_id.clone())));
        let two = create("Two").await.unwrap();
        let (first, second, third) = tokio::join!(
            rename(&bench, &one.project_id, "Three"),
            rename(&bench, &two.project_id, "three"),
            create("strasse"),
        );
        assert_eq!(second, Err(ProjectError::NameTaken(one.project_id.clone())));
        assert_eq!(first.unwrap().working_directory.as_deref(), Some("/d"));
        // Given up at the same moment, taken at the next.
        assert_eq!(third.unwrap().name, "strasse");
        assert_eq!(names(&bench).await, ["strasse", "Three", "Two"]);
        drop(bench);
        let bench = Bench::new(disk).await;
        assert_eq!(names(&bench).await, ["strasse", "Three", "Two"]);
    });
}

#[test]
fn a_change_that_cannot_be_stored_has_not_happened() {
    on_system(async {
        let disk = Disk::default();
        let mut bench = Bench::new(disk.clone()).await;
        let kept = project(&bench, "Kept").await;
        bench.frame("project_upserted").await;
        for broken in [&disk.full, &disk.doubtful] {
            for change in ["create", "update", "delete"] {
                broken.store(true, Ordering::Relaxed);
                let refused = match change {
                    "create" => bench.projects.create("New".to_owned(), None).await.unwrap_err(),
                    "update" => rename(&bench, &kept, "Other").await.unwrap_err(),
                    _ => bench.projects.delete(kept.clone()).await.unwrap_err(),
                };
                assert_eq!(code(&refused), Some(ErrorCode::StoreUnavailable), "{change}");
                assert_eq!(
                    names(&bench).await,
                    ["Kept"],
                    "lists are read while nothing is written"
                );
                broken.store(false, Ordering::Relaxed);
                // Written again, so that the next failure is one of the change itself.
                rename(&bench, &kept, "Kept").await.unwrap();
                let told = bench.frame("project_upserted").await;
                assert_eq!(told["payload"]["project"]["name"], "Kept", "{change}");
                let stored = read_projects(&disk).unwrap().records;
                let stored: Vec<_> = stored.into_iter().map(|record| record.name).collect();
                assert_eq!(stored, ["Kept"], "{change}");
            }
        }
        project(&bench, "New").await;
        let told = bench.frame("project_upserted").await;
        assert_eq!(told["payload"]["project"]["name"], "New");
        drop(bench);
        assert_eq!(names(&Bench::new(disk).await).await, ["Kept", "New"]);
    });
}

#[test]
fn what_fails_with_one_session_is_said_of_that_one() {
    on_system(async {
        // There is no child here, so nothing can be archived or deleted.
        let mut bench = Bench::new(MemoryStore::default()).await;
        let project = project(&bench, "P").await;
        for id in ["a", "b"] {
            let session = session(&bench, id).await;
            bench.projects.assign(session, Some(project.clone())).await.unwrap();
        }
        let moved = bench.projects.move_all(project.clone(), true).await.unwrap();
        let removed = bench.projects.delete_all(project.clone()).await.unwrap();
        assert_eq!((moved.moved, removed.deleted), (0, 0));
        for failures in [moved.failures, removed.failures] {
            let mut failed: Vec<_> = failures.iter().map(|(id, _)| id.as_str()).collect();
            failed.sort_unstable();
            assert_eq!(failed, ["a", "b"]);
            let unavailable = |error: &SessionError| {
                matches!(error,
                SessionError::Failed(failure) if failure.code == ErrorCode::RuntimeUnavailable)
            };
            assert!(failures.iter().all(|(_, error)| unavailable(error)), "{failures:?}");
        }
        assert_eq!(bench.projects.delete(project.clone()).await, Err(ProjectError::NotEmpty(2)));
        let moved = bench.projects.move_all(project.clone(), false).await.unwrap();
        assert_eq!(moved, Moved { moved: 2, ..Moved::default() });
        for _ in 0..2 {
            bench.frame("session_project_updated").await;
        }
        let told = bench.frame("session_project_updated").await["payload"].clone();
        assert_eq!(told["projectId"], Value::Null);
        assert_eq!(told.as_object().map(serde_json::Map::len), Some(2), "as in version 1");
        // Nothing is left to do.
        let again = bench.projects.move_all(project.clone(), true).await.unwrap();
        assert_eq!(again, Moved::default());
        assert_eq!(bench.projects.delete_all(project.clone()).await, Ok(Removed::default()));
        assert_eq!(bench.projects.delete(project.clone()).await, Ok(()));
        let gone = Err(ProjectError::NotFound);
        assert_eq!(bench.projects.move_all(project.clone(), false).await, gone);
        assert_eq!(bench.projects.delete_all(project).await, Err(ProjectError::NotFound));
    });
}

#[test]
fn a_session_that_left_the_project_is_left_alone() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        let (here, there) = (project(&bench, "Here").await, project(&bench, "There").await);
        let session = session(&bench, "t").await;
        bench.projects.assign(session.clone(), Some(there.clone())).await.unwrap();
        // As it was when somebody looked for it.
        let member = Member { id: session.clone(), project: here, archived: false };
        let left = || Err(SessionError::NotInProject(session.clone()));
        assert_eq!(bench.threads.release_member(&member).await.map(|_| ()), left());
        assert_eq!(bench.threads.archive_member(&member).await, left());
        assert_eq!(bench.threads.delete_member(&member).await.map(|_| ()), left());
        assert_eq!(listed(&bench, ProjectFilter::Of(there)).await, ["t"]);
    });
}

#[test]
fn a_session_whose_project_is_gone_is_taken_out_of_it_at_the_start() {
    on_system(async {
        let disk = Disk::default();
        let bench = Bench::new(disk.clone()).await;
        bench.says(vec![turn_started(), turn_ended()]).await;
        bench.detail().await;
        drop(bench);
        let mut stray = read_thread(&disk, &thread()).unwrap().unwrap().record;
        stray.project_id = Some(ProjectId::parse("gone").unwrap());
        let mut batch = WriteBatch::default();
        put_thread(&mut batch, &stray).unwrap();
        disk.commit(&[batch]).unwrap();
        let bench = Bench::new(disk.clone()).await;
        // It may have been told before anybody could hear of it.
        let listed = async {
            while listed(&bench, ProjectFilter::Unassigned).await != ["t"] {
                settle().await;
            }
        };
        timeout(DEADLINE, listed).await.expect("it is in no project");
        assert_eq!(read_thread(&disk, &thread()).unwrap().unwrap().record.project_id, None);
    });
}
