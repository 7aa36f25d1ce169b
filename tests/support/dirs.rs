//! Folders of one test.
//!
//! They are under `target/`, never in the system's temporary directory: `codex` lets sandboxed
//! commands write there, so a CODEX_HOME or a workspace in it would prove nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// The `target/test-homes` folder of this checkout.
pub fn test_homes() -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    target.join("test-homes")
}

/// A new folder that goes with its value; after a panic it stays and its path is printed.
#[derive(Debug)]
pub struct TestDir {
    path: PathBuf,
}

impl TestDir {
    /// Makes `target/test-homes/<name>-<unique>`, as an absolute path without symbolic links.
    ///
    /// # Panics
    ///
    /// When the folder cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let path = test_homes().join(format!("{name}-{}", &unique[..8]));
        let made = fs::create_dir_all(&path).and_then(|()| path.canonicalize());
        match made {
            Ok(path) => Self { path },
            Err(error) => panic!("failed to make {}: {error}", path.display()),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder, whether or not it exists.
    pub fn join(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.path.join(inside)
    }

    /// Makes a folder inside.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[track_caller]
    pub fn subdir(&self, inside: impl AsRef<Path>) -> PathBuf {
        let path = self.join(inside);
        if let Err(error) = fs::create_dir_all(&path) {
            panic!("failed to make {}: {error}", path.display());
        }
        path
    }

    /// Writes a file inside, with the folders above it, and answers its path.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(inside);
        let parent = path.parent().unwrap_or(&self.path);
        if let Err(error) = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content)) {
            panic!("failed to write {}: {error}", path.display());
        }
        path
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.path.display());
            return;
        }
        // A process that is just ending may still write: what stays is removed by tests/run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_unique_under_target_and_goes_with_its_value() {
        let first = TestDir::new("dirs");
        let second = TestDir::new("dirs");
        assert_ne!(first.path(), second.path());
        assert!(first.path().to_string_lossy().contains("/test-homes/dirs-"));
        assert!(!first.path().starts_with(std::env::temp_dir()));
        first.write("a/b.txt", "content");
        let path = first.path().to_owned();
        assert!(path.join("a/b.txt").is_file());
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_outlives_a_panic() {
        let path = std::thread::spawn(|| {
            let dir = TestDir::new("kept");
            let path = dir.path().to_owned();
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _held = dir;
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            assert!(unwound.is_err());
            path
        })
        .join()
        .expect("thread");
        assert!(path.is_dir());
        fs::remove_dir_all(path).expect("remove");
    }
}
