//! Which files may be changed: those inside the workspace, and none inside CODEX_HOME.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Why a file may not be changed. Each message fits after the path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("the working directory does not exist")]
    NoWorkspace,
    #[error("is outside of the workspace")]
    Outside,
    #[error("is inside CODEX_HOME")]
    Home,
    #[error("is not a regular file")]
    NotAFile,
    #[error("cannot be resolved: {0}")]
    Unreadable(ErrorKind),
}

/// Resolves a path against the workspace, following every link that exists, so that neither `..`
/// nor a link leads out. What does not exist yet may be named only by plain components.
pub(super) fn resolve(cwd: &Path, home: &Path, path: &str) -> Result<PathBuf, PathError> {
    let workspace = fs::canonicalize(cwd).map_err(|_| PathError::NoWorkspace)?;
    let wanted = workspace.join(path);
    let mut existing = wanted.as_path();
    let mut missing = Vec::new();
    let mut resolved = loop {
        match fs::symlink_metadata(existing) {
            Ok(_) => break fs::canonicalize(existing).map_err(unreadable)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
        match existing.components().next_back() {
            Some(Component::Normal(name)) => missing.push(name),
            _ => return Err(PathError::Outside),
        }
        existing = existing.parent().ok_or(PathError::Outside)?;
    };
    resolved.extend(missing.iter().rev());
    // The workspace itself cannot be a file either.
    if !resolved.starts_with(&workspace) || resolved == workspace {
        return Err(PathError::Outside);
    }
    let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    if resolved.starts_with(&home) {
        return Err(PathError::Home);
    }
    match fs::symlink_metadata(&resolved) {
        Ok(metadata) if !metadata.is_file() => Err(PathError::NotAFile),
        _ => Ok(resolved),
    }
}

// A link to nowhere ends here too: it exists, and cannot be followed.
fn unreadable(error: std::io::Error) -> PathError {
    PathError::Unreadable(error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_inside_the_workspace_can_be_named() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (workspace, home) = (root.join("ws"), root.join("ws/.codex"));
        fs::create_dir_all(workspace.join("sub")).unwrap();
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(root.join("other")).unwrap();
        fs::write(root.join("other/secret"), "s").unwrap();
        symlink(root.join("other"), workspace.join("out")).unwrap();
        symlink(root.join("other/secret"), workspace.join("file-out")).unwrap();
        symlink(root.join("other/new"), workspace.join("dangling")).unwrap();
        symlink("sub", workspace.join("in")).unwrap();
        let resolve = |path: &str| resolve(&workspace, &home, path);

        assert_eq!(resolve("a/b/c.txt"), Ok(workspace.join("a/b/c.txt")));
        assert_eq!(resolve("in/x"), Ok(workspace.join("sub/x")));
        assert_eq!(resolve("sub/../x"), Ok(workspace.join("x")));
        let absolute = workspace.join("sub/x");
        assert_eq!(resolve(absolute.to_str().unwrap()), Ok(absolute));
        for escape in ["../other/secret", "out/secret", "out/new", "file-out", "/etc/passwd", "."] {
            assert_eq!(resolve(escape), Err(PathError::Outside), "{escape}");
        }
        assert_eq!(resolve("missing/../../x"), Err(PathError::Outside));
        assert_eq!(resolve("dangling"), Err(PathError::Unreadable(ErrorKind::NotFound)));
        assert_eq!(resolve(".codex/config.toml"), Err(PathError::Home));
        assert_eq!(resolve("sub"), Err(PathError::NotAFile));
        assert!(resolve("nul\0byte").is_err());
    }
}
