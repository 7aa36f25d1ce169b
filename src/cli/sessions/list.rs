//! `sessions list` and `sessions show`.

use cm_core::wire::{SessionDetail, SessionList};
use serde_json::json;

use super::arguments::{ListArgs, SessionArgs};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::render::{one_line, print_session};
use crate::resolve;
use crate::table::{age, now, short_id_length, table};

/// Prints a list.
pub(super) fn list(arguments: &ListArgs, api: &Api, console: &mut Console) -> Result<(), Failure> {
    let page = if arguments.all {
        let data = resolve::all_sessions(api, arguments.archived)?;
        SessionList { data, next_cursor: None, archived: arguments.archived }
    } else {
        let limit = usize::from(arguments.limit);
        let route =
            resolve::session_page_route(arguments.archived, limit, arguments.cursor.as_deref());
        let raw = api.get_value(&route)?;
        if console.json {
            return console.out_json(&raw);
        }
        api.typed(&route, raw)?
    };
    if console.json {
        return console.out_json(&json!(page));
    }
    print_list(&page, now(), console)
}

fn print_list(page: &SessionList, now: i64, console: &mut Console) -> Result<(), Failure> {
    let ids = page.data.iter().map(|session| session.session_id.as_str());
    if console.quiet {
        for id in ids {
            console.out_line(id)?;
        }
        return Ok(());
    }
    if page.data.is_empty() {
        console.note("no sessions", Style::Dim);
        return Ok(());
    }
    let length = short_id_length(ids);
    let rows: Vec<Vec<String>> = page
        .data
        .iter()
        .map(|session| {
            vec![
                session.session_id.as_str().chars().take(length).collect(),
                one_line(session.label()),
                one_line(&session.activity),
                age(now, session.updated_at),
                one_line(&session.cwd),
            ]
        })
        .collect();
    let text = table(&["ID", "TITLE", "ACTIVITY", "AGE", "CWD"], &rows);
    console.out(&text, Style::Plain)?;
    if let Some(cursor) = &page.next_cursor {
        let cursor = one_line(cursor);
        console.note(&format!("more: --cursor '{cursor}', or --all"), Style::Dim);
    }
    Ok(())
}

/// Prints a transcript.
pub(super) fn show(
    arguments: &SessionArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let session = resolve::session(api, &arguments.session)?;
    let route = format!("/sessions/{session}");
    let raw = api.get_value(&route)?;
    if console.json {
        return console.out_json(&raw);
    }
    let detail: SessionDetail = api.typed(&route, raw)?;
    print_session(console, &detail, now())
}
