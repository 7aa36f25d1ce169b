//! Reading `/proc/<pid>/stat`: who a process is, beyond a number that is used again.

use serde::{Deserialize, Serialize};

/// A process, told apart from later ones with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`, see proc(5)).
    pub start_time: u64,
}

/// What is read of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) identity: ProcessIdentity,
    /// State letter, `Z` for a zombie.
    pub(crate) state: char,
    /// Process group.
    pub(crate) group: u32,
    /// Session.
    pub(crate) session: u32,
}

impl Stat {
    /// Whether it has ended and only waits to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The identity of a running process; `None` if there is none, or on systems without `/proc`.
pub fn identity_of(pid: u32) -> Option<ProcessIdentity> {
    stat_of(pid).map(|stat| stat.identity)
}

pub(crate) fn stat_of(pid: u32) -> Option<Stat> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process that can be seen. One that ends meanwhile may be missing.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat_of)
        .collect()
}

/// Distinguishes one boot of the machine from the next: start times count from boot.
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Fields by proc(5): 1 pid, 2 comm in parentheses, 3 state, 5 pgrp, 6 session, 22 starttime.
fn parse(stat: &[u8]) -> Option<Stat> {
    // The name may hold anything, parentheses, spaces and bytes that are not UTF-8 included.
    let name_start = stat.iter().position(|byte| *byte == b'(')?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.get(..name_start)?).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        identity: ProcessIdentity { pid, start_time: field(22)?.parse().ok()? },
        state: field(3)?.chars().next()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line =
            b"42 (a) R 1 (b\xff) S 7 40 39 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        let stat = parse(line).unwrap();
        assert_eq!(stat.identity, ProcessIdentity { pid: 42, start_time: 98765 });
        assert_eq!((stat.state, stat.group, stat.session), ('S', 40, 39));
    }

    #[test]
    fn garbage_is_no_process() {
        for text in ["", "x", "1", "1 (a", "1 a)", ") (", "1 (a) S 1 2", "-1 (a) S 7 40 39"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found() {
        let own = std::process::id();
        let stat = stat_of(own).unwrap();
        assert_eq!(stat.identity.pid, own);
        assert_eq!(stat.session, nix::unistd::getsid(None).unwrap().as_raw().cast_unsigned());
        assert!(all().iter().any(|other| other.identity == stat.identity));
        assert_eq!(identity_of(u32::MAX), None);
    }
}
