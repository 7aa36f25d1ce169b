//! `config show` and `config example`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::load::Loaded;
use super::origin::Origin;
use super::variable::{Kind, Variable, every_variable};

/// The configuration as a table for people; each value with its origin if wanted.
pub(crate) fn show_text(loaded: &Loaded, with_origin: bool) -> String {
    let mut text = String::new();
    let width = every_variable().map(|variable| variable.name.len()).max().unwrap_or_default();
    for one in &loaded.effective {
        let value = one.shown.as_deref().map_or_else(|| "(not set)".to_owned(), printable);
        let mut notes = Vec::new();
        if with_origin {
            notes.push(one.origin.to_string());
        }
        if one.variable.is_not_used_yet() {
            notes.push("not used yet".to_owned());
        }
        let name = one.variable.name;
        let line = match notes.as_slice() {
            [] => format!("{name:width$}  {value}"),
            notes => format!("{name:width$}  {value}  ({})", notes.join("; ")),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A value on one line without control characters.
fn printable(value: &str) -> String {
    let escape = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    value.chars().map(escape).collect()
}

/// The configuration for programs.
pub(crate) fn show_json(loaded: &Loaded) -> Value {
    let values: Vec<Value> = loaded
        .effective
        .iter()
        .map(|one| {
            json!({
                "name": one.variable.name,
                "key": one.variable.key,
                "value": one.shown,
                "secret": one.variable.is_secret(),
                "default": one.variable.default,
                "origin": origin_json(&one.origin),
                "used": !one.variable.is_not_used_yet(),
            })
        })
        .collect();
    json!({
        "configFile": loaded.config_file,
        "dotenvFile": loaded.dotenv_file,
        "values": values,
    })
}

fn origin_json(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({"layer": "default"}),
        Origin::File { path, line } => json!({"layer": "file", "path": path, "line": line}),
        Origin::DotEnv { path, line } => json!({"layer": "dotenv", "path": path, "line": line}),
        Origin::Environment(name) => json!({"layer": "environment", "name": name}),
        Origin::Flag(flag) => json!({"layer": "flag", "flag": flag}),
        Origin::WholeFile(path) => json!({"layer": "file", "path": path}),
    }
}

/// A `.env` file with every variable, its default and what it does.
pub(crate) fn example() -> String {
    let mut text = String::from(
        "# Configuration of Codex Manager. Copy this file to `.env` in the directory in which the\n\
         # manager starts, and take the `#` away from what you change. The environment overrules\n\
         # this file, flags overrule both; a TOML file beneath may say the same under the names in\n\
         # brackets. `codex-manager config show --origin` tells what is in force and why.\n\
         # Written by `codex-manager config example`.\n",
    );
    let mut section = "";
    for variable in every_variable() {
        let (table, _) = variable.key.split_once('.').unwrap_or((variable.key, ""));
        if table != section {
            section = table;
            let later = if variable.is_not_used_yet() { ": checked, not used yet" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "\n# ---- {table}{later}\n");
        }
        let _ = write!(
            text,
            "\n# {} [{}]{}\n#{}={}\n",
            capitalised(variable.about),
            variable.key,
            allowed(variable),
            variable.name,
            variable.default.unwrap_or_default(),
        );
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(letters).collect()
}

fn allowed(variable: &Variable) -> String {
    match variable.kind {
        Kind::OneOf(words) => format!(": {}", words.join(", ")),
        Kind::Switch => ": true, false".to_owned(),
        _ => String::new(),
    }
}
