//! Connections kept for the next call of the same caller, item, policy version and destination; never shared between two.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use strongroom_wire::ItemId;
use strongroom_wire::policy::Destination;
use tokio::time::{Instant, sleep_until, timeout};

use super::CallerKey;
use super::body::OutBody;

/// What a connection may be used for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) caller: CallerKey,
    pub(super) item: ItemId,
    pub(super) policy_version: u64,
    pub(super) destination: Destination,
}

/// The sending end of a connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<OutBody>),
    Http2(http2::SendRequest<OutBody>),
}

/// The connections of one engine. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Shelf>>);

/// A handful of connections: searched one by one.
#[derive(Default)]
struct Shelf {
    entries: Vec<Entry>,
    next: u64,
}

struct Entry {
    id: u64,
    key: Key,
    address: Arc<str>,
    /// Absent while an HTTP/1.1 connection is in use.
    sender: Option<Sender>,
    calls: usize,
    last_used: Instant,
    /// Held by the entry and by each lease: while it is held, the connection is driven.
    wanted: Arc<()>,
}

/// A connection in use. Dropped without [`give_back`](Self::give_back), an HTTP/1.1 connection closes.
pub(super) struct Lease {
    pool: Weak<Mutex<Shelf>>,
    id: u64,
    sender: Option<Sender>,
    address: Arc<str>,
    returned: bool,
    _wanted: Arc<()>,
}

impl Pool {
    /// A kept connection for `key`.
    pub(super) fn take(&self, key: &Key) -> Option<Lease> {
        let mut shelf = self.shelf();
        shelf.entries.retain(|entry| !entry.sender.as_ref().is_some_and(Sender::is_closed));
        let entry = shelf.entries.iter_mut().find(|entry| entry.key == *key && entry.sender.is_some())?;
        let sender = match entry.sender.take()? {
            Sender::Http1(sender) => Sender::Http1(sender),
            Sender::Http2(sender) => {
                entry.sender = Some(Sender::Http2(sender.clone()));
                Sender::Http2(sender)
            }
        };
        entry.calls += 1;
        Some(Lease {
            pool: Arc::downgrade(&self.0),
            id: entry.id,
            sender: Some(sender),
            address: Arc::clone(&entry.address),
            returned: false,
            _wanted: Arc::clone(&entry.wanted),
        })
    }

    /// Takes a new connection in and starts to drive it. It is in use from the start.
    pub(super) fn add<C>(&self, key: Key, address: String, sender: Sender, connection: C, idle: Duration) -> Lease
    where
        C: Future + Send + 'static,
    {
        let address: Arc<str> = address.into();
        let kept = match &sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Sender::Http2(sender.clone())),
        };
        let wanted = Arc::new(());
        let mut shelf = self.shelf();
        shelf.trim(CONNECTIONS_KEPT_MAX - 1);
        let id = shelf.next;
        shelf.next += 1;
        shelf.entries.push(Entry {
            id,
            key,
            address: Arc::clone(&address),
            sender: kept,
            calls: 1,
            last_used: Instant::now(),
            wanted: Arc::clone(&wanted),
        });
        drop(shelf);
        let pool = Arc::downgrade(&self.0);
        tokio::spawn(drive(connection, Weak::clone(&pool), id, Arc::downgrade(&wanted), idle));
        Lease { pool, id, sender: Some(sender), address, returned: false, _wanted: wanted }
    }

    /// Closes the connections that `wanted` picks; those in use close after use.
    pub(super) fn forget(&self, wanted: impl Fn(&Key) -> bool) {
        self.shelf().entries.retain(|entry| !wanted(&entry.key));
    }

    pub(super) fn len(&self) -> usize {
        self.shelf().entries.len()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.0)
    }
}

impl Shelf {
    /// Closes those that have been idle longest until `most` are left, or none is idle.
    fn trim(&mut self, most: usize) {
        while self.entries.len() > most {
            let idle = self.entries.iter().filter(|entry| entry.calls == 0);
            let Some(oldest) = idle.min_by_key(|entry| entry.last_used).map(|entry| entry.id) else { return };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: u64) {
        self.entries.retain(|entry| entry.id != id);
    }
}

impl Lease {
    /// Waits until a request can be sent.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        match self.sender_mut() {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        }
    }

    /// Sends a request; it comes back in the error if nothing of it left.
    pub(super) async fn send(
        &mut self,
        request: Request<OutBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<OutBody>>> {
        match self.sender_mut() {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(Sender::Http2(_)))
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Keeps the connection for the next call.
    pub(super) fn give_back(mut self) {
        self.end(true);
    }

    /// Closes the connection, also for others that use it.
    pub(super) fn close(mut self) {
        self.sender = None;
        self.returned = true;
        if let Some(pool) = self.pool.upgrade() {
            lock(&pool).remove(self.id);
        }
    }

    fn sender_mut(&mut self) -> &mut Sender {
        self.sender.as_mut().expect("a lease has its sender until it ends")
    }

    fn end(&mut self, reusable: bool) {
        let sender = self.sender.take();
        if std::mem::replace(&mut self.returned, true) {
            return;
        }
        let Some(pool) = self.pool.upgrade() else { return };
        let mut shelf = lock(&pool);
        let Some(entry) = shelf.entries.iter_mut().find(|entry| entry.id == self.id) else { return };
        entry.calls -= 1;
        entry.last_used = Instant::now();
        match sender {
            Some(sender @ Sender::Http1(_)) if reusable && !sender.is_closed() => entry.sender = Some(sender),
            Some(Sender::Http2(_)) => {}
            _ => shelf.remove(self.id),
        }
        shelf.trim(CONNECTIONS_KEPT_MAX);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Runs a connection until it ends, has been idle for too long or was forgotten.
async fn drive(connection: impl Future, pool: Weak<Mutex<Shelf>>, id: u64, wanted: Weak<()>, idle: Duration) {
    let mut connection = pin!(connection);
    while let Some(until) = idle_until(&pool, id, idle) {
        tokio::select! {
            _ = &mut connection => {
                remove(&pool, id);
                return;
            }
            () = sleep_until(until) => {}
        }
    }
    // Forgotten or idle: its senders are dropped, so it closes once the calls in flight have ended.
    while timeout(idle, &mut connection).await.is_err() && wanted.strong_count() > 0 {}
}

/// When to look again; `None` where the connection is to be closed now.
fn idle_until(pool: &Weak<Mutex<Shelf>>, id: u64, idle: Duration) -> Option<Instant> {
    let pool = pool.upgrade()?;
    let mut shelf = lock(&pool);
    let entry = shelf.entries.iter().find(|entry| entry.id == id)?;
    let now = Instant::now();
    let until = if entry.calls > 0 { now + idle } else { entry.last_used + idle };
    if until <= now {
        shelf.remove(id);
        return None;
    }
    Some(until)
}

fn remove(pool: &Weak<Mutex<Shelf>>, id: u64) {
    if let Some(pool) = pool.upgrade() {
        lock(&pool).remove(id);
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections that are kept, whatever their callers; only those in use may be more.
const CONNECTIONS_KEPT_MAX: usize = 32;
