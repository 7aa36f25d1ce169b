//! A data directory of version 1, made by its documented format around threads of the real codex.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cm_core::compat::Version;
use cm_testkit::app_server::{AppServerClient, Received};
use cm_testkit::codex::codex_binary;
use cm_testkit::dirs::TestDir;
use cm_testkit::model::{ScriptedModel, Step, config_toml, prompt};
use serde_json::{Map, Value, json};

use crate::common::{DEADLINE, MANAGER, text};

/// The directory of version 1, and what its codex asks.
pub(crate) struct Version1 {
    /// The scripted model; the configuration names its address.
    pub(crate) model: ScriptedModel,
    root: PathBuf,
    client: AppServerClient,
    sequence: u64,
    ledger: Map<String, Value>,
}

impl Version1 {
    /// Starts the codex of version 1 below a folder.
    #[track_caller]
    pub(crate) fn start(dir: &TestDir, version: &str) -> Self {
        let binary = codex_binary(version).expect("tests/run installs the codex versions");
        let model = ScriptedModel::start();
        dir.write("v1/codex-home/config.toml", config_toml(&model.base_url()));
        let (root, home) = (dir.join("v1"), dir.join("v1/codex-home"));
        let environment = [
            ("CODEX_HOME", home.to_str().expect("a path")),
            ("HOME", dir.path().to_str().expect("a path")),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let mut client = AppServerClient::spawn(&binary, &environment);
        client.initialize();
        Self { model, root, client, sequence: 1, ledger: Map::new() }
    }

    /// A thread with one turn, of which version 1 wrote rows; answers thread and turn.
    #[track_caller]
    pub(crate) fn thread(
        &mut self,
        cwd: &Path,
        steps: impl IntoIterator<Item = Step>,
    ) -> (String, String) {
        let params = json!({ "cwd": cwd, "approvalPolicy": "never", "sandbox": "read-only" });
        let thread = text(&self.client.call("thread/start", params)["thread"]["id"]);
        let name = json!({ "threadId": thread, "name": "New chat" });
        self.client.call("thread/name/set", name);
        let words = prompt("go", steps);
        let input = json!([{ "type": "text", "text": words, "text_elements": [] }]);
        let turn = self.client.call("turn/start", json!({ "threadId": thread, "input": input }));
        let turn = text(&turn["turn"]["id"]);
        self.client.wait_for("the end of the turn", DEADLINE, |message| {
            message["method"] == "turn/completed" && message["params"]["turn"]["id"] == *turn
        });
        let rows = self.rows(&thread);
        self.ledger.insert(thread.clone(), rows);
        (thread, turn)
    }

    /// Archives a thread.
    #[track_caller]
    pub(crate) fn archive(&mut self, thread: &str) {
        self.client.call("thread/archive", json!({ "threadId": thread }));
    }

    /// The rows that version 1 writes while a thread's items stream.
    fn rows(&mut self, thread: &str) -> Value {
        let items: Vec<Value> = self.client.output().read(|all| {
            let messages = all.iter().filter_map(Received::message);
            let is_item = |message: &&Value| {
                matches!(message["method"].as_str(), Some("item/started" | "item/completed"))
                    && message["params"]["threadId"] == *thread
            };
            messages.filter(is_item).map(|message| message["params"].clone()).collect()
        });
        let mut rows: Vec<(String, Value)> = Vec::new();
        for params in items {
            let id = text(&params["item"]["id"]);
            let entry = entry(&params);
            match rows.iter_mut().find(|(known, _)| *known == id) {
                Some((_, row)) => row["entry"] = entry,
                None => {
                    rows.push((id, json!({ "sequence": self.sequence, "entry": entry })));
                    self.sequence += 1;
                }
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Adds a row that is not the runtime's.
    pub(crate) fn row(&mut self, thread: &str, entry: Value) {
        let row = json!({ "sequence": self.sequence, "entry": entry });
        self.sequence += 1;
        let rows = self.ledger.entry(thread).or_insert_with(|| json!([]));
        rows.as_array_mut().expect("rows").push(row);
    }

    /// Forgets the rows of a thread: they were lost, or older than the ledger.
    pub(crate) fn forget_rows(&mut self, thread: &str) {
        self.ledger.remove(thread);
    }

    /// Ends its codex and writes its files; answers the directory and the model.
    #[track_caller]
    pub(crate) fn end(mut self, metadata: &Value, jobs: &Value) -> (PathBuf, ScriptedModel) {
        self.client.close_stdin();
        self.client.wait_exit(DEADLINE);
        let audit = json!({ "version": 1, "records": [{ "reloadId": "r1",
            "recordedAt": "2026-11-26T17:24:51.377Z", "actorRole": "admin", "actorId": null,
            "result": "success", "impactedExtensions": [] }] });
        let ledger = json!({ "version": 1, "sequence": self.sequence, "byThreadId": self.ledger });
        for (name, file) in [
            ("session-metadata.json", metadata),
            ("supplemental-transcript.json", &ledger),
            ("orchestrator-jobs.json", &json!({ "version": 1, "jobs": jobs })),
            ("agent-extension-audit.json", &audit),
        ] {
            std::fs::write(self.root.join(name), format!("{file:#}\n")).expect("a file");
        }
        std::fs::create_dir_all(self.root.join("logs")).expect("a folder");
        std::fs::write(self.root.join("logs/codex.log"), "raw").expect("a file");
        (self.root, self.model)
    }
}

/// The row of an item, as version 1 documents it.
fn entry(params: &Value) -> Value {
    let item = &params["item"];
    let kind = text(&item["type"]);
    let (role, content) = match kind.as_str() {
        "userMessage" => ("user", text(&item["content"][0]["text"])),
        "agentMessage" => ("assistant", text(&item["text"])),
        other => ("system", format!("[{other}]")),
    };
    let mut entry = json!({
        "messageId": item["id"], "turnId": params["turnId"], "role": role, "type": kind,
        "content": content, "status": "complete",
        "startedAt": 1_795_713_891_000_i64, "completedAt": 1_795_713_892_000_i64,
    });
    if role == "system" {
        entry["details"] = format!("{item:#}").into();
    }
    entry
}

/// A job of version 1.
pub(crate) fn job(id: &str, state: &str) -> Value {
    json!({ "id": id, "type": "agent_instruction", "version": 1, "projectId": "p1",
        "sourceSessionId": null, "priority": "interactive", "state": state, "dedupeKey": null,
        "payload": { "agent": "supervisor" }, "result": null, "error": null, "attempts": 1,
        "maxAttempts": 2, "createdAt": "2026-11-26T17:24:51.377Z", "startedAt": null,
        "completedAt": null, "cancelRequestedAt": null, "nextAttemptAt": null,
        "lastAttemptAt": null, "runningContext": { "threadId": null, "turnId": null } })
}

/// A thread's file as codex writes it, with one turn in which somebody said something.
pub(crate) fn rollout(id: &str, cwd: &Path, said: &str) -> String {
    let line = |kind: &str, payload: Value| {
        json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": kind, "payload": payload })
            .to_string()
    };
    let meta = json!({ "id": id, "timestamp": "2026-11-26T17:24:51.365Z", "cwd": cwd,
        "originator": "test", "cli_version": Version::new(0, 140, 0).to_string(),
        "source": "vscode", "model_provider": "mock" });
    let turn = format!("turn-{id}");
    [
        line("session_meta", meta),
        line("event_msg", json!({ "type": "task_started", "turn_id": turn })),
        line("event_msg", json!({ "type": "user_message", "message": said })),
        line("event_msg", json!({ "type": "agent_message", "message": format!("re: {said}") })),
        line("event_msg", json!({ "type": "task_complete", "turn_id": turn })),
    ]
    .join("\n")
}

/// `codex-manager import SOURCE --data-dir DATA …`.
pub(crate) fn command(source: &Path, data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(MANAGER);
    command.arg("import").arg(source).arg("--data-dir").arg(data).args(more);
    // Away from whatever is in the working directory and in the home of the user.
    command.env_clear().env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin");
    command.current_dir(source.parent().expect("a folder"));
    command
}

/// Runs [`command`] with `--json`; answers the report.
#[track_caller]
pub(crate) fn import(source: &Path, data: &Path, more: &[&str]) -> Value {
    let output = command(source, data, more).arg("--json").output().expect("the program runs");
    assert!(output.status.success(), "{}", shown(&output));
    report(&output)
}

/// The report of a command with `--json`.
#[track_caller]
pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", shown(output)))
}

/// What a command printed.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Every file, folder and link below a folder, with what is in it and its mode.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(known) = path.symlink_metadata() else { continue };
        let content = match known.is_file() {
            true => std::fs::read(&path).unwrap_or_default(),
            false => Vec::new(),
        };
        if known.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path, (known.permissions().mode(), content));
    }
    found
}
