//! Who may publish and subscribe what: one table, one function that reads it, one test that walks it.

use strongroom_wire::VaultId;

use crate::subject::{Filter, Subject, Topic};

/// Who is at the other end of a connection to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The services: they move frames for everybody and can open none.
    Services,
    /// A host: it runs vault processes.
    Host,
    /// One device of this member.
    Device(VaultId),
    /// One guest of this member.
    Guest(VaultId),
    /// The operator's delegated key: it writes to control and reads nothing.
    Operator,
}

/// What is done with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Sending to it.
    Publish,
    /// Receiving from it.
    Subscribe,
}

/// Whether `principal` may send to `subject`.
pub fn may_publish(principal: Principal, subject: Subject) -> bool {
    allowed(principal, Action::Publish, Filter::one(subject.member, subject.topic))
}

/// Whether `principal` may receive what `filter` asks for.
pub fn may_subscribe(principal: Principal, filter: Filter) -> bool {
    allowed(principal, Action::Subscribe, filter)
}

/// The table as patterns (`owner.*.to-vault`, `owner.<own>.events`), as a broker's token lists them.
pub fn patterns(principal: Principal, action: Action) -> Vec<String> {
    let (role, own) = role(principal);
    let rows = TABLE.iter().filter(|row| row.role == role && row.action == action);
    rows.map(|row| match row.whose {
        Whose::Anybodys => Filter::every(row.topic).to_string(),
        Whose::Own => Filter { member: own, topic: row.topic }.to_string(),
    })
    .collect()
}

/// The one function that decides.
fn allowed(principal: Principal, action: Action, filter: Filter) -> bool {
    let (role, own) = role(principal);
    TABLE.iter().any(|row| {
        (row.role, row.action, row.topic) == (role, action, filter.topic)
            && match row.whose {
                Whose::Anybodys => true,
                Whose::Own => own.is_some() && filter.member == own,
            }
    })
}

fn role(principal: Principal) -> (Role, Option<VaultId>) {
    match principal {
        Principal::Services => (Role::Services, None),
        Principal::Host => (Role::Host, None),
        Principal::Device(member) => (Role::Device, Some(member)),
        Principal::Guest(member) => (Role::Guest, Some(member)),
        Principal::Operator => (Role::Operator, None),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Services,
    Host,
    Device,
    Guest,
    Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Anybodys,
}

struct Row {
    role: Role,
    action: Action,
    topic: Topic,
    whose: Whose,
}

const fn row(role: Role, action: Action, topic: Topic, whose: Whose) -> Row {
    Row { role, action, topic, whose }
}

/// What is allowed; everything else is not.
const TABLE: &[Row] = &[
    // Services hand frames of devices and guests to the host and take the answers; they deliver messages of other members.
    // Control reaches a host through the operator's key alone: services read nothing of it and, without that key, write none.
    row(Role::Services, Action::Publish, Topic::ToVault, Whose::Anybodys),
    row(Role::Services, Action::Publish, Topic::Inbox, Whose::Anybodys),
    row(Role::Services, Action::Subscribe, Topic::ToDevice, Whose::Anybodys),
    row(Role::Services, Action::Subscribe, Topic::Events, Whose::Anybodys),
    row(Role::Services, Action::Subscribe, Topic::Profile, Whose::Anybodys),
    // The host is the other end of each of these.
    row(Role::Host, Action::Subscribe, Topic::ToVault, Whose::Anybodys),
    row(Role::Host, Action::Subscribe, Topic::Control, Whose::Anybodys),
    row(Role::Host, Action::Subscribe, Topic::Inbox, Whose::Anybodys),
    row(Role::Host, Action::Publish, Topic::ToDevice, Whose::Anybodys),
    row(Role::Host, Action::Publish, Topic::Events, Whose::Anybodys),
    row(Role::Host, Action::Publish, Topic::Profile, Whose::Anybodys),
    // A device talks to its own vault, hears of events, and may look at anybody's profile, one member at a time or all.
    row(Role::Device, Action::Publish, Topic::ToVault, Whose::Own),
    row(Role::Device, Action::Subscribe, Topic::ToDevice, Whose::Own),
    row(Role::Device, Action::Subscribe, Topic::Events, Whose::Own),
    row(Role::Device, Action::Subscribe, Topic::Profile, Whose::Anybodys),
    // A guest talks to the vault that granted it something, and hears its answers.
    row(Role::Guest, Action::Publish, Topic::ToVault, Whose::Own),
    row(Role::Guest, Action::Subscribe, Topic::ToDevice, Whose::Own),
    // The operator commands and reads nothing.
    row(Role::Operator, Action::Publish, Topic::Control, Whose::Anybodys),
];

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: VaultId = VaultId([1; 16]);
    const OTHER: VaultId = VaultId([2; 16]);

    /// For each topic in the order of [`Topic::ALL`]: `-` nothing, `o` the own one only, `*` anybody's.
    const EXPECTED: [(Principal, &str, &str); 5] = [
        //                                 publish   subscribe
        (Principal::Services, /*       */ "*---*-", "-*-*-*"),
        (Principal::Host, /*           */ "-*-*-*", "*-*-*-"),
        (Principal::Device(OWN), /*    */ "o-----", "-o-o-*"),
        (Principal::Guest(OWN), /*     */ "o-----", "-o----"),
        (Principal::Operator, /*       */ "--*---", "------"),
    ];

    #[test]
    fn every_cell_of_the_table_is_as_written_here() {
        for (principal, publish, subscribe) in EXPECTED {
            for (index, topic) in Topic::ALL.into_iter().enumerate() {
                for (action, cells) in [(Action::Publish, publish), (Action::Subscribe, subscribe)] {
                    let cell = cells.as_bytes()[index];
                    let ask = |member| allowed(principal, action, Filter { member, topic });
                    assert_eq!(ask(Some(OWN)), cell != b'-', "{principal:?} {action:?} own {topic:?}");
                    assert_eq!(ask(Some(OTHER)), cell == b'*', "{principal:?} {action:?} another's {topic:?}");
                    assert_eq!(ask(None), cell == b'*', "{principal:?} {action:?} all {topic:?}");
                }
            }
        }
    }

    #[test]
    fn patterns_name_the_same_cells() {
        assert_eq!(patterns(Principal::Operator, Action::Publish), ["owner.*.control"]);
        assert_eq!(patterns(Principal::Operator, Action::Subscribe), [""; 0]);
        assert_eq!(patterns(Principal::Guest(OWN), Action::Publish), [format!("owner.{OWN}.to-vault")]);
    }
}
