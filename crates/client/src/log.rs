//! The log as a device checks it: checkpoints certified by the pinned identity, and proofs that one log extends another
//! (docs/cryptography.md, section 9; RFC 9162, section 2.1).

use strongroom_crypto::sign::{PublicKey, Statement};
use strongroom_wire::device::{CheckpointProof, LogPosition};
use strongroom_wire::{Bytes, VaultId};
use tlog_tiles::tlog::{self, Hash};

/// The log is not what it should be. Whoever sees this should stop: someone has cut, forked or put back the vault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogAlarm {
    /// The vault's identity does not vouch for the key that signed.
    #[error("the log's checkpoint is signed with a key that this vault's identity does not vouch for")]
    Uncertified,
    /// Not a checkpoint, or not signed.
    #[error("the log's checkpoint is not signed by this vault: {why}")]
    Checkpoint {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Events that this device saw are gone.
    #[error(
        "the log has {now} events, and this device has seen {seen}: events were removed, or an older vault was put back"
    )]
    Shorter {
        /// How many this device saw.
        seen: u64,
        /// How many there are.
        now: u64,
    },
    /// The log of now does not contain the one that this device saw.
    #[error("the log does not extend what this device saw (event {seen}): history was rewritten or forked")]
    Forked {
        /// How many events this device saw.
        seen: u64,
    },
    /// An event is not what its hash says, or an event is out of place.
    #[error("event {index} of the log was changed: {why}")]
    Event {
        /// The event.
        index: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// All hashes together do not give the checkpoint.
    #[error("the log's events do not add up to its checkpoint")]
    Root,
}

/// Verifies a checkpoint and that its log extends the one that was seen.
///
/// # Errors
/// [`LogAlarm`]: nothing of this log is to be confirmed.
pub fn verify(
    proof: &CheckpointProof,
    vault: VaultId,
    identity: &PublicKey,
    seen: &LogPosition,
) -> Result<LogPosition, LogAlarm> {
    let now = verify_checkpoint(proof, vault, identity)?;
    if now.size < seen.size {
        return Err(LogAlarm::Shorter { seen: seen.size, now: now.size });
    }
    let forked = LogAlarm::Forked { seen: seen.size };
    if seen.size == 0 || now == *seen {
        return Ok(now);
    }
    if proof.from_size != seen.size {
        return Err(forked);
    }
    let hashes = hashes(&proof.consistency).ok_or_else(|| forked.clone())?;
    let (Some(new), Some(old)) = (hash(&now.root), hash(&seen.root)) else { return Err(forked) };
    tlog::check_tree(&hashes, now.size, new, seen.size, old).map_err(|_| forked)?;
    Ok(now)
}

/// Verifies a checkpoint alone: its key, its signature, its log.
///
/// # Errors
/// [`LogAlarm::Uncertified`] or [`LogAlarm::Checkpoint`].
pub fn verify_checkpoint(
    proof: &CheckpointProof,
    vault: VaultId,
    identity: &PublicKey,
) -> Result<LogPosition, LogAlarm> {
    let audit_key = PublicKey::from_bytes(&proof.audit_key.0).map_err(|_| LogAlarm::Uncertified)?;
    let statement = Statement::AuditCertificate { vault: vault.as_bytes(), audit_key: &audit_key, epoch: AUDIT_EPOCH };
    identity.verify(&statement, &proof.audit_certificate.0).map_err(|_| LogAlarm::Uncertified)?;
    read_note(&proof.note, vault, &audit_key).map_err(|why| LogAlarm::Checkpoint { why })
}

/// Verifies that an event is in the log of a checkpoint.
///
/// # Errors
/// [`LogAlarm::Event`] where it is not.
pub fn verify_inclusion(
    index: u64,
    leaf_hash: &Bytes,
    inclusion: &[Bytes],
    checkpoint: &LogPosition,
) -> Result<(), LogAlarm> {
    let outside = LogAlarm::Event { index, why: "it is not in the log of this checkpoint" };
    if index >= checkpoint.size {
        return Err(outside);
    }
    let (Some(proof), Some(leaf), Some(root)) = (hashes(inclusion), hash(leaf_hash), hash(&checkpoint.root)) else {
        return Err(outside);
    };
    tlog::check_record(&proof, checkpoint.size, root, index, leaf).map_err(|_| outside)
}

/// The root of a tree from its leaf hashes, in order and one by one (RFC 9162, section 2.1.2).
#[derive(Debug, Default)]
pub struct RootBuilder {
    size: u64,
    /// Roots of full subtrees, largest first: one for each bit of `size`.
    peaks: Vec<[u8; 32]>,
}

impl RootBuilder {
    /// Adds a leaf's hash.
    pub fn push(&mut self, mut node: [u8; 32]) {
        let mut carry = self.size;
        while carry & 1 == 1 {
            let left = self.peaks.pop().expect("there is a peak for each bit of the size");
            node = node_hash(&left, &node);
            carry >>= 1;
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// How many leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root now; for an empty tree, the hash of nothing.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return strongroom_crypto::digest::sha256(&[]) };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    strongroom_crypto::digest::sha256(&[&[1], left, right])
}

fn read_note(text: &str, vault: VaultId, audit_key: &PublicKey) -> Result<LogPosition, &'static str> {
    if text.len() > NOTE_BYTES_MAX {
        return Err("it is too long");
    }
    let origin = format!("strongroom/vault/{vault}");
    let note = signed_note::Note::from_bytes(text.as_bytes()).map_err(|_| "it is not a signed note")?;
    let id = u32::from_be_bytes(audit_key.note_key_id(&origin));
    let key = NoteKey { name: origin.clone(), id, key: *audit_key };
    let known = signed_note::VerifierList::new(vec![Box::new(key)]);
    note.verify(&known).map_err(|_| "its signature does not verify")?;
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|_| "its text cannot be read")?;
    if checkpoint.origin() != origin {
        return Err("it is of another log");
    }
    Ok(LogPosition { size: checkpoint.size(), root: Bytes::from(checkpoint.hash().0) })
}

/// The audit key as `signed_note` asks for it; the signature is checked by our own strict rules.
struct NoteKey {
    name: String,
    id: u32,
    key: PublicKey,
}

impl signed_note::Verifier for NoteKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        self.key.verify_checkpoint_note(text, signature).is_ok()
    }
}

fn hash(bytes: &Bytes) -> Option<Hash> {
    bytes.to_array().map(Hash)
}

fn hashes(list: &[Bytes]) -> Option<Vec<Hash>> {
    // A tree of 2^64 leaves has no longer proof.
    if list.len() > 130 { None } else { list.iter().map(hash).collect() }
}

/// Audit keys are certified under their first epoch until they rotate.
const AUDIT_EPOCH: u32 = 1;
const NOTE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use strongroom_crypto::digest::leaf_hash;
    use strongroom_crypto::sign::SigningKey;

    use super::*;

    /// A log that signs whatever it is told to, as a hostile vault would.
    pub(crate) struct TestLog {
        pub(crate) vault: VaultId,
        pub(crate) identity: SigningKey,
        pub(crate) audit: SigningKey,
        pub(crate) leaves: Vec<Vec<u8>>,
    }

    impl TestLog {
        pub(crate) fn new(events: u64) -> Self {
            let mut rng = strongroom_crypto::os_rng();
            let leaves = (0..events).map(|n| leaf(n, "item.add")).collect();
            Self {
                vault: VaultId([9; 16]),
                identity: SigningKey::generate(&mut rng),
                audit: SigningKey::generate(&mut rng),
                leaves,
            }
        }

        pub(crate) fn nodes(&self) -> Vec<Hash> {
            let mut nodes: Vec<Hash> = Vec::new();
            for (n, leaf) in (0..).zip(&self.leaves) {
                let new = tlog::stored_hashes_for_record_hash(n, Hash(leaf_hash(leaf)), &Stored(&nodes)).unwrap();
                nodes.extend(new);
            }
            nodes
        }

        pub(crate) fn position(&self, size: u64) -> LogPosition {
            let nodes = self.nodes();
            LogPosition { size, root: Bytes::from(tlog::tree_hash(size, &Stored(&nodes)).unwrap().0) }
        }

        pub(crate) fn proof(&self, from: u64) -> CheckpointProof {
            let nodes = self.nodes();
            let size = self.leaves.len() as u64;
            let consistency = if from == 0 || from >= size {
                Vec::new()
            } else {
                tlog::prove_tree(size, from, &Stored(&nodes)).unwrap()
            };
            let root = tlog::tree_hash(size, &Stored(&nodes)).unwrap();
            let origin = format!("strongroom/vault/{}", self.vault);
            let text = tlog_tiles::Checkpoint::new(&origin, size, root, "").unwrap().to_bytes();
            let id = u32::from_be_bytes(self.audit.public().note_key_id(&origin));
            let signature = self.audit.sign_checkpoint_note(&text).to_vec();
            let signature = signed_note::Signature::new(origin, id, signature).unwrap();
            let note = signed_note::Note::new(&text, &[signature]).unwrap().to_bytes();
            let audit_key = self.audit.public();
            let statement =
                Statement::AuditCertificate { vault: self.vault.as_bytes(), audit_key: &audit_key, epoch: AUDIT_EPOCH };
            CheckpointProof {
                note: String::from_utf8(note).unwrap(),
                audit_key: Bytes::from(*audit_key.as_bytes()),
                audit_certificate: Bytes::from(self.identity.sign(&statement)),
                from_size: from,
                consistency: consistency.into_iter().map(|hash| Bytes::from(hash.0)).collect(),
            }
        }
    }

    pub(crate) struct Stored<'a>(pub(crate) &'a [Hash]);

    impl tlog::HashReader for Stored<'_> {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
            Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
        }
    }

    pub(crate) fn leaf(n: u64, action: &str) -> Vec<u8> {
        let event = format!("{{\"v\":1,\"at\":{},\"actor\":\"vault\",\"action\":\"{action}\"}}", 1_000 + n);
        [&[1_u8][..], &[5; 16], event.as_bytes()].concat()
    }

    #[test]
    fn an_honest_log_is_followed() {
        let log = TestLog::new(13);
        for seen in 0..=13 {
            let seen = if seen == 0 { LogPosition::default() } else { log.position(seen) };
            let now = verify(&log.proof(seen.size), log.vault, &log.identity.public(), &seen).unwrap();
            assert_eq!(now, log.position(13));
        }
    }

    #[test]
    fn a_forked_or_shortened_log_raises_the_alarm() {
        let log = TestLog::new(9);
        let seen = log.position(6);
        let mut fork = TestLog::new(9);
        fork.identity = SigningKey::from_seed(log.identity.expose_seed());
        fork.leaves[3] = leaf(3, "grant.add");
        let check = |other: &TestLog, from, seen: &LogPosition| {
            verify(&other.proof(from), log.vault, &log.identity.public(), seen)
        };
        assert_eq!(check(&fork, 6, &seen), Err(LogAlarm::Forked { seen: 6 }));
        fork.leaves.truncate(6);
        assert_eq!(check(&fork, 6, &seen), Err(LogAlarm::Forked { seen: 6 }));
        fork.leaves.truncate(5);
        assert_eq!(check(&fork, 5, &seen), Err(LogAlarm::Shorter { seen: 6, now: 5 }));
        // A proof from another size than the one that was seen proves nothing.
        assert_eq!(check(&log, 5, &seen), Err(LogAlarm::Forked { seen: 6 }));
        assert_eq!(check(&log, 0, &seen), Err(LogAlarm::Forked { seen: 6 }));
    }

    #[test]
    fn only_the_pinned_identity_vouches() {
        let log = TestLog::new(4);
        let stranger = TestLog::new(4);
        let proof = log.proof(0);
        let verify =
            |proof: &CheckpointProof, vault, by: &TestLog| verify_checkpoint(proof, vault, &by.identity.public());
        assert_eq!(verify(&proof, log.vault, &stranger), Err(LogAlarm::Uncertified));
        assert_eq!(verify(&proof, VaultId([8; 16]), &log), Err(LogAlarm::Uncertified));
        let swapped = CheckpointProof { note: stranger.proof(0).note, ..proof.clone() };
        assert!(matches!(verify(&swapped, log.vault, &log), Err(LogAlarm::Checkpoint { .. })));
        let unsigned = CheckpointProof { note: proof.note.replace("\n4\n", "\n5\n"), ..proof };
        assert!(matches!(verify(&unsigned, log.vault, &log), Err(LogAlarm::Checkpoint { .. })));
    }

    proptest! {
        #[test]
        fn the_root_agrees_with_the_library(events in 0_u64..40) {
            let log = TestLog::new(events);
            let mut builder = RootBuilder::default();
            for leaf in &log.leaves {
                builder.push(leaf_hash(leaf));
            }
            prop_assert_eq!(builder.size(), events);
            prop_assert_eq!(builder.root(), tlog::tree_hash(events, &Stored(&log.nodes())).unwrap().0);
        }
    }
}
