//! One thread that lives as long as the host, for what must not happen on the runtime's: forking, reading shares, syncing.
//!
//! Vault processes die with the thread that forked them ([`strongroom_jail::Launch`]), so it must not be one of a pool.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread's letter box. The thread ends with the last clone of it.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(mpsc::Sender<Job>);

/// The job panicked: a bug, and nothing was done.
#[derive(Debug)]
pub(crate) struct JobPanicked;

impl Keeper {
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("keeper".into()).spawn(move || {
            for job in jobs {
                // The host goes on; whoever waits for the job sees that it gave no answer.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        })?;
        Ok(Self(sender))
    }

    /// Runs `job` on the thread, after those before it: its place is taken now, not when the future is awaited.
    pub(crate) fn run<T: Send + 'static, J: FnOnce() -> T + Send + 'static>(
        &self,
        job: J,
    ) -> impl Future<Output = Result<T, JobPanicked>> + Send + use<T, J> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever asked may have gone away.
            let _ = answer.send(job());
        });
        let sent = self.0.send(job).map_err(|_| JobPanicked);
        async move {
            sent?;
            answered.await.map_err(|_| JobPanicked)
        }
    }
}
