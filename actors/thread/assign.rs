//! Which project a session is in. The thread keeps it; the actor of projects alone asks for a
//! change, since it knows which projects there are.

use actix::prelude::*;
use cm_core::error::Failure;
use cm_core::ids::{ProjectId, ThreadId};
use cm_core::thread::Writes;
use cm_core::wire::SessionProject;
use serde_json::json;
use tokio::sync::{OwnedRwLockReadGuard, oneshot};

use super::actor::Thread;
use super::calls::answer;
use super::error::SessionError;
use super::handle::ThreadsHandle;
use super::messages::{Command, Deleted, FindMembers, Reply};
use crate::index::Member;

/// A project that is not deleted as long as this lives. It goes with the command: whatever becomes
/// of that, and whoever stopped waiting for it, it ends when the session is in the project's list
/// or is not going to be.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) project: ProjectId,
    pub(crate) _held: OwnedRwLockReadGuard<()>,
}

/// What is done with all sessions of a project.
#[derive(Debug)]
pub(super) enum MemberCommand {
    Archive(Reply<()>),
    Delete(Reply<Deleted>),
    /// Takes it out of the project.
    Release(Reply<SessionProject>),
}

impl MemberCommand {
    pub(super) fn refuse(self, error: SessionError) {
        match self {
            Self::Archive(reply) => answer(reply, Err(error)),
            Self::Delete(reply) => answer(reply, Err(error)),
            Self::Release(reply) => answer(reply, Err(error)),
        }
    }
}

impl Thread {
    pub(super) fn assign(&mut self, to: Option<Place>, reply: Reply<SessionProject>) {
        let project = to.as_ref().map(|place| place.project.clone());
        let Some(news) = self.move_to(project) else {
            return answer(reply, Ok(self.stays()));
        };
        self.tell_when_durable("session_project_updated", true, &news);
        self.answer_moved(news, to, reply);
    }

    /// Does something with the session unless it left the project since it was looked for.
    pub(super) fn as_member(
        &mut self,
        project: &ProjectId,
        command: MemberCommand,
        ctx: &mut Context<Self>,
    ) {
        if self.state.record.project_id.as_ref() != Some(project) {
            return command.refuse(SessionError::NotInProject(self.id.clone()));
        }
        match command {
            MemberCommand::Archive(reply) => self.archive(reply, ctx),
            MemberCommand::Delete(reply) => self.delete(reply, ctx),
            MemberCommand::Release(reply) => self.release(reply),
        }
    }

    /// Takes the session out of its project, with the event that version 1 has for many at once.
    fn release(&mut self, reply: Reply<SessionProject>) {
        let Some(news) = self.move_to(None) else {
            return answer(reply, Ok(self.stays()));
        };
        let told = json!({ "sessionId": news.session_id, "projectId": null });
        self.tell_when_durable("session_project_updated", true, &told);
        self.answer_moved(news, None, reply);
    }

    /// The session is where it is to be.
    fn stays(&self) -> SessionProject {
        let project_id = self.state.record.project_id.clone();
        SessionProject {
            status: "ok".to_owned(),
            session_id: self.id.clone(),
            previous_project_id: project_id.clone(),
            project_id,
        }
    }

    /// Moves the session; answers what is to be told, unless it is there already.
    fn move_to(&mut self, project_id: Option<ProjectId>) -> Option<SessionProject> {
        if self.state.record.project_id == project_id {
            return None;
        }
        let record = &mut self.state.record;
        let previous_project_id = std::mem::replace(&mut record.project_id, project_id.clone());
        self.note(Writes { thread: true, ..Writes::default() });
        Some(SessionProject {
            status: "ok".to_owned(),
            session_id: self.id.clone(),
            project_id,
            previous_project_id,
        })
    }

    /// Answers when the move is on the disk. One that could not be stored is taken back: the
    /// manager alone knows of it, so nobody has acted on it.
    fn answer_moved(
        &mut self,
        news: SessionProject,
        to: Option<Place>,
        reply: Reply<SessionProject>,
    ) {
        self.tell_with_change("project");
        self.when_durable(Box::new(move |thread, ctx, stored: Result<(), Failure>| {
            if stored.is_err() {
                thread.state.record.project_id.clone_from(&news.previous_project_id);
                thread.note(Writes { thread: true, ..Writes::default() });
                // Behind what was refused, which may be on the disk all the same.
                let flush = thread.flush();
                ctx.spawn(flush);
            }
            answer(reply, stored.map(|()| news).map_err(SessionError::from));
            // Lists show the session in the project by now.
            drop(to);
        }));
    }
}

/// What the actor of projects asks of sessions.
impl ThreadsHandle {
    /// The sessions of a project; without one those of every project.
    pub(crate) async fn members(
        &self,
        project: Option<ProjectId>,
    ) -> Result<Vec<Member>, SessionError> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(FindMembers { project, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Puts a session into a project, or takes it out of the one that it is in.
    pub(crate) async fn assign(
        &self,
        id: &ThreadId,
        to: Option<Place>,
    ) -> Result<SessionProject, SessionError> {
        self.command(id, |reply| Command::Assign { to, reply }).await
    }

    /// Archives a session of a project.
    pub(crate) async fn archive_member(&self, member: &Member) -> Result<(), SessionError> {
        self.as_member(member, MemberCommand::Archive).await
    }

    /// Deletes a session of a project for good.
    pub(crate) async fn delete_member(&self, member: &Member) -> Result<Deleted, SessionError> {
        self.as_member(member, MemberCommand::Delete).await
    }

    /// Takes a session out of a project.
    pub(crate) async fn release_member(
        &self,
        member: &Member,
    ) -> Result<SessionProject, SessionError> {
        self.as_member(member, MemberCommand::Release).await
    }

    async fn as_member<T>(
        &self,
        member: &Member,
        command: impl FnOnce(Reply<T>) -> MemberCommand,
    ) -> Result<T, SessionError> {
        let project = member.project.clone();
        let wrap = |reply| Command::AsMember { project, command: command(reply) };
        self.command(&member.id, wrap).await
    }
}
