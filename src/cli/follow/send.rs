//! Calls that wait for a runtime that is about to be there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// The first pause before a call is tried again; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a pause looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// Makes a call again and again while the server says that it will be able to a little later.
///
/// # Errors
///
/// What the last try said, or [`Failure::Interrupted`].
pub(crate) fn patiently<T>(
    until: Instant,
    interrupted: &AtomicBool,
    mut on_first_wait: impl FnMut(&Failure),
    mut call: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let failure = match call() {
            Err(failure) if failure.is_passing() => failure,
            finished => return finished,
        };
        if !std::mem::replace(&mut told, true) {
            on_first_wait(&failure);
        }
        let retry_at = Instant::now() + pause;
        if retry_at >= until {
            return Err(failure);
        }
        while let Some(left) = retry_at.checked_duration_since(Instant::now()) {
            if interrupted.swap(false, Ordering::SeqCst) {
                return Err(Failure::Interrupted);
            }
            std::thread::sleep(left.min(GLANCE));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
