//! A machine of its own with the release programs: a server and a vault of an ordinary size.

use std::process::{Command, Stdio};

use strongroom_client::crypto::factor::Phrase;
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::sign::SigningKey;
use strongroom_client::fresh::{self, Factor, FactorError, Factors};
use strongroom_client::guest::GuestKey;
use strongroom_client::open::{self, NewVault};
use strongroom_client::wire::device::{
    DeviceAnswer, DeviceRequest, GrantAdd, GuestAdd, GuestKind, ListQuery, SlotKind, SlotView,
};
use strongroom_client::wire::items::{FieldDraft, ItemDraft};
use strongroom_client::wire::policy::{Consumer, ItemPolicy, Limits, Mode};
use strongroom_client::wire::{Bytes, Class, FieldName, ItemId, ItemType, Reference, SecretValue};
use strongroom_client::{Profile, Session};
use strongroom_e2e::{PASSPHRASE, Place};

use crate::Outcome;

/// A server, and a device whose vault is open.
pub(crate) struct Machine {
    pub(crate) place: Place,
    pub(crate) profile: Profile,
}

impl Machine {
    /// With a vault of 100 logins.
    pub(crate) fn start() -> Outcome<Self> {
        let mut place = Place::new();
        place.serve(&[]);
        let profile = new_vault(&place, "default")?;
        import(&profile, 100)?;
        Ok(Self { place, profile })
    }

    /// The command, as this machine's member types it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.program(&self.place.programs.strongroom);
        command.env("STRONGROOM_HOME", self.place.home()).env("STRONGROOM_SOCKET", self.place.socket());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// The item of this label.
    pub(crate) fn item(&self, label: &str) -> Outcome<ItemId> {
        let mut passphrase = Passphrase;
        let query = ListQuery { search: Some(label.to_owned()), ..ListQuery::default() };
        match Session::new(&self.profile, &mut passphrase).ask(&DeviceRequest::ItemList(query))? {
            DeviceAnswer::Items { items, .. } => Ok(items.first().ok_or("there is no such item")?.id),
            _ => Err("not an answer to item_list".into()),
        }
    }

    /// Guests that may use a field without asking, as often as a grant can say.
    pub(crate) fn guests(&self, count: usize, item: ItemId, field: &str, consumer: Consumer) -> Outcome<Vec<GuestKey>> {
        let mut passphrase = Passphrase;
        let mut session = Session::new(&self.profile, &mut passphrase);
        let mut guests = Vec::with_capacity(count);
        for number in 0..count {
            let sign = SigningKey::generate(&mut os_rng());
            let public_key = Bytes::from(*sign.public().as_bytes());
            let add = GuestAdd { name: format!("{consumer} {number}"), kind: GuestKind::Agent, public_key };
            let DeviceAnswer::Guest(guest) = session.ask(&DeviceRequest::GuestAdd(add))? else {
                return Err("not an answer to guest_add".into());
            };
            let limits = Limits { calls_per_minute_max: Some(CALLS_PER_MINUTE_MAX), ..Limits::default() };
            let reference = Reference { item, field: FieldName::parse(field)? };
            let grant = GrantAdd { guest: guest.id, reference, consumer, limits, mode: Mode::Always };
            session.ask(&DeviceRequest::GrantAdd(grant))?;
            let (vault, identity) = (self.profile.vault(), *self.profile.identity());
            guests.push(GuestKey::new(vault, identity, guest.id, self.profile.socket().to_owned(), sign));
        }
        Ok(guests)
    }
}

/// A new vault of this profile, open.
pub(crate) fn new_vault(place: &Place, name: &str) -> Outcome<Profile> {
    Ok(open::create(&NewVault {
        socket: &place.socket(),
        dir: &Profile::dir(&place.home(), name)?,
        device_name: "laptop",
        passphrase: PASSPHRASE,
        phrase: &Phrase::generate(&mut os_rng()),
        keep_share: false,
        policy: None,
    })?)
}

/// Adds logins.
pub(crate) fn import(profile: &Profile, count: usize) -> Outcome<()> {
    let mut passphrase = Passphrase;
    let mut session = Session::new(profile, &mut passphrase);
    let numbers: Vec<usize> = (0..count).collect();
    for page in numbers.chunks(IMPORT_PAGE) {
        let drafts = page.iter().map(|number| login(*number)).collect::<Outcome<_>>()?;
        session.ask(&DeviceRequest::ItemImport { drafts, dry_run: false, overwrite: false })?;
    }
    Ok(())
}

/// An ordinary login.
pub(crate) fn login(number: usize) -> Outcome<ItemDraft> {
    let field = |name: &str, class, value: String| {
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(FieldDraft {
            name: FieldName::parse(name)?,
            class,
            value: SecretValue::from(value),
        })
    };
    Ok(ItemDraft {
        item_type: ItemType::Login,
        label: format!("Login {number:05} at forge.example"),
        tags: vec!["work".to_owned()],
        fields: vec![
            field("username", Class::Private, format!("member-{number}@forge.example"))?,
            field("password", Class::Secret, format!("a password of ordinary length {number}"))?,
            field("url", Class::Private, format!("https://forge.example/{number}"))?,
        ],
        policy: ItemPolicy::default(),
        origin: None,
    })
}

/// Gives the passphrase whenever it is asked for, stretched anew each time.
pub(crate) struct Passphrase;

impl Factors for Passphrase {
    fn factor(&mut self, slots: &[SlotView]) -> Result<Factor, FactorError> {
        let of_kind = |slot: &&SlotView| slot.kind == SlotKind::Passphrase;
        let slot = slots.iter().find(of_kind).ok_or(FactorError::NoSlot { kind: SlotKind::Passphrase, name: None })?;
        Ok(Factor { slot: slot.id, root: fresh::passphrase_root(PASSPHRASE, slot)? })
    }
}

/// The most that a grant can allow.
const CALLS_PER_MINUTE_MAX: u32 = 60_000;
/// Items of one request.
const IMPORT_PAGE: usize = 250;
