//! The one table, walked cell by cell: every operation by every asker on every class, with every freshness.

use strongroom_core::Peer;
use strongroom_core::table::{Freshness, Operation, TABLE, Who, freshness};
use strongroom_sim::Home;
use strongroom_sim::home::{api_key, field, get, key_item, login, mac, reference, sign, totp, wallet};
use strongroom_sim::world::{Answer, device_result, json};
use strongroom_wire::device::{
    ApprovalAnswer, AuditQuery, Config, DeliverRequest, DeviceAdd, DeviceRequest, GrantAdd, GuestAdd, GuestKind,
    ItemEdit, ListQuery, SlotKind,
};
use strongroom_wire::guest::{GuestRequest, UseCall};
use strongroom_wire::items::{FieldDraft, ItemDraft};
use strongroom_wire::policy::{Consumer, KeyPurpose, Limits, Mode};
use strongroom_wire::{ApprovalId, Bytes, Class, Code, DeviceId, GrantId, GuestId, ItemId, Reference, VaultId};

/// Where requests point at.
struct Targets {
    vault: VaultId,
    guest: GuestId,
    /// An item of each class, with a policy for everything.
    items: Vec<(Class, ItemId)>,
    factor_draft: fn(&mut Home, SlotKind) -> strongroom_wire::device::SlotDraft,
}

fn target(targets: &Targets, class: Class) -> Reference {
    let (_, item) = targets.items.iter().find(|(of, _)| *of == class).expect("an item of each class");
    reference(*item, "key")
}

/// A request of this operation on this class. `None` where no request can say so.
fn device_request(
    home: &mut Home,
    targets: &Targets,
    operation: Operation,
    class: Option<Class>,
) -> Option<DeviceRequest> {
    use Operation as O;
    let fields = |class| vec![field("key", class, b"a value of 16 b.")];
    let draft = |class| ItemDraft { fields: fields(class), ..login("an item", b"x") };
    let item = target(targets, class.unwrap_or(Class::Secret)).item;
    let edit = |set: Vec<FieldDraft>| ItemEdit {
        item,
        if_version: None,
        label: Some("renamed".into()),
        tags: None,
        set,
        remove: Vec::new(),
        policy: None,
    };
    let call = |call| class.map(|class| DeviceRequest::Use(UseCall { reference: target(targets, class), call }));
    let deliver = |consumer| {
        class.map(|class| {
            let references = vec![target(targets, class)];
            DeviceRequest::Deliver(DeliverRequest { consumer, references, after: None, program: None })
        })
    };
    let guest = targets.guest;
    let needs_class = matches!(
        operation,
        O::ItemShow
            | O::ItemAdd
            | O::ItemEdit
            | O::ItemImport
            | O::GrantAdd
            | O::UseHttp
            | O::UseSign
            | O::UseTotp
            | O::UseCrypt
            | O::DeliverClipboard
            | O::DeliverExec
            | O::DeliverExport
    );
    if class.is_some() != needs_class && !matches!(operation, O::ItemEdit | O::ItemRestore) {
        return None;
    }
    Some(match operation {
        O::Status => DeviceRequest::Status {},
        O::Challenge => DeviceRequest::Challenge {},
        O::SlotList => DeviceRequest::SlotList {},
        O::LogConfirm => DeviceRequest::LogConfirm(home.device.seen.clone()),
        O::SessionBegin => DeviceRequest::SessionBegin {},
        O::SessionEnd => DeviceRequest::SessionEnd {},
        O::ItemList => DeviceRequest::ItemList(ListQuery::default()),
        O::ItemShow if class == Some(Class::Private) => DeviceRequest::ItemShow { item },
        O::ItemHistory => DeviceRequest::ItemHistory { item },
        O::ItemAdd => DeviceRequest::ItemAdd(draft(class?)),
        O::ItemEdit => DeviceRequest::ItemEdit(edit(class.map(fields).unwrap_or_default())),
        O::ItemRemove => DeviceRequest::ItemRemove { item: ItemId([1; 16]), purge: false },
        O::ItemRestore => match class {
            Some(class) => {
                let Reference { item, field } = target(targets, class);
                DeviceRequest::ItemRestore { item, version: Some((field, 1)) }
            }
            None => DeviceRequest::ItemRestore { item: ItemId([1; 16]), version: None },
        },
        O::ItemImport => DeviceRequest::ItemImport { drafts: vec![draft(class?)], dry_run: true, overwrite: false },
        O::GuestAdd => {
            let key = strongroom_crypto::sign::SigningKey::from_seed(&home.world.rng.bytes()).public();
            let public_key = Bytes::from(*key.as_bytes());
            DeviceRequest::GuestAdd(GuestAdd { name: "g".into(), kind: GuestKind::Agent, public_key })
        }
        O::GuestList => DeviceRequest::GuestList {},
        O::GuestSuspend => DeviceRequest::GuestSuspend { guest: Some(guest), suspended: true },
        O::GuestResume => DeviceRequest::GuestSuspend { guest: Some(guest), suspended: false },
        O::GuestRevoke => DeviceRequest::GuestRevoke { guest: GuestId([1; 16]) },
        O::GrantAdd => DeviceRequest::GrantAdd(GrantAdd {
            guest,
            reference: target(targets, class?),
            consumer: Consumer::Http,
            limits: Limits::default(),
            mode: Mode::Always,
        }),
        O::GrantList => DeviceRequest::GrantList { guest: None },
        O::GrantRevoke => DeviceRequest::GrantRevoke { grant: GrantId([1; 16]) },
        O::ApprovalList => DeviceRequest::ApprovalList { after: 0, wait_secs: 0 },
        O::ApprovalAllow | O::ApprovalRefuse => DeviceRequest::ApprovalAnswer(ApprovalAnswer {
            approval: ApprovalId([1; 16]),
            request_hash: Bytes::from([0; 32]),
            allow: operation == O::ApprovalAllow,
            grant: None,
        }),
        O::UseHttp => call(get("/"))?,
        O::UseSign => call(sign(b"message"))?,
        O::UseTotp => call(totp())?,
        O::UseCrypt => call(mac(b"message"))?,
        O::DeliverClipboard => deliver(Consumer::Clipboard)?,
        O::DeliverExec => deliver(Consumer::Exec)?,
        O::DeliverExport => deliver(Consumer::Export)?,
        O::AuditRead => DeviceRequest::AuditList(AuditQuery::default()),
        O::AuditCheckpoint => DeviceRequest::AuditCheckpoint { from_size: 0 },
        O::SlotAdd => DeviceRequest::SlotAdd((targets.factor_draft)(home, SlotKind::Passkey)),
        O::SlotRemove => DeviceRequest::SlotRemove { slot: strongroom_wire::SlotId([1; 16]) },
        O::SlotReplace => DeviceRequest::SlotReplace {
            slot: strongroom_wire::SlotId([1; 16]),
            draft: (targets.factor_draft)(home, SlotKind::Passphrase),
        },
        O::PhraseRenew => DeviceRequest::SlotReplace {
            slot: strongroom_wire::SlotId([1; 16]),
            draft: (targets.factor_draft)(home, SlotKind::Recovery),
        },
        O::DeviceList => DeviceRequest::DeviceList {},
        O::DeviceAdd => {
            let device = strongroom_sim::Device::new(&mut home.world.rng);
            DeviceRequest::DeviceAdd(DeviceAdd {
                name: "d".into(),
                sign_public: device.sign_public().into(),
                kem_public: device.kem_public(),
                wants_share: false,
            })
        }
        O::DeviceRevoke => DeviceRequest::DeviceRevoke { device: DeviceId([1; 16]) },
        O::ConfigShow => DeviceRequest::ConfigShow {},
        O::ConfigSet => DeviceRequest::ConfigSet(Config::default()),
        O::UpdateAccept => DeviceRequest::UpdateAccept { program: Bytes::from([1; 32]) },
        O::UnattendedOn => DeviceRequest::UnattendedSet { on: true },
        O::UnattendedOff => DeviceRequest::UnattendedSet { on: false },
        O::VaultDelete => DeviceRequest::VaultDelete { vault: VaultId([1; 16]) },
        _ => return None,
    })
}

fn everything(class: Class) -> ItemDraft {
    let mut draft = api_key("everything", b"0123456789abcdef0123456789abcdef");
    draft.fields = vec![field("key", class, b"0123456789abcdef0123456789abcdef")];
    draft
}

fn targets(home: &mut Home) -> Targets {
    let guest = home.guest_add("guest");
    let items = Class::ALL.iter().map(|class| (*class, home.add(everything(*class)))).collect();
    Targets {
        vault: home.id,
        guest,
        items,
        factor_draft: |home, kind| strongroom_sim::Factor::new(kind, &mut home.world.rng).draft("slot"),
    }
}

/// Whether a refusal comes from the table, so that what was asked was never looked at.
fn by_the_table(code: Code) -> bool {
    matches!(
        code,
        Code::NotAllowed
            | Code::ClassRefused
            | Code::SessionRequired
            | Code::FreshRequired
            | Code::CredentialRequired
            | Code::VaultNotCreated
    )
}

#[test]
fn a_device_may_do_what_its_cell_says_with_exactly_the_freshness_it_asks_for() {
    let mut home = Home::new("cells");
    let targets = targets(&mut home);
    let mut walked = 0;
    for operation in Operation::ALL {
        for class in [None, Some(Class::Public), Some(Class::Private), Some(Class::Secret), Some(Class::Critical)] {
            let Some(request) = device_request(&mut home, &targets, *operation, class) else { continue };
            let needed = freshness(*operation, Who::Device, class);
            walked += 1;
            for brought in [Freshness::Channel, Freshness::Session, Freshness::Factor, Freshness::Credential] {
                home.pass_secs(61);
                let refused = ask(&mut home, &request, brought);
                let place = format!("{operation:?} on {class:?} with {brought:?}: {refused:?}");
                match needed {
                    // `GrantAdd` looks at its class itself as well, and says the same.
                    None => assert!(refused.is_some_and(by_the_table), "{place}"),
                    Some(needed) if brought < needed => assert!(refused.is_some_and(by_the_table), "{place}"),
                    Some(_) => {
                        let looked_at = refused.is_none_or(|code| !by_the_table(code))
                            || (*operation == Operation::GrantAdd && class < Some(Class::Secret));
                        assert!(looked_at, "{place}");
                    }
                }
            }
        }
    }
    assert!(walked >= 60, "{walked} cells");
    assert_eq!(targets.vault, home.id);
}

/// Asks with this freshness; answers the refusal's code.
fn ask(home: &mut Home, request: &DeviceRequest, brought: Freshness) -> Option<Code> {
    let answer = match brought {
        Freshness::Channel => {
            home.session(&DeviceRequest::SessionEnd {}).ok();
            let answer = home.session(request);
            home.act(&DeviceRequest::SessionBegin {}).expect("a session");
            answer
        }
        Freshness::Session => home.session(request),
        Freshness::Factor => match home.world.fresh_ask(&home.device, &home.passphrase, request) {
            Answer::Http(run) => {
                home.world.http_done(run.0.run, strongroom_core::HttpDone::default());
                return None;
            }
            answer => device_result(answer),
        },
        Freshness::Credential => {
            let id = home.request_id();
            let blob = home.device.blob.clone();
            let answer = home.world.present(&home.device, &home.passphrase, id, &blob, request);
            // The change itself is another story; this one asks whether the table lets it begin.
            answer
        }
    };
    if !matches!(request, DeviceRequest::SessionEnd {}) {
        return answer.err().map(|refusal| refusal.code);
    }
    home.act(&DeviceRequest::SessionBegin {}).expect("a session");
    answer.err().map(|refusal| refusal.code)
}

#[test]
fn a_founder_of_a_made_vault_may_look_at_its_status_and_nothing_else() {
    let mut home = Home::new("founder");
    let targets = targets(&mut home);
    for operation in Operation::ALL {
        let Some(request) = device_request(&mut home, &targets, *operation, Some(Class::Secret))
            .or_else(|| device_request(&mut home, &targets, *operation, None))
        else {
            continue;
        };
        let id = home.request_id();
        let answer = device_result(home.world.ask(Peer::Founder([7; 32]), id, None, None, &json(&request)));
        assert_eq!(answer.is_ok(), *operation == Operation::Status, "{operation:?}");
    }
}

#[test]
fn a_guest_is_never_heard_with_a_device_request_nor_a_device_with_a_guests() {
    let mut home = Home::new("mixed up");
    let targets = targets(&mut home);
    for operation in Operation::ALL {
        let Some(request) = device_request(&mut home, &targets, *operation, Some(Class::Secret))
            .or_else(|| device_request(&mut home, &targets, *operation, None))
        else {
            continue;
        };
        let id = home.request_id();
        let answer = home.world.ask(Peer::Guest(targets.guest), id, None, None, &json(&request));
        assert!(matches!(answer, Answer::Guest(Err(_))), "{operation:?}: {answer:?}");
    }
    let body = json(&GuestRequest::List {});
    let id = home.request_id();
    let device = Peer::Device(home.device.id);
    let answer = device_result(home.world.ask(device, id, None, None, &body));
    assert_eq!(answer.expect_err("refused").code, Code::RequestMalformed);
}

#[test]
fn a_guest_uses_secrets_alone_whatever_its_grants_say() {
    // The only way to a grant is `GrantAdd`, which takes secret fields alone; a field may change its class afterwards.
    let mut home = Home::new("raised");
    let guest = home.guest_add("guest");
    let item = home.add(key_item("k", KeyPurpose::Message, b"a key"));
    let place = reference(item, "private_key");
    home.grant(guest, &place, Consumer::Sign, Mode::Always);
    assert!(matches!(home.use_as(guest, &place, sign(b"m")), Answer::Guest(Ok(_))));
    let set = vec![field("private_key", Class::Critical, b"a key")];
    let raise = ItemEdit { item, if_version: None, label: None, tags: None, set, remove: Vec::new(), policy: None };
    home.critical(&DeviceRequest::ItemEdit(raise)).expect("raised");
    let answer = home.use_as(guest, &place, sign(b"m"));
    assert!(matches!(&answer, Answer::Guest(Err(refusal)) if refusal.code == Code::ReferenceUnknown), "{answer:?}");
    let wallet = home.add(wallet("w", b"seed"));
    let public = home.add(everything(Class::Public));
    for (item, name) in [(wallet, "seed"), (wallet, "address"), (public, "key")] {
        let add = GrantAdd {
            guest,
            reference: reference(item, name),
            consumer: Consumer::Http,
            limits: Limits::default(),
            mode: Mode::Always,
        };
        let refused = home.try_grant(add).expect_err("no secret");
        assert_eq!(refused.code, Code::ClassRefused);
    }
    for consumer in [Consumer::Clipboard, Consumer::Exec, Consumer::Export] {
        let item = home.add(api_key("k", b"0123456789abcdef"));
        let reference = reference(item, "key");
        let add = GrantAdd { guest, reference, consumer, limits: Limits::default(), mode: Mode::Always };
        assert_eq!(home.try_grant(add).expect_err("a device half").code, Code::ClassRefused);
    }
}

#[test]
fn every_row_is_reached_by_a_request() {
    let mut home = Home::new("rows");
    let targets = targets(&mut home);
    for row in TABLE.iter().filter(|row| row.who == Who::Device) {
        let classes: Vec<Option<Class>> =
            if row.classes.is_empty() { vec![None] } else { row.classes.iter().copied().map(Some).collect() };
        // These are asked by their own stories: unlock, lock, the second half of a presentation.
        let elsewhere = matches!(row.operation, Operation::Unlock | Operation::Lock | Operation::CredentialConfirm);
        let reached = classes.iter().any(|class| device_request(&mut home, &targets, row.operation, *class).is_some());
        assert!(reached || elsewhere, "{row:?}");
    }
}
