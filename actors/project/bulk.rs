//! What is done with all sessions of a project, some at a time and beside everything else. What
//! fails with one of them does not keep the others from it, and may be asked for again.

use actix::prelude::*;
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::{ProjectId, ThreadId};
use futures_util::{StreamExt, stream};

use super::actor::Projects;
use super::error::ProjectError;
use super::messages::{DeleteAll, MoveAll};
use crate::index::Member;
use crate::thread::{SessionError, ThreadsHandle};

/// Sessions of one operation that are worked on at the same time. The others wait.
const AT_ONCE: usize = 4;

/// Operations that may run: together they have at most half of the calls that the child may have at
/// once. Overflow rule: further ones are refused with `overloaded`.
const MAX_BULKS: usize = 8;

/// Sessions with which it did not succeed, and why.
pub(super) type Failures = Vec<(ThreadId, SessionError)>;

/// What became of the sessions of a project that were moved out of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moved {
    /// Sessions that no longer are in it.
    pub moved: usize,
    /// Those of them that were archived now.
    pub archived: usize,
    /// Those of them that had been archived before.
    pub already_archived: usize,
    /// Those that stayed.
    pub failures: Failures,
}

/// What became of the sessions of a project that were deleted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Removed {
    /// Sessions that were deleted.
    pub deleted: usize,
    /// Sessions that were gone, or in another project, when it was their turn.
    pub skipped: usize,
    /// Those that stayed.
    pub failures: Failures,
}

/// Whether a session left the project, or this world, before it was its turn.
fn has_left(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::NotFound(_) | SessionError::Deleted(_) | SessionError::NotInProject(_)
    )
}

impl Projects {
    /// Does something with each session of a project.
    fn each_session<W: Future<Output = Result<(), SessionError>> + 'static>(
        &mut self,
        project: ProjectId,
        work: impl Fn(ThreadsHandle, Member) -> W + 'static,
    ) -> ResponseActFuture<Self, Result<Vec<Outcome>, ProjectError>> {
        if self.book.get(&project).is_none() {
            return Box::pin(actix::fut::ready(Err(ProjectError::NotFound)));
        }
        if self.bulks >= MAX_BULKS {
            let message = "Too much is being done with all sessions of projects; try again later.";
            let failure = Failure::new(ErrorCode::Overloaded, message);
            return Box::pin(actix::fut::ready(Err(ProjectError::Failed(failure))));
        }
        self.bulks += 1;
        let threads = self.threads.clone();
        let all = async move {
            let members = threads.members(Some(project)).await?;
            let each = stream::iter(members).map(|member| {
                let done = work(threads.clone(), member.clone());
                async move { Outcome { result: done.await, member } }
            });
            Ok(each.buffered(AT_ONCE).collect().await)
        };
        Box::pin(all.into_actor(self).map(|outcomes, projects, _| {
            projects.bulks -= 1;
            outcomes
        }))
    }

    /// Takes sessions out of projects that are not there.
    pub(super) fn release_strays(&self, ctx: &mut Context<Self>) {
        let threads = self.threads.clone();
        let members = async move { threads.members(None).await };
        let release = members.into_actor(self).then(|members, projects, _| {
            let members = members.unwrap_or_else(|error| {
                tracing::error!(?error, "sessions of projects that are gone were not looked for");
                Vec::new()
            });
            let known = |member: &Member| projects.book.get(&member.project).is_some();
            let strays: Vec<Member> = members.into_iter().filter(|member| !known(member)).collect();
            let threads = projects.threads.clone();
            let work = async move {
                for stray in strays {
                    let released = threads.release_member(&stray).await;
                    tracing::warn!(thread = %stray.id, project = %stray.project, ?released,
                        "a session was in a project that is gone");
                }
            };
            work.into_actor(projects)
        });
        ctx.spawn(release);
    }
}

/// What became of one session.
struct Outcome {
    member: Member,
    result: Result<(), SessionError>,
}

impl Handler<MoveAll> for Projects {
    type Result = ResponseActFuture<Self, Result<Moved, ProjectError>>;

    fn handle(&mut self, message: MoveAll, _: &mut Self::Context) -> Self::Result {
        let MoveAll { project, archive } = message;
        let outcomes = self.each_session(project, move |threads, member| async move {
            if archive {
                threads.archive_member(&member).await?;
            }
            threads.release_member(&member).await.map(|_| ())
        });
        Box::pin(outcomes.map(move |outcomes, _, _| {
            let mut moved = Moved::default();
            for Outcome { member, result } in outcomes? {
                match result {
                    Ok(()) => {
                        moved.moved += 1;
                        moved.archived += usize::from(archive && !member.archived);
                        moved.already_archived += usize::from(archive && member.archived);
                    }
                    Err(error) if has_left(&error) => {}
                    Err(error) => moved.failures.push((member.id, error)),
                }
            }
            Ok(moved)
        }))
    }
}

impl Handler<DeleteAll> for Projects {
    type Result = ResponseActFuture<Self, Result<Removed, ProjectError>>;

    fn handle(&mut self, DeleteAll(project): DeleteAll, _: &mut Self::Context) -> Self::Result {
        let outcomes = self.each_session(project, |threads, member| async move {
            threads.delete_member(&member).await.map(|_| ())
        });
        Box::pin(outcomes.map(|outcomes, _, _| {
            let mut removed = Removed::default();
            for Outcome { member, result } in outcomes? {
                match result {
                    Ok(()) => removed.deleted += 1,
                    Err(error) if has_left(&error) => removed.skipped += 1,
                    Err(error) => removed.failures.push((member.id, error)),
                }
            }
            Ok(removed)
        }))
    }
}
