//! The queue of one subscription: bounded in bytes, with waiting senders in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, TryAcquireError, mpsc};

use crate::envelope::{ENVELOPE_BYTES_MAX, Envelope};

pub(crate) struct Closed;

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    envelopes: mpsc::UnboundedSender<Arc<Envelope>>,
    room: Arc<Semaphore>,
    slow: Arc<AtomicBool>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    envelopes: mpsc::UnboundedReceiver<Arc<Envelope>>,
    room: Arc<Semaphore>,
    slow: Arc<AtomicBool>,
}

pub(crate) fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
    let slow = Arc::new(AtomicBool::new(false));
    (
        Sender { envelopes: sender, room: Arc::clone(&room), slow: Arc::clone(&slow) },
        Receiver { envelopes: receiver, room, slow },
    )
}

impl Sender {
    /// Puts an envelope in if there is room; `Ok(false)` if there is none.
    pub(crate) fn try_push(&self, envelope: &Arc<Envelope>) -> Result<bool, Closed> {
        match self.room.try_acquire_many(cost(envelope)) {
            Ok(permits) => {
                permits.forget();
                self.envelopes.send(Arc::clone(envelope)).map(|()| true).map_err(|_| Closed)
            }
            Err(TryAcquireError::NoPermits) => Ok(false),
            Err(TryAcquireError::Closed) => Err(Closed),
        }
    }

    /// Puts an envelope in once there is room.
    pub(crate) async fn push(&self, envelope: &Arc<Envelope>) -> Result<(), Closed> {
        self.room.acquire_many(cost(envelope)).await.map_err(|_| Closed)?.forget();
        self.envelopes.send(Arc::clone(envelope)).map_err(|_| Closed)
    }

    /// Ends the subscription of a receiver that does not receive.
    pub(crate) fn close_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
        self.room.close();
    }
}

impl Receiver {
    /// The next envelope; `None` when the bus is gone or gave this receiver up.
    pub(crate) async fn pop(&mut self) -> Option<Arc<Envelope>> {
        let envelope = self.envelopes.recv().await;
        envelope.and_then(|envelope| self.popped(envelope))
    }

    /// The next envelope if it is here already.
    pub(crate) fn try_pop(&mut self) -> Option<Arc<Envelope>> {
        let envelope = self.envelopes.try_recv().ok();
        envelope.and_then(|envelope| self.popped(envelope))
    }

    pub(crate) fn was_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    fn popped(&self, envelope: Arc<Envelope>) -> Option<Arc<Envelope>> {
        if self.was_slow() {
            // What follows has a gap: nothing of it is handed out.
            return None;
        }
        self.room.add_permits(cost(&envelope) as usize);
        Some(envelope)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.room.close();
    }
}

fn cost(envelope: &Envelope) -> u32 {
    u32::try_from(envelope.payload.len()).unwrap_or(QUEUE_BYTES_MAX).saturating_add(ENVELOPE_COST).min(QUEUE_BYTES_MAX)
}

/// Bytes that wait for one subscriber before senders wait.
const QUEUE_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// What an envelope costs besides its payload, so that empty ones are bounded as well.
const ENVELOPE_COST: u32 = 128;
const _: () = assert!(ENVELOPE_BYTES_MAX < QUEUE_BYTES_MAX as usize);
