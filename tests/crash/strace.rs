//! A manager under strace, and the order of its system calls.

use std::path::{Path, PathBuf};
use std::process::Command;

use cm_testkit::dirs::TestDir;

use crate::common::MANAGER;

/// The calls that are followed: what is read from and written to sockets, what reaches the disk.
const CALLS: &str = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,\
                     fdatasync,fsync,sync_file_range";

/// Writes a program that runs the manager under strace, which appends to `log`.
///
/// `-D` makes strace a grandchild, so that the manager keeps its place; `-b execve` leaves alone
/// what the manager starts.
///
/// # Panics
///
/// When there is no strace.
#[track_caller]
pub(crate) fn traced(dir: &TestDir, log: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let found = Command::new("strace").arg("--version").output();
    assert!(found.is_ok(), "tests/run installs strace; by hand: apt-get install strace");
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -q -b execve -y -s 20000 -e trace={CALLS} -e signal=none \
         -o '{}' '{MANAGER}' \"$@\"\n",
        log.display()
    );
    let program = dir.write("traced-manager", script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("the folder is ours");
    program
}

/// A system call. Positions are those of strace's lines, which are in the order in which it saw
/// calls begin and end; what a thread does because another one's call has ended comes later.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Its name and arguments, texts cut.
    pub(crate) text: String,
    /// Where it began.
    pub(crate) began: usize,
    /// Where it ended.
    pub(crate) ended: usize,
    /// What it answered.
    pub(crate) result: i64,
}

impl Call {
    /// Whether it is one of these.
    pub(crate) fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| {
            self.text.strip_prefix(name).is_some_and(|arguments| arguments.starts_with('('))
        })
    }

    /// Whether it is about the store's file.
    pub(crate) fn is_on_store(&self) -> bool {
        self.text.contains("/db>")
    }
}

/// The calls of a log, in the order in which they ended.
pub(crate) fn calls(log: &str) -> Vec<Call> {
    /// What ends a line of a call that another thread's call comes in between of.
    const UNFINISHED: &str = " <unfinished ...>";
    let mut open: Vec<(String, usize, String)> = Vec::new();
    let mut calls = Vec::new();
    for (position, line) in log.lines().enumerate() {
        let Some((thread, text)) = line.trim_start().split_once(char::is_whitespace) else {
            continue;
        };
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(UNFINISHED) {
            open.push((thread.to_owned(), position, begun.to_owned()));
            continue;
        }
        let (began, text) = match text.strip_prefix("<... ") {
            None => (position, text.to_owned()),
            Some(rest) => {
                let index = open.iter().position(|(owner, ..)| owner == thread);
                let Some(index) = index else { continue };
                let (_, began, begun) = open.swap_remove(index);
                let rest = rest.split_once("resumed>").map_or("", |(_, rest)| rest);
                (began, format!("{begun}{rest}"))
            }
        };
        let Some((text, result)) = text.rsplit_once(" = ") else { continue };
        let result = result.split_whitespace().next().and_then(|word| word.parse().ok());
        let text = text.trim_end().to_owned();
        calls.push(Call { text, began, ended: position, result: result.unwrap_or(-1) });
    }
    calls
}

#[test]
fn calls_are_put_together_across_threads() {
    let log = "11  fdatasync(5</d/store/db> <unfinished ...>\n\
               12  write(7<socket:[1]>, \"HTTP/1.1 200 OK\"..., 99) = 99\n\
               11  <... fdatasync resumed>)          = 0\n\
               13  +++ exited with 0 +++\n";
    let calls = calls(log);
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].is(&["write"]) && !calls[0].is_on_store());
    assert_eq!((calls[0].began, calls[0].ended, calls[0].result), (1, 1, 99));
    assert!(calls[1].is(&["fdatasync"]) && calls[1].is_on_store(), "{calls:?}");
    assert_eq!((calls[1].began, calls[1].ended, calls[1].result), (0, 2, 0));
}
