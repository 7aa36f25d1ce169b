//! What is left of recorded children after a crash, and what of it may be killed.
//!
//! The rule that everything here serves: a process that is not certainly ours is never killed.

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::procfs::{ProcessIdentity, Stat};

/// What became of one recorded child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// The child as it was recorded.
    pub child: ProcessIdentity,
    /// What was found and done.
    pub outcome: SweepOutcome,
}

/// What the sweep found in place of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepOutcome {
    /// Members of its group were alive and were sent SIGKILL.
    Killed {
        /// How many.
        processes: usize,
    },
    /// Nothing of it is left.
    AlreadyGone,
    /// Its number belongs to somebody else now; nothing was touched.
    Recycled,
    /// Members were alive, but we may not signal them.
    NotPermitted,
}

/// What is to be done about one recorded child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kill { processes: usize },
    Gone,
    Recycled,
}

/// Kills what is left of a recorded child's group; see [`judge`].
pub(crate) fn sweep_one(child: ProcessIdentity, session: u32, processes: &[Stat]) -> Swept {
    let outcome = match judge(child, session, processes) {
        Verdict::Gone => SweepOutcome::AlreadyGone,
        Verdict::Recycled => SweepOutcome::Recycled,
        Verdict::Kill { processes } => {
            // Its number stays taken while the group has members, so the group that was seen is
            // the group that is hit.
            match killpg(Pid::from_raw(child.pid.cast_signed()), Signal::SIGKILL) {
                Ok(()) => SweepOutcome::Killed { processes },
                Err(Errno::EPERM) => SweepOutcome::NotPermitted,
                Err(_) => SweepOutcome::AlreadyGone,
            }
        }
    };
    Swept { child, outcome }
}

/// Whether the group that `child` led is still there.
///
/// While its leader is there, the start time decides. Without the leader, the members must be
/// young enough and in the session in which the child was started: a process group never spans
/// sessions, so one that does not match is somebody else's group with a number used again.
fn judge(child: ProcessIdentity, session: u32, processes: &[Stat]) -> Verdict {
    // Number 0 and 1 would address our own group and every process.
    if child.pid <= 1 || i32::try_from(child.pid).is_err() {
        return Verdict::Recycled;
    }
    let leader = processes.iter().find(|process| process.identity.pid == child.pid);
    if leader.is_some_and(|leader| leader.identity != child) {
        return Verdict::Recycled;
    }
    let in_group = || processes.iter().filter(|process| process.group == child.pid);
    let is_ours =
        |member: &Stat| member.identity.start_time >= child.start_time && member.session == session;
    if leader.is_none() && !in_group().all(is_ours) {
        return Verdict::Recycled;
    }
    match in_group().filter(|member| !member.has_ended()).count() {
        0 => Verdict::Gone,
        processes => Verdict::Kill { processes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: ProcessIdentity = ProcessIdentity { pid: 100, start_time: 5_000 };
    const SESSION: u32 = 7;

    fn process(pid: u32, start_time: u64, group: u32, session: u32, state: char) -> Stat {
        Stat { identity: ProcessIdentity { pid, start_time }, state, group, session }
    }

    #[test]
    fn a_leader_with_the_same_start_time_is_killed_with_its_group() {
        let seen = [
            process(100, 5_000, 100, SESSION, 'S'),
            process(101, 5_100, 100, SESSION, 'R'),
            process(102, 5_100, 102, SESSION, 'R'),
        ];
        assert_eq!(judge(CHILD, SESSION, &seen), Verdict::Kill { processes: 2 });
    }

    #[test]
    fn a_leader_with_another_start_time_is_not_ours() {
        let seen = [process(100, 5_001, 100, SESSION, 'S'), process(101, 6_000, 100, SESSION, 'S')];
        assert_eq!(judge(CHILD, SESSION, &seen), Verdict::Recycled);
    }

    #[test]
    fn members_without_a_leader_are_ours_only_if_all_match() {
        let ours = process(101, 5_000, 100, SESSION, 'S');
        assert_eq!(judge(CHILD, SESSION, &[ours]), Verdict::Kill { processes: 1 });
        for stranger in
            [process(102, 4_999, 100, SESSION, 'S'), process(102, 5_500, 100, SESSION + 1, 'S')]
        {
            assert_eq!(judge(CHILD, SESSION, &[ours, stranger]), Verdict::Recycled);
        }
    }

    #[test]
    fn zombies_are_nothing_to_kill() {
        let seen = [process(100, 5_000, 100, SESSION, 'Z'), process(101, 5_000, 100, SESSION, 'Z')];
        assert_eq!(judge(CHILD, SESSION, &seen), Verdict::Gone);
        assert_eq!(judge(CHILD, SESSION, &[]), Verdict::Gone);
    }

    #[test]
    fn numbers_that_address_more_than_one_group_are_never_used() {
        for pid in [0, 1, u32::MAX] {
            let child = ProcessIdentity { pid, start_time: 0 };
            let seen = [process(pid, 0, pid, SESSION, 'S')];
            assert_eq!(judge(child, SESSION, &seen), Verdict::Recycled, "{pid}");
        }
    }
}
