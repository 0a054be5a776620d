//! The bus, and its form inside one process.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::envelope::Envelope;
use crate::log;
use crate::permissions::{self, Principal};
use crate::queue::{self, Receiver, Sender};
use crate::subject::Filter;

/// A connection to a bus, made for one principal.
pub trait Bus: Clone + Send + Sync + 'static {
    /// Sends an envelope to everybody who subscribed to its subject. Waits while a subscriber's queue is full, but not for
    /// ever: a subscriber that stays full is given up.
    ///
    /// # Errors
    /// [`BusError`]: the envelope was not sent.
    fn publish(&self, envelope: Envelope) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Receives what `filter` asks for, from the moment this returns.
    ///
    /// # Errors
    /// [`BusError`]: there is no subscription.
    fn subscribe(&self, filter: Filter) -> impl Future<Output = Result<Subscription, BusError>> + Send;
}

/// Why the bus did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The principal of this connection may not.
    #[error("this connection has no permission for {topic}")]
    Forbidden {
        /// The topic it asked for.
        topic: &'static str,
    },
    /// The connection is gone.
    #[error("the connection to the bus is gone")]
    Gone,
}

/// What a subscriber receives.
#[derive(Debug)]
pub struct Subscription(Receiver);

impl Subscription {
    /// The next envelope; `None` when the bus is gone or has given this subscriber up for being slow.
    pub async fn next(&mut self) -> Option<Arc<Envelope>> {
        self.0.pop().await
    }

    /// The next envelope if it is here already.
    pub fn next_queued(&mut self) -> Option<Arc<Envelope>> {
        self.0.try_pop()
    }

    /// Whether it ended because the subscriber was slow.
    pub fn was_slow(&self) -> bool {
        self.0.was_slow()
    }
}

/// A bus inside this process.
#[derive(Clone, Debug, Default)]
pub struct LocalBus(Arc<Fanout>);

impl LocalBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection for `principal`; what it may do is checked on every call.
    pub fn connect(&self, principal: Principal) -> LocalConnection {
        LocalConnection { fanout: Arc::clone(&self.0), principal }
    }
}

/// A connection to a [`LocalBus`].
#[derive(Clone, Debug)]
pub struct LocalConnection {
    fanout: Arc<Fanout>,
    principal: Principal,
}

impl Bus for LocalConnection {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        if !permissions::may_publish(self.principal, envelope.subject) {
            return Err(forbidden(self.principal, Filter::one(envelope.subject.member, envelope.subject.topic)));
        }
        self.fanout.deliver(envelope).await;
        Ok(())
    }

    async fn subscribe(&self, filter: Filter) -> Result<Subscription, BusError> {
        if !permissions::may_subscribe(self.principal, filter) {
            return Err(forbidden(self.principal, filter));
        }
        Ok(self.fanout.subscribe(filter))
    }
}

fn forbidden(principal: Principal, filter: Filter) -> BusError {
    let who = match principal {
        Principal::Services => "services",
        Principal::Host => "host",
        Principal::Device(_) => "device",
        Principal::Guest(_) => "guest",
        Principal::Operator => "operator",
    };
    log::warn("bus_forbidden", &[("principal", &who), ("topic", &filter.topic), ("member", &filter.member)]);
    BusError::Forbidden { topic: filter.topic.parts().1 }
}

/// Subscribers and their queues; no permissions: those are checked before.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    subscribers: Mutex<Vec<(Filter, Sender)>>,
}

impl Fanout {
    pub(crate) fn subscribe(&self, filter: Filter) -> Subscription {
        let (sender, receiver) = queue::queue();
        self.subscribers().push((filter, sender));
        Subscription(receiver)
    }

    pub(crate) async fn deliver(&self, envelope: Envelope) {
        let envelope = Arc::new(envelope);
        for sender in self.deliver_to_the_ready(&envelope) {
            if tokio::time::timeout(SLOW, sender.push(&envelope)).await.is_err() {
                log::warn("bus_subscriber_slow", &[("topic", &envelope.subject.topic)]);
                sender.close_slow();
            }
        }
    }

    /// The common case without a wait; returns the subscribers whose queue is full.
    fn deliver_to_the_ready(&self, envelope: &Arc<Envelope>) -> Vec<Sender> {
        let mut full = Vec::new();
        self.subscribers().retain(|(filter, sender)| {
            if !filter.matches(envelope.subject) {
                return true;
            }
            match sender.try_push(envelope) {
                Ok(true) => {}
                Ok(false) => full.push(sender.clone()),
                Err(queue::Closed) => return false,
            }
            true
        });
        full
    }

    /// Every subscription ends once its queue is empty.
    pub(crate) fn close(&self) {
        self.subscribers().clear();
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<(Filter, Sender)>> {
        // No code panics between two halves of a change.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a publisher waits for a full subscriber.
const SLOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{ConnectionId, Kind};
    use crate::subject::{Subject, Topic};
    use strongroom_wire::VaultId;

    fn envelope(member: u8, topic: Topic, payload: usize) -> Envelope {
        let subject = Subject { member: VaultId([member; 16]), topic };
        Envelope::new(subject, ConnectionId(1), Kind::Data).payload(vec![0; payload])
    }

    #[tokio::test]
    async fn an_envelope_reaches_those_who_asked_for_it_and_nobody_else() {
        let bus = LocalBus::new();
        let (host, services) = (bus.connect(Principal::Host), bus.connect(Principal::Services));
        let mine = bus.connect(Principal::Device(VaultId([1; 16])));
        let mut all = host.subscribe(Filter::every(Topic::ToVault)).await.expect("a host may");
        let mut own = mine.subscribe(Filter::one(VaultId([1; 16]), Topic::ToDevice)).await.expect("a device may");
        services.publish(envelope(1, Topic::ToVault, 1)).await.expect("services may");
        host.publish(envelope(2, Topic::ToDevice, 2)).await.expect("a host may");
        host.publish(envelope(1, Topic::ToDevice, 3)).await.expect("a host may");
        assert_eq!(all.next().await.expect("one came").payload.len(), 1);
        assert_eq!(own.next().await.expect("one came").payload.len(), 3);
        assert!(all.next_queued().is_none() && own.next_queued().is_none());
    }

    #[tokio::test]
    async fn what_is_not_allowed_is_refused_and_reaches_nobody() {
        let bus = LocalBus::new();
        let mut host = bus.connect(Principal::Host).subscribe(Filter::every(Topic::ToVault)).await.expect("may");
        let other = bus.connect(Principal::Device(VaultId([2; 16])));
        let refused = other.publish(envelope(1, Topic::ToVault, 1)).await;
        assert_eq!(refused, Err(BusError::Forbidden { topic: "to-vault" }));
        assert!(host.next_queued().is_none());
        assert!(other.subscribe(Filter::every(Topic::ToDevice)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_is_given_up_and_others_go_on() {
        let bus = LocalBus::new();
        let (host, services) = (bus.connect(Principal::Host), bus.connect(Principal::Services));
        let mut slow = services.subscribe(Filter::every(Topic::ToDevice)).await.expect("may");
        let mut quick = services.subscribe(Filter::every(Topic::ToDevice)).await.expect("may");
        let count = 20;
        let received = tokio::spawn(async move {
            for _ in 0..count {
                quick.next().await.expect("the quick one gets all");
            }
        });
        for _ in 0..count {
            host.publish(envelope(1, Topic::ToDevice, 1024 * 1024)).await.expect("may");
        }
        received.await.expect("no panic");
        while slow.next().await.is_some() {}
        assert!(slow.was_slow());
    }
}
