//! Threads, and what calls about them answer: the members that codex 0.169 sends and a client
//! reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output::{append_line, new_id, now_ms};

/// A conversation.
#[derive(Debug, Clone)]
pub(super) struct Thread {
    id: String,
    cwd: String,
    model: String,
    approval_policy: Value,
    sandbox: Value,
    name: Option<String>,
    preview: String,
    archived: bool,
    /// Finished turns of this process.
    turns: Vec<Value>,
    created: u64,
    /// Where it says that its history is.
    path: Option<PathBuf>,
}

/// All threads of this process, and the file that lets the next process know them.
#[derive(Debug, Default)]
pub(super) struct Threads {
    known: BTreeMap<String, Thread>,
    /// The folder of the threads' own files.
    rollouts: Option<PathBuf>,
    /// One line `<thread id> <working directory>` for every thread that had a turn or a name.
    ledger: Option<PathBuf>,
}

impl Threads {
    /// Threads that earlier processes of the same home left.
    pub(super) fn load(home: Option<&Path>) -> Self {
        let ledger = home.map(|home| home.join("fake-threads"));
        let rollouts = home.map(|home| home.join("fake-rollouts"));
        let text = ledger.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let mut known = BTreeMap::new();
        for line in text.unwrap_or_default().lines() {
            if let Some((id, cwd)) = line.split_once(' ') {
                let mut thread = Thread::new(id, &json!({ "cwd": cwd }));
                thread.path = rollouts.as_ref().map(|folder| folder.join(id));
                known.insert(id.to_owned(), thread);
            }
        }
        Self { known, rollouts, ledger }
    }

    /// Starts a thread and answers its id.
    pub(super) fn start(&mut self, params: &Value) -> String {
        let id = new_id();
        let mut thread = Thread::new(&id, params);
        thread.path = self.rollouts.as_ref().map(|folder| folder.join(&id));
        self.known.insert(id.clone(), thread);
        id
    }

    /// Forks a thread before the turn that `params.beforeTurnId` names, or whole; answers the fork's
    /// id.
    ///
    /// # Errors
    ///
    /// The app-server's message for an unknown thread or turn.
    pub(super) fn fork(&mut self, params: &Value) -> Result<String, String> {
        let mut fork = self.get(params)?.clone();
        fork.id = new_id();
        if let Some(turn_id) = params["beforeTurnId"].as_str() {
            fork.revert(turn_id)?;
        }
        fork.apply(params);
        fork.path = self.rollouts.as_ref().map(|folder| folder.join(&fork.id));
        let id = fork.id.clone();
        self.known.insert(id.clone(), fork);
        Ok(id)
    }

    /// The thread that `params.threadId` names.
    ///
    /// # Errors
    ///
    /// The app-server's message for an unknown one.
    pub(super) fn get(&mut self, params: &Value) -> Result<&mut Thread, String> {
        let id = params["threadId"].as_str().unwrap_or_default();
        self.known.get_mut(id).ok_or_else(|| format!("no rollout found for thread id {id}"))
    }

    /// Removes the thread that `params.threadId` names.
    pub(super) fn delete(&mut self, params: &Value) {
        let thread = self.known.remove(params["threadId"].as_str().unwrap_or_default());
        if let Some(path) = thread.and_then(|thread| thread.path) {
            // A file that is not there is as good as deleted.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Lets the next process know a thread.
    pub(super) fn materialise(&self, id: &str) {
        let (Some(ledger), Some(folder)) = (&self.ledger, &self.rollouts) else { return };
        if let Some(thread) = self.known.get(id) {
            append_line(ledger, format!("{id} {}", thread.cwd).as_bytes());
            // Who holds it is looked for; what is in it is nobody's business.
            let _ = std::fs::create_dir_all(folder);
            append_line(&folder.join(id), b"{}");
        }
    }

    /// The answer to `thread/list`: everything on one page.
    pub(super) fn list(&self, params: &Value) -> Value {
        let archived = params["archived"] == true;
        let threads = self.known.values().filter(|thread| thread.archived == archived);
        let data: Vec<Value> = threads.rev().map(|thread| thread.object(false)).collect();
        json!({ "data": data, "nextCursor": null })
    }

    /// The answer to `thread/loaded/list`.
    pub(super) fn loaded(&self) -> Value {
        json!({ "data": self.known.keys().collect::<Vec<_>>(), "nextCursor": null })
    }
}

impl Thread {
    fn new(id: &str, params: &Value) -> Self {
        let mut thread = Self {
            id: id.to_owned(),
            cwd: "/".to_owned(),
            model: "fake-model".to_owned(),
            approval_policy: json!("on-request"),
            sandbox: sandbox_policy("workspace-write"),
            name: None,
            preview: String::new(),
            archived: false,
            turns: Vec::new(),
            created: now_ms() / 1000,
            path: None,
        };
        thread.apply(params);
        thread
    }

    /// Takes over the controls that a start, a resume or a turn names.
    pub(super) fn apply(&mut self, params: &Value) {
        if let Some(cwd) = params["cwd"].as_str() {
            self.cwd = cwd.to_owned();
        }
        if let Some(model) = params["model"].as_str() {
            self.model = model.to_owned();
        }
        if !params["approvalPolicy"].is_null() {
            self.approval_policy = params["approvalPolicy"].clone();
        }
        if let Some(mode) = params["sandbox"].as_str() {
            self.sandbox = sandbox_policy(mode);
        }
        if params["sandboxPolicy"].is_object() {
            self.sandbox = params["sandboxPolicy"].clone();
        }
    }

    pub(super) fn set_name(&mut self, name: &str) {
        self.name = Some(name.to_owned());
    }

    pub(super) fn set_archived(&mut self, archived: bool) {
        self.archived = archived;
    }

    /// Takes the first user text as preview.
    pub(super) fn begin_turn(&mut self, text: &str) {
        if self.preview.is_empty() {
            self.preview = text.to_owned();
        }
    }

    pub(super) fn end_turn(&mut self, turn: Value) {
        self.turns.push(turn);
    }

    /// Takes a turn and those after it back.
    ///
    /// # Errors
    ///
    /// The app-server's message for an unknown turn.
    pub(super) fn revert(&mut self, turn_id: &str) -> Result<(), String> {
        let place = self.turns.iter().position(|turn| turn["id"] == turn_id);
        self.turns.truncate(place.ok_or_else(|| format!("turn not found: {turn_id}"))?);
        Ok(())
    }

    /// Takes so many turns back.
    pub(super) fn roll_back(&mut self, turns: u64) {
        let turns = usize::try_from(turns).unwrap_or(usize::MAX);
        self.turns.truncate(self.turns.len().saturating_sub(turns));
    }

    /// The answer to `thread/turns/list`: everything on one page, newest first.
    pub(super) fn turns(&self) -> Value {
        let data: Vec<&Value> = self.turns.iter().rev().collect();
        json!({ "data": data, "nextCursor": null, "backwardsCursor": null })
    }

    /// The `thread` member of answers and notifications.
    pub(super) fn object(&self, with_turns: bool) -> Value {
        let turns = if with_turns { self.turns.clone() } else { Vec::new() };
        json!({
            "id": self.id,
            "sessionId": self.id,
            "forkedFromId": null,
            "parentThreadId": null,
            "preview": self.preview,
            "ephemeral": false,
            "historyMode": "paginated",
            "modelProvider": "fake",
            "model": self.model,
            "createdAt": self.created,
            "updatedAt": self.created,
            "recencyAt": self.created,
            "status": { "type": "idle" },
            "path": self.path,
            "cwd": self.cwd,
            "cliVersion": "0.169.0",
            "source": "vscode",
            "gitInfo": null,
            "name": self.name,
            "turns": turns,
        })
    }

    /// The answer to `thread/start` and `thread/resume`.
    pub(super) fn opened(&self, with_turns: bool) -> Value {
        json!({
            "thread": self.object(with_turns),
            "model": self.model,
            "modelProvider": "fake",
            "serviceTier": null,
            "cwd": self.cwd,
            "runtimeWorkspaceRoots": [self.cwd],
            "instructionSources": [],
            "approvalPolicy": self.approval_policy,
            "approvalsReviewer": "user",
            "sandbox": self.sandbox,
            "activePermissionProfile": null,
            "reasoningEffort": null,
        })
    }
}

/// The policy object that a sandbox mode stands for.
fn sandbox_policy(mode: &str) -> Value {
    match mode {
        "read-only" => json!({ "type": "readOnly", "networkAccess": false }),
        "danger-full-access" => json!({ "type": "dangerFullAccess" }),
        _ => json!({
            "type": "workspaceWrite",
            "writableRoots": [],
            "networkAccess": false,
            "excludeTmpdirEnvVar": false,
            "excludeSlashTmp": false,
        }),
    }
}
