//! Runs the commands that talk to a server, and gives them what they cannot have themselves:
//! Ctrl-C, and a server of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cm_cli::{ClientCommand, RunHooks};
use nix::sys::signal::{SigSet, Signal};

use crate::own_server;

/// Runs a client command and returns its exit code. It prints its own failures.
pub(crate) fn run(command: ClientCommand) -> u8 {
    let interrupted = Arc::new(AtomicBool::new(false));
    if command.handles_interrupt() {
        watch_interrupts(Arc::clone(&interrupted));
    }
    let start_server = Some(Box::new(own_server::start) as _);
    cm_cli::execute(command, RunHooks { start_server, interrupted })
}

/// Sets the flag at every Ctrl-C from now on. Where that cannot be had, Ctrl-C ends the process as
/// it always does.
///
/// The signal is blocked and waited for on a thread of its own rather than handled: a handler may
/// do next to nothing, and would need unsafe code.
fn watch_interrupts(interrupted: Arc<AtomicBool>) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    if signals.thread_block().is_err() {
        return;
    }
    let watch = move || {
        while signals.wait().is_ok() {
            interrupted.store(true, Ordering::SeqCst);
        }
    };
    // Threads inherit the mask, so that this must happen before any other is started.
    if std::thread::Builder::new().name("interrupts".to_owned()).spawn(watch).is_err() {
        let _ = signals.thread_unblock();
    }
}
