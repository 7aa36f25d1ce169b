//! What a configuration variable is.

use super::{table, table_later};

/// One variable: its names, its rule and its default, in one place for the loader, the help, the
/// example file and `config show`.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Name in the environment and in `.env`.
    pub(crate) name: &'static str,
    /// Dotted name in the TOML file.
    pub(crate) key: &'static str,
    /// What it accepts.
    pub(crate) kind: Kind,
    /// The default as a person would write it; `None` leaves it unset.
    pub(crate) default: Option<&'static str>,
    /// One line that says what it does.
    pub(crate) about: &'static str,
}

/// What a variable accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An address or a name to listen on.
    Host,
    /// A whole number within bounds.
    Number {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A duration in milliseconds within bounds.
    Millis {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A size in bytes within bounds; `KiB`, `MiB` and `GiB` are understood.
    Bytes {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// A path, relative to the working directory.
    Path,
    /// Any text, also an empty one.
    Text,
    /// A text that is never shown; a blank one counts as unset.
    Secret,
    /// Origins of web pages, separated by commas.
    Origins,
    /// Paths, separated as in `PATH`.
    Paths,
}

impl Variable {
    /// Whether the value must never be shown.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// Whether this build only checks the value and does not act on it.
    pub(crate) fn is_not_used_yet(&self) -> bool {
        table_later::ALL.iter().any(|other| other.name == self.name)
    }
}

/// Every variable, in the order in which they are shown.
pub(crate) fn every_variable() -> impl Iterator<Item = &'static Variable> {
    table::ALL.iter().chain(table_later::ALL).copied()
}

/// Declares variables as statics named like the variable, and `ALL`, the list of them.
macro_rules! variables {
    ($($name:ident $key:literal $kind:expr, $default:expr, $about:literal;)*) => {
        $(
            #[doc = $about]
            pub(crate) static $name: $crate::config::variable::Variable =
                $crate::config::variable::Variable {
                    name: stringify!($name),
                    key: $key,
                    kind: $kind,
                    default: $default,
                    about: $about,
                };
        )*

        /// Every variable of this table.
        pub(super) static ALL: &[&$crate::config::variable::Variable] = &[$(&$name,)*];
    };
}

pub(super) use variables;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{Raw, parse};

    #[test]
    fn names_and_keys_are_unique_and_defaults_obey_their_own_rule() {
        let mut names: Vec<_> = every_variable().map(|variable| variable.name).collect();
        let mut keys: Vec<_> = every_variable().map(|variable| variable.key).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((names.len(), keys.len()), (count, count));
        for variable in every_variable() {
            if let Some(default) = variable.default {
                let parsed = parse(variable.kind, &Raw::Text(default.to_owned()));
                assert!(parsed.is_ok(), "{}: {parsed:?}", variable.name);
            }
            assert!(!variable.about.ends_with('.'), "{}", variable.name);
        }
    }
}
