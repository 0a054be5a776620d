//! A member's usual day: a vault that was made, with a device and the factors that open it, and short words for common acts.

use std::ops::{Deref, DerefMut};

use strongroom_wire::device::{
    ApprovalAnswer, ApprovalView, DeviceAnswer, DeviceRequest, GrantAdd, GrantView, GuestAdd, GuestKind, LoggedEvent,
};
use strongroom_wire::event::{Action, Event};
use strongroom_wire::guest::{
    Call, CryptCall, GuestAnswer, GuestRequest, HttpCall, SignCall, TotpCall, UseCall, UseRequest,
};
use strongroom_wire::items::{FieldDraft, ItemDraft};
use strongroom_wire::policy::{
    Consumer, CryptOperation, HttpPolicy, ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose, Limits, Mode, Placement,
};
use strongroom_wire::{
    Bytes, Class, Code, FieldName, GrantId, GuestId, ItemId, ItemType, Reference, Refusal, SecretValue,
};

use crate::device::Device;
use crate::factor::Factor;
use crate::world::{Answer, DeviceResult, World};

/// A vault with its first device.
pub struct Home {
    /// The vault and its surroundings.
    pub world: World,
    /// The first device.
    pub device: Device,
    /// The passphrase.
    pub passphrase: Factor,
    /// The recovery phrase.
    pub phrase: Factor,
}

impl Deref for Home {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Home {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// A refusal's code.
///
/// # Panics
/// Where nothing was refused.
pub fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    result.expect_err("a refusal").code
}

impl Home {
    /// A vault that was just made: open, with a session.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new(name: &str) -> Self {
        let mut world = World::new(name);
        let (mut passphrase, mut phrase) = (world.passphrase(), world.phrase());
        let device = world.create(&mut passphrase, &mut phrase).expect("a vault is made");
        Self { world, device, passphrase, phrase }
    }

    /// The device asks within its session.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn session(&mut self, request: &DeviceRequest) -> DeviceResult {
        self.world.device(&self.device, request)
    }

    /// The device asks with the passphrase.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn act(&mut self, request: &DeviceRequest) -> DeviceResult {
        self.world.fresh(&self.device, &self.passphrase, request)
    }

    /// The device asks with the passphrase and its credential.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn critical(&mut self, request: &DeviceRequest) -> DeviceResult {
        self.world.credential(&mut self.device, &self.passphrase, request)
    }

    /// Unlocks with the passphrase and confirms the log.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn enter(&mut self) {
        self.world.unlock(&mut self.device, &self.passphrase).expect("the passphrase opens the vault");
    }

    /// Locks.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn lock(&mut self) {
        self.session(&DeviceRequest::Lock {}).expect("a lock is never refused");
    }

    /// The machine stops, starts again, and the member comes back.
    pub fn comes_back(&mut self) {
        self.world.crash();
        self.enter();
    }

    /// Adds an item.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn add(&mut self, draft: ItemDraft) -> ItemId {
        let critical = draft.fields.iter().any(|field| field.class == Class::Critical);
        let request = DeviceRequest::ItemAdd(draft);
        match if critical { self.critical(&request) } else { self.act(&request) } {
            Ok(DeviceAnswer::Item(view)) => view.summary.id,
            other => panic!("an item is added: {other:?}"),
        }
    }

    /// Enrols a guest.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn guest_add(&mut self, name: &str) -> GuestId {
        let key = strongroom_crypto::sign::SigningKey::from_seed(&self.world.rng.bytes());
        let add =
            GuestAdd { name: name.into(), kind: GuestKind::Agent, public_key: Bytes::from(*key.public().as_bytes()) };
        match self.critical(&DeviceRequest::GuestAdd(add)) {
            Ok(DeviceAnswer::Guest(view)) => view.id,
            other => panic!("a guest is enrolled: {other:?}"),
        }
    }

    /// Gives a grant.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn try_grant(&mut self, add: GrantAdd) -> Result<GrantView, Refusal> {
        match self.act(&DeviceRequest::GrantAdd(add))? {
            DeviceAnswer::Grant(view) => Ok(view),
            other => Err(Refusal::new(Code::Bug).detail(format!("{other:?}"))),
        }
    }

    /// Gives a grant without any limit.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn grant(&mut self, guest: GuestId, reference: &Reference, consumer: Consumer, mode: Mode) -> GrantId {
        self.grant_within(guest, reference, consumer, mode, Limits::default())
    }

    /// Gives a grant.
    ///
    /// # Panics
    /// Where that is refused.
    pub fn grant_within(
        &mut self,
        guest: GuestId,
        reference: &Reference,
        consumer: Consumer,
        mode: Mode,
        mut limits: Limits,
    ) -> GrantId {
        if consumer == Consumer::Crypt && limits.crypt.is_empty() {
            limits.crypt = CryptOperation::ALL.to_vec();
        }
        self.try_grant(GrantAdd { guest, reference: reference.clone(), consumer, limits, mode })
            .expect("a grant is given")
            .id
    }

    /// A guest uses a secret.
    pub fn use_as(&mut self, guest: GuestId, reference: &Reference, call: Call) -> Answer {
        self.world.guest(guest, &use_request(reference, call))
    }

    /// The questions that wait for the member.
    ///
    /// # Panics
    /// Where the list is refused.
    pub fn approvals(&mut self) -> Vec<ApprovalView> {
        match self.session(&DeviceRequest::ApprovalList { after: 0, wait_secs: 0 }) {
            Ok(DeviceAnswer::Approvals { approvals, .. }) => approvals,
            other => panic!("approvals are listed: {other:?}"),
        }
    }

    /// The member's answer to a question.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn answer(&mut self, view: &ApprovalView, allow: bool) -> DeviceResult {
        let answer = ApprovalAnswer { approval: view.id, request_hash: view.request_hash.clone(), allow, grant: None };
        self.act(&DeviceRequest::ApprovalAnswer(answer))
    }

    /// Every event of the log.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn events(&mut self) -> Vec<Event> {
        let query = strongroom_wire::device::AuditQuery { from: 0, count: 1_000, wait_secs: 0 };
        match self.session(&DeviceRequest::AuditList(query)) {
            Ok(DeviceAnswer::Audit { events, .. }) => events.iter().filter_map(event_of).collect(),
            other => panic!("the log is read: {other:?}"),
        }
    }

    /// The actions of the log, but for the vault's own tidying and for reading it.
    pub fn actions(&mut self) -> Vec<Action> {
        self.events()
            .iter()
            .map(|event| event.action)
            .filter(|action| !matches!(action, Action::Settle | Action::LogRead))
            .collect()
    }
}

/// The event of a leaf.
pub fn event_of(logged: &LoggedEvent) -> Option<Event> {
    Event::from_leaf(&logged.leaf.as_ref()?.0)
}

/// A guest's use.
pub fn use_request(reference: &Reference, call: Call) -> GuestRequest {
    GuestRequest::Use(UseRequest {
        call: Some(UseCall { reference: reference.clone(), call }),
        handle: None,
        reason: Some("because".into()),
    })
}

/// A guest's answer.
///
/// # Errors
/// What the vault refused.
pub fn guest_result(answer: Answer) -> Result<GuestAnswer, Refusal> {
    match answer {
        Answer::Guest(result) => result,
        other => Err(Refusal::new(Code::Bug).detail(format!("{other:?}"))),
    }
}

/// A field.
///
/// # Panics
/// Where the name is none.
pub fn field(name: &str, class: Class, value: &[u8]) -> FieldDraft {
    FieldDraft { name: name_of(name), class, value: SecretValue::new(value.to_vec()) }
}

/// A field's name.
///
/// # Panics
/// Where it is none.
pub fn name_of(name: &str) -> FieldName {
    FieldName::parse(name).expect("a field's name")
}

/// A reference.
pub fn reference(item: ItemId, name: &str) -> Reference {
    Reference { item, field: name_of(name) }
}

fn draft(item_type: ItemType, label: &str, fields: Vec<FieldDraft>, policy: ItemPolicy) -> ItemDraft {
    ItemDraft { item_type, label: label.into(), tags: Vec::new(), fields, policy, origin: None }
}

/// A login with a user name and a password.
pub fn login(label: &str, password: &[u8]) -> ItemDraft {
    let fields = vec![field("username", Class::Private, b"ada"), field("password", Class::Secret, password)];
    draft(ItemType::Login, label, fields, ItemPolicy::default())
}

/// A key for an API at `api.example.com` and `other.example.com`, placed as a bearer token.
///
/// # Panics
/// Never: the hosts are hosts.
pub fn api_key(label: &str, key: &[u8]) -> ItemDraft {
    let fields = vec![field("key", Class::Secret, key)];
    draft(ItemType::ApiKey, label, fields, ItemPolicy { http: Some(http_policy()), key: None })
}

/// Where that key may go.
///
/// # Panics
/// Never: the hosts are hosts.
pub fn http_policy() -> HttpPolicy {
    HttpPolicy {
        hosts: ["api.example.com", "other.example.com"].map(|host| host.parse().expect("a host")).to_vec(),
        placement: Placement::Bearer,
        allow_private: false,
        allow_short: false,
        roots_pem: None,
    }
}

/// A key of a purpose.
pub fn key_item(label: &str, purpose: KeyPurpose, key: &[u8]) -> ItemDraft {
    let algorithm = match purpose {
        KeyPurpose::Message | KeyPurpose::Ssh | KeyPurpose::Jwt => KeyAlgorithm::Ed25519,
        KeyPurpose::Encrypt => KeyAlgorithm::Xchacha20Poly1305,
        KeyPurpose::Mac => KeyAlgorithm::HmacSha256,
        KeyPurpose::Derive => KeyAlgorithm::HkdfSha256,
    };
    let signs = matches!(purpose, KeyPurpose::Message | KeyPurpose::Ssh | KeyPurpose::Jwt);
    let (item_type, name) = if signs { (ItemType::SigningKey, "private_key") } else { (ItemType::CryptKey, "key") };
    let policy = ItemPolicy { http: None, key: Some(KeyPolicy { purpose, algorithm }) };
    draft(item_type, label, vec![field(name, Class::Secret, key)], policy)
}

/// One-time-code settings.
pub fn totp_item(label: &str, settings: &[u8]) -> ItemDraft {
    draft(ItemType::Totp, label, vec![field("totp", Class::Secret, settings)], ItemPolicy::default())
}

/// A wallet with a critical seed.
pub fn wallet(label: &str, seed: &[u8]) -> ItemDraft {
    let fields = vec![field("seed", Class::Critical, seed), field("address", Class::Private, b"bc1")];
    draft(ItemType::Wallet, label, fields, ItemPolicy::default())
}

/// A GET of a path at `api.example.com`.
pub fn get(path: &str) -> Call {
    http("GET", &format!("https://api.example.com{path}"))
}

/// An HTTP call.
pub fn http(method: &str, url: &str) -> Call {
    Call::Http(HttpCall {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: strongroom_wire::guest::HttpBody::Empty,
        follow_redirects: false,
    })
}

/// A signature over a message.
pub fn sign(message: &[u8]) -> Call {
    Call::Sign(SignCall::Message { message: message.into() })
}

/// A one-time code.
pub fn totp() -> Call {
    Call::Totp(TotpCall {})
}

/// A tag over a message.
pub fn mac(message: &[u8]) -> Call {
    Call::Crypt(CryptCall::Mac { message: message.into() })
}

/// A derived key.
pub fn derive(context: &[u8]) -> Call {
    Call::Crypt(CryptCall::Derive { context: context.into(), purpose: KeyPurpose::Mac })
}
