//! Subjects: whose messages, and which way they go. Parsed once, at the edge.

use std::fmt;
use std::str::FromStr;

use strongroom_wire::VaultId;

/// Where an envelope goes: one member's owner space or message space, and one topic of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The member; one vault each.
    pub member: VaultId,
    /// The topic.
    pub topic: Topic,
}

/// The last part of a subject; it implies the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Topic {
    /// `owner.<member>.to-vault`: from devices and guests to the vault.
    ToVault = 0,
    /// `owner.<member>.to-device`: from the vault to devices and guests.
    ToDevice = 1,
    /// `owner.<member>.control`: signed commands to the vault.
    Control = 2,
    /// `owner.<member>.events`: types and times of events, without content.
    Events = 3,
    /// `message.<member>.inbox`: from other members.
    Inbox = 4,
    /// `message.<member>.profile`: what the member shows to everybody.
    Profile = 5,
}

impl Topic {
    /// Every topic there is.
    pub const ALL: [Self; 6] = [Self::ToVault, Self::ToDevice, Self::Control, Self::Events, Self::Inbox, Self::Profile];

    /// The first and the last part of its subjects.
    pub fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::ToVault => ("owner", "to-vault"),
            Self::ToDevice => ("owner", "to-device"),
            Self::Control => ("owner", "control"),
            Self::Events => ("owner", "events"),
            Self::Inbox => ("message", "inbox"),
            Self::Profile => ("message", "profile"),
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| *topic as u8 == byte)
    }
}

/// Why a text is not a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected owner.<member>.(to-vault|to-device|control|events) or message.<member>.(inbox|profile)")]
pub struct SubjectMalformed;

impl FromStr for Subject {
    type Err = SubjectMalformed;

    fn from_str(text: &str) -> Result<Self, SubjectMalformed> {
        let mut parts = text.split('.');
        let (Some(space), Some(member), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SubjectMalformed);
        };
        let topic = Topic::ALL.into_iter().find(|topic| topic.parts() == (space, name)).ok_or(SubjectMalformed)?;
        Ok(Self { member: member.parse().map_err(|_| SubjectMalformed)?, topic })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (space, name) = self.topic.parts();
        write!(f, "{space}.{}.{name}", self.member)
    }
}

/// What a subscription asks for: a topic of one member, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The member, or `None` for every one.
    pub member: Option<VaultId>,
    /// The topic.
    pub topic: Topic,
}

impl Filter {
    /// One topic of every member.
    pub fn every(topic: Topic) -> Self {
        Self { member: None, topic }
    }

    /// One topic of one member.
    pub fn one(member: VaultId, topic: Topic) -> Self {
        Self { member: Some(member), topic }
    }

    /// Whether an envelope to `subject` is asked for.
    pub fn matches(&self, subject: Subject) -> bool {
        self.topic == subject.topic && self.member.is_none_or(|member| member == subject.member)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            Some(member) => Subject { member, topic: self.topic }.fmt(f),
            None => {
                let (space, name) = self.topic.parts();
                write!(f, "{space}.*.{name}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_reads_back_and_nothing_else_does() {
        let member = VaultId([7; 16]);
        for topic in Topic::ALL {
            let subject = Subject { member, topic };
            assert_eq!(subject.to_string().parse(), Ok(subject));
            assert_eq!(Topic::from_byte(topic as u8), Some(topic));
            assert!(Filter::every(topic).matches(subject) && Filter::one(member, topic).matches(subject));
            assert!(!Filter::one(VaultId([8; 16]), topic).matches(subject));
        }
        for text in [
            "",
            "owner",
            &format!("owner.{member}"),
            &format!("owner.{member}.inbox"),
            &format!("message.{member}.to-vault"),
            &format!("owner.{member}.to-vault."),
            &format!("owner.{member}.to-vault.more"),
            &format!("OWNER.{member}.to-vault"),
            "owner.*.to-vault",
            "owner.>.to-vault",
            "owner..to-vault",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        assert_eq!(Filter::every(Topic::Control).to_string(), "owner.*.control");
        assert_eq!(Topic::from_byte(6), None);
    }
}
