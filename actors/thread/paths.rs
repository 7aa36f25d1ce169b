//! Looking at files and folders away from the control arbiter: a file system may hang, and every
//! actor would hang with it.

use std::sync::Arc;
use std::time::Duration;

use cm_core::error::{ErrorCode, Failure};
use tokio::sync::Semaphore;

/// Looks that may go on at the same time, hung ones included. Overflow rule: a further one waits
/// until its deadline and fails.
const AT_ONCE: usize = 16;

/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Looks at files and folders on threads that may block.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    permits: Arc<Semaphore>,
    deadline: Duration,
}

impl Default for Paths {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), deadline: DEADLINE }
    }
}

impl Paths {
    /// Runs a look and answers what it saw.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DeadlineExceeded`] when the file system does not answer in time. The look goes
    /// on by itself then, and keeps its place.
    pub(super) fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Failure>> + 'static {
        let permits = Arc::clone(&self.permits);
        let deadline = self.deadline;
        let work = async move {
            let permit = permits.acquire_owned().await.ok()?;
            let looked = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                look()
            });
            looked.await.ok()
        };
        async move {
            let seen = tokio::time::timeout(deadline, work).await.ok().flatten();
            seen.ok_or_else(|| {
                Failure::new(
                    ErrorCode::DeadlineExceeded,
                    "The file system of the working directory does not answer. Nothing was done; \
                     look at the mount and try again.",
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_nobody_for_long() {
        let paths = Paths { deadline: Duration::from_millis(20), ..Paths::default() };
        let (release, hung) = std::sync::mpsc::sync_channel::<()>(1);
        let hung = Arc::new(std::sync::Mutex::new(hung));
        for _ in 0..=AT_ONCE {
            let hung = Arc::clone(&hung);
            let failed = paths.look(move || hung.lock().map(|hung| hung.recv()).is_ok()).await;
            assert_eq!(failed.unwrap_err().code, ErrorCode::DeadlineExceeded);
        }
        assert_eq!(paths.permits.available_permits(), 0, "hung looks are bounded");
        drop(release);
        let paths = Paths { deadline: DEADLINE, ..paths };
        assert_eq!(paths.look(|| 7).await, Ok(7));
    }
}
