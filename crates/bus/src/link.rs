//! The bus over a socket: one process holds it, another is connected for one principal.
//!
//! Messages on the socket are `u8(kind) || body`, length-prefixed: 1 subscribe `u32(number) || u8(topic) || member?`,
//! 2 subscribed `u32(number)`, 3 an envelope, either way. Whoever asks for what it may not, or sends what is no message, is
//! cut off: a peer of ours does neither.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_wire::VaultId;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use crate::framed::{Outbox, ReadError, Reader};
use crate::local::{Bus, BusError, Fanout, Subscription};
use crate::subject::{Filter, Topic};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The other end closed it.
    #[error("the other end closed the link")]
    Closed,
    /// The other end does not speak this protocol.
    #[error("the other end of the link sent a malformed message")]
    Malformed,
    /// The other end asked for what it may not.
    #[error("the other end of the link asked for what it may not")]
    Forbidden(#[source] BusError),
    /// The other end did not take what was sent.
    #[error("the other end of the link does not read")]
    Slow,
    /// The socket failed.
    #[error("the link failed")]
    Read(#[source] ReadError),
}

/// Serves one link on the side that holds the bus. `bus` is a connection made for the principal at the other end.
///
/// Returns when the link has ended; nothing that the other end sends makes it panic or end anything else.
pub async fn serve<B: Bus>(stream: UnixStream, bus: B) -> LinkEnd {
    let (read, write) = stream.into_split();
    let outbox = outbox();
    let mut tasks = JoinSet::new();
    spawn_writer(&mut tasks, outbox.clone(), write);
    let mut reader = Reader::new(read, LINK_MESSAGE_BYTES_MAX);
    let mut subscriptions = 0;
    let end = loop {
        tokio::select! {
            biased;
            // A subscription or the writer ends early only where the other end does not read, or is gone.
            Some(_) = tasks.join_next() => break LinkEnd::Slow,
            message = reader.next() => match message {
                Ok(Some(message)) => {
                    if let Err(end) = serve_message(message, &bus, &outbox, &mut tasks, &mut subscriptions).await {
                        break end;
                    }
                }
                Ok(None) => break LinkEnd::Closed,
                Err(error) => break LinkEnd::Read(error),
            },
        }
    };
    outbox.abort();
    end
}

async fn serve_message<B: Bus>(
    message: &[u8],
    bus: &B,
    outbox: &Outbox,
    tasks: &mut JoinSet<()>,
    subscriptions: &mut usize,
) -> Result<(), LinkEnd> {
    match message.split_first() {
        Some((&ENVELOPE, bytes)) => {
            let envelope = Envelope::decode(bytes).map_err(|_| LinkEnd::Malformed)?;
            bus.publish(envelope).await.map_err(LinkEnd::Forbidden)
        }
        Some((&SUBSCRIBE, body)) => {
            let (number, filter) = decode_subscribe(body).ok_or(LinkEnd::Malformed)?;
            *subscriptions += 1;
            if *subscriptions > SUBSCRIPTIONS_MAX {
                return Err(LinkEnd::Malformed);
            }
            let subscription = bus.subscribe(filter).await.map_err(LinkEnd::Forbidden)?;
            outbox.send(&[&[SUBSCRIBED], &number.to_be_bytes()]).await.map_err(|_| LinkEnd::Slow)?;
            tasks.spawn(forward(subscription, outbox.clone()));
            Ok(())
        }
        _ => Err(LinkEnd::Malformed),
    }
}

async fn forward(mut subscription: Subscription, outbox: Outbox) {
    while let Some(envelope) = subscription.next().await {
        if outbox.send(&[&[ENVELOPE], &envelope.head(), &envelope.payload]).await.is_err() {
            return;
        }
    }
}

/// The bus as the process at the other end of a link sees it.
#[derive(Clone, Debug)]
pub struct LinkBus(Arc<Link>);

#[derive(Debug)]
struct Link {
    outbox: Outbox,
    fanout: Fanout,
    /// Subscriptions that the other end has not confirmed.
    asked: Mutex<HashMap<u32, oneshot::Sender<()>>>,
    next: AtomicU32,
}

impl LinkBus {
    /// Connects over `stream`; needs the runtime. Subscriptions end when the link does.
    pub fn connect(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let link =
            Link { outbox: outbox(), fanout: Fanout::default(), asked: Mutex::default(), next: AtomicU32::new(0) };
        let link = Arc::new(link);
        tokio::spawn(run(Arc::clone(&link), read, write));
        Self(link)
    }
}

impl Bus for LinkBus {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let head = envelope.head();
        self.0.outbox.send(&[&[ENVELOPE], &head, &envelope.payload]).await.map_err(|_| BusError::Gone)
    }

    async fn subscribe(&self, filter: Filter) -> Result<Subscription, BusError> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (confirm, confirmed) = oneshot::channel();
        self.0.asked().insert(number, confirm);
        // Before the request, so that nothing is lost between the confirmation and here.
        let subscription = self.0.fanout.subscribe(filter);
        self.0.outbox.send(&[&[SUBSCRIBE], &encode_subscribe(number, filter)]).await.map_err(|_| BusError::Gone)?;
        confirmed.await.map_err(|_| BusError::Gone)?;
        Ok(subscription)
    }
}

async fn run(link: Arc<Link>, read: OwnedReadHalf, write: OwnedWriteHalf) {
    let mut tasks = JoinSet::new();
    spawn_writer(&mut tasks, link.outbox.clone(), write);
    let mut reader = Reader::new(read, LINK_MESSAGE_BYTES_MAX);
    loop {
        tokio::select! {
            biased;
            _ = tasks.join_next() => break,
            message = reader.next() => match message {
                Ok(Some(message)) if receive(&link, message).await => {}
                _ => break,
            },
        }
    }
    link.outbox.abort();
    link.fanout.close();
    link.asked().clear();
}

/// One message of the side that holds the bus; `false` where it is none.
async fn receive(link: &Link, message: &[u8]) -> bool {
    match message.split_first() {
        Some((&ENVELOPE, bytes)) => {
            let Ok(envelope) = Envelope::decode(bytes) else { return false };
            link.fanout.deliver(envelope).await;
            true
        }
        Some((&SUBSCRIBED, number)) => {
            let Ok(number) = number.try_into().map(u32::from_be_bytes) else { return false };
            if let Some(confirm) = link.asked().remove(&number) {
                // Whoever asked may have gone away.
                let _ = confirm.send(());
            }
            true
        }
        _ => false,
    }
}

impl Link {
    fn asked(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<()>>> {
        // No code panics between two halves of a change.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outbox() -> Outbox {
    Outbox::new(LINK_BYTES_HIGH, LINK_BYTES_HIGH + 2 * LINK_MESSAGE_BYTES_MAX)
}

fn spawn_writer(tasks: &mut JoinSet<()>, outbox: Outbox, mut write: OwnedWriteHalf) {
    tasks.spawn(async move {
        // The reader sees the end of the socket as well and says why.
        let _ = outbox.write_to(&mut write, STALL).await;
    });
}

fn encode_subscribe(number: u32, filter: Filter) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.push(filter.topic as u8);
    if let Some(member) = filter.member {
        bytes.extend_from_slice(member.as_bytes());
    }
    bytes
}

fn decode_subscribe(body: &[u8]) -> Option<(u32, Filter)> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    let (topic, member) = rest.split_first()?;
    let member = if member.is_empty() { None } else { Some(VaultId(member.try_into().ok()?)) };
    Some((u32::from_be_bytes(*number), Filter { member, topic: Topic::from_byte(*topic)? }))
}

const SUBSCRIBE: u8 = 1;
const SUBSCRIBED: u8 = 2;
const ENVELOPE: u8 = 3;
/// Bytes of one message of a link.
const LINK_MESSAGE_BYTES_MAX: usize = 1 + ENVELOPE_BYTES_MAX;
/// Bytes that wait for the socket before publishers do.
const LINK_BYTES_HIGH: usize = 4 * 1024 * 1024;
/// Subscriptions of one link.
const SUBSCRIPTIONS_MAX: usize = 1_024;
/// How long a link may take nothing.
const STALL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{ConnectionId, Kind};
    use crate::local::LocalBus;
    use crate::permissions::Principal;
    use crate::subject::Subject;
    use tokio::io::AsyncWriteExt as _;

    fn envelope(topic: Topic, payload: &[u8]) -> Envelope {
        Envelope::new(Subject { member: VaultId([1; 16]), topic }, ConnectionId(9), Kind::Data).payload(payload)
    }

    fn linked() -> (LocalBus, LinkBus, tokio::task::JoinHandle<LinkEnd>) {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let bus = LocalBus::new();
        let served = tokio::spawn(serve(near, bus.connect(Principal::Services)));
        (bus, LinkBus::connect(far), served)
    }

    #[tokio::test]
    async fn a_link_carries_both_ways_in_order() {
        let (bus, services, _served) = linked();
        let host = bus.connect(Principal::Host);
        let mut to_host = host.subscribe(Filter::every(Topic::ToVault)).await.expect("may");
        let mut to_services = services.subscribe(Filter::every(Topic::ToDevice)).await.expect("may");
        for number in 0..100u8 {
            services.publish(envelope(Topic::ToVault, &vec![number; 70_000])).await.expect("linked");
            host.publish(envelope(Topic::ToDevice, &[number])).await.expect("may");
        }
        for number in 0..100u8 {
            assert_eq!(to_host.next().await.expect("comes").payload[0], number);
            assert_eq!(to_services.next().await.expect("comes").payload, [number]);
        }
    }

    #[tokio::test]
    async fn a_link_that_asks_for_what_it_may_not_is_cut_off() {
        let (_bus, services, served) = linked();
        services.publish(envelope(Topic::ToDevice, b"as if from the vault")).await.expect("it is on its way");
        assert!(matches!(served.await.expect("no panic"), LinkEnd::Forbidden(_)));
        let refused = services.subscribe(Filter::every(Topic::ToDevice)).await;
        assert!(matches!(refused, Err(BusError::Gone)));
        let (_bus, services, served) = linked();
        assert!(services.subscribe(Filter::every(Topic::ToVault)).await.is_err());
        assert!(matches!(served.await.expect("no panic"), LinkEnd::Forbidden(_)));
    }

    #[tokio::test]
    async fn garbage_ends_the_link_and_nothing_else() {
        for garbage in [&[0xff; 64][..], &[0, 0, 0, 1, 9], &[0, 0, 0, 2, 3, 0], &[0, 0, 0, 0], &[0, 0, 0, 3, 1, 0, 0]] {
            let (mut near, far) = UnixStream::pair().expect("a socket pair");
            let bus = LocalBus::new();
            near.write_all(garbage).await.expect("written");
            let end = serve(far, bus.connect(Principal::Services)).await;
            assert!(matches!(end, LinkEnd::Malformed | LinkEnd::Read(_)), "{end:?}");
        }
    }
}
