//! One entry for each parser: what a fuzz target calls. Each panics where a promise of the parser does not hold.
//!
//! Whatever is accepted must have a form of its own that is accepted again: what a vault stores or passes on can always be
//! read back.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::device::{self, Answer, DeviceAnswer, DeviceRequest};
use crate::event;
use crate::frame::{self, Chunk, Credit, Messages};
use crate::guest::{GuestAnswer, GuestRequest};
use crate::host::{FromVault, ToVault};
use crate::items::ItemDraft;
use crate::operate::{HostRequest, HostStatus};
use crate::policy::{Destination, ItemPolicy, Limits};
use crate::relay::{RELAY_HELLO_BYTES_MAX, RelayAnswer, RelayHello};
use crate::sealing::{Evidence, TpmAnswer, TpmRequest, TpmSealed};
use crate::target::Target;
use crate::{FieldName, ItemId, Reference};

/// A stream of length-prefixed messages: any cut gives the same messages, none of them over the limit.
///
/// # Panics
/// Where it does not.
pub fn messages(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = read_messages(&[stream]);
    let (front, back) = stream.split_at(stream.len().min(usize::from(*cut)));
    assert_eq!(read_messages(&[front, back]), whole);
    let written: Vec<u8> = whole.0.iter().flat_map(|message| frame::with_length(message)).collect();
    assert!(stream.starts_with(&written));
}

/// Chunk, credit and event frames, and the byte that says which.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn frame(data: &[u8]) {
    if let Some(chunk) = Chunk::decode(data) {
        assert_eq!(chunk.encode(), data);
    }
    if let Some(credit) = Credit::decode(data) {
        assert_eq!(credit.encode(), data);
    }
    if let Some((byte, rest)) = data.split_first() {
        assert!(frame::FrameType::from_byte(*byte).is_none_or(|kind| kind as u8 == *byte));
        json::<frame::Event>(rest);
    }
}

/// What a host tells a vault process.
///
/// # Panics
/// Where a message that is accepted does not read back.
pub fn to_vault(data: &[u8]) {
    if let Ok(message) = ToVault::decode(data) {
        let written = message.encode();
        assert_eq!(ToVault::decode(&written).map(|again| again.encode()), Ok(written));
    }
}

/// What a vault process tells its host.
///
/// # Panics
/// Where a message that is accepted does not read back.
pub fn from_vault(data: &[u8]) {
    if let Ok(message) = FromVault::decode(data) {
        let written = message.encode();
        assert_eq!(FromVault::decode(&written).map(|again| again.encode()), Ok(written));
    }
}

/// The first message of a client, and its answer.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn relay(data: &[u8]) {
    if data.len() <= RELAY_HELLO_BYTES_MAX {
        json::<RelayHello>(data);
    }
    json::<RelayAnswer>(data);
}

/// What an operator asks of a host, and its answer.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn operate(data: &[u8]) {
    json::<HostRequest>(data);
    json::<HostStatus>(data);
}

/// What the host and the program that holds its TPM tell each other, what is sealed, and evidence.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn sealing(data: &[u8]) {
    json::<TpmRequest>(data);
    json::<TpmAnswer>(data);
    json::<TpmSealed>(data);
    if let Ok(evidence) = Evidence::decode(data) {
        assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
    }
}

/// The request frame of a channel, with the request inside.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn envelope(data: &[u8]) {
    json::<device::Envelope>(data);
    if let Ok(envelope) = serde_json::from_slice::<device::Envelope>(data) {
        device_request(envelope.body.get().as_bytes());
        guest_request(envelope.body.get().as_bytes());
    }
}

/// What a device asks.
///
/// # Panics
/// Where a request that is accepted does not read back.
pub fn device_request(data: &[u8]) {
    json::<DeviceRequest>(data);
}

/// What a guest asks.
///
/// # Panics
/// Where a request that is accepted does not read back.
pub fn guest_request(data: &[u8]) {
    json::<GuestRequest>(data);
}

/// What a device or a gateway is answered.
///
/// # Panics
/// Where an answer that is accepted does not read back.
pub fn answer(data: &[u8]) {
    json::<Answer<DeviceAnswer>>(data);
    json::<Answer<GuestAnswer>>(data);
}

/// An item, a policy and limits, as members and importers hand them in.
///
/// # Panics
/// Where one that is accepted does not read back.
pub fn item(data: &[u8]) {
    json::<ItemDraft>(data);
    json::<ItemPolicy>(data);
    json::<Limits>(data);
}

/// A leaf of the log.
///
/// # Panics
/// Where an event that is accepted does not read back.
pub fn event_leaf(data: &[u8]) {
    if let Some(event) = event::Event::from_leaf(data) {
        assert_eq!(event::Event::from_leaf(&event.to_leaf(&[0; 16])).as_ref(), Some(&event));
    }
}

/// The texts that name something: an id, a field, a reference, a destination. Each has one spelling.
///
/// # Panics
/// Where one that is accepted does not read back, or an id, field or reference has two spellings.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for canonical in [read_back::<ItemId>(text), read_back::<Reference>(text)].into_iter().flatten() {
        assert_eq!(canonical, text);
    }
    read_back::<Destination>(text);
    let made = FieldName::from_foreign(text);
    assert_eq!(FieldName::parse(made.as_str()), Ok(made));
}

/// A URL, and a `Location` against a fixed base: what is accepted reads back the same.
///
/// # Panics
/// Where it does not.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let base = Target::parse("https://a.example:8443/v1/x?q").expect("a plain URL is accepted");
    for target in [Target::parse(text), base.join(text)].into_iter().flatten() {
        assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target));
        assert_eq!(base.join(&target.to_string()).as_ref(), Ok(&target));
        assert!(target.path().starts_with('/') && !target.path().starts_with("//"));
    }
}

fn json<T: DeserializeOwned + Serialize>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&value).expect("what was read can be written");
        assert!(serde_json::from_slice::<T>(&written).is_ok(), "{} does not read back", std::any::type_name::<T>());
    }
}

/// The canonical text of what `text` names.
fn read_back<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) -> Option<String> {
    let value = text.parse::<T>().ok()?;
    let canonical = value.to_string();
    assert_eq!(canonical.parse::<T>().expect("the canonical text is accepted"), value);
    Some(canonical)
}

/// The messages before the end or the first one over the limit, and whether there was one.
fn read_messages(parts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut messages, mut seen) = (Messages::new(FUZZ_MESSAGE_BYTES_MAX), Vec::new());
    for part in parts {
        messages.push(part);
        loop {
            match messages.next_message() {
                Ok(Some(message)) => seen.push(message),
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

/// Small, so that a fuzzer meets it.
const FUZZ_MESSAGE_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARSERS: [fn(&[u8]); 13] = [
        messages,
        frame,
        to_vault,
        from_vault,
        relay,
        envelope,
        device_request,
        guest_request,
        answer,
        item,
        event_leaf,
        name,
        target,
    ];

    #[test]
    fn ten_thousand_levels_are_refused_by_every_parser() {
        for open in ["[", "{\"a\":", "{\"status\":"] {
            for parser in PARSERS {
                parser(open.repeat(10_000).as_bytes());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), first in 0_u8..12) {
            let mut shaped = bytes.clone();
            if let Some(byte) = shaped.first_mut() {
                *byte = first;
            }
            for parser in PARSERS {
                parser(&bytes);
                parser(&shaped);
            }
        }

        #[test]
        fn any_name_is_survived(text in "\\PC{0,80}", host in "[a-z0-9.:\\-\\[\\]]{1,30}") {
            name(text.as_bytes());
            name(host.as_bytes());
            name(format!("{text}.example").as_bytes());
        }
    }
}
