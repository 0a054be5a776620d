//! The loop of the program: one answer to each request.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::{os_rng, unattended};
use strongroom_jail::{FIRST_INHERITED, inherited_socket};
use strongroom_wire::frame::{Messages, with_length};
use strongroom_wire::sealing::{PROGRAM_PCR, TPM_MESSAGE_BYTES_MAX, TpmAnswer, TpmRefusal, TpmRequest};
use strongroom_wire::{Bytes, SecretValue};
use zeroize::Zeroizing;

use crate::tpm::Tpm;

/// Why the program leaves before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// There is no socket at descriptor 3, or it broke.
    #[error("strongroom-tpm: the socket to the host: {0}")]
    Socket(#[from] io::Error),
    /// The host does not speak our protocol.
    #[error("strongroom-tpm: the host sent what is no message of its protocol")]
    Protocol,
    /// The TPM's name is missing.
    #[error("strongroom-tpm: which TPM? (tcti, as in device:/dev/tpmrm0)")]
    Arguments,
}

/// Serves the host until it closes the socket. The one argument names the TPM as the TPM software stack does (`tss2-tcti`).
///
/// # Errors
/// [`Failed`], to be printed.
pub fn run() -> Result<(), Failed> {
    let name = std::env::args().nth(1).ok_or(Failed::Arguments)?;
    strongroom_jail::harden().map_err(io::Error::other)?;
    let mut socket = inherited_socket(FIRST_INHERITED)?;
    let mut messages = Messages::new(TPM_MESSAGE_BYTES_MAX);
    let mut tpm = None;
    while let Some(message) = next(&mut socket, &mut messages)? {
        let request = serde_json::from_slice(&message).map_err(|_| Failed::Protocol)?;
        let answer = answer(&name, &mut tpm, request)?;
        // One copy at most grows: the answer is wiped where it is freed.
        let answer = Zeroizing::new(serde_json::to_vec(&answer).map_err(|_| Failed::Protocol)?);
        socket.write_all(&Zeroizing::new(with_length(&answer)))?;
    }
    Ok(())
}

fn answer(name: &str, tpm: &mut Option<Tpm>, request: TpmRequest) -> Result<TpmAnswer, Failed> {
    if let TpmRequest::Begin { boot } = request {
        if boot.is_empty() || boot.iter().any(|pcr| *pcr >= PROGRAM_PCR) {
            return Err(Failed::Protocol);
        }
        return Ok(match Tpm::open(name, &boot) {
            Ok(opened) => {
                let key = Bytes::from(opened.key().to_vec());
                *tpm = Some(opened);
                TpmAnswer::Begun { key }
            }
            Err(refusal) => TpmAnswer::Refused(refusal),
        });
    }
    let tpm = tpm.as_mut().ok_or(Failed::Protocol)?;
    Ok(perform(tpm, request).unwrap_or_else(TpmAnswer::Refused))
}

fn perform(tpm: &mut Tpm, request: TpmRequest) -> Result<TpmAnswer, TpmRefusal> {
    Ok(match request {
        TpmRequest::Begin { .. } => return Err(TpmRefusal::Damaged {}),
        TpmRequest::Seal { what, program, secret } => {
            // EXPOSE: the TPM takes the share over an encrypted session.
            TpmAnswer::Sealed(Box::new(tpm.seal(what, &digest(&program)?, secret.expose())?))
        }
        TpmRequest::Open { what, sealed } => {
            // EXPOSE: the host sends it to the vault process that it starts.
            TpmAnswer::Opened { secret: SecretValue::new(tpm.open_sealed(what, &sealed)?.to_vec()) }
        }
        TpmRequest::GenerateTo { what, program, to } => {
            let to = public(&to)?;
            let secret = Zeroizing::new(unattended::generate_secret(&mut os_rng()));
            let sealed = tpm.seal(what, &digest(&program)?, &*secret)?;
            // Whoever reads it back is the TPM that has just sealed it: what was made is what will be opened.
            TpmAnswer::OpenedTo {
                secret: unattended::seal_secret(&to, &secret, &mut os_rng()).into(),
                sealed: Box::new(sealed),
            }
        }
        TpmRequest::OpenTo { what, sealed, to } => {
            let to = public(&to)?;
            let secret = tpm.open_sealed(what, &sealed)?;
            let seed = <&[u8; 32]>::try_from(&secret[..]).map_err(|_| TpmRefusal::Damaged {})?;
            TpmAnswer::OpenedTo { secret: unattended::seal_secret(&to, seed, &mut os_rng()).into(), sealed }
        }
        TpmRequest::Reseal { what, sealed, program } => {
            let program = digest(&program)?;
            let secret = tpm.open_sealed(what, &sealed)?;
            TpmAnswer::Sealed(Box::new(tpm.seal(what, &program, &secret)?))
        }
        TpmRequest::Quote { program, binding } => {
            TpmAnswer::Quoted(Box::new(tpm.quote(&digest(&program)?, &digest(&binding)?)?))
        }
        TpmRequest::Count { up } => TpmAnswer::Counted { value: tpm.count(up)? },
    })
}

fn next(socket: &mut UnixStream, messages: &mut Messages) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
    let mut buffer = Zeroizing::new([0; 4096]);
    loop {
        if let Some(message) = messages.next_message().map_err(|_| Failed::Protocol)? {
            return Ok(Some(Zeroizing::new(message)));
        }
        match socket.read(&mut *buffer)? {
            0 => return Ok(None),
            read => messages.push(&buffer[..read]),
        }
    }
}

fn digest(bytes: &Bytes) -> Result<[u8; 32], TpmRefusal> {
    bytes.to_array().ok_or(TpmRefusal::Damaged {})
}

fn public(bytes: &Bytes) -> Result<KemPublic, TpmRefusal> {
    KemPublic::from_bytes(&bytes.0).map_err(|_| TpmRefusal::Damaged {})
}
