//! Credentials: a device's blob with a key that is new after every use, and what a change leaves for the other devices.

use serde::{Deserialize, Serialize};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::digest::sha256;
use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::seal::{
    Credential, MailPlace, open_chain, seal_chain, seal_credential, seal_mail, seal_outcome,
};
use strongroom_crypto::secret::{CredentialKey, VaultKey};
use strongroom_crypto::sign::SigningKey;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::{Bytes, Code, DeviceId, FieldName, ItemId, Refusal, RequestId, SecretValue, VaultId, limits};
use zeroize::Zeroizing;

use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::vault::{Context, Effect, Request, Vault};

/// What a credential holds. It exists in memory only while a request that presented it is done.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    identity: SecretValue,
    critical: Vec<Critical>,
    backup_keys: Vec<SecretValue>,
}

/// A critical value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    item: ItemId,
    field: FieldName,
    version: u64,
    value: SecretValue,
}

impl Contents {
    /// The contents of a new vault's credential.
    pub(crate) fn new(identity: &SigningKey) -> Self {
        // EXPOSE: the identity's place is the credential.
        Self {
            identity: SecretValue::new(identity.expose_seed().to_vec()),
            critical: Vec::new(),
            backup_keys: Vec::new(),
        }
    }

    /// The contents as JSON, to be sealed.
    pub(crate) fn expose_json(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        serde_json::to_vec(self).map(Zeroizing::new).map_err(|_| Refusal::new(Code::Bug))
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json)
            .map_err(|_| Refusal::new(Code::CredentialRefused).detail("The credential's contents cannot be read."))
    }

    /// The vault identity.
    pub(crate) fn identity(&self) -> Result<SigningKey, Refusal> {
        // EXPOSE: moved into locked memory for the signature.
        let seed: &[u8; 32] = self.identity.expose().try_into().map_err(|_| Refusal::new(Code::CredentialRefused))?;
        Ok(SigningKey::from_seed(seed))
    }

    /// A critical value.
    pub(crate) fn critical(&self, item: ItemId, field: &FieldName, version: u64) -> Option<&SecretValue> {
        self.critical
            .iter()
            .find(|entry| entry.item == item && entry.field == *field && entry.version == version)
            .map(|entry| &entry.value)
    }

    /// Every critical value's place.
    pub(crate) fn places(&self) -> Vec<(ItemId, FieldName, u64)> {
        self.critical.iter().map(|entry| (entry.item, entry.field.clone(), entry.version)).collect()
    }

    /// Puts a critical value in, beside the version that is in force until the request is done.
    pub(crate) fn put_critical(&mut self, item: ItemId, field: &FieldName, version: u64, value: SecretValue) {
        self.forget(item, field, version);
        self.critical.push(Critical { item, field: field.clone(), version, value });
    }

    /// Forgets a critical value.
    pub(crate) fn forget(&mut self, item: ItemId, field: &FieldName, version: u64) {
        self.critical.retain(|entry| entry.item != item || entry.field != *field || entry.version != version);
    }
}

/// A device's chain file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// The number of the blob in force.
    pub(crate) number: u64,
    key: SecretValue,
    /// The blobs that may come next, in the order of their numbers. The last is the one to be answered; those before it were
    /// answered already and may be what the device stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    next: Vec<Next>,
    /// The digest of the blob in force.
    #[serde(default)]
    digest: Bytes,
    /// The digests of those that were in force before, the newest last: what proves that a blob below `number` is a copy, and
    /// not just a number.
    #[serde(default)]
    retired: Bytes,
    /// Whether a copy was seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) frozen: bool,
    /// Counts the writes of this file. The database remembers that of the last write that went with a change of its own, so
    /// that a file put back shows also where `number` did not change.
    #[serde(default)]
    revision: u64,
}

/// A next blob, waiting to be stored by its device.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    number: u64,
    key: SecretValue,
    #[serde(default)]
    digest: Bytes,
    /// Of the last one alone: the others are not answered any more.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    mail: Bytes,
    /// The request whose change is in it; absent for what another device's change left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    /// Whether it was answered, so that the device may have stored it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answered: bool,
}

/// What a presented blob turned out to be.
enum Presented {
    /// The newest there is, with its contents; and the request whose change is in it, if it was shown for the first time.
    Newest(Contents, Option<RequestId>),
    /// One that was in force or is now, while a newer one waits to be stored.
    Older,
}

/// What was answered to a request that presented a credential.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    request: RequestId,
    sealed: Bytes,
}

impl Chain {
    /// The chain of a device with its first blob.
    pub(crate) fn first(key: &CredentialKey, blob: &[u8]) -> Self {
        Self {
            number: 1,
            // EXPOSE: the key's place is the chain file.
            key: SecretValue::new(key.expose().to_vec()),
            next: Vec::new(),
            digest: digest(blob),
            retired: Bytes::default(),
            frozen: false,
            revision: 1,
        }
    }

    /// The chain file's bytes.
    pub(crate) fn seal(
        &self,
        vault_key: &VaultKey,
        vault: VaultId,
        device: DeviceId,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, Refusal> {
        let json = Zeroizing::new(serde_json::to_vec(self).map_err(|_| Refusal::new(Code::Bug))?);
        let key = vault_key.derive_chain_key(vault.as_bytes(), device.as_bytes());
        Ok(seal_chain(&key, vault.as_bytes(), device.as_bytes(), &json, rng))
    }

    /// Reads a chain file.
    pub(crate) fn open(file: &[u8], vault_key: &VaultKey, vault: VaultId, device: DeviceId) -> Result<Self, Refusal> {
        let refused = || Refusal::new(Code::CredentialRefused).detail("This device's chain file is damaged.");
        let key = vault_key.derive_chain_key(vault.as_bytes(), device.as_bytes());
        let json = open_chain(&key, vault.as_bytes(), device.as_bytes(), file).map_err(|_| refused())?;
        // EXPOSE: parsed into types that wipe what they hold.
        serde_json::from_slice(json.expose()).map_err(|_| refused())
    }

    /// The number of the blob after the last one.
    fn next_number(&self) -> u64 {
        self.next.last().map_or(self.number, |next| next.number) + 1
    }

    /// Leaves a blob to be answered next. One that waited and was never answered is dropped for it; of those that were, the
    /// device may hold any, but hardly one of long ago.
    fn leave(&mut self, next: Next) {
        self.next.retain(|earlier| earlier.answered);
        if self.next.len() >= ANSWERED_MAX {
            self.next.remove(0);
        }
        for earlier in &mut self.next {
            earlier.mail = Bytes::default();
        }
        self.next.push(next);
    }

    /// A blob of `next` takes over.
    fn advance(&mut self, next: Next) {
        let before = std::mem::replace(&mut self.digest, next.digest);
        self.retired.0.extend(before.0);
        let beyond = self.retired.0.len().saturating_sub(RETIRED_MAX * DIGEST_BYTES);
        self.retired.0.drain(..beyond);
        self.number = next.number;
        self.key = next.key;
    }

    /// Whether a blob was in force once.
    fn is_retired(&self, blob: &[u8]) -> bool {
        let shown = digest(blob);
        self.retired.0.chunks(DIGEST_BYTES).any(|retired| retired == shown.0)
    }

    fn key(secret: &SecretValue) -> Result<CredentialKey, Refusal> {
        // EXPOSE: moved into locked memory.
        let bytes: &[u8; 32] = secret.expose().try_into().map_err(|_| Refusal::new(Code::CredentialRefused))?;
        Ok(CredentialKey::from_bytes(bytes))
    }
}

/// Blobs that were answered and not shown yet, kept for one device.
const ANSWERED_MAX: usize = 16;
/// Blobs that are recognised after their time.
const RETIRED_MAX: usize = 256;
const DIGEST_BYTES: usize = 16;
/// Seconds for which a presented request waits for its confirmation.
const PRESENTED_SECS: u64 = 120;

fn digest(blob: &[u8]) -> Bytes {
    Bytes(sha256(&[blob])[..DIGEST_BYTES].to_vec())
}

/// The setting that holds the revision below which a device's chain file is an older one.
pub(crate) fn chain_floor_key(device: DeviceId) -> Vec<u8> {
    [b"chain/".as_slice(), device.as_bytes()].concat()
}

impl<S: Storage> Vault<S> {
    /// The first half: the blob is opened, the change is made in the next blob, and the key of the next blob is durable before
    /// the blob is answered. Nothing acts yet.
    pub(crate) fn present(
        &mut self,
        device: DeviceId,
        body: DeviceRequest,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if let Some(outcome) = self.get::<Outcome>(Table::Outcomes, device.as_bytes())?
            && outcome.request == request.id
        {
            return Ok(DeviceAnswer::Outcome { sealed: outcome.sealed });
        }
        let blob = request.credential.as_deref().ok_or(Refusal::new(Code::CredentialRequired))?;
        let mut chain = self.read_chain(device)?;
        let mut contents = match self.open_blob(device, &mut chain, blob, cx)? {
            Presented::Newest(contents, _) => contents,
            Presented::Older => {
                let next = chain.next.last_mut().ok_or(Refusal::new(Code::Bug))?;
                next.answered = true;
                let same = next.request == Some(request.id);
                let answer = DeviceAnswer::CredentialNext { sequence: next.number, mail: next.mail.clone() };
                self.store_chain(device, &mut chain, cx)?;
                if same {
                    self.remember(device, body, request.id, cx)?;
                }
                return Ok(answer);
            }
        };
        self.change_contents(&body, request.id, &mut contents)?;
        let json = contents.expose_json()?;
        if json.len() > limits::CREDENTIAL_BYTES_MAX {
            return Err(
                Refusal::new(Code::TooMany).detail("The credential would be too large for its critical values.")
            );
        }
        let mut next = self.next_blob(device, chain.next_number(), &json, Some(request.id), cx)?;
        next.answered = true;
        let answer = DeviceAnswer::CredentialNext { sequence: next.number, mail: next.mail.clone() };
        chain.leave(next);
        self.store_chain(device, &mut chain, cx)?;
        self.remember(device, body, request.id, cx)?;
        Ok(answer)
    }

    /// The second half: the device stored the next blob and presents it; its key takes over and the request is done.
    pub(crate) fn credential_confirm(
        &mut self,
        device: DeviceId,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if self.open.is_none() {
            return Err(Refusal::new(Code::VaultLocked).hint("strongroom unlock"));
        }
        if let Some(outcome) = self.get::<Outcome>(Table::Outcomes, device.as_bytes())?
            && outcome.request == request.id
        {
            return Ok(DeviceAnswer::Outcome { sealed: outcome.sealed });
        }
        let blob = request.credential.as_deref().ok_or(Refusal::new(Code::CredentialRequired))?;
        let again = || {
            Refusal::new(Code::CredentialBusy)
                .detail("The credential is up to date now; send the request again with it.")
        };
        // Whoever presented it brought a factor along. This half asks for none, so without the first it touches nothing.
        let (open, ticks) = (self.opened()?.0, cx.moment.ticks_ms);
        if !open.presented.get(&request.id).is_some_and(|(by, _, until)| *by == device && *until > ticks) {
            return Err(again());
        }
        let mut chain = self.read_chain(device)?;
        let shown = self.open_blob(device, &mut chain, blob, cx)?;
        self.store_chain(device, &mut chain, cx)?;
        let Presented::Newest(contents, Some(first)) = shown else { return Err(again()) };
        let (open, _) = self.opened()?;
        let presented = match open.presented.remove(&request.id) {
            Some((_, body, _)) if first == request.id => body,
            _ => return Err(again()),
        };
        let answer = self.in_transaction(cx, |vault, cx| {
            vault.note_chain(device, &chain)?;
            vault.note_header()?;
            let mut event = vault.event(Actor::Device(device), Action::CredentialUse, cx);
            event.note = Some(crate::table::Operation::of_device(&presented).as_str().into());
            vault.log(event, cx)?;
            vault.check_contents(&presented, request.id, &contents)?;
            let changes = matches!(presented, DeviceRequest::ItemAdd(_) | DeviceRequest::ItemEdit(_));
            let answer =
                vault.device_act(device, presented, request, Some(&contents), cx)?.ok_or(Refusal::new(Code::Bug))?;
            if changes {
                vault.leave_mail(device, &contents, cx)?;
                vault.renew_recovery_blob(&contents, cx)?;
            }
            vault.keep_outcome(device, request.id, &answer, cx)?;
            Ok(answer)
        })?;
        Ok(answer)
    }

    /// Reads a device's chain, and checks that it is not an older file put back.
    pub(crate) fn read_chain(&mut self, device: DeviceId) -> Result<Chain, Refusal> {
        let id = self.id;
        if let Some((_, bytes)) = self.chain_writes.iter().rev().find(|(of, _)| *of == device) {
            let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
            return Chain::open(bytes, &open.vault_key, id, device);
        }
        let file = self
            .disk
            .read_chain(device)?
            .ok_or(Refusal::new(Code::CredentialRefused).detail("This device's chain file is missing."))?;
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let chain = Chain::open(&file, &open.vault_key, id, device)?;
        let number = self.header.as_ref().and_then(|header| header.roster.chains.get(&device).copied());
        let revision: Option<u64> = self.get(Table::Settings, &chain_floor_key(device))?;
        if Some(chain.number) < number || Some(chain.revision) < revision {
            return Err(
                Refusal::new(Code::CredentialRefused).detail("An older chain file of this device was put back.")
            );
        }
        Ok(chain)
    }

    /// Has the next settlement write a chain file.
    pub(crate) fn store_chain(
        &mut self,
        device: DeviceId,
        chain: &mut Chain,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        chain.revision += 1;
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let bytes = chain.seal(&open.vault_key, self.id, device, cx.rng)?;
        self.chain_writes.push((device, bytes));
        if let Some(header) = &mut self.header
            && header.roster.chains.get(&device) != Some(&chain.number)
        {
            header.roster_mut().chains.insert(device, chain.number);
        }
        Ok(())
    }

    /// Has the records remember that a chain file was written, as part of the change that it was written for. The file comes
    /// first, so it is never behind.
    fn note_chain(&mut self, device: DeviceId, chain: &Chain) -> Result<(), Refusal> {
        self.put(Table::Settings, &chain_floor_key(device), &chain.revision)
    }

    /// Opens a blob: that in force, or one that comes after it, which then takes over.
    fn open_blob(
        &mut self,
        device: DeviceId,
        chain: &mut Chain,
        blob: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Presented, Refusal> {
        if chain.frozen {
            return Err(Refusal::new(Code::CredentialFrozen)
                .hint("enrol this device anew from another device, or recover with the phrase"));
        }
        let refused = || Refusal::new(Code::CredentialRefused);
        let parsed = Credential::parse(blob).map_err(|_| refused())?;
        if parsed.device() != device.as_bytes() {
            return Err(refused());
        }
        let vault = *self.id.as_bytes();
        if parsed.number() < chain.number {
            if !chain.is_retired(blob) {
                return Err(refused());
            }
            chain.frozen = rule!(17, true, false);
            self.store_chain(device, chain, cx)?;
            let mut event = self.event(Actor::Device(device), Action::CredentialFreeze, cx);
            event.device = Some(device);
            self.in_transaction(cx, |vault, cx| {
                vault.note_chain(device, chain)?;
                vault.log(event, cx)
            })?;
            self.effects.push(Effect::Notice("credential.freeze"));
            return Err(Refusal::new(Code::CredentialFrozen)
                .detail("An older credential was shown: a copy of it exists. It is frozen now."));
        }
        let key = match chain.next.iter().find(|next| next.number == parsed.number()) {
            Some(next) => Chain::key(&next.key)?,
            None if parsed.number() == chain.number => Chain::key(&chain.key)?,
            None => return Err(refused()),
        };
        let contents = parsed.open(&key, &vault).map_err(|_| refused())?;
        let mut first = None;
        while chain.next.first().is_some_and(|next| next.number <= parsed.number()) {
            let next = chain.next.remove(0);
            first = next.request;
            chain.advance(next);
        }
        if !chain.next.is_empty() {
            return Ok(Presented::Older);
        }
        // EXPOSE: parsed into types that wipe what they hold.
        Ok(Presented::Newest(Contents::parse(contents.expose())?, first))
    }

    fn next_blob(
        &mut self,
        device: DeviceId,
        number: u64,
        json: &[u8],
        request: Option<RequestId>,
        cx: &mut Context<'_>,
    ) -> Result<Next, Refusal> {
        let vault = *self.id.as_bytes();
        let public = self.device_kem(device)?;
        let key = CredentialKey::generate(cx.rng);
        let blob = seal_credential(&key, &vault, device.as_bytes(), number, json, cx.rng);
        let place = MailPlace { vault: &vault, device: device.as_bytes(), number };
        let mail = seal_mail(&public, &place, &blob, cx.rng);
        let digest = digest(&blob);
        // EXPOSE: the key's place is the chain file.
        let key = SecretValue::new(key.expose().to_vec());
        Ok(Next { number, key, digest, mail: Bytes::from(mail), request, answered: false })
    }

    pub(crate) fn device_kem(&self, device: DeviceId) -> Result<KemPublic, Refusal> {
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let entry = header.roster.devices.get(&device).ok_or(Refusal::new(Code::DeviceUnknown))?;
        KemPublic::from_bytes(&entry.kem_public.0).map_err(|_| Refusal::new(Code::Bug))
    }

    /// Leaves each other device its complete next blob, sealed to it.
    fn leave_mail(&mut self, by: DeviceId, contents: &Contents, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let json = contents.expose_json()?;
        let others: Vec<DeviceId> = self
            .header
            .as_ref()
            .map(|header| header.roster.devices.keys().copied().filter(|device| *device != by).collect())
            .unwrap_or_default();
        for device in others {
            let mut chain = self.read_chain(device)?;
            if chain.frozen {
                continue;
            }
            let next = self.next_blob(device, chain.next_number(), &json, None, cx)?;
            chain.leave(next);
            self.store_chain(device, &mut chain, cx)?;
            self.note_chain(device, &chain)?;
        }
        Ok(())
    }

    fn remember(
        &mut self,
        device: DeviceId,
        body: DeviceRequest,
        request: RequestId,
        cx: &Context<'_>,
    ) -> Result<(), Refusal> {
        let until = cx.moment.ticks_ms + PRESENTED_SECS * 1_000;
        let (open, _) = self.opened()?;
        if open.presented.values().any(|(by, _, _)| *by == device) {
            open.presented.retain(|_, (by, _, _)| *by != device);
        }
        open.presented.insert(request, (device, body, until));
        Ok(())
    }

    fn keep_outcome(
        &mut self,
        device: DeviceId,
        request: RequestId,
        answer: &DeviceAnswer,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let json = Zeroizing::new(serde_json::to_vec(answer).map_err(|_| Refusal::new(Code::Bug))?);
        let public = self.device_kem(device)?;
        let sealed = seal_outcome(&public, self.id.as_bytes(), device.as_bytes(), request.as_bytes(), &json, cx.rng);
        self.put(Table::Outcomes, device.as_bytes(), &Outcome { request, sealed: Bytes::from(sealed) })?;
        let event = self.event(Actor::Vault, Action::Settle, cx);
        self.log(event, cx).map(|_| ())
    }
}
