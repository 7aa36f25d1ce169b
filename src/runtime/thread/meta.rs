//! What is remembered about a thread besides its turns.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::settings::Settings;
use crate::wire::now_s;

/// Characters of the first message kept as preview.
const PREVIEW_CHARS: usize = 500;

/// A thread's metadata, rewritten whole whenever it changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Format of the record; 1 so far.
    pub(crate) format: u32,
    pub(crate) id: Uuid,
    pub(crate) forked_from: Option<Uuid>,
    /// Seconds since the Unix epoch.
    pub(crate) created_at: u64,
    /// End of the last turn, seconds since the Unix epoch.
    pub(crate) updated_at: u64,
    /// Start of the first user message.
    pub(crate) preview: String,
    pub(crate) name: Option<String>,
    pub(crate) archived: bool,
    /// Never written to disk.
    pub(crate) ephemeral: bool,
    /// Name of the client that started the thread.
    pub(crate) originator: String,
    pub(crate) settings: Settings,
    /// Tools that the client runs, as declared at `thread/start`.
    pub(crate) dynamic_tools: Vec<Value>,
    /// Estimated tokens read and written since the thread began.
    pub(crate) tokens: (u64, u64),
}

impl Meta {
    /// A new thread in `cwd`.
    pub(crate) fn new(settings: Settings, originator: &str) -> Self {
        let now = now_s();
        Self {
            format: 1,
            id: Uuid::now_v7(),
            forked_from: None,
            created_at: now,
            updated_at: now,
            preview: String::new(),
            name: None,
            archived: false,
            ephemeral: false,
            originator: originator.to_owned(),
            settings,
            dynamic_tools: Vec::new(),
            tokens: (0, 0),
        }
    }

    /// A copy under a new id that remembers where it came from.
    pub(crate) fn forked(&self) -> Self {
        let now = now_s();
        Self {
            id: Uuid::now_v7(),
            forked_from: Some(self.id),
            created_at: now,
            updated_at: now,
            archived: false,
            ..self.clone()
        }
    }

    /// Keeps the start of the first message.
    pub(crate) fn preview_once(&mut self, text: &str) {
        if self.preview.is_empty() {
            self.preview = text.chars().take(PREVIEW_CHARS).collect();
        }
    }
}
