//! Reads the configuration file (TOML): every value with its line, every problem at once.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::origin::{Origin, Problem};
use super::suggest::nearest;
use super::value::Raw;
use super::variable::{Variable, every_variable};

/// What the file sets, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    /// Each value with its origin.
    pub(super) values: Vec<(&'static Variable, Raw, Origin)>,
    /// Syntax errors, names nobody knows, values of the wrong type.
    pub(super) problems: Vec<Problem>,
}

/// Reads the text of the file at `path`.
pub(super) fn parse(path: &Path, text: &str) -> FileValues {
    let mut reader = Reader { path, text, found: FileValues::default() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let start = error.span().map_or(0, |span| span.start);
        let message = error.message().trim().replace('\n', "; ");
        reader.problem(start, format!("not valid TOML: {message}"));
    }
    reader.table("", document.get_ref());
    reader.found
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    found: FileValues,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Origin::File { path: self.path.to_owned(), line }
    }

    fn problem(&mut self, offset: usize, message: String) {
        let origin = self.origin(offset);
        self.found.problems.push(Problem { origin, message });
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            let offset = name.span().start;
            match (find(&key), value.get_ref()) {
                (Some(variable), value) => match raw(value) {
                    Some(raw) => {
                        let origin = self.origin(offset);
                        self.found.values.push((variable, raw, origin));
                    }
                    None => {
                        let kind = value.type_str();
                        self.problem(offset, format!("`{key}` cannot be a value of type {kind}"));
                    }
                },
                (None, DeValue::Table(inner)) => self.table(&key, inner),
                (None, _) => self.problem(offset, unknown(&key)),
            }
        }
    }
}

fn find(key: &str) -> Option<&'static Variable> {
    every_variable().find(|variable| variable.key == key)
}

/// Says that nobody knows a name, and which one was probably meant. A name of the environment is
/// recognised too, in any table: it is what a person who knows `.env` tries first.
fn unknown(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let as_variable = every_variable().find(|one| one.name.eq_ignore_ascii_case(last));
    let meant = as_variable
        .map(|variable| variable.key)
        .or_else(|| nearest(key, every_variable().map(|variable| variable.key)));
    match meant {
        Some(meant) => format!("unknown name `{key}`; did you mean `{meant}`?"),
        None => format!("unknown name `{key}`; `codex-manager config show` lists the names"),
    }
}

fn raw(value: &DeValue<'_>) -> Option<Raw> {
    if let DeValue::Array(items) = value {
        let texts = items.iter().map(|item| scalar(item.get_ref())).collect::<Option<_>>()?;
        return Some(Raw::List(texts));
    }
    scalar(value).map(Raw::Text)
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        // The digits as they are written, so that a number that is too large is still shown.
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            parsed.ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_line() {
        let text = "# first\n[server]\nport = 4_000\nallowed_origins = [\"http://a\"]\n\n\
                    [defaults]\nlocked = true\n";
        let found = parse(Path::new("c.toml"), text);
        assert_eq!(found.problems, []);
        let mut values: Vec<String> = found
            .values
            .iter()
            .map(|(variable, raw, origin)| format!("{} {raw:?} {origin}", variable.name))
            .collect();
        values.sort();
        assert_eq!(
            values,
            [
                "ALLOWED_ORIGINS List([\"http://a\"]) c.toml:4",
                "PORT Text(\"4000\") c.toml:3",
                "SESSION_DEFAULTS_LOCKED Text(\"true\") c.toml:7",
            ]
        );
    }

    #[test]
    fn all_mistakes_are_found_at_once_and_the_rest_is_read() {
        let text = "PORT = 1\n[server]\nprot = 2\nhost = { a = 1 }\nwhatever = 1\n\
                    data_dir = \"ok\"\nbroken = = 1\n";
        let found = parse(Path::new("c.toml"), text);
        let mut problems: Vec<String> = found.problems.iter().map(Problem::to_string).collect();
        problems.sort();
        let all = problems.join("\n");
        assert!(
            all.contains("c.toml:1: unknown name `PORT`; did you mean `server.port`?"),
            "{all}"
        );
        assert!(all.contains("c.toml:3: unknown name `server.prot`; did you mean `server.port`?"));
        assert!(all.contains("c.toml:4: `server.host` cannot be a value of type table"), "{all}");
        assert!(all.contains("c.toml:5: unknown name `server.whatever`; `codex-manager"), "{all}");
        assert!(all.contains("c.toml:7: not valid TOML"), "{all}");
        assert!(found.values.iter().any(|(variable, ..)| variable.name == "DATA_DIR"));
    }

    #[test]
    fn other_radixes_are_numbers_too() {
        let found = parse(Path::new("c.toml"), "server.port = 0x10");
        assert_eq!(found.values[0].1, Raw::Text("16".to_owned()));
    }
}
