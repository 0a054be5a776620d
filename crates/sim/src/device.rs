//! What a member holds: keys, the credential blob, and the log as it was seen last.

use strongroom_crypto::kem::DeviceKem;
use strongroom_crypto::seal::{MailPlace, open_mail, open_outcome};
use strongroom_crypto::sign::{PublicKey, SigningKey, Statement};
use strongroom_wire::device::{CheckpointProof, DeviceAnswer, EventProof, LogPosition};
use strongroom_wire::{Bytes, DeviceId, RequestId, VaultId};
use tlog_tiles::tlog::{self, Hash};

use crate::rng::Rng;

/// A device.
pub struct Device {
    /// Its id, once the vault gave it one.
    pub id: DeviceId,
    /// The vault's identity that it pinned.
    pub identity: Option<PublicKey>,
    /// The blob that it stores.
    pub blob: Vec<u8>,
    /// Every blob that it ever stored, for whoever copies them.
    pub blobs: Vec<Vec<u8>>,
    /// The log as it was seen last.
    pub seen: LogPosition,
    sign: SigningKey,
    kem: DeviceKem,
}

impl Device {
    /// A device that is in no roster yet.
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            id: DeviceId([0; 16]),
            identity: None,
            blob: Vec::new(),
            blobs: Vec::new(),
            seen: LogPosition::default(),
            sign: SigningKey::from_seed(&rng.bytes()),
            kem: DeviceKem::from_seed(&rng.bytes()),
        }
    }

    /// The public half of its signing key.
    pub fn sign_public(&self) -> [u8; 32] {
        *self.sign.public().as_bytes()
    }

    /// The public half of its KEM key.
    pub fn kem_public(&self) -> Bytes {
        Bytes(self.kem.public().as_bytes().to_vec())
    }

    /// Stores a blob.
    pub fn store(&mut self, blob: Vec<u8>) {
        self.blobs.push(blob.clone());
        self.blob = blob;
    }

    /// Opens mail; `None` where it is not for this device and number.
    pub fn open_mail(&self, vault: VaultId, number: u64, mail: &Bytes) -> Option<Vec<u8>> {
        let place = MailPlace { vault: vault.as_bytes(), device: self.id.as_bytes(), number };
        open_mail(&self.kem, &place, &mail.0).ok().map(|blob| blob.expose().to_vec())
    }

    /// Opens the outcome of a request.
    pub fn open_outcome(&self, vault: VaultId, request: RequestId, sealed: &Bytes) -> Option<DeviceAnswer> {
        let json = open_outcome(&self.kem, vault.as_bytes(), self.id.as_bytes(), request.as_bytes(), &sealed.0).ok()?;
        serde_json::from_slice(json.expose()).ok()
    }

    /// Checks that a checkpoint is the vault's and extends what was seen, and remembers it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn see(&mut self, vault: VaultId, proof: &CheckpointProof) -> Result<(), String> {
        let identity = self.identity.ok_or("no identity is pinned")?;
        let now = read_checkpoint(vault, &identity, proof)?;
        if now.size < self.seen.size {
            return Err(format!("the log has {} events, and {} were seen", now.size, self.seen.size));
        }
        if self.seen.size > 0 && now != self.seen {
            if proof.from_size != self.seen.size {
                return Err("the proof starts elsewhere".into());
            }
            let new = hash(&now.root).ok_or("no root")?;
            let old = hash(&self.seen.root).ok_or("no root")?;
            let proof: Vec<Hash> = proof.consistency.iter().filter_map(hash).collect();
            tlog::check_tree(&proof, now.size, new, self.seen.size, old).map_err(|error| error.to_string())?;
        }
        self.seen = now;
        Ok(())
    }
}

/// Reads a checkpoint that the vault's audit key signed.
///
/// # Errors
/// What is wrong with it.
pub fn read_checkpoint(vault: VaultId, identity: &PublicKey, proof: &CheckpointProof) -> Result<LogPosition, String> {
    let audit = PublicKey::from_bytes(&proof.audit_key.0).map_err(|error| error.to_string())?;
    let certificate = Statement::AuditCertificate { vault: vault.as_bytes(), audit_key: &audit, epoch: 1 };
    identity.verify(&certificate, &proof.audit_certificate.0).map_err(|error| error.to_string())?;
    let note = signed_note::Note::from_bytes(proof.note.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let origin = format!("strongroom/vault/{vault}");
    let key = NoteKey { id: u32::from_be_bytes(audit.note_key_id(&origin)), name: origin.clone(), key: audit };
    note.verify(&signed_note::VerifierList::new(vec![Box::new(key)])).map_err(|error| format!("{error:?}"))?;
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|error| format!("{error:?}"))?;
    if checkpoint.origin() != origin {
        return Err("the checkpoint is of another log".into());
    }
    Ok(LogPosition { size: checkpoint.size(), root: Bytes::from(checkpoint.hash().0) })
}

/// Checks the proof of one event, as someone without any vault does.
///
/// # Errors
/// What is wrong with it.
pub fn check_event(proof: &EventProof) -> Result<(), String> {
    let identity = PublicKey::from_bytes(&proof.identity.0).map_err(|error| error.to_string())?;
    let now = read_checkpoint(proof.vault, &identity, &proof.checkpoint)?;
    let leaf = proof.event.leaf.as_ref().ok_or("the leaf was pruned")?;
    let leaf_hash = strongroom_crypto::digest::leaf_hash(&leaf.0);
    if proof.event.hash.0 != leaf_hash {
        return Err("the leaf does not fit its hash".into());
    }
    let hashes: Vec<Hash> = proof.inclusion.iter().filter_map(hash).collect();
    let root = hash(&now.root).ok_or("no root")?;
    tlog::check_record(&hashes, now.size, root, proof.event.index, Hash(leaf_hash)).map_err(|error| error.to_string())
}

fn hash(bytes: &Bytes) -> Option<Hash> {
    bytes.to_array().map(Hash)
}

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
