//! Credentials: a device's blob with a key that is new after every use, and what a change leaves for the other devices.

use serde::{Deserialize, Serialize};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::seal::{
    Credential, MailPlace, open_chain, seal_chain, seal_credential, seal_mail, seal_outcome,
};
use strongroom_crypto::secret::{CredentialKey, VaultKey};
use strongroom_crypto::sign::SigningKey;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_wire::{Bytes, Code, DeviceId, FieldName, ItemId, Refusal, RequestId, SecretValue, VaultId, limits};
use zeroize::Zeroizing;

use crate::records::{Storage, Table};
use crate::vault::{Context, Effect, Request, Vault};
use strongroom_wire::event::{Action, Actor};

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

    fn parse(json: &[u8]) -> Result<Self, Refusal> {
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

    /// Puts a critical value in, replacing an older version of the same field.
    pub(crate) fn put_critical(&mut self, item: ItemId, field: &FieldName, version: u64, value: SecretValue) {
        self.critical.retain(|entry| entry.item != item || entry.field != *field);
        self.critical.push(Critical { item, field: field.clone(), version, value });
    }

    /// Forgets an item's critical values, or one field's.
    pub(crate) fn forget(&mut self, item: ItemId, field: Option<&FieldName>) {
        self.critical.retain(|entry| entry.item != item || field.is_some_and(|field| entry.field != *field));
    }
}

/// A device's chain file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// The number of the blob in force.
    pub(crate) number: u64,
    key: SecretValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
    /// Whether a copy was seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) frozen: bool,
}

/// The next blob, waiting to be stored by its device.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    key: SecretValue,
    mail: Bytes,
    /// The request whose change is in it; absent for what another device's change left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
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
    pub(crate) fn first(key: &CredentialKey) -> Self {
        // EXPOSE: the key's place is the chain file.
        Self { number: 1, key: SecretValue::new(key.expose().to_vec()), next: None, frozen: false }
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

    fn key(secret: &SecretValue) -> Result<CredentialKey, Refusal> {
        // EXPOSE: moved into locked memory.
        let bytes: &[u8; 32] = secret.expose().try_into().map_err(|_| Refusal::new(Code::CredentialRefused))?;
        Ok(CredentialKey::from_bytes(bytes))
    }
}

/// Seconds for which a presented request waits for its confirmation.
const PRESENTED_SECS: u64 = 120;

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
        let contents = self.open_blob(device, &mut chain, blob, cx)?;
        let Some(mut contents) = contents else {
            // The blob in force was shown while another waits: that one first.
            let (number, next) = (chain.number + 1, chain.next.as_ref().ok_or(Refusal::new(Code::Bug))?);
            let answer = DeviceAnswer::CredentialNext { sequence: number, mail: next.mail.clone() };
            if next.request == Some(request.id) {
                self.remember(device, body, request.id, cx)?;
            }
            return Ok(answer);
        };
        self.change_contents(&body, request.id, &mut contents)?;
        let json = contents.expose_json()?;
        if json.len() > limits::CREDENTIAL_BYTES_MAX {
            return Err(
                Refusal::new(Code::TooMany).detail("The credential would be too large for its critical values.")
            );
        }
        let number = chain.number + 1;
        let next = self.next_blob(device, number, &json, Some(request.id), cx)?;
        let answer = DeviceAnswer::CredentialNext { sequence: number, mail: next.mail.clone() };
        chain.next = Some(next);
        self.store_chain(device, &chain, cx)?;
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
        let mut chain = self.read_chain(device)?;
        let waiting = chain.next.as_ref().and_then(|next| next.request);
        let contents = self
            .open_blob(device, &mut chain, blob, cx)?
            .ok_or(Refusal::new(Code::CredentialRefused).detail("Present the blob that was answered."))?;
        self.store_chain(device, &chain, cx)?;
        let (open, _) = self.opened()?;
        let presented = match open.presented.remove(&request.id) {
            Some((by, body, _)) if by == device && waiting == Some(request.id) => body,
            _ => {
                return Err(Refusal::new(Code::CredentialBusy)
                    .detail("The credential is up to date now; send the request again with it."));
            }
        };
        let answer = self.in_transaction(cx, |vault, cx| {
            let mut event = vault.event(Actor::Device(device), Action::CredentialUse, cx);
            event.note = Some(crate::table::Operation::of_device(&presented).as_str().into());
            vault.log(event, cx)?;
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
        let floor = self.header.as_ref().and_then(|header| header.chains.get(&device).copied()).unwrap_or(0);
        if chain.number < floor {
            return Err(
                Refusal::new(Code::CredentialRefused).detail("An older chain file of this device was put back.")
            );
        }
        Ok(chain)
    }

    pub(crate) fn store_chain(&mut self, device: DeviceId, chain: &Chain, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let bytes = chain.seal(&open.vault_key, self.id, device, cx.rng)?;
        self.chain_writes.push((device, bytes));
        if let Some(header) = &mut self.header
            && header.chains.get(&device) != Some(&chain.number)
        {
            header.chains.insert(device, chain.number);
            header.dirty = true;
        }
        Ok(())
    }

    /// Opens a blob: that in force, or the one after it, which then takes over. `None` when the one in force was shown while
    /// another waits.
    fn open_blob(
        &mut self,
        device: DeviceId,
        chain: &mut Chain,
        blob: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Option<Contents>, Refusal> {
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
            chain.frozen = true;
            self.store_chain(device, chain, cx)?;
            let mut event = self.event(Actor::Device(device), Action::CredentialFreeze, cx);
            event.device = Some(device);
            let (open, disk) = self.opened()?;
            open.ledger.mark(disk)?;
            open.ledger.log(disk, event, cx.rng)?;
            open.ledger.keep(disk)?;
            self.effects.push(Effect::Notice("credential_freeze"));
            return Err(Refusal::new(Code::CredentialFrozen)
                .detail("An older credential was shown: a copy of it exists. It is frozen now."));
        }
        if parsed.number() == chain.number {
            let contents = parsed.open(&Chain::key(&chain.key)?, &vault).map_err(|_| refused())?;
            if chain.next.is_some() {
                return Ok(None);
            }
            // EXPOSE: parsed into types that wipe what they hold.
            return Contents::parse(contents.expose()).map(Some);
        }
        let next = chain.next.take().filter(|_| parsed.number() == chain.number + 1).ok_or_else(refused)?;
        let contents = parsed.open(&Chain::key(&next.key)?, &vault).map_err(|_| refused())?;
        chain.number += 1;
        chain.key = next.key;
        // EXPOSE: as above.
        Contents::parse(contents.expose()).map(Some)
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
        // EXPOSE: the key's place is the chain file.
        Ok(Next { key: SecretValue::new(key.expose().to_vec()), mail: Bytes::from(mail), request })
    }

    pub(crate) fn device_kem(&self, device: DeviceId) -> Result<KemPublic, Refusal> {
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let entry = header.devices.get(&device).ok_or(Refusal::new(Code::DeviceUnknown))?;
        KemPublic::from_bytes(&entry.kem_public.0).map_err(|_| Refusal::new(Code::Bug))
    }

    /// Leaves each other device its complete next blob, sealed to it.
    fn leave_mail(&mut self, by: DeviceId, contents: &Contents, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let json = contents.expose_json()?;
        let others: Vec<DeviceId> = self
            .header
            .as_ref()
            .map(|header| header.devices.keys().copied().filter(|device| *device != by).collect())
            .unwrap_or_default();
        for device in others {
            let mut chain = self.read_chain(device)?;
            if chain.frozen {
                continue;
            }
            let number = chain.number + 1;
            chain.next = Some(self.next_blob(device, number, &json, None, cx)?);
            self.store_chain(device, &chain, cx)?;
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
