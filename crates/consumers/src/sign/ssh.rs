//! OpenSSH signatures (PROTOCOL.sshsig), as `ssh-keygen -Y sign` makes them.

use ssh_key::{Algorithm, HashAlg, LineEnding, Signature, SshSig};
use strongroom_wire::{Code, Refusal};

use crate::keys::PrivateKey;

/// The armoured signature over `message` under `namespace`. The message is hashed with SHA-512; an RSA key signs that with
/// `rsa-sha2-256`, the algorithm of its policy.
///
/// # Errors
/// `key_malformed` where the parts of an RSA key do not belong together.
pub(super) fn signature(key: &PrivateKey, namespace: &str, message: &[u8]) -> Result<String, Refusal> {
    let hash = HashAlg::Sha512;
    let signed = SshSig::signed_data(namespace, hash, message).map_err(bug)?;
    let bytes = key.sign(&signed)?;
    let signature = match key {
        PrivateKey::Ed25519(_) => Signature::new(Algorithm::Ed25519, bytes).map_err(bug)?,
        PrivateKey::P256(_) => {
            let signature = p256::ecdsa::Signature::from_slice(&bytes).map_err(|_| Code::Bug)?;
            Signature::try_from(signature).map_err(bug)?
        }
        PrivateKey::Rsa(..) => Signature::new(Algorithm::Rsa { hash: Some(HashAlg::Sha256) }, bytes).map_err(bug)?,
        PrivateKey::Secp256k1(_) => return Err(Refusal::new(Code::PolicyMissing)),
    };
    let signature = SshSig::new(key.ssh_public()?, namespace, hash, signature).map_err(bug)?;
    signature.to_pem(LineEnding::LF).map_err(bug)
}

fn bug(_: ssh_key::Error) -> Refusal {
    Refusal::new(Code::Bug)
}
