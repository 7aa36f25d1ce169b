//! Which threads there are.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::table::Call;
use crate::server::Server;
use crate::thread::{self, MODEL_PROVIDER, Meta, Status};
use crate::wire::{Fault, lock};

/// Threads per page unless asked otherwise, and at most; as in codex.
const DEFAULT_PAGE: u64 = 25;
const MAX_PAGE: u64 = 100;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct List {
    limit: Option<u64>,
    cursor: Option<String>,
    archived: Option<bool>,
    /// `created_at` (default) or `updated_at`.
    sort_key: Option<String>,
    /// One directory or several.
    cwd: Option<Value>,
    search_term: Option<String>,
    /// Empty or absent: all.
    model_providers: Option<Vec<String>>,
    source_kinds: Option<Vec<String>>,
}

/// Lists the threads on disk, newest first.
pub(super) fn list(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: List = call.params()?;
    let by_update = params.sort_key.as_deref() == Some("updated_at");
    let key = |meta: &Meta| (if by_update { meta.updated_at } else { meta.created_at }, meta.id);
    let after = params.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut found = server.store.all();
    found.retain(|meta| params.selects(meta) && after.is_none_or(|after| key(meta) < after));
    found.sort_by_key(|meta| std::cmp::Reverse(key(meta)));
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|meta| {
        let (time, id) = key(meta);
        format!("{time}|{id}")
    });
    let data: Vec<Value> = found.iter().map(|meta| row(server, meta)).collect();
    call.answer(
        json!({ "data": data, "nextCursor": next, "backwardsCursor": null, "readStates": {} }),
    );
    Ok(())
}

impl List {
    fn selects(&self, meta: &Meta) -> bool {
        let cwd = &meta.settings.cwd;
        let in_cwd = match &self.cwd {
            None | Some(Value::Null) => true,
            Some(Value::Array(several)) => several.iter().any(|one| one == cwd),
            Some(one) => one == cwd,
        };
        let listed = |names: &Option<Vec<String>>, name: &str| match names.as_deref() {
            None | Some([]) => true,
            Some(names) => names.iter().any(|one| one == name),
        };
        let searched = self.search_term.as_deref().is_none_or(|term| {
            meta.preview.contains(term) || meta.name.as_deref().is_some_and(|n| n.contains(term))
        });
        meta.archived == self.archived.unwrap_or(false)
            && in_cwd
            && searched
            && listed(&self.model_providers, MODEL_PROVIDER)
            && listed(&self.source_kinds, "vscode")
    }
}

fn parse_cursor(cursor: &str) -> Result<(u64, Uuid), Fault> {
    let parts = cursor.split_once('|');
    let key = parts.and_then(|(time, id)| Some((time.parse().ok()?, Uuid::parse_str(id).ok()?)));
    key.ok_or_else(|| Fault::invalid(format!("invalid cursor: {cursor}")))
}

fn row(server: &Server, meta: &Meta) -> Value {
    let loaded = lock(&server.threads).get(meta.id);
    let status = loaded.map_or(Status::NotLoaded, |loaded| lock(&loaded.state).status.clone());
    thread::thread(server, meta, &status, Vec::new())
}

/// Lists the ids of the loaded threads.
pub(super) fn loaded(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let _: Value = call.params()?;
    let mut ids: Vec<Uuid> = lock(&server.threads).all().iter().map(|thread| thread.id).collect();
    ids.sort();
    call.answer(json!({ "data": ids, "nextCursor": null }));
    Ok(())
}
