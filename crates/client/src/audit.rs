//! Verifying a log without trusting the vault that keeps it, and one event without any vault.

use serde::Deserialize;
use strongroom_crypto::digest::{equal, leaf_hash};
use strongroom_crypto::sign::{Fingerprint, PublicKey};
use strongroom_wire::Timestamp;
use strongroom_wire::device::{AuditQuery, DeviceAnswer, DeviceRequest, EventProof, LogPosition, LoggedEvent};
use strongroom_wire::limits::AUDIT_PAGE_MAX;

use crate::error::ClientError;
use crate::log::{self, LogAlarm, RootBuilder};
use crate::session::Session;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The position that was verified.
    pub position: LogPosition,
    /// How many events have been pruned: their hashes count, their content is gone.
    pub pruned: u64,
    /// The time of the newest event.
    pub newest: Option<Timestamp>,
}

/// Fetches every event and checks each against its hash, all hashes against the signed checkpoint, the checkpoint against the
/// pinned identity, and the whole against what this device saw before. `progress` is told how many of how many are done.
///
/// # Errors
/// [`ClientError::Alarm`] names the event.
pub fn verify_all(session: &mut Session<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, ClientError> {
    let profile = session.profile();
    let seen = profile.seen()?;
    let answer = session.ask(&DeviceRequest::AuditCheckpoint { from_size: seen.size })?;
    let DeviceAnswer::Checkpoint(checkpoint) = answer else { return Err(ClientError::Answer) };
    let position = log::verify(&checkpoint, profile.vault(), profile.identity(), &seen)?;

    let mut verifier = Verifier::new(&seen);
    while verifier.size() < position.size {
        let from = verifier.size();
        let count = (position.size - from).min(AUDIT_PAGE_MAX as u64);
        let page = session.ask(&DeviceRequest::AuditList(AuditQuery { from, count, wait_secs: 0 }))?;
        let DeviceAnswer::Audit { events, .. } = page else { return Err(ClientError::Answer) };
        if events.is_empty() || events.len() as u64 > count {
            return Err(LogAlarm::Event { index: from, why: "it is missing" }.into());
        }
        for event in &events {
            verifier.push(event)?;
        }
        progress(verifier.size(), position.size);
    }
    let verified = verifier.finish(&position)?;
    match profile.store_seen(&position) {
        Err(crate::profile::ProfileError::SeenBackwards) => {}
        stored => stored?,
    }
    Ok(verified)
}

/// Checks events in order, from the first.
pub struct Verifier<'a> {
    tree: RootBuilder,
    seen: &'a LogPosition,
    last_at: Timestamp,
    pruned: u64,
}

impl<'a> Verifier<'a> {
    /// For a log of which `seen` was seen before.
    #[must_use]
    pub fn new(seen: &'a LogPosition) -> Self {
        Self { tree: RootBuilder::default(), seen, last_at: Timestamp(0), pruned: 0 }
    }

    /// How many events were taken.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// [`LogAlarm`] where it is not the next one, or not what its hash says, or time went back.
    pub fn push(&mut self, event: &LoggedEvent) -> Result<(), LogAlarm> {
        let index = self.tree.size();
        let alarm = |why| LogAlarm::Event { index, why };
        if event.index != index {
            return Err(alarm("another event is in its place"));
        }
        let hash = event.hash.to_array().ok_or_else(|| alarm("its hash is no hash"))?;
        match &event.leaf {
            None => self.pruned += 1,
            Some(leaf) => {
                if !equal(&leaf_hash(&leaf.0), &hash) {
                    return Err(alarm("its content is not what its hash says"));
                }
                let at = read_leaf(&leaf.0).ok_or_else(|| alarm("its content cannot be read"))?.at;
                if at < self.last_at {
                    return Err(alarm("its time lies before that of the event before it"));
                }
                self.last_at = at;
            }
        }
        self.tree.push(hash);
        if self.tree.size() == self.seen.size && !equal(&self.tree.root(), &self.seen.root.0) {
            return Err(LogAlarm::Forked { seen: self.seen.size });
        }
        Ok(())
    }

    /// Compares all of them with a checkpoint.
    ///
    /// # Errors
    /// [`LogAlarm::Root`] where they are not its events.
    pub fn finish(self, position: &LogPosition) -> Result<Verified, LogAlarm> {
        if self.tree.size() != position.size || !equal(&self.tree.root(), &position.root.0) {
            return Err(LogAlarm::Root);
        }
        let newest = (self.last_at > Timestamp(0)).then_some(self.last_at);
        Ok(Verified { position: position.clone(), pruned: self.pruned, newest })
    }
}

/// What a proof shows to someone who knows only the member's fingerprint.
#[derive(Clone, Debug)]
pub struct CheckedProof {
    /// Compare with what the member gave out.
    pub fingerprint: Fingerprint,
    /// The event, as its JSON text; `None` once it was pruned.
    pub event: Option<String>,
    /// The log's size when the proof was made.
    pub log_size: u64,
}

/// Checks a proof of one event without any vault: the event against its hash, the hash against the checkpoint, the
/// checkpoint against the identity. Whose identity it is, the reader must compare.
///
/// # Errors
/// [`LogAlarm`] says what does not hold.
pub fn check_proof(proof: &EventProof) -> Result<CheckedProof, LogAlarm> {
    let index = proof.event.index;
    let alarm = |why| LogAlarm::Event { index, why };
    if proof.v != 1 {
        return Err(alarm("the proof is of an unknown version"));
    }
    let identity = PublicKey::from_bytes(&proof.identity.0).map_err(|_| LogAlarm::Uncertified)?;
    let position = log::verify_checkpoint(&proof.checkpoint, proof.vault, &identity)?;
    log::verify_inclusion(index, &proof.event.hash, &proof.inclusion, &position)?;
    let event = match &proof.event.leaf {
        None => None,
        Some(leaf) => {
            if !equal(&leaf_hash(&leaf.0), &proof.event.hash.0) {
                return Err(alarm("its content is not what its hash says"));
            }
            Some(event_text(&leaf.0).ok_or_else(|| alarm("its content cannot be read"))?.to_owned())
        }
    };
    Ok(CheckedProof { fingerprint: Fingerprint::of(proof.vault.as_bytes(), &identity), event, log_size: position.size })
}

/// The JSON text of a leaf: `u8(1) || salt (16) || event`.
#[must_use]
pub fn event_text(leaf: &[u8]) -> Option<&str> {
    let (version, rest) = leaf.split_first()?;
    let event = rest.get(SALT_BYTES..)?;
    if *version == 1 { std::str::from_utf8(event).ok() } else { None }
}

fn read_leaf(leaf: &[u8]) -> Option<Head> {
    serde_json::from_str::<Head>(event_text(leaf)?).ok().filter(|head| head.v == 1)
}

/// What every event has.
#[derive(Deserialize)]
struct Head {
    v: u8,
    at: Timestamp,
}

const SALT_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use strongroom_wire::Bytes;
    use tlog_tiles::tlog;

    use super::*;
    use crate::log::tests::{Stored, TestLog, leaf};

    fn events(log: &TestLog) -> Vec<LoggedEvent> {
        (0..).zip(&log.leaves).map(|(index, leaf)| logged(index, leaf)).collect()
    }

    fn logged(index: u64, leaf: &[u8]) -> LoggedEvent {
        LoggedEvent { index, leaf: Some(Bytes::from(leaf)), hash: Bytes::from(leaf_hash(leaf)) }
    }

    fn verify(log: &TestLog, events: &[LoggedEvent], seen: u64) -> Result<Verified, LogAlarm> {
        let seen = if seen == 0 { LogPosition::default() } else { log.position(seen) };
        let mut verifier = Verifier::new(&seen);
        for event in events {
            verifier.push(event)?;
        }
        verifier.finish(&log.position(log.leaves.len() as u64))
    }

    #[test]
    fn a_whole_log_verifies_and_any_change_is_named() {
        let log = TestLog::new(11);
        let good = events(&log);
        assert_eq!(verify(&log, &good, 7).unwrap().position.size, 11);
        let mut pruned = good.clone();
        pruned[2].leaf = None;
        assert_eq!(verify(&log, &pruned, 7).unwrap().pruned, 1);

        let mut changed = good.clone();
        changed[4].leaf = Some(Bytes::from(leaf(4, "grant.add")));
        assert!(matches!(verify(&log, &changed, 0), Err(LogAlarm::Event { index: 4, .. })));
        let mut swapped = good.clone();
        swapped.swap(3, 5);
        assert!(matches!(verify(&log, &swapped, 0), Err(LogAlarm::Event { index: 3, .. })));
        assert_eq!(verify(&log, &good[..10], 0), Err(LogAlarm::Root));

        // Rewritten with fitting hashes: caught at what was seen, or at the root.
        let mut rewritten = good.clone();
        rewritten[4] = logged(4, &leaf(4, "grant.add"));
        assert_eq!(verify(&log, &rewritten, 7), Err(LogAlarm::Forked { seen: 7 }));
        assert_eq!(verify(&log, &rewritten, 0), Err(LogAlarm::Root));

        let mut back = TestLog::new(0);
        back.leaves = vec![leaf(5, "a"), leaf(2, "b")];
        assert!(matches!(verify(&back, &events(&back), 0), Err(LogAlarm::Event { index: 1, .. })));
    }

    #[test]
    fn a_proof_is_checked_without_a_vault() {
        let log = TestLog::new(10);
        let nodes = log.nodes();
        let inclusion = tlog::prove_record(10, 6, &Stored(&nodes)).unwrap();
        let proof = EventProof {
            v: 1,
            vault: log.vault,
            identity: Bytes::from(*log.identity.public().as_bytes()),
            event: logged(6, &log.leaves[6]),
            inclusion: inclusion.into_iter().map(|hash| Bytes::from(hash.0)).collect(),
            checkpoint: log.proof(0),
        };
        let checked = check_proof(&proof).unwrap();
        assert_eq!(checked.log_size, 10);
        assert!(checked.event.unwrap().contains("item.add"));
        assert_eq!(checked.fingerprint, Fingerprint::of(log.vault.as_bytes(), &log.identity.public()));

        let other = EventProof { event: logged(6, &log.leaves[5]), ..proof.clone() };
        assert!(matches!(check_proof(&other), Err(LogAlarm::Event { index: 6, .. })));
        let moved = EventProof { event: logged(7, &log.leaves[6]), ..proof.clone() };
        assert!(matches!(check_proof(&moved), Err(LogAlarm::Event { index: 7, .. })));
        let stranger =
            EventProof { identity: Bytes::from(*TestLog::new(0).identity.public().as_bytes()), ..proof.clone() };
        assert_eq!(check_proof(&stranger).unwrap_err(), LogAlarm::Uncertified);
        let text =
            EventProof { event: LoggedEvent { leaf: Some(Bytes::from(leaf(6, "x"))), ..proof.event.clone() }, ..proof };
        assert!(matches!(check_proof(&text), Err(LogAlarm::Event { index: 6, .. })));
    }
}
