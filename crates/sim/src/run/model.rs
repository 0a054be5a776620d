//! What must be true of the vault, kept beside it and decided independently: who is in, what was given, what was used up.

use std::collections::BTreeSet;

use strongroom_wire::guest::{Call, SignCall, UseCall};
use strongroom_wire::policy::{Consumer, Limits, Mode};
use strongroom_wire::target::Target;
use strongroom_wire::{ApprovalId, GrantId, GuestId, HandleId, ItemId, Reference};

use crate::device::Device;
use crate::factor::Factor;
use crate::home::reference;
use crate::world::World;

/// Every secret value holds this, so that a leak shows; its base64 holds [`MARK_BASE64`], for it starts the value.
pub(crate) const MARK: &[u8] = b"SECRET";
const MARK_BASE64: &[u8] = b"U0VDUkVU";

/// Whether bytes hold a secret value.
pub(crate) fn leaks(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|part| part == MARK)
        || bytes.windows(MARK_BASE64.len()).any(|part| part == MARK_BASE64)
}

/// What must be true.
pub(crate) struct Model {
    pub(crate) members: Vec<Member>,
    pub(crate) factors: Vec<Way>,
    pub(crate) items: Vec<Item>,
    pub(crate) guests: Vec<Guest>,
    pub(crate) all_suspended: bool,
    pub(crate) grants: Vec<Grant>,
    pub(crate) questions: Vec<Question>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) covers: Vec<Cover>,
    pub(crate) running: Vec<Running>,
    /// Grants of exchanges whose outcome may not have been written.
    pub(crate) lost: Vec<GrantId>,
    pub(crate) confirmed: bool,
    /// The leaf hashes that were durable after the last step.
    pub(crate) log: Vec<[u8; 32]>,
    /// Outcomes that may be unknown: exchanges that a crash, a lock or a full disk broke off.
    pub(crate) unknown_at_most: u64,
    /// When a factor was tried last, in ticks; a start counts as a try.
    pub(crate) tried_ticks_ms: u64,
    /// Something was done or not, and nobody was told; the next look at the vault says which.
    pub(crate) doubts: BTreeSet<Doubt>,
    /// Counts names and values, so that each is new.
    pub(crate) counter: u64,
}

/// What may be otherwise than the model says, until someone looks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// An item of this label may have been added, with this value.
    Added(String, Vec<u8>, Kind),
    /// The item's value may be this one.
    Value(ItemId, Vec<u8>),
    /// The item may be removed.
    Removed(ItemId),
    /// A guest of this name may be enrolled.
    Enrolled(String),
    /// Whether a guest, or all, are suspended is not sure.
    Suspended(Option<GuestId>),
    /// A guest may be out.
    GuestOut(GuestId),
    /// A grant may have been given.
    Given,
    /// A grant may be over.
    Over(GrantId),
    /// A use may have been counted.
    Used(GrantId),
    /// A member's device may be out.
    MemberOut(usize),
    /// A device may have been enrolled.
    MemberIn,
    /// A way to unlock may have come, gone or changed.
    Ways,
}

/// A device of the member.
pub(crate) struct Member {
    pub(crate) device: Device,
    pub(crate) out: bool,
    pub(crate) frozen: bool,
    /// Its credential may have been frozen or left behind; nothing is expected of it.
    pub(crate) shaky: bool,
    pub(crate) session_until_ms: u64,
}

/// A way to unlock.
pub(crate) struct Way {
    pub(crate) factor: Factor,
    /// Wrong tries in a row that were surely counted.
    pub(crate) wrong: u32,
    pub(crate) gone: bool,
}

/// What an item is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Login,
    Api,
    Counted,
    Sign,
    Wallet,
}

impl Kind {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Login => "password",
            Self::Api => "key",
            Self::Counted => "totp",
            Self::Sign => "private_key",
            Self::Wallet => "seed",
        }
    }

    pub(crate) fn consumer(self) -> Option<Consumer> {
        match self {
            Self::Login | Self::Wallet => None,
            Self::Api => Some(Consumer::Http),
            Self::Counted => Some(Consumer::Totp),
            Self::Sign => Some(Consumer::Sign),
        }
    }
}

pub(crate) struct Item {
    pub(crate) id: ItemId,
    pub(crate) kind: Kind,
    pub(crate) label: String,
    pub(crate) value: Vec<u8>,
    pub(crate) removed: bool,
    /// Counter-based codes that left.
    pub(crate) codes: BTreeSet<String>,
}

impl Item {
    pub(crate) fn reference(&self) -> Reference {
        reference(self.id, self.kind.field())
    }
}

pub(crate) struct Guest {
    pub(crate) id: GuestId,
    pub(crate) name: String,
    pub(crate) out: bool,
    pub(crate) suspended: bool,
}

pub(crate) struct Grant {
    pub(crate) id: GrantId,
    pub(crate) guest: GuestId,
    pub(crate) reference: Reference,
    pub(crate) consumer: Consumer,
    pub(crate) limits: Limits,
    pub(crate) mode: Mode,
    pub(crate) uses: u64,
    pub(crate) bytes: u64,
    /// When it was used, in ticks, since the vault was opened.
    pub(crate) calls: Vec<u64>,
    /// A call that a failing disk refused may count until then, in ticks.
    pub(crate) shaky_until_ms: u64,
}

/// A question to the member.
pub(crate) struct Question {
    pub(crate) id: ApprovalId,
    pub(crate) guest: GuestId,
    /// What is to be done; absent for a wish.
    pub(crate) call: Option<UseCall>,
    pub(crate) grants: Vec<GrantId>,
    pub(crate) cover_secs: Option<u64>,
    pub(crate) expires_ms: u64,
    pub(crate) open: bool,
}

pub(crate) struct Handle {
    pub(crate) id: HandleId,
    pub(crate) guest: GuestId,
    pub(crate) call: UseCall,
    pub(crate) until_ms: u64,
    pub(crate) live: bool,
    /// It may have been used by a call that nobody was answered.
    pub(crate) shaky: bool,
}

pub(crate) struct Cover {
    pub(crate) guest: GuestId,
    pub(crate) call: UseCall,
    pub(crate) prefix: Option<String>,
    pub(crate) grants: Vec<GrantId>,
    pub(crate) until_ms: u64,
}

pub(crate) struct Running {
    pub(crate) run: u64,
    pub(crate) grants: Vec<GrantId>,
}

/// What the model says to a use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused,
    /// Allowed by these grants.
    Allowed(Vec<GrantId>, Mode),
}

/// When it is.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) ms: u64,
    pub(crate) ticks_ms: u64,
    pub(crate) clocks_agree: bool,
}

impl Model {
    pub(crate) fn new(device: Device, passphrase: Factor, phrase: Factor, world: &World) -> Self {
        let way = |factor| Way { factor, wrong: 0, gone: false };
        let session_until_ms = world.ticks_ms + 900_000;
        Self {
            members: vec![Member { device, out: false, frozen: false, shaky: false, session_until_ms }],
            factors: vec![way(passphrase), way(phrase)],
            items: Vec::new(),
            guests: Vec::new(),
            all_suspended: false,
            grants: Vec::new(),
            questions: Vec::new(),
            handles: Vec::new(),
            covers: Vec::new(),
            running: Vec::new(),
            lost: Vec::new(),
            confirmed: true,
            log: world.memory.durable_hashes(0),
            unknown_at_most: 0,
            tried_ticks_ms: 1,
            doubts: BTreeSet::new(),
            counter: 0,
        }
    }

    /// The vault was closed: everything that lives in memory is gone.
    pub(crate) fn closed(&mut self) {
        self.confirmed = false;
        for member in &mut self.members {
            member.session_until_ms = 0;
        }
        for grant in &mut self.grants {
            grant.calls.clear();
        }
        self.unknown_at_most += self.running.len() as u64;
        // Nobody knows how many bytes of them moved: all that was left has.
        for running in self.running.drain(..) {
            for grant in self.grants.iter_mut().filter(|grant| running.grants.contains(&grant.id)) {
                grant.bytes = grant.bytes.max(grant.limits.bytes_max.unwrap_or(0));
            }
        }
        self.doubts.extend(self.lost.drain(..).map(Doubt::Used));
        self.void(|_| true, |_| true);
    }

    fn void(&mut self, guest: impl Fn(GuestId) -> bool, item: impl Fn(ItemId) -> bool) {
        for question in &mut self.questions {
            let about = question.call.as_ref().map(|call| call.reference.item);
            if guest(question.guest) && about.is_none_or(&item) {
                question.open = false;
            }
        }
        for handle in &mut self.handles {
            if guest(handle.guest) && item(handle.call.reference.item) {
                handle.live = false;
            }
        }
        self.covers.retain(|cover| !(guest(cover.guest) && item(cover.call.reference.item)));
    }

    /// Something of a guest, or of all, has changed.
    pub(crate) fn void_guest(&mut self, of: Option<GuestId>) {
        self.void(|guest| of.is_none_or(|of| of == guest), |_| true);
    }

    /// Something of an item has changed.
    pub(crate) fn void_item(&mut self, of: ItemId) {
        // A wish is about no item.
        let wishes: Vec<ApprovalId> =
            self.questions.iter().filter(|q| q.open && q.call.is_none()).map(|q| q.id).collect();
        self.void(|_| true, |item| item == of);
        for question in self.questions.iter_mut().filter(|question| wishes.contains(&question.id)) {
            question.open = true;
        }
    }

    pub(crate) fn item(&self, id: ItemId) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// The independent decision: whether a guest may do this now, and which grants say so.
    pub(crate) fn verdict(&self, guest: GuestId, call: &UseCall, now: Now) -> Verdict {
        let known = self.guests.iter().find(|known| known.id == guest && !known.out);
        let Some(known) = known else { return Verdict::Refused };
        if !self.confirmed || self.all_suspended || known.suspended || !now.clocks_agree {
            return Verdict::Refused;
        }
        if self
            .item(call.reference.item)
            .is_none_or(|item| item.removed || item.kind.field() != call.reference.field.as_str())
        {
            return Verdict::Refused;
        }
        let matching: Vec<&Grant> = self
            .grants
            .iter()
            .filter(|grant| grant.guest == guest && grant.reference == call.reference)
            .filter(|grant| grant.consumer == call.call.consumer())
            .filter(|grant| grant.limits.expires_at.is_none_or(|end| now.ms < end.0))
            .filter(|grant| in_scope(grant, &call.call))
            .collect();
        let fits = matching.iter().all(|grant| {
            let minute = now.ms / 60_000 % 1_440;
            let lately = grant.calls.iter().filter(|at| **at + 60_000 > now.ticks_ms).count();
            let busy = self.running.iter().any(|running| running.grants.contains(&grant.id));
            grant.limits.uses_max.is_none_or(|max| grant.uses < max)
                && lately < grant.limits.calls_per_minute_max.unwrap_or(60) as usize
                && grant.limits.bytes_max.is_none_or(|max| grant.bytes < max && !busy)
                && grant
                    .limits
                    .hours
                    .is_none_or(|hours| (u64::from(hours.from_minute)..u64::from(hours.to_minute)).contains(&minute))
        });
        if matching.is_empty() || !fits {
            return Verdict::Refused;
        }
        let once = matching.iter().filter_map(|grant| match grant.mode {
            Mode::AskOnce { secs } => Some(secs),
            _ => None,
        });
        let mode = match (matching.iter().any(|grant| grant.mode == Mode::Ask), once.min()) {
            (true, _) => Mode::Ask,
            (false, Some(secs)) => Mode::AskOnce { secs },
            (false, None) => Mode::Always,
        };
        Verdict::Allowed(matching.iter().map(|grant| grant.id).collect(), mode)
    }

    /// Whether a standing answer covers a use.
    pub(crate) fn covered(&self, guest: GuestId, call: &UseCall, grants: &[GrantId], now: Now) -> bool {
        self.covers.iter().any(|cover| {
            cover.guest == guest
                && cover.call.reference == call.reference
                && now.ms < cover.until_ms
                && grants.iter().all(|grant| cover.grants.contains(grant))
                && match (&cover.call.call, &call.call) {
                    (Call::Http(asked), Call::Http(wanted)) => {
                        let (Ok(a), Ok(b)) = (Target::parse(&asked.url), Target::parse(&wanted.url)) else {
                            return false;
                        };
                        asked.method == wanted.method
                            && a.destination() == b.destination()
                            && cover.prefix.as_deref().is_some_and(|prefix| under(prefix, b.path()))
                    }
                    (asked, wanted) => asked.consumer() == wanted.consumer(),
                }
        })
    }

    /// The longest path prefix of the last of these grants that holds the call, or its path: what an answer covers.
    pub(crate) fn prefix_of(&self, grants: &[GrantId], call: &UseCall) -> Option<String> {
        let Call::Http(http) = &call.call else { return None };
        let path = Target::parse(&http.url).ok()?.path().to_owned();
        // The vault reads grants in the order of their ids.
        let last = grants.iter().max()?;
        let grant = self.grants.iter().find(|grant| grant.id == *last)?;
        let prefixes = grant.limits.http.iter().flat_map(|http| &http.path_prefixes);
        let longest = prefixes.filter(|prefix| under(prefix, &path)).max_by_key(|prefix| prefix.len()).cloned();
        Some(longest.unwrap_or(path))
    }

    /// Counts a use.
    pub(crate) fn count(&mut self, grants: &[GrantId], ticks_ms: u64) {
        for grant in self.grants.iter_mut().filter(|grant| grants.contains(&grant.id)) {
            grant.uses += 1;
            grant.calls.push(ticks_ms);
        }
    }
}

/// Seconds to wait after so many wrong factors.
pub(crate) fn wait_secs(wrong: u32) -> u64 {
    if wrong < 5 { 0 } else { (30 << (wrong - 5).min(10)).min(3_600) }
}

fn in_scope(grant: &Grant, call: &Call) -> bool {
    let http = match call {
        Call::Http(http) => http,
        Call::Sign(SignCall::Message { message }) => {
            let prefix = grant.limits.sign.as_ref().and_then(|template| template.prefix.as_ref());
            return prefix.is_none_or(|prefix| message.0.starts_with(&prefix.0));
        }
        _ => return true,
    };
    let Ok(target) = Target::parse(&http.url) else { return false };
    let limits = grant.limits.http.clone().unwrap_or_default();
    let host = ["api.example.com", "other.example.com"].contains(&target.destination().to_string().as_str());
    let method = match limits.methods.is_empty() {
        true => ["GET", "HEAD"].contains(&http.method.as_str()),
        false => limits.methods.contains(&http.method),
    };
    let path =
        limits.path_prefixes.is_empty() || limits.path_prefixes.iter().any(|prefix| under(prefix, target.path()));
    host && (limits.hosts.is_empty() || limits.hosts.contains(target.destination())) && method && path
}

fn under(prefix: &str, path: &str) -> bool {
    let mut wanted = prefix.split('/').filter(|part| !part.is_empty());
    let mut found = path.split('/').filter(|part| !part.is_empty());
    wanted.all(|part| found.next() == Some(part))
}
