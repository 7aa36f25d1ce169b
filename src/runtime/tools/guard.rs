//! No command outlives this process.
//!
//! A parent-death signal would reach only the direct child, not what it started. Instead one small
//! shell in its own process group holds the list of running command groups; its standard
//! input is a pipe from here. When this process goes, in whatever way, the pipe closes and the
//! shell kills the groups that are left. A command waits for its entry in the list before it begins.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};

use super::shell::as_pid;
use crate::wire::lock;

/// Reads `+ id` and `- id`; at the end of input kills the groups that were not taken back.
const SCRIPT: &str = r#"
groups=
while read -r operation id; do
    case "$operation" in
        +) groups="$groups $id" ;;
        *) left=
           for group in $groups; do [ "$group" = "$id" ] || left="$left $group"; done
           groups=$left ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// The process groups of running commands, known here and to the guarding shell.
#[derive(Default)]
pub(crate) struct GroupGuard {
    shell: Mutex<Option<(Child, ChildStdin)>>,
    groups: Mutex<HashSet<u32>>,
}

impl GroupGuard {
    /// Starts the shell with the first command.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut shell = lock(&self.shell);
        if let Some((child, _)) = shell.as_mut()
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        for group in lock(&self.groups).iter() {
            writeln!(stdin, "+ {group}")?;
        }
        *shell = Some((child, stdin));
        Ok(())
    }

    /// A command's group runs.
    pub(super) fn enter(&self, group: u32) -> io::Result<()> {
        lock(&self.groups).insert(group);
        self.tell('+', group)
    }

    /// A command's group is gone. To be called before its leader is reaped.
    pub(super) fn leave(&self, group: u32) {
        lock(&self.groups).remove(&group);
        if let Err(error) = self.tell('-', group) {
            tracing::warn!(group, %error, "guard of process groups is gone");
        }
    }

    fn tell(&self, operation: char, group: u32) -> io::Result<()> {
        match lock(&self.shell).as_mut() {
            // One write: the shell reads whole lines.
            Some((_, stdin)) => stdin.write_all(format!("{operation} {group}\n").as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Kills every running command.
    pub(crate) fn kill_all(&self) {
        for group in lock(&self.groups).iter() {
            kill_group(*group);
        }
    }

    /// Ends the shell, which kills what is left.
    pub(crate) fn close(&self) {
        if let Some((mut child, stdin)) = lock(&self.shell).take() {
            drop(stdin);
            if let Err(error) = child.wait() {
                tracing::warn!(%error, "guard of process groups cannot be reaped");
            }
        }
    }
}

/// Kills a process group whose leader is not reaped yet.
pub(super) fn kill_group(group: u32) {
    match killpg(as_pid(group), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(group, %error, "process group cannot be killed"),
    }
}
