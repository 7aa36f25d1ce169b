//! Directories that must be writable, and files that must be private.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::report::Finding;

/// Whether files can be made in a directory, or the directory itself if it is not there yet.
/// Nothing is left behind.
pub(super) fn directory(area: &'static str, path: &Path, flag: &str) -> Finding {
    let shown = path.display();
    let other = format!("make it writable, or name another with {flag}");
    if path.is_dir() {
        let probe = path.join(format!(".doctor-{:016x}", rand::random::<u64>()));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
        let gone = made.and_then(|_| fs::remove_file(&probe));
        if let Err(error) = gone {
            return Finding::problem(area, format!("{shown} cannot be written: {error}"), other);
        }
        if mode(path) & 0o022 != 0 {
            let message = format!("{shown} can be changed by other users");
            return Finding::problem(area, message, format!("run `chmod go-w {shown}`"));
        }
        return Finding::ok(area, format!("{shown} is writable"));
    }
    if path.symlink_metadata().is_ok() {
        return Finding::problem(area, format!("{shown} is not a directory"), other);
    }
    let parent = path.ancestors().skip(1).find(|ancestor| ancestor.exists());
    match parent {
        Some(parent) if parent.is_dir() && access(parent, AccessFlags::W_OK).is_ok() => {
            Finding::ok(area, format!("{shown} will be made"))
        }
        _ => Finding::problem(area, format!("{shown} cannot be made"), other),
    }
}

/// A finding if a file that holds a secret is open to others.
pub(super) fn private(area: &'static str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return None;
    }
    let shown = path.display();
    let message = format!("{shown} holds a secret and is open to others (mode {mode:03o})");
    Some(Finding::problem(area, message, format!("run `chmod 600 {shown}`")))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map(|metadata| metadata.permissions().mode()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    #[test]
    fn directories_are_probed_without_a_trace() {
        let root = tempfile::tempdir().unwrap();
        let state = |path: &Path| directory("data", path, "--data-dir").state;
        assert_eq!(state(root.path()), State::Ok);
        assert_eq!(state(&root.path().join("a/b")), State::Ok);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(state(&file), State::Problem);
        assert_eq!(state(&file.join("below")), State::Problem);
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let open = directory("data", root.path(), "--data-dir");
        assert!(open.mend.unwrap().starts_with("run `chmod go-w "));
    }

    #[test]
    fn open_secrets_are_found() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("auth.json");
        assert_eq!(private("login", &file), None);
        fs::write(&file, "{}").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(private("login", &file).unwrap().state, State::Problem);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(private("login", &file), None);
    }
}
