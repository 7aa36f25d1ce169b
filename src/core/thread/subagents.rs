//! Subagents: threads that the agent of another thread starts.

use serde::Deserialize;
use serde_json::Value;

use super::record::ThreadRecord;
use crate::ids::ThreadId;

/// Subagents that a thread names. Overflow rule: further ones are not listed.
pub const MOST_SUBAGENTS: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    /// Of `collabAgentToolCall`: `spawnAgent`, or what is done with an agent that there is.
    tool: Option<String>,
    #[serde(default)]
    receiver_thread_ids: Vec<String>,
    /// Of `subAgentActivity`: `started`, or what came of it.
    kind: Option<String>,
    agent_thread_id: Option<String>,
}

/// The subagents that an item says were started: `collabAgentToolCall` of the first generation of
/// tools, `subAgentActivity` of the second (0.169, models from gpt-6 on).
pub fn started_subagents(kind: &str, item: &str) -> Vec<ThreadId> {
    if !matches!(kind, "collabAgentToolCall" | "subAgentActivity") {
        return Vec::new();
    }
    let Ok(item) = serde_json::from_str::<Started>(item) else { return Vec::new() };
    let ids = match (item.tool.as_deref(), item.kind.as_deref()) {
        (Some("spawnAgent"), _) => item.receiver_thread_ids,
        (None, Some("started")) => item.agent_thread_id.into_iter().collect(),
        _ => Vec::new(),
    };
    ids.iter().filter_map(|id| ThreadId::parse(id).ok()).collect()
}

impl ThreadRecord {
    /// The thread whose subagent it is, as the runtime's thread object says.
    pub fn named_parent(&self) -> Option<ThreadId> {
        let parent = self.thread.get("parentThreadId").and_then(Value::as_str)?;
        ThreadId::parse(parent).ok()
    }

    /// Notes one of its subagents; answers whether it is new.
    pub fn add_subagent(&mut self, child: ThreadId) -> bool {
        let new = !self.subagents.contains(&child) && self.subagents.len() < MOST_SUBAGENTS;
        if new {
            self.subagents.push(child);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(kind: &str, item: &str) -> Vec<String> {
        started_subagents(kind, item).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_generations_of_tools_name_the_agent_that_they_start() {
        let first = r#"{"tool":"spawnAgent","receiverThreadIds":["a"],"kind":null}"#;
        assert_eq!(started("collabAgentToolCall", first), ["a"]);
        let begun = r#"{"tool":"spawnAgent","receiverThreadIds":[]}"#;
        assert!(started("collabAgentToolCall", begun).is_empty());
        let second = r#"{"kind":"started","agentThreadId":"b","agentPath":"/kid"}"#;
        assert_eq!(started("subAgentActivity", second), ["b"]);
    }

    #[test]
    fn what_is_done_with_an_agent_that_there_is_links_nothing() {
        let message = r#"{"tool":"sendInput","receiverThreadIds":["parent"]}"#;
        assert!(started("collabAgentToolCall", message).is_empty());
        let over = r#"{"kind":"completed","agentThreadId":"b"}"#;
        assert!(started("subAgentActivity", over).is_empty());
        let other = r#"{"kind":"started","agentThreadId":"b"}"#;
        assert!(started("commandExecution", other).is_empty());
        assert!(started("subAgentActivity", "[1]").is_empty());
    }
}
