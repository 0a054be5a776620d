//! A disk that is nearly full, or takes no writes at all: nothing new is taken, and whatever shows, ends or removes something goes on.

use strongroom_sim::home::{api_key, code, get, guest_result, login, reference};
use strongroom_sim::world::Answer;
use strongroom_sim::{Factor, Fault, Home};
use strongroom_wire::device::{Config, DeliverRequest, DeviceRequest, ListQuery, SlotKind};
use strongroom_wire::policy::{Consumer, Limits, Mode};
use strongroom_wire::{Code, limits};

#[test]
fn a_disk_that_is_nearly_full_takes_nothing_new_and_gives_and_ends_what_there_is() {
    let mut home = Home::new("little room");
    let guest = home.guest_add("guest");
    let (item, old) = (home.add(login("Example", b"hunter2")), home.add(login("Old", b"hunter1")));
    let key = reference(home.add(api_key("API", b"0123456789abcdef")), "key");
    let grant = home.grant_within(guest, &key, Consumer::Http, Mode::Always, Limits::default());
    assert!(matches!(home.use_as(guest, &key, get("/")), Answer::Http(_)));

    home.memory.fault(Fault::LittleRoom);
    // What was asked a moment ago is gone by.
    home.act(&DeviceRequest::ItemAdd(login("Just in time", b"1"))).expect("added");
    home.pass_secs(limits::DISK_ASKED_EVERY_MS / 1_000);
    let another = Factor::new(SlotKind::Passkey, &mut home.world.rng).draft("another");
    let (size, writes) = (home.memory.durable_size(), home.memory.writes());
    let config = Config { history_versions: Some(3), ..Config::default() };
    for refused in [
        DeviceRequest::ItemAdd(login("New", b"1")),
        DeviceRequest::SlotAdd(another),
        DeviceRequest::ConfigSet(config),
        DeviceRequest::GuestSuspend { guest: None, suspended: false },
    ] {
        assert_eq!(code(home.act(&refused)), Code::DiskFull, "{refused:?}");
    }
    assert_eq!((home.memory.durable_size(), home.memory.writes()), (size, writes), "nothing was written");
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::DiskFull);

    home.session(&DeviceRequest::ItemList(ListQuery::default())).expect("listed");
    home.session(&DeviceRequest::ItemShow { item }).expect("shown");
    let export = DeliverRequest {
        consumer: Consumer::Export,
        references: vec![reference(item, "password")],
        after: None,
        program: None,
    };
    home.act(&DeviceRequest::Deliver(export)).expect("a member gets the values out of a vault whose disk fills");
    home.act(&DeviceRequest::ItemRemove { item: old, purge: true }).expect("removed");
    home.session(&DeviceRequest::GrantRevoke { grant }).expect("revoked");
    home.session(&DeviceRequest::GuestSuspend { guest: None, suspended: true }).expect("suspended");
    home.act(&DeviceRequest::GuestRevoke { guest }).expect("revoked");
    home.lock();
    home.enter();

    home.memory.mend();
    home.act(&DeviceRequest::ItemAdd(login("New", b"1"))).expect("at once, when there is room again");
}

#[test]
fn a_disk_that_takes_no_writes_goes_on_to_be_read_and_locked() {
    let mut home = Home::new("read-only");
    let item = home.add(login("Example", b"hunter2"));
    home.memory.fault(Fault::ReadOnly);
    for _ in 0..2 {
        assert_eq!(code(home.act(&DeviceRequest::ItemAdd(login("New", b"1")))), Code::StoreFailed);
        home.session(&DeviceRequest::ItemShow { item }).expect("shown");
    }
    home.lock();
    home.session(&DeviceRequest::Status {})
        .expect("a lock that could not be written keeps nothing from being answered");
    home.memory.mend();
    home.enter();
    home.act(&DeviceRequest::ItemAdd(login("New", b"1"))).expect("added");
}
