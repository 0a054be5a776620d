//! What the seeds reached: every kind of effect, every code of a refusal, every kind of fault.

use std::collections::BTreeMap;

use strongroom_core::Effect;
use strongroom_wire::Refusal;

use crate::world::Answer;

/// How often each thing was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Kinds of effects.
    pub effects: BTreeMap<&'static str, u64>,
    /// Codes of refusals.
    pub codes: BTreeMap<&'static str, u64>,
    /// Kinds of faults.
    pub faults: BTreeMap<String, u64>,
}

impl Coverage {
    /// Adds what another seed reached.
    pub fn add(&mut self, other: &Self) {
        let all = |mine: &mut BTreeMap<&'static str, u64>, theirs: &BTreeMap<&'static str, u64>| {
            theirs.iter().for_each(|(what, times)| *mine.entry(what).or_insert(0) += times);
        };
        all(&mut self.effects, &other.effects);
        all(&mut self.codes, &other.codes);
        other.faults.iter().for_each(|(what, times)| *self.faults.entry(what.clone()).or_insert(0) += times);
    }

    /// What was asked for and never reached.
    pub fn missing(&self) -> Vec<String> {
        let effects = EFFECTS.iter().filter(|what| !self.effects.contains_key(*what));
        let codes = CODES.iter().filter(|what| !self.codes.contains_key(*what));
        let faults = FAULTS.iter().filter(|what| !self.faults.contains_key(**what));
        effects.chain(codes).chain(faults).map(|what| (*what).to_owned()).collect()
    }

    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.count_effect(match effect {
                Effect::Device(..) => "device",
                Effect::Guest(..) => "guest",
                Effect::Http(_) => "http",
                Effect::HttpEnd(_) => "http end",
                Effect::HttpCancel(_) => "http cancel",
                Effect::HttpAbort => "http abort",
                Effect::Tell(..) => "tell",
                Effect::Disconnect(_) => "disconnect",
                Effect::Notice(_) => "notice",
                Effect::Deleted => "deleted",
                Effect::Hardware(_) => "hardware",
                Effect::Rescued => "rescued",
            });
        }
    }

    fn count_effect(&mut self, what: &'static str) {
        *self.effects.entry(what).or_insert(0) += 1;
    }

    pub(crate) fn refusal(&mut self, refusal: &Refusal) {
        *self.codes.entry(refusal.code.as_str()).or_insert(0) += 1;
    }

    pub(crate) fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Device(_) => self.count_effect("device"),
            Answer::Guest(_) => self.count_effect("guest"),
            Answer::Http(_) => self.count_effect("http"),
            Answer::Later(_) => {}
        }
        if let Answer::Device(Err(refusal)) | Answer::Guest(Err(refusal)) = answer {
            self.refusal(refusal);
        }
    }

    pub(crate) fn fault(&mut self, what: &str) {
        *self.faults.entry(what.to_owned()).or_insert(0) += 1;
    }

    pub(crate) fn met_faults(&mut self, met: &BTreeMap<&'static str, u64>) {
        met.iter().for_each(|(what, times)| *self.faults.entry((*what).to_owned()).or_insert(0) += times);
    }
}

/// Every kind of effect.
const EFFECTS: &[&str] =
    &["device", "guest", "http", "http end", "http cancel", "http abort", "tell", "disconnect", "notice", "deleted"];

/// Every code that the rules refuse with and that a seed can reach.
pub const CODES: &[&str] = &[
    "vault_locked",
    "vault_exists",
    "session_required",
    "sessions_full",
    "fresh_required",
    "fresh_refused",
    "factor_refused",
    "attempts_wait",
    "slot_locked",
    "slot_unknown",
    "slot_last",
    "item_unknown",
    "field_unknown",
    "reference_unknown",
    "grant_unknown",
    "guest_unknown",
    "device_unknown",
    "approval_unknown",
    "handle_expired",
    "not_allowed",
    "class_refused",
    "guest_suspended",
    "clock_disagrees",
    "limit_host",
    "limit_method",
    "limit_path",
    "limit_uses",
    "limit_rate",
    "limit_bytes",
    "limit_hours",
    "limit_expired",
    "limit_operation",
    "approval_refused",
    "approval_void",
    "approvals_full",
    "url_refused",
    "policy_missing",
    "key_malformed",
    "message_refused",
    "otpauth_malformed",
    "request_malformed",
    "value_refused",
    "too_many",
    "busy",
    "conflict",
    "credential_required",
    "credential_refused",
    "credential_frozen",
    "credential_busy",
    "history_refused",
    "vault_header_refused",
    "store_refused",
    "store_failed",
    "disk_full",
    "http_failed",
];

/// Every kind of fault.
const FAULTS: &[&str] = &[
    "read-only",
    "full file",
    "full commit",
    "full record",
    "little room",
    "failing reads",
    "crash before header",
    "crash after header",
    "crash before chain",
    "crash after chain",
    "crash in tail",
    "crash after tail",
    "crash before commit",
    "crash after commit",
    "crash before rekey",
    "crash after rekey",
    "older database",
    "older record",
    "older files all together",
    "one header copy gone",
    "header changed",
    "older chain",
    "clock set back",
];
