//! A session that never had a turn, and that the runtime no longer has.
//!
//! The runtime writes a thread to its disk with the first turn, some versions with a name. What was
//! not written ends with its process. Nothing was said in it, so a new thread takes its place.

use actix::prelude::*;
use cm_core::controls::{Controls, SandboxMode};
use serde_json::Value;

use super::actor::Thread;
use super::calls::AfterResume;
use super::registry_create::start_params;
use super::replace::Replacement;

impl Thread {
    /// Starts another thread in the place of one that never had a turn.
    pub(super) fn recreate(
        &mut self,
        controls: Controls,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let record = &self.state.record;
        let tools = record.dynamic_tools.as_ref();
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let params = start_params(&record.cwd, &controls, tools, version);
        let may_write = controls.filesystem_sandbox != SandboxMode::ReadOnly;
        let replacement = Replacement {
            method: "thread/start",
            params,
            controls: controls.clone(),
            keeps: false,
            taken: Box::new(move |thread, runtime_id| {
                tracing::info!(thread = %thread.id, runtime_thread = %runtime_id, "another thread \
                    was started for a session that never had a turn");
                let mut content = format!(
                    "The Codex runtime no longer had this session, in which nothing was said yet. \
                     Thread {runtime_id} was started in its place."
                );
                if may_write {
                    content.push_str(" It may write, so Codex may trust its folder from now on.");
                }
                thread.write_replacement("session.thread.recreated", content, runtime_id);
                thread.tell_with_change("recreated");
            }),
        };
        let done = move |thread: &mut Self, result: Result<Value, _>, ctx: &mut Context<Self>| {
            match result {
                // The child may be gone meanwhile, and the thread with it.
                Ok(_) if !thread.is_loaded() => then.refuse(Self::no_runtime().into()),
                Ok(result) => thread.after_resume(then, controls, &result, ctx),
                Err(error) => then.refuse(error),
            }
            thread.finish_recovery(ctx);
        };
        self.replace(replacement, Box::new(done), ctx);
    }
}
