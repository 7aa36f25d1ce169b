//! The `codex` installations that `tests/run` makes.

use std::path::{Path, PathBuf};

/// The newest version that the suites run, and the default one.
pub const CODEX_NEW: &str = "0.169.0";
/// The oldest version that every run covers.
pub const CODEX_OLD: &str = "0.140.0";

/// Where the native binaries are inside an npm prefix, one per platform package. The `codex` of
/// `node_modules/.bin` is a JavaScript wrapper whose death by SIGKILL leaves the binary behind.
const PLATFORMS: [&str; 4] = [
    "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl",
    "node_modules/@openai/codex-linux-arm64/vendor/aarch64-unknown-linux-musl",
    "node_modules/@openai/codex-darwin-x64/vendor/x86_64-apple-darwin",
    "node_modules/@openai/codex-darwin-arm64/vendor/aarch64-apple-darwin",
];

/// Where the binary is inside a platform package: since about 0.140, and in 0.106.
const INSIDE_A_PLATFORM: [&str; 2] = ["bin/codex", "codex/codex"];

/// A version of `codex` is not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("codex {version} is not installed in {}: run tests/run first", cache.display())]
pub struct CodexMissing {
    /// The version asked for.
    pub version: String,
    /// Where it was looked for.
    pub cache: PathBuf,
}

/// The folder of everything that `tests/run` installs: `$CM_TEST_CACHE`, or
/// `${XDG_CACHE_HOME:-$HOME/.cache}/codex-manager-tests`.
pub fn test_cache() -> PathBuf {
    let non_blank = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match (non_blank("CM_TEST_CACHE"), non_blank("XDG_CACHE_HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(cache)) => PathBuf::from(cache).join("codex-manager-tests"),
        (None, None) => {
            PathBuf::from(non_blank("HOME").unwrap_or_default()).join(".cache/codex-manager-tests")
        }
    }
}

/// The folder that holds one npm prefix per version.
pub fn codex_cache() -> PathBuf {
    test_cache().join("codex")
}

/// The native binary of one version.
///
/// # Errors
///
/// [`CodexMissing`] when `tests/run` has not installed it.
pub fn codex_binary(version: &str) -> Result<PathBuf, CodexMissing> {
    let cache = codex_cache();
    native_in(&cache.join(version))
        .ok_or_else(|| CodexMissing { version: version.to_owned(), cache })
}

/// Every installed version, oldest first.
pub fn installed_versions() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(codex_cache()) else {
        return Vec::new();
    };
    let mut versions: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            native_in(&entry.path())?;
            entry.file_name().into_string().ok()
        })
        .collect();
    versions.sort_by_key(|version| {
        version.split('.').map(|part| part.parse::<u32>().unwrap_or(u32::MAX)).collect::<Vec<_>>()
    });
    versions
}

fn native_in(prefix: &Path) -> Option<PathBuf> {
    let folders = PLATFORMS.iter().map(|platform| prefix.join(platform));
    folders
        .flat_map(|folder| INSIDE_A_PLATFORM.map(|inside| folder.join(inside)))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_says_how_to_get_it() {
        let missing = codex_binary("0.0.1").expect_err("no such version");
        assert!(missing.to_string().ends_with("run tests/run first"), "{missing}");
    }

    #[test]
    fn the_versions_of_every_run_are_installed() {
        let installed = installed_versions();
        for version in [CODEX_OLD, CODEX_NEW] {
            let path = codex_binary(version).expect("run tests/run first");
            assert!(path.is_file());
            assert!(installed.iter().any(|found| found == version), "{installed:?}");
        }
    }
}
