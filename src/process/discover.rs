//! Finding the native `codex` binary.
//!
//! The npm package puts a JavaScript wrapper on PATH, which starts the native binary as a child of
//! its own on older versions of Node. SIGKILL of that wrapper leaves the native process running,
//! so it is resolved to the binary behind it. Layouts as published by npm for codex 0.106 – 0.169.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// The binary's name on PATH.
const PROGRAM: &str = "codex";

/// How much of a file is read to see whether it is a shim.
const SHIM_BYTES: u64 = 8 * 1024;

/// Where the binary stands inside `vendor/<triple>/`; the second one in 0.106.
const BINARIES: [&str; 2] = ["bin/codex", "codex/codex"];

/// Where the tools that come with it stand inside `vendor/<triple>/`.
const TOOL_DIRECTORIES: [&str; 2] = ["codex-path", "path"];

/// A `codex` that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexLocation {
    /// What to spawn: the native binary.
    pub binary: PathBuf,
    /// What was found on PATH or given, for people.
    pub found_at: PathBuf,
    /// A directory with the tools of the package (`rg`), which the wrapper of older versions puts
    /// on the PATH of the binary.
    pub tools: Option<PathBuf>,
}

/// Why there is no `codex` to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// Neither at the given path nor on PATH.
    #[error("find codex")]
    NotFound,
    /// There is a file, but it may not be executed.
    #[error("run codex: {} is not executable", .0.display())]
    NotExecutable(PathBuf),
    /// The npm wrapper is there without the package for this platform.
    #[error(
        "run codex: {} is the npm wrapper and the binary for this platform is not installed",
        .0.display()
    )]
    WrapperWithoutBinary(PathBuf),
}

/// Finds `codex` at an explicit path, or in the directories of `search_path` (the value of PATH).
///
/// An explicit name without a slash is looked up in `search_path` too. Relative entries of PATH
/// are skipped: what runs must not depend on the working directory.
///
/// # Errors
///
/// [`DiscoverError`].
pub fn find_codex(
    explicit: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Result<CodexLocation, DiscoverError> {
    let found_at = match explicit {
        Some(path) if path.components().count() > 1 || path.is_absolute() => {
            usable(path)?;
            path.to_owned()
        }
        name => search(name.unwrap_or_else(|| Path::new(PROGRAM)), search_path)?,
    };
    let Some(package) = wrapped_package(&found_at) else {
        return Ok(CodexLocation { binary: found_at.clone(), found_at, tools: None });
    };
    let platform = Platform::current();
    for vendor in platform.map(|platform| platform.vendors(&package)).unwrap_or_default() {
        let binary = BINARIES.iter().map(|name| vendor.join(name)).find(|path| path.is_file());
        if let Some(binary) = binary {
            usable(&binary)?;
            let mut tools = TOOL_DIRECTORIES.iter().map(|name| vendor.join(name));
            let tools = tools.find(|path| path.is_dir());
            return Ok(CodexLocation { binary, found_at, tools });
        }
    }
    Err(DiscoverError::WrapperWithoutBinary(found_at))
}

fn usable(path: &Path) -> Result<(), DiscoverError> {
    if !path.exists() {
        return Err(DiscoverError::NotFound);
    }
    if !path.is_file() || access(path, AccessFlags::X_OK).is_err() {
        return Err(DiscoverError::NotExecutable(path.to_owned()));
    }
    Ok(())
}

/// The first executable file of that name; as in a shell, others of the name are passed over.
fn search(name: &Path, search_path: Option<&OsStr>) -> Result<PathBuf, DiscoverError> {
    let mut first_refusal = DiscoverError::NotFound;
    for directory in std::env::split_paths(search_path.unwrap_or_default()) {
        if !directory.is_absolute() {
            continue;
        }
        let candidate = directory.join(name);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if first_refusal == DiscoverError::NotFound => first_refusal = error,
            Err(_) => {}
        }
    }
    Err(first_refusal)
}

/// The directory of the npm package, if the file is its wrapper or a shim that starts it.
fn wrapped_package(found_at: &Path) -> Option<PathBuf> {
    let script = shim_target(found_at).unwrap_or_else(|| found_at.to_owned());
    let script = script.canonicalize().ok()?;
    let is_script = script.extension().is_some_and(|extension| extension == "js");
    let bin = script.parent().filter(|_| is_script)?;
    Some(bin.parent()?.to_owned())
}

/// pnpm puts shell scripts on PATH where npm puts links: `exec node "$basedir/…/codex.js" "$@"`.
fn shim_target(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(SHIM_BYTES).read_to_end(&mut start).ok()?;
    let text = std::str::from_utf8(&start).ok().filter(|text| text.starts_with("#!"))?;
    let relative = text
        .split("\"$basedir/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .find(|target| target.ends_with("@openai/codex/bin/codex.js"))?;
    Some(path.parent()?.join(relative))
}

/// The names under which npm publishes the binary for one platform.
#[derive(Debug, Clone, Copy)]
struct Platform {
    /// Package inside the scope `@openai`.
    package: &'static str,
    /// Folder inside `vendor`.
    triple: &'static str,
}

impl Platform {
    /// `None` where codex is not published.
    fn current() -> Option<Self> {
        let (package, triple) = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => ("codex-linux-x64", "x86_64-unknown-linux-musl"),
            ("linux", "aarch64") => ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
            ("macos", "x86_64") => ("codex-darwin-x64", "x86_64-apple-darwin"),
            ("macos", "aarch64") => ("codex-darwin-arm64", "aarch64-apple-darwin"),
            _ => return None,
        };
        Some(Self { package, triple })
    }

    /// Where the binary's folder may be, in the order in which Node would find it: nested under
    /// the package, beside it or hoisted above it, and inside the package itself.
    fn vendors(self, package: &Path) -> Vec<PathBuf> {
        let nested = package.ancestors().map(|ancestor| ancestor.join("node_modules/@openai"));
        let beside = package.parent().map(Path::to_owned);
        let mut vendors: Vec<PathBuf> = nested
            .chain(beside)
            .map(|scope| scope.join(self.package).join("vendor").join(self.triple))
            .collect();
        vendors.push(package.join("vendor").join(self.triple));
        vendors
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory tree in which files are made as a test needs them.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn file(&self, path: &str, mode: u32, content: &str) -> PathBuf {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        }

        /// npm's global layout: a link on PATH to the wrapper.
        fn wrapper(&self) -> PathBuf {
            let script = "lib/node_modules/@openai/codex/bin/codex.js";
            let script = self.file(script, 0o755, "#!/usr/bin/env node\n");
            let link = self.path("bin/codex");
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(script, &link).unwrap();
            link
        }

        fn find(&self) -> Result<CodexLocation, DiscoverError> {
            find_codex(None, Some(self.path("bin").as_os_str()))
        }
    }

    fn platform() -> Platform {
        Platform::current().expect("tests run where codex is published")
    }

    #[test]
    fn every_npm_layout_leads_to_the_native_binary() {
        let Platform { package, triple } = platform();
        let modules = "lib/node_modules/@openai";
        for folder in [
            format!("{modules}/codex/node_modules/@openai/{package}/vendor/{triple}"),
            format!("{modules}/{package}/vendor/{triple}"),
            format!("node_modules/@openai/{package}/vendor/{triple}"),
            format!("{modules}/codex/vendor/{triple}"),
        ] {
            for name in ["bin/codex", "codex/codex"] {
                let tree = Tree::new();
                let link = tree.wrapper();
                let binary = tree.file(&format!("{folder}/{name}"), 0o755, "\x7fELF");
                let tool = tree.file(&format!("{folder}/path/rg"), 0o755, "\x7fELF");
                let tools = tool.parent().map(Path::to_owned);
                let expected = CodexLocation { binary, found_at: link.clone(), tools };
                assert_eq!(tree.find(), Ok(expected.clone()), "{folder}/{name}");
                assert_eq!(find_codex(Some(&link), None), Ok(expected), "{folder}/{name}");
            }
        }
    }

    #[test]
    fn the_shim_of_pnpm_is_followed() {
        let Platform { package, triple } = platform();
        let tree = Tree::new();
        let store = "store/node_modules/@openai";
        tree.file(&format!("{store}/codex/bin/codex.js"), 0o755, "#!/usr/bin/env node\n");
        let native = format!("{store}/{package}/vendor/{triple}/bin/codex");
        let binary = tree.file(&native, 0o755, "\x7fELF");
        symlink(tree.path("store/node_modules"), tree.path("node_modules")).unwrap();
        let shim = "#!/bin/sh\nbasedir=$(dirname \"$0\")\nif [ -x \"$basedir/node\" ]; then\n  \
                    exec \"$basedir/node\"  \"$basedir/../node_modules/@openai/codex/bin/codex.js\" \
                    \"$@\"\nfi\n";
        tree.file("bin/codex", 0o755, shim);
        assert_eq!(tree.find().unwrap().binary, binary);
    }

    #[test]
    fn a_wrapper_without_its_binary_is_named() {
        let tree = Tree::new();
        let link = tree.wrapper();
        assert_eq!(tree.find(), Err(DiscoverError::WrapperWithoutBinary(link)));
    }

    #[test]
    fn a_native_binary_or_a_script_of_ones_own_is_taken_as_it_is() {
        for content in ["\x7fELF", "#!/bin/sh\nexec /opt/codex \"$@\"\n"] {
            let tree = Tree::new();
            let binary = tree.file("bin/codex", 0o755, content);
            let expected = CodexLocation { binary: binary.clone(), found_at: binary, tools: None };
            assert_eq!(tree.find(), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_run_is_passed_over_and_named_only_if_nothing_else_is_found() {
        let tree = Tree::new();
        let blunt = tree.file("one/codex", 0o644, "\x7fELF");
        std::fs::create_dir_all(tree.path("zero/codex")).unwrap();
        let path = std::env::join_paths([tree.path("one"), tree.path("two")]).unwrap();
        let refused = Err(DiscoverError::NotExecutable(blunt.clone()));
        assert_eq!(find_codex(None, Some(&path)), refused);
        assert_eq!(find_codex(Some(&blunt), None), refused);
        let sharp = tree.file("two/codex", 0o755, "\x7fELF");
        assert_eq!(find_codex(None, Some(&path)).unwrap().binary, sharp);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let tree = Tree::new();
        assert_eq!(tree.find(), Err(DiscoverError::NotFound));
        assert_eq!(find_codex(None, None), Err(DiscoverError::NotFound));
        assert_eq!(find_codex(None, Some(OsStr::new(".::"))), Err(DiscoverError::NotFound));
        let missing = tree.path("missing");
        assert_eq!(find_codex(Some(&missing), None), Err(DiscoverError::NotFound));
    }
}
