//! New sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::prelude::*;
use cm_core::compat::{Version, trusts_folder};
use cm_core::controls::{Controls, SandboxMode};
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::ThreadId;
use cm_core::thread::{Kept, THREAD_RECORD_VERSION, ThreadRecord};
use cm_core::wire::{CreateSession, SessionCreated};
use serde_json::{Value, json};

use super::calls::{answer, tool_specs};
use super::config::Cage;
use super::error::SessionError;
use super::inbound::read_outcome;
use super::messages::{Command, Reply, StartSession};
use super::registry::ThreadRegistry;
use crate::app_server::{Call, CallFailure, CallOutcome, Owner};
use crate::clock;

/// What is worth knowing of a session that was made.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) warnings: Vec<String>,
    /// Whether Codex trusts its folder from now on.
    pub(super) trusts_project: bool,
}

/// A session whose `thread/start` or `thread/fork` waits.
#[derive(Debug)]
pub(super) struct PendingCreate {
    pub(super) controls: Controls,
    pub(super) cwd: String,
    pub(super) dynamic_tools: Option<Value>,
    pub(super) remarks: Remarks,
    /// The session that it is a fork of.
    pub(super) source: Option<Box<ThreadRecord>>,
    pub(super) reply: Reply<SessionCreated>,
}

/// Where a session is to work.
struct Folder {
    path: PathBuf,
    /// Whether it lies in a repository.
    in_repository: bool,
}

impl Handler<StartSession> for ThreadRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(
        &mut self,
        StartSession { body, reply }: StartSession,
        _: &mut Self::Context,
    ) -> Self::Result {
        let config = Arc::clone(&self.shared.config);
        let controls = self.defaults().patched(&body.patch());
        // A relative folder means the one that the child would take it for.
        let cwd = config.default_cwd.join(body.cwd.as_deref().unwrap_or_default());
        let (folder, sandbox) = (cwd.clone(), controls.filesystem_sandbox);
        let look = self.shared.paths.look(move || {
            config
                .cage
                .check(&folder, sandbox)
                .map_err(|error| Failure::new(ErrorCode::UnsafeWorkspace, error.to_string()))?;
            check_cwd(&folder)?;
            Ok(folder.ancestors().any(|folder| folder.join(".git").exists()))
        });
        Box::pin(look.into_actor(self).map(move |looked, registry, _| {
            let in_repository = match looked.and_then(|looked| looked) {
                Ok(in_repository) => in_repository,
                Err(failure) => return answer(reply, Err(failure.into())),
            };
            let folder = Folder { path: cwd, in_repository };
            if let Err((reply, error)) = registry.create(body, controls, &folder, reply) {
                answer(reply, Err(error));
            }
        }))
    }
}

impl ThreadRegistry {
    fn create(
        &mut self,
        body: CreateSession,
        controls: Controls,
        folder: &Folder,
        reply: Reply<SessionCreated>,
    ) -> Result<(), (Reply<SessionCreated>, SessionError)> {
        let Some(up) = &self.runtime else {
            return Err((reply, CallFailure::Unavailable.failure("thread/start").into()));
        };
        let dynamic_tools = body
            .dynamic_tools
            .filter(|tools| !tools.is_empty())
            .map(|tools| tool_specs(&tools, up.profile.version));
        let cwd = folder.path.to_string_lossy().into_owned();
        let version = up.profile.version;
        let params = start_params(&cwd, &controls, dynamic_tools.as_ref(), version);
        let token = self.shared.next_token();
        let call = Call {
            owner: Owner::Registry { token },
            method: "thread/start",
            params,
            deadline: None,
            background: false,
        };
        if let Err(error) = self.shared.app_server.start_call(call) {
            return Err((reply, error.failure("thread/start").into()));
        }
        let may_write = controls.filesystem_sandbox != SandboxMode::ReadOnly;
        let remarks = Remarks {
            warnings: Cage::warning(controls.filesystem_sandbox).into_iter().collect(),
            trusts_project: may_write && trusts_folder(up.profile.version, folder.in_repository),
        };
        let pending = PendingCreate { controls, cwd, dynamic_tools, remarks, source: None, reply };
        self.creating.insert(token, pending);
        Ok(())
    }

    /// The child answered `thread/start` or `thread/fork`; the thread's actor is there before
    /// anything else of the
    /// thread is looked at.
    pub(super) fn created(&mut self, token: u64, outcome: &CallOutcome) {
        if self.replaced(token, outcome) {
            return;
        }
        let Some(pending) = self.creating.remove(&token) else {
            return;
        };
        let PendingCreate { controls, cwd, dynamic_tools, remarks, source, reply } = pending;
        let result = match read_outcome(outcome) {
            Ok(result) => result,
            Err(error) => {
                let error = match source {
                    Some(source) if error.is_unknown_thread() => {
                        SessionError::NotMaterialized(source.id)
                    }
                    Some(_) => error.failure("thread/fork").into(),
                    None => error.failure("thread/start").into(),
                };
                return answer(reply, Err(error));
            }
        };
        let id = result.pointer("/thread/id").and_then(Value::as_str);
        let Some(id) = id.and_then(|id| ThreadId::parse(id).ok()) else {
            let message = "The Codex runtime started a thread without a usable id.";
            return answer(reply, Err(SessionError::failed(ErrorCode::CodexError, message)));
        };
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        if let Err(difference) = controls.check_echo(version, &result) {
            let message = format!(
                "The Codex runtime did not take the session's controls: {difference}. \
                 The session was not created."
            );
            return answer(reply, Err(SessionError::failed(ErrorCode::CodexError, message)));
        }
        let now = clock::now_ms().div_euclid(1000);
        let field = |name: &str| {
            result.pointer(&format!("/thread/{name}")).and_then(Value::as_i64).unwrap_or(now)
        };
        let mut record = ThreadRecord {
            version: THREAD_RECORD_VERSION,
            id: id.clone(),
            runtime_id: None,
            replaced: Vec::new(),
            title: None,
            cwd,
            controls,
            dynamic_tools,
            materialized: false,
            archived: false,
            created_at: field("createdAt"),
            updated_at: field("updatedAt"),
            project_id: None,
            compared_at: None,
            thread: Value::Null,
            next_turn: 0,
            next_row: 0,
            kept: Kept::default(),
            problem: None,
            parent: None,
            subagents: Vec::new(),
        };
        if let Some(thread) = result.get("thread") {
            record.adopt(thread);
        }
        if self.living(&id).is_none() {
            self.start_fresh(record.clone());
        }
        if let Some(source) = source {
            return self.hand_on(&id, Command::Forked { source, result, reply });
        }
        let record = Box::new(record);
        self.hand_on(&id, Command::Created { record, result, remarks, reply });
    }

    /// Every session that was being created fails: the child is gone.
    pub(super) fn fail_creating(&mut self) {
        for (_, pending) in self.replacing.drain() {
            pending.fail();
        }
        for (_, pending) in self.creating.drain() {
            let failure = CallFailure::Unavailable.failure("thread/start");
            answer(pending.reply, Err(failure.into()));
        }
    }

    /// The record of a thread that the child speaks of and that nobody created here.
    pub(super) fn unknown_record(&self, id: &ThreadId) -> ThreadRecord {
        let now = clock::now_ms().div_euclid(1000);
        ThreadRecord {
            version: THREAD_RECORD_VERSION,
            id: id.clone(),
            runtime_id: None,
            replaced: Vec::new(),
            title: None,
            cwd: self.shared.config.default_cwd.to_string_lossy().into_owned(),
            controls: self.defaults(),
            dynamic_tools: None,
            materialized: true,
            archived: false,
            created_at: now,
            updated_at: now,
            project_id: None,
            compared_at: None,
            thread: json!({ "id": id }),
            next_turn: 0,
            next_row: 0,
            kept: Kept::default(),
            problem: None,
            parent: self.parents.get(id).cloned(),
            subagents: Vec::new(),
        }
    }
}

/// Params of `thread/start`.
pub(super) fn start_params(
    cwd: &str,
    controls: &Controls,
    dynamic_tools: Option<&Value>,
    version: Option<Version>,
) -> Value {
    let mut params = json!({
        "cwd": cwd,
        "sandbox": controls.filesystem_sandbox.as_str(),
        "approvalPolicy": controls.approval_policy_param(version),
        "config": controls.config_param(),
    });
    if let Some(model) = &controls.model {
        params["model"] = json!(model);
    }
    if let Some(tools) = dynamic_tools {
        params["dynamicTools"] = tools.clone();
    }
    params
}

/// The runtime takes any folder; a person who mistyped one wants to know now.
fn check_cwd(cwd: &Path) -> Result<(), Failure> {
    if cwd.is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::InvalidRequest,
        format!("The working directory {} is not a folder on this machine.", cwd.display()),
    ))
}
