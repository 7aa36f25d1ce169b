//! Signals, and the ordered stop. Its deadlines sum to less than 4.5 seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use actix_web::dev::ServerHandle;
use cm_actors::supervisor::SupervisorHandle;
use cm_actors::thread::ThreadsHandle;
use cm_routes::stream::{CloseSubscribers, CutConnections, Hub};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// How long subscribers have to take their closing frame.
const CLOSING: Duration = Duration::from_millis(300);

/// How long running turns have to end after they were interrupted.
const PARKING: Duration = Duration::from_millis(1000);

/// How long requests that are being answered have.
const ANSWERING: Duration = Duration::from_millis(1000);

/// How long the tree has: the child's stop, and what is still to be stored.
const TREE: Duration = Duration::from_millis(2200);

/// What has to be stopped, in order.
pub(crate) struct Stoppable {
    pub(crate) server: ServerHandle,
    pub(crate) hubs: Arc<Mutex<Vec<Addr<Hub>>>>,
    pub(crate) threads: ThreadsHandle,
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) stopping: Arc<AtomicBool>,
}

/// SIGINT and SIGTERM, caught from the moment this is made: one that comes while the program is
/// still starting stops it in order, too.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Caught so that a write beyond the limit of a file's size fails, which the store can deal
    /// with; by default the signal ends the process.
    _file_size: Signal,
}

/// SIGXFSZ, on Linux and the BSDs.
const SIGXFSZ: i32 = nix::sys::signal::Signal::SIGXFSZ as i32;

impl Signals {
    /// Begins to catch them; needs the runtime.
    ///
    /// # Errors
    ///
    /// When the system does not let the program watch them.
    pub(crate) fn catch() -> std::io::Result<Self> {
        let (interrupt, terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let _file_size = signal(SignalKind::from_raw(SIGXFSZ))?;
        Ok(Self { interrupt, terminate, _file_size })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits for a signal, then stops everything in order. A second signal ends the program at once;
/// the child then dies with it.
pub(crate) async fn on_signal(mut signals: Signals, stoppable: Stoppable) {
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    tokio::select! {
        () = stop(stoppable) => {}
        name = signals.next() => tracing::warn!(signal = name, "stopping at once"),
    }
}

async fn stop(stoppable: Stoppable) {
    let Stoppable { server, hubs, threads, supervisor, stopping } = stoppable;
    stopping.store(true, Ordering::Relaxed);
    let hubs = hubs.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for hub in &hubs {
        // A worker that is gone has no subscribers.
        hub.try_send(CloseSubscribers).ok();
    }
    let parked = threads.park_all(PARKING);
    let cut = async {
        tokio::time::sleep(CLOSING).await;
        for hub in &hubs {
            hub.try_send(CutConnections).ok();
        }
    };
    let (parked, ()) = tokio::join!(parked, cut);
    if let Err(error) = parked {
        tracing::warn!(%error, "some turns did not end in time");
    }
    // Whoever waits for the child is answered when it ends, so the two go side by side.
    let answered = timeout(ANSWERING, server.stop(true));
    let (answered, ended) = tokio::join!(answered, supervisor.shut_down(TREE));
    if answered.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    if let Err(error) = ended {
        tracing::warn!(%error, "some actors did not end in time");
    }
}
