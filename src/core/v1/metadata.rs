//! `session-metadata.json`: titles, projects, controls and times of turns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::controls::{choose, read_controls};
use super::moment::moment_ms;
use super::skips::{Skips, shown};
use crate::controls::Controls;
use crate::ids::{ProjectId, ThreadId};
use crate::project::{PROJECT_RECORD_VERSION, ProjectRecord};
use crate::wire::UNTITLED;

/// Longest title, name or folder that is taken, in bytes.
const MOST_TEXT_BYTES: usize = 8 * 1024;

/// When a turn began and ended, in epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnTiming {
    /// When it began.
    pub started_ms: i64,
    /// When it ended, if it did.
    pub ended_ms: Option<i64>,
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Titles that somebody gave.
    pub titles: BTreeMap<ThreadId, String>,
    /// Projects, by their ids.
    pub projects: BTreeMap<ProjectId, ProjectRecord>,
    /// The project of each session that has one.
    pub assignments: BTreeMap<ThreadId, ProjectId>,
    /// Controls of sessions that have their own.
    pub controls: BTreeMap<ThreadId, Controls>,
    /// Controls of new sessions, if the file has them.
    pub defaults: Option<Controls>,
    /// Sessions in which agents of version 1's queue worked.
    pub system_owned: BTreeSet<ThreadId>,
    /// Times of turns.
    pub timings: BTreeMap<ThreadId, BTreeMap<String, TurnTiming>>,
    /// What was left out.
    pub skips: Skips,
}

/// Reads the file. `configured` holds where neither a session nor the file's own defaults say
/// something.
///
/// # Errors
///
/// What is wrong with it, when it is no JSON object.
pub fn read_metadata(text: &str, configured: &Controls) -> Result<Metadata, String> {
    let Value::Object(file) = serde_json::from_str(text).map_err(|error| error.to_string())? else {
        return Err("it is no JSON object".to_owned());
    };
    let mut metadata = Metadata::default();
    metadata.read_projects(&file);
    metadata.read_titles(&file);
    metadata.read_assignments(&file);
    metadata.read_controls(&file, configured);
    metadata.read_owned(&file);
    metadata.read_timings(&file);
    Ok(metadata)
}

/// A member that must be an object; one of the names under which it may be.
fn member<'a>(
    file: &'a Map<String, Value>,
    names: &[&str],
    skips: &mut Skips,
) -> Option<&'a Map<String, Value>> {
    let (name, value) = names.iter().find_map(|name| Some((*name, file.get(*name)?)))?;
    if value.as_object().is_none() && !value.is_null() {
        skips.add(format!("{name} in session-metadata.json"), "it is no JSON object");
    }
    value.as_object()
}

fn thread(id: &str, what: &str, skips: &mut Skips) -> Option<ThreadId> {
    ThreadId::parse(id)
        .inspect_err(|error| {
            skips.add(format!("{what} of session {}", shown(id)), error.to_string())
        })
        .ok()
}

impl Metadata {
    fn read_projects(&mut self, file: &Map<String, Value>) {
        let skips = &mut self.skips;
        for (id, value) in member(file, &["projects"], skips).into_iter().flatten() {
            let mut skip = |why: &str| skips.add(format!("project {}", shown(id)), why);
            let Ok(project) = ProjectId::parse(id) else {
                skip("its id is none");
                continue;
            };
            let name = value.get("name").and_then(Value::as_str).map(str::trim);
            let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= MOST_TEXT_BYTES)
            else {
                skip("it has no name of a sensible length");
                continue;
            };
            let folder = value.get("workingDirectory").and_then(Value::as_str).map(str::trim);
            let folder = folder.filter(|text| !text.is_empty() && text.len() <= MOST_TEXT_BYTES);
            let moment = |name: &str| value.get(name).and_then(moment_ms);
            let created_ms = moment("createdAt").or_else(|| moment("updatedAt")).unwrap_or(0);
            let record = ProjectRecord {
                version: PROJECT_RECORD_VERSION,
                id: project.clone(),
                name: name.to_owned(),
                working_directory: folder.map(str::to_owned),
                created_ms,
                updated_ms: moment("updatedAt").unwrap_or(created_ms),
            };
            self.projects.insert(project, record);
        }
    }

    fn read_titles(&mut self, file: &Map<String, Value>) {
        for (id, value) in member(file, &["titles"], &mut self.skips).into_iter().flatten() {
            let Some(thread) = thread(id, "the title", &mut self.skips) else { continue };
            let title = value.as_str().map(str::trim).unwrap_or_default();
            // Version 1 stored the name of a session that has none.
            if title == UNTITLED || title.is_empty() && value.is_string() {
                continue;
            }
            match title.is_empty() || title.len() > MOST_TEXT_BYTES {
                true => self.skips.add(
                    format!("the title of session {thread}"),
                    "it is no text of a sensible length",
                ),
                false => {
                    self.titles.insert(thread, title.to_owned());
                }
            }
        }
    }

    fn read_assignments(&mut self, file: &Map<String, Value>) {
        let names = ["sessionProjectById", "sessionProjects"];
        for (id, value) in member(file, &names, &mut self.skips).into_iter().flatten() {
            let Some(thread) = thread(id, "the project", &mut self.skips) else { continue };
            let project = value.as_str().and_then(|id| ProjectId::parse(id).ok());
            // Version 1 forgets assignments to projects that are gone, too.
            if let Some(project) = project.filter(|id| self.projects.contains_key(id)) {
                self.assignments.insert(thread, project);
            }
        }
    }

    fn read_controls(&mut self, file: &Map<String, Value>, configured: &Controls) {
        let skips = &mut self.skips;
        self.defaults = file
            .get("defaultSessionControls")
            .filter(|value| !value.is_null())
            .map(|value| read_controls(value, configured, "new sessions", skips));
        let base = self.defaults.as_ref().unwrap_or(configured);
        let policies = member(file, &["sessionApprovalPolicyById"], skips);
        for (id, value) in policies.into_iter().flatten() {
            let Some(thread) = thread(id, "the approval policy", skips) else { continue };
            let mut controls = base.clone();
            let given = value.as_str().map(str::to_owned);
            choose(given, &mut controls.approval_policy, "approvalPolicy", thread.as_str(), skips);
            self.controls.insert(thread, controls);
        }
        for (id, value) in member(file, &["sessionControlsById"], skips).into_iter().flatten() {
            let Some(thread) = thread(id, "controls", skips) else { continue };
            let controls = read_controls(value, base, thread.as_str(), skips);
            self.controls.insert(thread, controls);
        }
    }

    fn read_owned(&mut self, file: &Map<String, Value>) {
        for (id, value) in
            member(file, &["systemOwnedSessionIds"], &mut self.skips).into_iter().flatten()
        {
            if value.as_bool() == Some(true) {
                self.system_owned.extend(thread(id, "the owner", &mut self.skips));
            }
        }
        let agents = member(file, &["projectAgentSessionByKey"], &mut self.skips);
        for id in agents.into_iter().flatten().filter_map(|(_, id)| id.as_str()) {
            self.system_owned.extend(thread(id, "the agent", &mut self.skips));
        }
    }

    fn read_timings(&mut self, file: &Map<String, Value>) {
        const STARTED: [&str; 4] = ["startedAt", "started_at", "startTime", "start_time"];
        const ENDED: [&str; 6] =
            ["completedAt", "completed_at", "endTime", "end_time", "endedAt", "ended_at"];
        for (id, turns) in
            member(file, &["turnTimingBySessionId"], &mut self.skips).into_iter().flatten()
        {
            let Some(thread) = thread(id, "times of turns", &mut self.skips) else { continue };
            let timings = self.timings.entry(thread).or_default();
            for (turn, value) in turns.as_object().into_iter().flatten() {
                let first = |names: &[&str]| {
                    names.iter().find_map(|name| value.get(name).and_then(moment_ms))
                };
                let ended_ms = first(&ENDED);
                let Some(started_ms) = first(&STARTED).or(ended_ms) else { continue };
                let ended_ms = ended_ms.filter(|ended| *ended >= started_ms);
                timings.insert(turn.clone(), TurnTiming { started_ms, ended_ms });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::{ApprovalPolicy, SandboxMode};
    use serde_json::json;

    fn id(text: &str) -> ThreadId {
        ThreadId::parse(text).unwrap()
    }

    #[test]
    fn everything_that_version_1_keeps_is_read() {
        let file = json!({
            "titles": { "a": " Mine ", "b": "New chat" },
            "projects": { "p": { "name": "One", "workingDirectory": null,
                "createdAt": "2026-11-26T17:24:51.377Z", "updatedAt": 1_795_713_892_000_i64 } },
            "sessionProjectById": { "a": "p", "b": "gone" },
            "sessionApprovalPolicyById": { "b": "never" },
            "sessionControlsById": { "a": { "model": null, "approvalPolicy": "on-request",
                "networkAccess": "restricted", "filesystemSandbox": "workspace-write",
                "settings": { "k": 1 } } },
            "defaultSessionControls": { "model": "m", "approvalPolicy": "untrusted",
                "networkAccess": "restricted", "filesystemSandbox": "read-only", "settings": {} },
            "projectAgentSessionByKey": { "p::supervisor": "c" },
            "systemOwnedSessionIds": { "d": true, "e": false },
            "turnTimingBySessionId": { "a": { "t1": { "startedAt": 1_795_713_891_000_i64,
                "completedAt": 1_795_713_892_000_i64 }, "t2": { "start_time": 1_795_713_893 } } },
        });
        let read = read_metadata(&file.to_string(), &Controls::default()).unwrap();
        assert!(read.skips.is_empty(), "{:?}", read.skips);
        assert_eq!(read.titles, BTreeMap::from([(id("a"), "Mine".to_owned())]));
        let project = &read.projects[&ProjectId::parse("p").unwrap()];
        assert_eq!((project.name.as_str(), project.created_ms), ("One", 1_795_713_891_377));
        assert_eq!(read.assignments.len(), 1);
        assert_eq!(read.controls[&id("a")].settings["k"], 1);
        assert_eq!(read.controls[&id("a")].filesystem_sandbox, SandboxMode::WorkspaceWrite);
        let legacy = &read.controls[&id("b")];
        assert_eq!(legacy.approval_policy, ApprovalPolicy::Never);
        assert_eq!(legacy.model.as_deref(), Some("m"), "the defaults with that policy");
        assert_eq!(read.system_owned, BTreeSet::from([id("c"), id("d")]));
        let turns = &read.timings[&id("a")];
        assert_eq!(turns["t1"].ended_ms, Some(1_795_713_892_000));
        assert_eq!(turns["t2"], TurnTiming { started_ms: 1_795_713_893_000, ended_ms: None });
    }

    #[test]
    fn strange_ids_are_harmless_and_named() {
        let file = json!({
            "titles": { "__proto__": "x", "../../etc/passwd": "y", "": "z", "ok": 7 },
            "projects": { "__proto__": { "name": "p" }, "a/b": { "name": "q" }, "c": 1 },
            "sessionProjectById": { "constructor": "__proto__", "x": "toString" },
            "turnTimingBySessionId": [],
        });
        let read = read_metadata(&file.to_string(), &Controls::default()).unwrap();
        assert_eq!(read.titles.keys().map(ThreadId::as_str).collect::<Vec<_>>(), ["__proto__"]);
        assert_eq!(read.projects.len(), 1);
        assert_eq!(read.assignments.len(), 1);
        let named: Vec<&str> = read.skips.named.iter().map(|skip| skip.what.as_str()).collect();
        assert!(named.iter().any(|what| what.contains("../../etc/passwd")), "{named:?}");
        assert_eq!(read.skips.len(), 6, "{named:?}");
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["", "{", "[]", "null", "{\"titles\":{\"a\":\"b\"}"] {
            assert!(read_metadata(text, &Controls::default()).is_err(), "{text}");
        }
        assert_eq!(read_metadata("{}", &Controls::default()).unwrap(), Metadata::default());
    }
}
