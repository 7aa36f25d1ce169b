//! Points at which tests kill the program or let an operation fail.
//!
//! Nothing of this is in a release: without the feature `failpoints` passing a point does nothing
//! and always succeeds. With it, three variables of the environment say what happens:
//!
//! - `CM_CRASH_POINT=<point>[:<n>]`: the process kills itself with SIGKILL at the n-th passing, the
//!   first if none is named.
//! - `CM_FAULT=<point>:<errno>[:<n>]`: every passing fails with the error, or the n-th alone.
//!   Errors are numbers or one of `EIO`, `ENOSPC`, `EROFS`, `EDQUOT`.
//! - `CM_FAULT_FILE=<path>`: lines of `<point>:<errno>` in this file fail every passing as long as
//!   they stand there. It is read at each passing, so that a test can turn a fault on and off while
//!   the program runs.

/// Passes a point.
///
/// # Errors
///
/// Only those that a test asked for.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn pass(_point: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use armed::pass;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::io;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// What the environment asks for, read once.
    struct Plan {
        crash: Option<(String, u64)>,
        fault: Option<(String, i32, Option<u64>)>,
        fault_file: Option<std::path::PathBuf>,
    }

    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Plan {
            crash: text("CM_CRASH_POINT").map(|text| match text.split_once(':') {
                Some((point, nth)) => (point.to_owned(), nth.parse().unwrap_or(1)),
                None => (text, 1),
            }),
            fault: text("CM_FAULT").and_then(|text| {
                let mut parts = text.split(':');
                let (point, error) = (parts.next()?.to_owned(), errno(parts.next()?)?);
                Some((point, error, parts.next().and_then(|nth| nth.parse().ok())))
            }),
            fault_file: text("CM_FAULT_FILE").map(Into::into),
        }
    });

    /// How often each point was passed.
    static PASSED: LazyLock<Mutex<HashMap<&'static str, u64>>> = LazyLock::new(Mutex::default);

    fn errno(word: &str) -> Option<i32> {
        match word.trim() {
            "EIO" => Some(nix::libc::EIO),
            "ENOSPC" => Some(nix::libc::ENOSPC),
            "EROFS" => Some(nix::libc::EROFS),
            "EDQUOT" => Some(nix::libc::EDQUOT),
            number => number.parse().ok(),
        }
    }

    /// Passes a point.
    ///
    /// # Errors
    ///
    /// Only those that a test asked for.
    pub fn pass(point: &'static str) -> io::Result<()> {
        let plan = &*PLAN;
        let passed = {
            let mut all = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = all.entry(point).or_default();
            *count += 1;
            *count
        };
        if plan.crash.as_ref().is_some_and(|(name, nth)| name == point && *nth == passed) {
            die();
        }
        if let Some((name, error, nth)) = &plan.fault
            && name == point
            && nth.is_none_or(|nth| nth == passed)
        {
            return Err(io::Error::from_raw_os_error(*error));
        }
        let Some(file) = &plan.fault_file else {
            return Ok(());
        };
        // A file that is not there asks for nothing.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines() {
            if let Some((name, word)) = line.split_once(':')
                && name.trim() == point
                && let Some(error) = errno(word)
            {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(())
    }

    /// Ends the process as `kill -9` does: nothing is flushed, no destructor runs.
    fn die() {
        let me = nix::unistd::Pid::this();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).ok();
        // The signal may reach this thread a moment later.
        loop {
            std::thread::park();
        }
    }
}
