//! What a given `codex` can do, read from the child itself.
//!
//! The version comes from `userAgent`, the methods from one deliberately unknown call: the error
//! lists every method the build knows. Unknown parameters are ignored silently by every version,
//! so what matters for safety is checked against the echo, never against this profile.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A `codex` version: `major.minor.patch`; a pre-release suffix is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl Version {
    /// Makes a version.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first `x.y.z` in a text such as `codex-cli 0.169.0` or `name/0.140.0 (Linux; …)`.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
            let mut parts = word.split('.').map(str::parse::<u32>);
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => {
                    Some(Self { major, minor, patch })
                }
                _ => None,
            }
        })
    }

    /// The version in an app-server's `userAgent`: `<client>/<version> (<os>; <arch>) …`.
    ///
    /// The client's own name may hold digits, so only what follows the first slash counts.
    pub fn from_user_agent(user_agent: &str) -> Option<Self> {
        let (_, rest) = user_agent.split_once('/')?;
        Self::find(rest.split_whitespace().next()?)
    }

    /// Whether `-c cli_auth_credentials_store="ephemeral"` keeps a login off the disk.
    ///
    /// Checked on 0.140 and 0.169; older versions have no such setting.
    pub fn keeps_credentials_in_memory(self) -> bool {
        self >= Self::new(0, 140, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The method no build knows, called once to make the child list those it does know.
pub const PROBE_METHOD: &str = "codexManager/listMethods";

/// What one incarnation of the child can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// As the child introduced itself.
    pub user_agent: Option<String>,
    /// Parsed from the user agent.
    pub version: Option<Version>,
    /// Every method the child listed; empty when it did not list any.
    pub methods: BTreeSet<String>,
}

/// Whether a thread that may write makes the runtime trust its folder: Codex then names it in its
/// configuration, and reads the project's own `.codex` from there on. 0.106 does not, 0.140 and
/// 0.155 do so with any folder, 0.169 with a repository only (all tried); nor does the embedded
/// runtime, whose version is the manager's.
pub fn trusts_folder(version: Option<Version>, in_repository: bool) -> bool {
    let trusts = version.is_some_and(|version| version >= TRUSTS_FOLDERS);
    trusts && (in_repository || version < Some(TRUSTS_REPOSITORIES))
}

/// The first version after the one that is known not to trust folders by itself.
const TRUSTS_FOLDERS: Version = Version::new(0, 107, 0);

/// A version that trusts repositories only.
const TRUSTS_REPOSITORIES: Version = Version::new(0, 169, 0);

impl Profile {
    /// Whether the child has a method.
    ///
    /// A child that did not list its methods is believed to have them all: the call itself then
    /// says otherwise.
    pub fn has(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Reads the method list out of the answer to [`PROBE_METHOD`]: `unknown variant `X`,
    /// expected one of `a`, `b``.
    pub fn methods_in(message: &str) -> BTreeSet<String> {
        let Some((_, list)) = message.split_once("expected one of") else {
            return BTreeSet::new();
        };
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_folders_are_trusted_depends_on_the_version() {
        let trusts = |version, in_repository| trusts_folder(Version::find(version), in_repository);
        assert!(trusts("0.155.0", false) && trusts("0.155.0", true));
        assert!(!trusts("0.169.0", false) && trusts("0.169.0", true));
        assert!(!trusts("0.106.0", true));
        assert!(!trusts("0.1.0", true) && !trusts_folder(None, true), "the embedded runtime");
    }

    #[test]
    fn versions_are_found() {
        assert_eq!(Version::find("codex-cli 0.169.0"), Some(Version::new(0, 169, 0)));
        let agent = "codex_manager2/0.140.0 (Debian 12.0.0; x86_64) dumb (codex_manager; 9.9.9)";
        assert_eq!(Version::from_user_agent(agent), Some(Version::new(0, 140, 0)));
        assert_eq!(Version::from_user_agent("nothing"), None);
        assert!(Version::new(0, 140, 0).keeps_credentials_in_memory());
        assert!(!Version::new(0, 106, 0).keeps_credentials_in_memory());
    }

    #[test]
    fn one_bogus_call_lists_the_methods() {
        let message = "Invalid request: unknown variant `x/y`, expected one of `initialize`, \
                       `thread/start`, `turn/start`";
        let profile = Profile { methods: Profile::methods_in(message), ..Profile::default() };
        assert!(profile.has("thread/start"));
        assert!(!profile.has("x/y"));
        assert!(!profile.has("thread/delete"));
        assert!(Profile::methods_in("no list").is_empty());
    }
}
