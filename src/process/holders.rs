//! Who has a file open.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Characters of a command line that are shown.
const SHOWN_CHARS: usize = 200;

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command line, shortened; empty for one that hides it.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command.as_str() {
            "" => write!(f, "Process {}", self.pid),
            command => write!(f, "Process {} (`{command}`)", self.pid),
        }
    }
}

/// The processes that have a file open, as far as this user may see them; nobody on systems
/// without `/proc`. It looks at every process and may block.
pub fn holders_of(path: &Path) -> Vec<Holder> {
    let Ok(wanted) = std::fs::metadata(path) else {
        return Vec::new();
    };
    let mut holders = Vec::new();
    for process in crate::procfs::all() {
        let pid = process.identity.pid;
        // Another user's process, or one that has ended meanwhile.
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = files.flatten().any(|file| {
            std::fs::metadata(file.path())
                .is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()))
        });
        if holds {
            holders.push(Holder { pid, command: command_of(pid) });
        }
    }
    holders
}

fn command_of(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    // What another program was started with is shown to people: no line breaks, no escapes.
    words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_has_a_file_open_is_found_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        let file = std::fs::File::create(&path).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let holders = holders_of(&link);
        let own = holders.iter().find(|holder| holder.pid == std::process::id()).unwrap();
        assert!(!own.command.is_empty());
        assert!(own.to_string().contains(&own.pid.to_string()));
        drop(file);
        assert_eq!(holders_of(&path), []);
        assert_eq!(holders_of(&folder.path().join("none")), []);
    }
}
