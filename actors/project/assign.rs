//! Sessions into projects, and the end of projects: the two that must not miss one another.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::error::{ErrorCode, Failure};
use cm_core::wire::SessionProject;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::actor::{Change, Projects};
use super::error::ProjectError;
use super::messages::{AssignSession, DeleteProject};
use crate::thread::Place;

/// How long an assignment waits for deletions, and a deletion for assignments.
const GATE_PATIENCE: Duration = Duration::from_secs(10);

/// Assignments that may be unanswered. Overflow rule: they are refused with `overloaded`.
const MAX_ASSIGNING: usize = 1024;

fn overloaded(message: &str) -> ProjectError {
    ProjectError::Failed(Failure::new(ErrorCode::Overloaded, message))
}

impl Handler<AssignSession> for Projects {
    type Result = ResponseActFuture<Self, Result<SessionProject, ProjectError>>;

    fn handle(&mut self, message: AssignSession, _: &mut Self::Context) -> Self::Result {
        let AssignSession { session, project } = message;
        let threads = self.threads.clone();
        if self.assigning >= MAX_ASSIGNING {
            let error = overloaded("Too many sessions are being assigned; try again shortly.");
            return Box::pin(actix::fut::ready(Err(error)));
        }
        self.assigning += 1;
        let gate = Arc::clone(&self.gate);
        let pass = async move {
            match project {
                None => Ok(None),
                Some(project) => match timeout(GATE_PATIENCE, gate.read_owned()).await {
                    Ok(held) => Ok(Some(Place { project, _held: held })),
                    Err(_) => Err(overloaded("A project is being deleted; try again shortly.")),
                },
            }
        };
        let assigned = pass.into_actor(self).then(move |place, projects, _| {
            // Looked for behind the gate: from here to the thread's answer nothing deletes it.
            let place = place.and_then(|place| match &place {
                Some(place) if projects.book.get(&place.project).is_none() => {
                    Err(ProjectError::NotFound)
                }
                _ => Ok(place),
            });
            let assign = async move { Ok(threads.assign(&session, place?).await?) };
            assign.into_actor(projects)
        });
        Box::pin(assigned.map(|assigned, projects, _| {
            projects.assigning -= 1;
            assigned
        }))
    }
}

impl Handler<DeleteProject> for Projects {
    type Result = ResponseActFuture<Self, Result<(), ProjectError>>;

    fn handle(&mut self, DeleteProject(id): DeleteProject, _: &mut Self::Context) -> Self::Result {
        if self.book.get(&id).is_none() {
            return Box::pin(actix::fut::ready(Err(ProjectError::NotFound)));
        }
        let (gate, threads, wanted) = (Arc::clone(&self.gate), self.threads.clone(), id.clone());
        let alone = async move {
            let busy = "Sessions are being assigned to projects; try again shortly.";
            let held =
                timeout(GATE_PATIENCE, gate.write_owned()).await.map_err(|_| overloaded(busy))?;
            // Lists know sessions that exist, and of each where it is: nothing is on its way.
            match threads.members(Some(wanted)).await?.len() {
                0 => Ok(held),
                count => Err(ProjectError::NotEmpty(count)),
            }
        };
        Box::pin(alone.into_actor(self).then(move |held, projects: &mut Self, ctx| {
            let (told, deleted) = oneshot::channel();
            let change = match held {
                // Another deletion was first.
                Ok(_) if projects.book.get(&id).is_none() => Err(ProjectError::NotFound),
                Ok(held) => Ok((projects.change(Change::Remove(id)), held)),
                Err(error) => Err(error),
            };
            match change {
                Err(error) => {
                    told.send(Err(error)).ok();
                }
                Ok((change, held)) => ctx.wait(change.map(move |stored, _, _| {
                    drop(held);
                    // Whoever asked may have stopped waiting.
                    told.send(stored).ok();
                })),
            }
            let ended = || overloaded("The deletion was given up; look at the projects.");
            let answer = async move { deleted.await.unwrap_or_else(|_| Err(ended())) };
            answer.into_actor(projects)
        }))
    }
}
