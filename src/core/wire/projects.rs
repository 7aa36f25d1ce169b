//! Projects, and which sessions belong to them.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::ids::{ProjectId, ThreadId};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSummary {
    /// Its id.
    #[schema(value_type = String)]
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Where its sessions work by default; it need not exist.
    #[schema(required)]
    pub working_directory: Option<String>,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// ISO-8601 UTC.
    pub updated_at: String,
}

/// `GET /api/projects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// All projects, sorted by name without regard to case.
    pub data: Vec<ProjectSummary>,
}

/// Body of `POST /api/projects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateProject {
    /// 1 to 120 characters after trimming; no other project may have it, whatever its case.
    #[schema(min_length = 1, max_length = 120)]
    pub name: String,
    /// 1 to 2,000 characters after trimming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 2000)]
    pub working_directory: Option<String>,
}

/// Body of `POST /api/projects/:id/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateProject {
    /// 1 to 120 characters after trimming; no other project may have it, whatever its case.
    #[schema(min_length = 1, max_length = 120)]
    pub name: String,
    /// Absent: it stays. `null`: there is none any more. Else 1 to 2,000 characters after trimming.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000)]
    pub working_directory: Option<Option<String>>,
}

/// Tells `null` from a member that is absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Answer of `POST /api/projects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectCreated {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The project.
    pub project: ProjectSummary,
    /// Always `null`; version 1 has it.
    #[schema(required)]
    pub orchestration_session: Option<String>,
}

/// Answer of `POST /api/projects/:id/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectSaved {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The project.
    pub project: ProjectSummary,
}

/// Answer of `DELETE /api/projects/:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectDeleted {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The project.
    #[schema(value_type = String)]
    pub project_id: ProjectId,
    /// Always 0: a project with sessions is not deleted.
    pub unassigned_session_count: usize,
}

/// A session that an agent of a project works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSession {
    /// The agent's name.
    pub agent: String,
    /// The session.
    #[schema(value_type = String)]
    pub session_id: ThreadId,
    /// Whether the manager made it for itself.
    pub system_owned: bool,
}

/// Answer of `GET /api/projects/:id/agent-sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSessions {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The owner as it was asked for: a project, or `session:<id>`.
    pub project_id: String,
    /// The sessions of its agents.
    pub data: Vec<AgentSession>,
}

/// Where sessions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MoveDestination {
    /// Out of the project.
    Unassigned,
    /// Out of the project and into the archive.
    Archive,
}

/// Body of `POST /api/projects/:id/chats/move-all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveSessions {
    /// Where they go.
    pub destination: MoveDestination,
}

/// A session with which something did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionFailure {
    /// The session.
    #[schema(value_type = String)]
    pub session_id: ThreadId,
    /// Why, as a stable code.
    pub code: String,
    /// Why, for a person.
    pub message: String,
}

/// Answer of `POST /api/projects/:id/chats/move-all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionsMoved {
    /// `ok`; `partial` when there are failures.
    #[schema(pattern = "^(ok|partial)$")]
    pub status: String,
    /// The project.
    #[schema(value_type = String)]
    pub project_id: ProjectId,
    /// Where they went.
    pub destination: MoveDestination,
    /// Sessions that were in the project and no longer are.
    pub moved_session_count: usize,
    /// Those of them that were archived now.
    pub archived_session_count: usize,
    /// Those of them that had been archived before.
    pub already_archived_session_count: usize,
    /// Sessions that stayed; an addition to version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<SessionFailure>,
}

/// Answer of `POST /api/projects/:id/chats/delete-all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionsDeleted {
    /// `ok`; `partial` when there are failures.
    #[schema(pattern = "^(ok|partial)$")]
    pub status: String,
    /// The project.
    #[schema(value_type = String)]
    pub project_id: ProjectId,
    /// Sessions that were deleted.
    pub deleted_session_count: usize,
    /// Sessions that were gone, or in another project, when it was their turn.
    pub skipped_session_count: usize,
    /// Sessions that stayed; an addition to version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<SessionFailure>,
}

/// Body of `POST /api/sessions/:id/project`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignProject {
    /// The project; `null` takes the session out of the one that it is in. It must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required, min_length = 1, max_length = 200)]
    pub project_id: Option<String>,
}

/// Answer of `POST /api/sessions/:id/project`, and payload of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionProject {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    #[schema(value_type = String)]
    pub session_id: ThreadId,
    /// The project that it is in now.
    #[schema(required)]
    pub project_id: Option<ProjectId>,
    /// The project that it was in before.
    #[schema(required)]
    pub previous_project_id: Option<ProjectId>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_is_absent_is_not_one_that_is_null() {
        let update = |body| serde_json::from_value::<UpdateProject>(body).unwrap();
        assert_eq!(update(json!({ "name": "a" })).working_directory, None);
        let cleared = update(json!({ "name": "a", "workingDirectory": null }));
        assert_eq!(cleared.working_directory, Some(None));
        let set = update(json!({ "name": "a", "workingDirectory": "/" }));
        assert_eq!(set.working_directory, Some(Some("/".to_owned())));
        assert!(serde_json::from_value::<AssignProject>(json!({})).is_err());
        let none = serde_json::from_value::<AssignProject>(json!({ "projectId": null })).unwrap();
        assert_eq!(none.project_id, None);
    }
}
