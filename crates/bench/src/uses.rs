//! Guests that use a secret: signatures by sixteen at once, and what `use http` adds to a call.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use strongroom_client::guest::GuestKey;
use strongroom_client::wire::device::DeviceRequest;
use strongroom_client::wire::guest::{
    Call, GuestAnswer, GuestRequest, HttpBody, HttpCall, SignCall, UseCall, UseRequest, UseResult,
};
use strongroom_client::wire::items::{FieldDraft, ItemDraft};
use strongroom_client::wire::policy::{Consumer, Destination, HttpPolicy, ItemPolicy, Placement};
use strongroom_client::wire::{Bytes, Class, FieldName, ItemId, ItemType, Reference, SecretValue};
use strongroom_client::{Gateway, Session};

use crate::Outcome;
use crate::api::{self, Api};
use crate::figure::Figure;
use crate::machine::{Machine, Passphrase};
use crate::peer::Peer;
use crate::times::{Times, at_once};
use crate::writes::Bare;

/// On a machine with an open vault.
pub(crate) fn figures(machine: &Machine, peer: &Peer) -> Outcome<Vec<Figure>> {
    let mut figures = sign(machine, peer)?;
    figures.push(http(machine)?);
    Ok(figures)
}

fn sign(machine: &Machine, peer: &Peer) -> Outcome<Vec<Figure>> {
    machine.place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    let item = machine.item("Release")?;
    let guests = machine.guests(GUESTS, item, "private_key", Consumer::Sign)?;
    let request = use_of(item, "private_key", Call::Sign(SignCall::Message { message: Bytes::from(vec![7; 64]) }))?;
    let run = |threads: usize, length| {
        at_once(threads, length, |number, turn| {
            let mut gateway = Gateway::new(&guests[number]);
            turn.repeat(|| match gateway.ask(&request)? {
                GuestAnswer::Used(UseResult::Signature { .. }) => Ok(()),
                _ => Err("not a signature".into()),
            })
        })
    };
    run(GUESTS, WARM)?;
    let before = vault_processor(machine)?;
    let (rate, times) = run(GUESTS, LENGTH)?;
    let after = vault_processor(machine)?;
    let ms_each = |ticks: f64| ticks * 1e3 / TICKS_PER_SEC / (rate * LENGTH.as_secs_f64());
    let (user, kernel) = (ms_each(after.0 - before.0), ms_each(after.1 - before.1));
    let (_, alone) = run(1, LENGTH / 4)?;
    let list = list_latency(&guests[0])?;
    let parts = format!(
        "A use costs the vault process {:.2} ms of a processor, {kernel:.2} of them in the kernel; one guest alone waits {:.2} \
         ms, of which {list:.2} are the way of a request that writes nothing.",
        user + kernel,
        alone.median_ms()
    );
    Ok(vec![
        Figure::new(format!("use sign (Ed25519), {GUESTS} guests at once"), rate, "/s")
            .beside(peer.reads_name(), peer.reads)
            .ratio_at_least(2.0)
            .else_because(parts.clone()),
        Figure::new("use sign, p50", times.median_ms(), "ms")
            .beside("one guest alone", alone.median_ms())
            .at_most(1.0)
            .else_because(parts.clone()),
        Figure::new("use sign, p99", times.p99_ms(), "ms")
            .beside("one guest alone", alone.p99_ms())
            .at_most(4.0)
            .else_because(parts),
    ])
}

/// Ticks of a processor that the vault process has had: its own, and the kernel's for it.
fn vault_processor(machine: &Machine) -> Outcome<(f64, f64)> {
    let pid = machine.place.vault_pid().ok_or("there is no vault process")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| -> Outcome<f64> { Ok(fields.get(at).ok_or("stat is short")?.parse()?) };
    Ok((field(11)?, field(12)?))
}

/// A request that goes the same way and leaves nothing.
fn list_latency(guest: &GuestKey) -> Outcome<f64> {
    let mut gateway = Gateway::new(guest);
    let lists = Times::of(1_000, |_| {
        gateway.ask(&GuestRequest::List {})?;
        Ok(())
    })?;
    Ok(lists.median_ms())
}

fn http(machine: &Machine) -> Outcome<Figure> {
    let api = Api::start()?;
    let item = add_key(machine, &api)?;
    let guests = machine.guests(1, item, "key", Consumer::Http)?;
    let guest = guests.first().ok_or("one guest was made")?;
    let call = HttpCall {
        method: "GET".to_owned(),
        url: format!("https://localhost:{}{}", api.port, api::PATH),
        headers: Vec::new(),
        body: HttpBody::Empty,
        follow_redirects: false,
    };
    let request = use_of(item, "key", Call::Http(call))?;
    let mut gateway = Gateway::new(guest);
    let mut through = || {
        let (answer, body) = gateway.ask_streaming(&request, None)?;
        let mut bytes = Vec::new();
        body.ok_or("an answer without a body")?.read_to_end(&mut bytes)?;
        let GuestAnswer::Used(UseResult::Http(head)) = answer else { return Err("not an answer to http".into()) };
        if (head.status, bytes.as_slice()) == (200, api::BODY) { Ok(()) } else { Err("another answer".into()) }
    };
    let mut direct = api.connect()?;
    let mut bare = Bare::sqlcipher()?;
    let mut echo = Echo::start()?;
    Times::of(50, |_| through().and_then(|()| direct.get(api.port)))?;
    // In turn, so that each sees the machine as the others do.
    let (mut ours, mut theirs, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CALLS {
        ours.push(crate::times::timed(&mut through)?.0);
        theirs.push(crate::times::timed(|| direct.get(api.port))?.0);
        floor.push(
            crate::times::timed(|| {
                for _ in 0..2 {
                    bare.commit()?;
                    echo.round_trip()?;
                }
                Ok(())
            })?
            .0,
        );
    }
    let (ours, theirs, floor) = (Times::from(ours), Times::from(theirs), Times::from(floor));
    let list = list_latency(guest)?;
    Ok(Figure::new("use http, latency added to a direct call, median", ours.median_ms() - theirs.median_ms(), "ms")
        .beside("two durable commits and two socket round trips", floor.median_ms())
        .at_most(0.7)
        .else_because(format!(
            "A call takes {:.2} ms, {:.2} directly; the way to the vault process and back is {list:.2} ms, and head, body and \
             end cross it one after the other, as does each piece of TLS on its way through the host's tunnel.",
            ours.median_ms(),
            theirs.median_ms()
        )))
}

fn add_key(machine: &Machine, api: &Api) -> Outcome<ItemId> {
    let policy = HttpPolicy {
        hosts: vec![Destination { host: "localhost".to_owned(), port: api.port }],
        placement: Placement::Bearer,
        allow_private: true,
        allow_short: false,
        roots_pem: Some(api.roots_pem.clone()),
    };
    let draft = ItemDraft {
        item_type: ItemType::ApiKey,
        label: "Weather".to_owned(),
        tags: Vec::new(),
        fields: vec![FieldDraft {
            name: FieldName::parse("key")?,
            class: Class::Secret,
            value: SecretValue::from(api::KEY),
        }],
        policy: ItemPolicy { http: Some(policy), key: None },
        origin: None,
    };
    Session::new(&machine.profile, &mut Passphrase).ask(&DeviceRequest::ItemAdd(draft))?;
    machine.item("Weather")
}

fn use_of(item: ItemId, field: &str, call: Call) -> Outcome<GuestRequest> {
    let reference = Reference { item, field: FieldName::parse(field)? };
    Ok(GuestRequest::Use(UseRequest { call: Some(UseCall { reference, call }), handle: None, reason: None }))
}

/// A thread at the other end of a socket that sends back what it reads.
struct Echo(UnixStream);

impl Echo {
    fn start() -> Outcome<Self> {
        let (near, mut far) = UnixStream::pair()?;
        thread::spawn(move || {
            let mut message = [0; MESSAGE_BYTES];
            while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
        });
        Ok(Self(near))
    }

    fn round_trip(&mut self) -> Outcome<()> {
        let mut message = [7; MESSAGE_BYTES];
        self.0.write_all(&message)?;
        Ok(self.0.read_exact(&mut message)?)
    }
}

const GUESTS: usize = 16;
/// Of `/proc/PID/stat` (USER_HZ).
const TICKS_PER_SEC: f64 = 100.0;
const WARM: Duration = Duration::from_secs(1);
const LENGTH: Duration = Duration::from_secs(6);
const CALLS: usize = 1_000;
const MESSAGE_BYTES: usize = 300;
