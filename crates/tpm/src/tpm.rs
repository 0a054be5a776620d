//! One TPM.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use sha2::{Digest as _, Sha256};
use strongroom_wire::Bytes;
use strongroom_wire::sealing::{PROGRAM_PCR, Pcrs, Sealable, TpmEvidence, TpmRefusal, TpmSealed};
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, SessionType, Tss2ResponseCodeKind};
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PcrHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Auth, CapabilityData, Data, Digest, DigestValues, Private, Public, SensitiveData, Signature, SignatureScheme,
    SymmetricDefinition,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall as _, UnMarshall as _};
use tss_esapi::{Context, Error, WrapperErrorKind};
use zeroize::Zeroizing;

use crate::templates;

/// A TPM 2.0, with the two keys it makes for us loaded.
pub struct Tpm {
    context: Context,
    storage: KeyHandle,
    /// The storage key's name: what is sealed under another is not for this TPM.
    parent: Vec<u8>,
    attestation: KeyHandle,
    key: [u8; 65],
    boot: Vec<u8>,
    /// The vault program that is measured now.
    measured: Option<[u8; 32]>,
}

impl Tpm {
    /// Opens the TPM with this name of the TPM software stack, such as `device:/dev/tpmrm0`. `boot` are the registers that make up the
    /// boot state.
    ///
    /// # Errors
    /// Where none answers, or it cannot do what is needed.
    pub fn open(name: &str, boot: &[u8]) -> Result<Self, TpmRefusal> {
        let unreachable = |_| TpmRefusal::Unreachable {};
        let mut context = Context::new(TctiNameConf::from_str(name).map_err(unreachable)?).map_err(unreachable)?;
        flush_all(&mut context).map_err(refusal)?;
        let storage = primary(&mut context, templates::storage_key)?;
        let attestation = primary(&mut context, templates::attestation_key)?;
        let (_, parent, _) = context.read_public(storage).map_err(refusal)?;
        let (public, ..) = context.read_public(attestation).map_err(refusal)?;
        let key = point(&public).ok_or(TpmRefusal::Damaged {})?;
        let boot = boot.to_vec();
        Ok(Self { context, storage, parent: parent.value().to_vec(), attestation, key, boot, measured: None })
    }

    /// The attestation key's point: SEC 1, uncompressed.
    pub fn key(&self) -> &[u8; 65] {
        &self.key
    }

    /// Seals `secret` to the boot state of now and to the vault program with this SHA-256.
    ///
    /// # Errors
    /// As the TPM says.
    pub fn seal(&mut self, what: Sealable, program: &[u8; 32], secret: &[u8]) -> Result<TpmSealed, TpmRefusal> {
        let boot = self.registers(&self.boot.clone())?;
        let policy = self.policy_of(&boot, program)?;
        let session = self.session(SessionType::Hmac)?;
        if secret.len() != SECRET_BYTES {
            return Err(TpmRefusal::Damaged {});
        }
        let named = Zeroizing::new([secret, &what.bytes()].concat());
        let data = SensitiveData::try_from(named.to_vec()).map_err(refusal)?;
        let template = templates::sealed(policy).map_err(refusal)?;
        let storage = self.storage;
        let made = self.context.execute_with_session(Some(session), |context| {
            context.create(storage, template, None, Some(data), None, None)
        });
        self.end(session);
        let made = made.map_err(refusal)?;
        Ok(TpmSealed {
            parent: self.parent.clone().into(),
            private: made.out_private.value().to_vec().into(),
            public: made.out_public.marshall().map_err(refusal)?.into(),
            program: Bytes::from(*program),
            boot,
        })
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// [`TpmRefusal::Changed`] in another state; [`TpmRefusal::OtherTpm`] where another TPM sealed it; [`TpmRefusal::Damaged`] where
    /// it is something else.
    pub fn open_sealed(&mut self, what: Sealable, sealed: &TpmSealed) -> Result<Zeroizing<Vec<u8>>, TpmRefusal> {
        if sealed.parent.0 != self.parent {
            return Err(TpmRefusal::OtherTpm {});
        }
        let program = sealed.program.to_array().ok_or(TpmRefusal::Damaged {})?;
        let pcrs: Vec<u8> = sealed.boot.keys().copied().collect();
        self.measure(&program)?;
        // Asked first, so that it can be said what differs; the TPM decides by itself.
        let now = self.registers(&pcrs)?;
        let changed: Vec<u8> = pcrs.iter().copied().filter(|pcr| now.get(pcr) != sealed.boot.get(pcr)).collect();
        if !changed.is_empty() {
            return Err(TpmRefusal::Changed { pcrs: changed });
        }
        let damaged = |_| TpmRefusal::Damaged {};
        let private = Private::try_from(sealed.private.0.clone()).map_err(damaged)?;
        let public = Public::unmarshall(&sealed.public.0).map_err(damaged)?;
        let storage = self.storage;
        let item =
            self.context.execute_with_nullauth_session(|context| context.load(storage, private, public)).map_err(
                |error| if DAMAGE.iter().any(|kind| is(&error, *kind)) { damaged(error) } else { refusal(error) },
            )?;
        let opened = self.open_loaded(item.into(), &pcrs);
        self.flush(item.into());
        let mut opened = opened?;
        if opened.get(SECRET_BYTES..) != Some(&what.bytes()) {
            return Err(TpmRefusal::Damaged {});
        }
        opened.truncate(SECRET_BYTES);
        Ok(opened)
    }

    fn open_loaded(&mut self, item: ObjectHandle, boot: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmRefusal> {
        let selection = templates::selection(boot.iter().copied().chain([PROGRAM_PCR])).map_err(refusal)?;
        let session = self.session(SessionType::Policy)?;
        let opened = PolicySession::try_from(session)
            .and_then(|policy| self.context.policy_pcr(policy, Digest::default(), selection))
            .and_then(|()| self.context.execute_with_session(Some(session), |context| context.unseal(item)));
        self.end(session);
        match opened {
            Ok(secret) => Ok(Zeroizing::new(secret.value().to_vec())),
            Err(error) if is(&error, Tss2ResponseCodeKind::PolicyFail) => Err(TpmRefusal::Changed { pcrs: vec![] }),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Has the TPM sign the boot state of now and the vault program, with `binding` beside it.
    ///
    /// # Errors
    /// As the TPM says.
    pub fn quote(&mut self, program: &[u8; 32], binding: &[u8; 32]) -> Result<TpmEvidence, TpmRefusal> {
        self.measure(program)?;
        let boot = self.registers(&self.boot.clone())?;
        let selection = templates::selection(self.boot.iter().copied().chain([PROGRAM_PCR])).map_err(refusal)?;
        let data = Data::try_from(binding.to_vec()).map_err(refusal)?;
        let key = self.attestation;
        let (quote, signature) = self
            .context
            .execute_with_nullauth_session(|context| context.quote(key, data, SignatureScheme::Null, selection))
            .map_err(refusal)?;
        let Signature::EcDsa(signature) = signature else { return Err(TpmRefusal::Damaged {}) };
        let mut bytes = [0; 64];
        let (r, s) = bytes.split_at_mut(32);
        padded(signature.signature_r().value(), r).ok_or(TpmRefusal::Damaged {})?;
        padded(signature.signature_s().value(), s).ok_or(TpmRefusal::Damaged {})?;
        Ok(TpmEvidence {
            quote: quote.marshall().map_err(refusal)?.into(),
            signature: Bytes::from(bytes),
            key: Bytes::from(self.key),
            boot,
            program: Bytes::from(*program),
        })
    }

    /// The host's counter, one higher than before where `up`. It is made where there is none.
    ///
    /// # Errors
    /// As the TPM says.
    pub fn count(&mut self, up: bool) -> Result<u64, TpmRefusal> {
        let index = match self.counter() {
            Ok(index) => index,
            Err(_) => {
                let public = templates::counter().map_err(refusal)?;
                let auth = Some(Auth::default());
                let made = self
                    .context
                    .execute_with_nullauth_session(|context| context.nv_define_space(Provision::Owner, auth, public));
                made.map_err(refusal)?
            }
        };
        if !up && let Ok(value) = self.counted(index) {
            return Ok(value);
        }
        // One that was never counted has no value yet.
        self.context
            .execute_with_nullauth_session(|context| context.nv_increment(NvAuth::Owner, index))
            .map_err(refusal)?;
        self.counted(index).map_err(refusal)
    }

    fn counter(&mut self) -> Result<NvIndexHandle, Error> {
        let index = TpmHandle::NvIndex(NvIndexTpmHandle::new(templates::COUNTER_INDEX)?);
        let handle = self.context.execute_without_session(|context| context.tr_from_tpm_public(index))?;
        Ok(handle.into())
    }

    fn counted(&mut self, index: NvIndexHandle) -> Result<u64, Error> {
        let value = self.context.execute_with_nullauth_session(|context| {
            context.nv_read(NvAuth::Owner, index, templates::COUNTER_BYTES, 0)
        })?;
        let bytes = value.value().try_into().map_err(|_| Error::WrapperError(WrapperErrorKind::InvalidParam))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Measures the vault program: its register is reset and extended, where another was measured before.
    fn measure(&mut self, program: &[u8; 32]) -> Result<(), TpmRefusal> {
        let expected = measured(program);
        let now = self.registers(&[PROGRAM_PCR])?;
        if self.measured.as_ref() == Some(program) && now.get(&PROGRAM_PCR).map(|value| &value.0[..]) == Some(&expected)
        {
            return Ok(());
        }
        let mut digests = DigestValues::new();
        digests.set(HashingAlgorithm::Sha256, Digest::try_from(program.to_vec()).map_err(refusal)?);
        self.context
            .execute_with_nullauth_session(|context| {
                context.pcr_reset(PcrHandle::Pcr23)?;
                context.pcr_extend(PcrHandle::Pcr23, digests)
            })
            .map_err(refusal)?;
        self.measured = Some(*program);
        Ok(())
    }

    fn registers(&mut self, pcrs: &[u8]) -> Result<Pcrs, TpmRefusal> {
        let mut values = BTreeMap::new();
        // A TPM answers with eight of them at most.
        for some in pcrs.chunks(PCRS_AT_ONCE) {
            let selection = templates::selection(some.iter().copied()).map_err(refusal)?;
            let (_, _, digests) =
                self.context.execute_without_session(|context| context.pcr_read(selection)).map_err(refusal)?;
            let mut sorted = some.to_vec();
            sorted.sort_unstable();
            if digests.value().len() != sorted.len() {
                return Err(TpmRefusal::Damaged {});
            }
            values.extend(sorted.into_iter().zip(digests.value()).map(|(pcr, d)| (pcr, Bytes::from(d.value()))));
        }
        Ok(values)
    }

    /// The digest of the policy that holds in this boot state with this vault program.
    fn policy_of(&mut self, boot: &Pcrs, program: &[u8; 32]) -> Result<Digest, TpmRefusal> {
        let mut all = Sha256::new();
        for value in boot.values() {
            all.update(&value.0);
        }
        all.update(measured(program));
        let digest = Digest::try_from(all.finalize().to_vec()).map_err(refusal)?;
        let selection = templates::selection(boot.keys().copied().chain([PROGRAM_PCR])).map_err(refusal)?;
        let session = self.session(SessionType::Trial)?;
        let policy = PolicySession::try_from(session).and_then(|trial| {
            self.context.policy_pcr(trial, digest, selection)?;
            self.context.policy_get_digest(trial)
        });
        self.end(session);
        policy.map_err(refusal)
    }

    /// A session whose secret parameters are encrypted, in both directions, under a key that only the TPM with our storage key
    /// can know.
    fn session(&mut self, kind: SessionType) -> Result<AuthSession, TpmRefusal> {
        let cipher = SymmetricDefinition::AES_128_CFB;
        let session = self
            .context
            .execute_without_session(|context| {
                context.start_auth_session(Some(self.storage), None, None, kind, cipher, HashingAlgorithm::Sha256)
            })
            .map_err(refusal)?
            .ok_or(TpmRefusal::Damaged {})?;
        let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(refusal)?;
        Ok(session)
    }

    fn end(&mut self, session: AuthSession) {
        self.flush(tss_esapi::handles::SessionHandle::from(session).into());
    }

    fn flush(&mut self, handle: ObjectHandle) {
        // One that could not be given back is taken when this program ends.
        let _ = self.context.execute_without_session(|context| context.flush_context(handle));
    }
}

/// What the program's register holds once a vault program with this SHA-256 is measured.
fn measured(program: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([0; 32]).chain_update(program).finalize().into()
}

/// Gives back what a program that was killed left loaded. Through a resource manager nobody sees anything but their own; without one
/// a TPM has one user.
fn flush_all(context: &mut Context) -> tss_esapi::Result<()> {
    let (found, _) = context.get_capability(CapabilityType::Handles, TRANSIENT_FIRST, HANDLES_MAX)?;
    let CapabilityData::Handles(handles) = found else { return Ok(()) };
    for handle in handles.into_inner() {
        let handle = context.execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        context.execute_without_session(|context| context.flush_context(handle))?;
    }
    Ok(())
}

fn primary(context: &mut Context, template: fn() -> tss_esapi::Result<Public>) -> Result<KeyHandle, TpmRefusal> {
    let template = template().map_err(refusal)?;
    let made = context.execute_with_nullauth_session(|context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    });
    Ok(made.map_err(refusal)?.key_handle)
}

fn point(public: &Public) -> Option<[u8; 65]> {
    let Public::Ecc { unique, .. } = public else { return None };
    let mut key = [0; 65];
    key[0] = 4;
    padded(unique.x().value(), &mut key[1..33])?;
    padded(unique.y().value(), &mut key[33..])?;
    Some(key)
}

/// A number as bytes of a fixed length; the TPM may leave out leading zeros.
fn padded(number: &[u8], to: &mut [u8]) -> Option<()> {
    let start = to.len().checked_sub(number.len())?;
    to[start..].copy_from_slice(number);
    Some(())
}

fn is(error: &Error, kind: Tss2ResponseCodeKind) -> bool {
    matches!(error, Error::Tss2Error(code) if code.kind() == Some(kind))
}

fn refusal(error: Error) -> TpmRefusal {
    match error {
        Error::Tss2Error(code) => {
            TpmRefusal::Tpm { kind: code.kind().map_or("Unknown".into(), |kind| format!("{kind:?}")) }
        }
        Error::WrapperError(_) => TpmRefusal::Damaged {},
    }
}

/// What a TPM says of an object that was changed; whatever else it says is about itself.
const DAMAGE: [Tss2ResponseCodeKind; 9] = [
    Tss2ResponseCodeKind::Integrity,
    Tss2ResponseCodeKind::Size,
    Tss2ResponseCodeKind::Value,
    Tss2ResponseCodeKind::Attributes,
    Tss2ResponseCodeKind::Type,
    Tss2ResponseCodeKind::Hash,
    Tss2ResponseCodeKind::Scheme,
    Tss2ResponseCodeKind::Insufficient,
    Tss2ResponseCodeKind::Binding,
];
const SECRET_BYTES: usize = 32;
const PCRS_AT_ONCE: usize = 8;
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const HANDLES_MAX: u32 = 64;
