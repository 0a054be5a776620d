//! Whether a key and a grant let a message be signed, and whether a key does what `crypt` is asked. Pure checks that need
//! no key, so they run before a member is asked and again when the key is used.

use serde_json::{Map, Value};

use crate::code::{Code, Refusal};
use crate::guest::{CryptCall, SignCall};
use crate::limits::{
    CRYPT_BYTES_MAX, CRYPT_CONTEXT_BYTES_MAX, JWT_CLAIMS_BYTES_MAX, JWT_CLAIMS_MAX, JWT_DEPTH_MAX,
    JWT_LIFETIME_SECS_DEFAULT, JWT_LIFETIME_SECS_MAX, SIGN_MESSAGE_BYTES_MAX, SIGN_NAME_CHARS_MAX,
};
use crate::policy::{CryptOperation, JwtTemplate, KeyPolicy, KeyPurpose, SignTemplate};
use crate::time::Timestamp;

/// Whether a key of `policy` may sign what `call` asks for, under the grant's `template`. Without one, a guest may still
/// use a message key; ssh and jwt keys need it. The member's own device (`for_guest` is false) needs none.
///
/// # Errors
/// `policy_missing`: the item's key does not sign at all. `message_refused`: no template would help; ask for another
/// message. `limit_operation`, `limit_bytes`: the grant's template does not allow it.
pub fn check_template(
    call: &SignCall,
    policy: KeyPolicy,
    template: Option<&SignTemplate>,
    for_guest: bool,
    now: Timestamp,
) -> Result<(), Refusal> {
    if !policy.fits() || !signs(policy.purpose) {
        return Err(Refusal::new(Code::PolicyMissing).detail("This key does not sign."));
    }
    if let Some(template) = template {
        // What the member wrote cannot be kept, so nothing is allowed rather than everything.
        template.check(policy).map_err(|refusal| Refusal { code: Code::LimitOperation, ..refusal })?;
    } else if for_guest && policy.purpose != KeyPurpose::Message {
        return Err(Refusal::new(Code::LimitOperation)
            .detail(format!("A grant on a key for {} needs a template.", policy.purpose)));
    }
    match (call, policy.purpose) {
        (SignCall::Message { message }, KeyPurpose::Message) => check_message(&message.0, template),
        (SignCall::Ssh { namespace, message }, KeyPurpose::Ssh) => {
            check_namespace(namespace, template)?;
            check_message(&message.0, template)
        }
        (SignCall::Jwt { claims, key_id }, KeyPurpose::Jwt) => {
            if let Some(key_id) = key_id {
                check_key_id(key_id)?;
            }
            let claims = jwt_claims(claims, template.and_then(|template| template.jwt.as_ref()), now)?;
            check_size(json_bytes(&claims), template)
        }
        _ => Err(refused(format!("This key signs for {} and nothing else.", policy.purpose))),
    }
}

/// The claims that are signed: those wanted, those the template fixes, `iat`, and `exp` where it was absent. Without a
/// template every claim but `iat` is the caller's, and `exp` is an hour from now where it is absent.
///
/// # Errors
/// `message_refused` for a claim that no key of ours signs, `limit_operation` for one that the template does not allow.
pub fn jwt_claims(
    wanted: &Map<String, Value>,
    template: Option<&JwtTemplate>,
    now: Timestamp,
) -> Result<Map<String, Value>, Refusal> {
    if wanted.len() > JWT_CLAIMS_MAX || !wanted.values().all(|value| nests_within(value, JWT_DEPTH_MAX)) {
        return Err(refused("The claims are too many or nested too deep."));
    }
    if wanted.contains_key("iat") {
        return Err(refused("The vault sets iat."));
    }
    let mut claims = wanted.clone();
    if let Some(template) = template {
        for name in wanted.keys().filter(|name| *name != "exp") {
            if !template.fixed.contains_key(name) && !template.free.contains(name) {
                return Err(limited("A claim is not in the grant's template.", "template.jwt.free"));
            }
        }
        for (name, value) in &template.fixed {
            if claims.entry(name.clone()).or_insert_with(|| value.clone()) != value {
                return Err(limited("A claim differs from the grant's template.", "template.jwt.fixed"));
            }
        }
    }
    set_times(&mut claims, template, now.unix_secs())?;
    if json_bytes(&claims) > JWT_CLAIMS_BYTES_MAX {
        return Err(Refusal::new(Code::LimitBytes).detail("The claims are too long."));
    }
    Ok(claims)
}

/// Whether a key of `policy` does what `call` asks, within the bounds of `crypt`.
///
/// # Errors
/// `policy_missing`: the key has another purpose. `limit_bytes`: too long. `value_refused`: no such key can be derived.
pub fn check_crypt(call: &CryptCall, policy: KeyPolicy) -> Result<(), Refusal> {
    let purpose = match call.operation() {
        CryptOperation::Encrypt | CryptOperation::Decrypt | CryptOperation::Rewrap => KeyPurpose::Encrypt,
        CryptOperation::Mac | CryptOperation::VerifyMac => KeyPurpose::Mac,
        CryptOperation::Derive => KeyPurpose::Derive,
    };
    if !policy.fits() || policy.purpose != purpose {
        return Err(Refusal::new(Code::PolicyMissing).detail(format!("This key is not for {purpose}.")));
    }
    let (data, context) = match call {
        CryptCall::Encrypt { plaintext, context } => (plaintext.0.len(), context.0.len()),
        CryptCall::Decrypt { ciphertext, context } | CryptCall::Rewrap { ciphertext, context } => {
            (ciphertext.0.len().saturating_sub(CRYPT_OVERHEAD_BYTES), context.0.len())
        }
        CryptCall::Mac { message } | CryptCall::VerifyMac { message, .. } => (message.0.len(), 0),
        CryptCall::Derive { context, purpose } => {
            if !matches!(purpose, KeyPurpose::Encrypt | KeyPurpose::Mac) {
                return Err(Refusal::new(Code::ValueRefused).detail("A derived key is for encrypt or for mac."));
            }
            (0, context.0.len())
        }
    };
    if data > CRYPT_BYTES_MAX || context > CRYPT_CONTEXT_BYTES_MAX {
        return Err(Refusal::new(Code::LimitBytes));
    }
    Ok(())
}

/// Bytes that `crypt encrypt` adds: format, key version, nonce and tag.
pub const CRYPT_OVERHEAD_BYTES: usize = 1 + 4 + 24 + 16;

impl SignTemplate {
    /// Whether the template can be kept by a key of `policy`: a part that belongs to another purpose, a missing part and
    /// a contradiction are refused, so that no limit is ever silently without effect.
    ///
    /// # Errors
    /// `value_refused` with the sentence that says what to change.
    pub fn check(&self, policy: KeyPolicy) -> Result<(), Refusal> {
        let fault = match policy.purpose {
            KeyPurpose::Message if self.jwt.is_some() || !self.ssh_namespaces.is_empty() => {
                Some("The template of a message key has no namespaces and no claims.")
            }
            KeyPurpose::Message => None,
            KeyPurpose::Ssh if self.jwt.is_some() => Some("The template of an ssh key has no claims."),
            KeyPurpose::Ssh if self.ssh_namespaces.is_empty() => {
                Some("The template of an ssh key names its namespaces.")
            }
            KeyPurpose::Ssh if !self.ssh_namespaces.iter().all(|name| is_name(name)) => {
                Some("A namespace is malformed.")
            }
            KeyPurpose::Ssh => None,
            KeyPurpose::Jwt if self.prefix.is_some() || !self.ssh_namespaces.is_empty() => {
                Some("The template of a jwt key has no prefix and no namespaces.")
            }
            KeyPurpose::Jwt => self.jwt.as_ref().map_or(Some("The template of a jwt key names its claims."), jwt_fault),
            _ => Some("This key does not sign."),
        };
        fault.map_or(Ok(()), |fault| Err(Refusal::new(Code::ValueRefused).detail(fault)))
    }
}

impl SignTemplate {
    /// What two templates allow together.
    ///
    /// # Errors
    /// `limit_operation`: nothing satisfies both.
    pub fn join(self, other: &Self) -> Result<Self, Refusal> {
        let contradict = || limited("The grants that match contradict each other.", "template");
        let prefix = match (self.prefix, &other.prefix) {
            (Some(a), Some(b)) if a.0.starts_with(&b.0) => Some(a),
            (Some(a), Some(b)) if b.0.starts_with(&a.0) => Some(b.clone()),
            (Some(_), Some(_)) => return Err(contradict()),
            (one, other) => one.or_else(|| other.clone()),
        };
        let ssh_namespaces = self.ssh_namespaces.into_iter().filter(|name| other.ssh_namespaces.contains(name));
        let jwt = match (self.jwt, &other.jwt) {
            (Some(a), Some(b)) => Some(join_claims(a, b).ok_or_else(contradict)?),
            (one, other) => one.or_else(|| other.clone()),
        };
        let bytes = [self.message_bytes_max, other.message_bytes_max];
        Ok(Self {
            prefix,
            message_bytes_max: bytes.into_iter().flatten().min(),
            ssh_namespaces: ssh_namespaces.collect(),
            jwt,
        })
    }
}

/// The claims that two templates allow together: what either fixes is fixed, and free is what both leave free. `None` where
/// one fixes what the other fixes otherwise or does not allow.
fn join_claims(a: JwtTemplate, b: &JwtTemplate) -> Option<JwtTemplate> {
    let allows = |template: &JwtTemplate, name: &String, value: &Value| match template.fixed.get(name) {
        Some(fixed) => fixed == value,
        None => template.free.contains(name),
    };
    let agree = a.fixed.iter().all(|(name, value)| allows(b, name, value))
        && b.fixed.iter().all(|(name, value)| allows(&a, name, value));
    if !agree {
        return None;
    }
    let free = a.free.iter().filter(|name| b.free.contains(name)).cloned().collect();
    let mut fixed = a.fixed;
    fixed.extend(b.fixed.clone());
    Some(JwtTemplate { fixed, free, lifetime_secs_max: a.lifetime_secs_max.min(b.lifetime_secs_max) })
}

fn jwt_fault(template: &JwtTemplate) -> Option<&'static str> {
    if template.lifetime_secs_max == 0 || template.lifetime_secs_max > JWT_LIFETIME_SECS_MAX {
        return Some("The lifetime of tokens is between one second and ten years.");
    }
    // A fixed time would be in the past soon, and a chosen iat would back-date a token.
    if ["iat", "exp", "nbf"].iter().any(|name| template.fixed.contains_key(*name)) {
        return Some("The times iat, exp and nbf cannot be fixed.");
    }
    if template.free.iter().any(|name| name == "iat") {
        return Some("The vault sets iat; it cannot be free.");
    }
    if template.free.iter().any(|name| template.fixed.contains_key(name)) {
        return Some("A claim is both fixed and free.");
    }
    if template.fixed.len() + template.free.len() > JWT_CLAIMS_MAX
        || !template.fixed.values().all(|value| nests_within(value, JWT_DEPTH_MAX))
        || json_bytes(&template.fixed) > JWT_CLAIMS_BYTES_MAX
    {
        return Some("The claims of the template are too many, too long or nested too deep.");
    }
    None
}

fn set_times(claims: &mut Map<String, Value>, template: Option<&JwtTemplate>, now: u64) -> Result<(), Refusal> {
    let lifetime = template.map_or(JWT_LIFETIME_SECS_DEFAULT, |template| template.lifetime_secs_max);
    let latest = now.saturating_add(lifetime);
    let exp = match claims.get("exp") {
        None => latest,
        Some(exp) => exp.as_u64().ok_or_else(|| refused("exp is not a whole number of seconds."))?,
    };
    if exp <= now {
        return Err(refused("exp is not after now."));
    }
    if template.is_some() && exp > latest {
        return Err(limited("exp is later than the grant allows.", "template.jwt.lifetime_secs_max"));
    }
    // A token that claims to have been good before it was signed could prove what never was.
    if claims.get("nbf").is_some_and(|nbf| !nbf.as_u64().is_some_and(|nbf| (now..exp).contains(&nbf))) {
        return Err(refused("nbf is not a whole number of seconds between now and exp."));
    }
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), exp.into());
    Ok(())
}

fn check_message(message: &[u8], template: Option<&SignTemplate>) -> Result<(), Refusal> {
    check_size(message.len(), template)?;
    let prefix = template.and_then(|template| template.prefix.as_ref());
    if prefix.is_some_and(|prefix| !message.starts_with(&prefix.0)) {
        return Err(limited("The message does not start as the grant asks.", "template.prefix"));
    }
    Ok(())
}

fn check_size(bytes: usize, template: Option<&SignTemplate>) -> Result<(), Refusal> {
    let granted = template.and_then(|template| template.message_bytes_max);
    if bytes > SIGN_MESSAGE_BYTES_MAX || granted.is_some_and(|max| bytes as u64 > max) {
        return Err(Refusal::new(Code::LimitBytes)
            .detail("The message is too long.")
            .rule("template.message_bytes_max"));
    }
    Ok(())
}

fn check_namespace(namespace: &str, template: Option<&SignTemplate>) -> Result<(), Refusal> {
    if !is_name(namespace) {
        return Err(refused("The namespace is empty, too long or has characters other than visible ASCII."));
    }
    if template.is_some_and(|template| !template.ssh_namespaces.iter().any(|allowed| allowed == namespace)) {
        return Err(limited("The grant does not allow this namespace.", "template.ssh_namespaces"));
    }
    Ok(())
}

/// Verifiers put `kid` into paths and queries, so what could break out of one is not signed.
fn check_key_id(key_id: &str) -> Result<(), Refusal> {
    if is_name(key_id) && !key_id.contains(['"', '\'', '\\', '`', '<', '>', '|', ';', '$']) && !key_id.contains("..") {
        Ok(())
    } else {
        Err(refused("The key id is empty, too long or has characters that are not signed."))
    }
}

fn is_name(text: &str) -> bool {
    (1..=SIGN_NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn signs(purpose: KeyPurpose) -> bool {
    matches!(purpose, KeyPurpose::Message | KeyPurpose::Ssh | KeyPurpose::Jwt)
}

/// Whether a value has at most `levels` lists and objects inside each other.
fn nests_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|value| nests_within(value, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|value| nests_within(value, levels - 1)),
        _ => true,
    }
}

fn json_bytes(claims: &Map<String, Value>) -> usize {
    serde_json::to_vec(claims).expect("a JSON map has a JSON text").len()
}

fn refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::MessageRefused).detail(detail)
}

fn limited(detail: &str, rule: &str) -> Refusal {
    Refusal::new(Code::LimitOperation).detail(detail).rule(rule)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::bytes::Bytes;
    use crate::policy::KeyAlgorithm;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const NOW_SECS: u64 = 1_700_000_000;

    fn policy(purpose: KeyPurpose) -> KeyPolicy {
        KeyPolicy { purpose, algorithm: KeyAlgorithm::Ed25519 }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("a test gives an object").clone()
    }

    fn jwt_template() -> JwtTemplate {
        JwtTemplate {
            fixed: map(json!({"iss": "vault", "scope": ["a", "b"]})),
            free: vec!["sub".into(), "nbf".into()],
            lifetime_secs_max: 300,
        }
    }

    fn code_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
        result.expect_err("the test expects a refusal").code
    }

    fn message(bytes: &[u8]) -> SignCall {
        SignCall::Message { message: bytes.into() }
    }

    fn ssh(namespace: &str) -> SignCall {
        SignCall::Ssh { namespace: namespace.into(), message: Bytes(b"tree 1".to_vec()) }
    }

    fn jwt(claims: Value) -> SignCall {
        SignCall::Jwt { claims: map(claims), key_id: None }
    }

    #[test]
    fn one_purpose_for_each_key() {
        for (call, purpose) in
            [(message(b"m"), KeyPurpose::Message), (ssh("git"), KeyPurpose::Ssh), (jwt(json!({})), KeyPurpose::Jwt)]
        {
            for other in KeyPurpose::ALL {
                let result = check_template(&call, policy(*other), None, false, NOW);
                match *other {
                    other if other == purpose => assert_eq!(result, Ok(())),
                    KeyPurpose::Message | KeyPurpose::Ssh | KeyPurpose::Jwt => {
                        assert_eq!(code_of(result), Code::MessageRefused);
                    }
                    _ => assert_eq!(code_of(result), Code::PolicyMissing),
                }
            }
        }
    }

    #[test]
    fn ssh_and_jwt_keys_of_guests_need_a_template() {
        assert_eq!(check_template(&message(b"m"), policy(KeyPurpose::Message), None, true, NOW), Ok(()));
        for (call, purpose) in [(ssh("git"), KeyPurpose::Ssh), (jwt(json!({})), KeyPurpose::Jwt)] {
            assert_eq!(code_of(check_template(&call, policy(purpose), None, true, NOW)), Code::LimitOperation);
            let empty = SignTemplate::default();
            assert_eq!(code_of(check_template(&call, policy(purpose), Some(&empty), true, NOW)), Code::LimitOperation);
        }
    }

    #[test]
    fn two_templates_together_allow_what_both_do() {
        let of = |fixed: Value, free: &[&str], lifetime_secs_max: u64| SignTemplate {
            jwt: Some(JwtTemplate {
                fixed: map(fixed),
                free: free.iter().map(ToString::to_string).collect(),
                lifetime_secs_max,
            }),
            ..SignTemplate::default()
        };
        let a = of(json!({"iss": "vault"}), &["sub", "aud", "scope"], 300);
        let b = of(json!({"aud": "shop", "iss": "vault"}), &["sub"], 60);
        for (first, second) in [(&a, &b), (&b, &a)] {
            let both = first.clone().join(second).expect("they agree").jwt.expect("claims");
            assert_eq!(both.fixed, map(json!({"iss": "vault", "aud": "shop"})));
            assert_eq!((both.free.as_slice(), both.lifetime_secs_max), ([String::from("sub")].as_slice(), 60));
        }
        for other in [of(json!({"iss": "other"}), &["aud"], 60), of(json!({"role": "admin", "iss": "vault"}), &[], 60)]
        {
            assert_eq!(code_of(a.clone().join(&other)), Code::LimitOperation);
            assert_eq!(code_of(other.join(&a)), Code::LimitOperation);
        }
        let message = |prefix: &[u8], bytes| SignTemplate {
            prefix: Some(Bytes(prefix.to_vec())),
            message_bytes_max: bytes,
            ..SignTemplate::default()
        };
        let both = message(b"v1", Some(9)).join(&message(b"v1:pay", None)).expect("one begins the other");
        assert_eq!(both, message(b"v1:pay", Some(9)));
        assert_eq!(code_of(message(b"v1", None).join(&message(b"v2", None))), Code::LimitOperation);
        assert_eq!(message(b"v1", None).join(&SignTemplate::default()), Ok(message(b"v1", None)));
        let spaces = |names: &[&str]| SignTemplate {
            ssh_namespaces: names.iter().map(ToString::to_string).collect(),
            ..SignTemplate::default()
        };
        assert_eq!(spaces(&["git", "file"]).join(&spaces(&["git"])), Ok(spaces(&["git"])));
    }

    #[test]
    fn a_template_for_another_purpose_allows_nothing() {
        let jwt_only = SignTemplate { jwt: Some(jwt_template()), ..SignTemplate::default() };
        let ssh_only = SignTemplate { ssh_namespaces: vec!["git".into()], ..SignTemplate::default() };
        let prefix_only = SignTemplate { prefix: Some(Bytes(vec![1])), ..SignTemplate::default() };
        for (call, purpose, template) in [
            (message(b"m"), KeyPurpose::Message, &jwt_only),
            (message(b"m"), KeyPurpose::Message, &ssh_only),
            (ssh("git"), KeyPurpose::Ssh, &jwt_only),
            (ssh("git"), KeyPurpose::Ssh, &prefix_only),
            (jwt(json!({})), KeyPurpose::Jwt, &ssh_only),
            (jwt(json!({})), KeyPurpose::Jwt, &prefix_only),
        ] {
            assert_eq!(
                code_of(check_template(&call, policy(purpose), Some(template), true, NOW)),
                Code::LimitOperation
            );
            assert_eq!(code_of(template.check(policy(purpose))), Code::ValueRefused);
        }
    }

    #[test]
    fn prefix_and_size() {
        let template = SignTemplate {
            prefix: Some(Bytes(b"order:".to_vec())),
            message_bytes_max: Some(8),
            ..SignTemplate::default()
        };
        let check =
            |bytes: &[u8]| check_template(&message(bytes), policy(KeyPurpose::Message), Some(&template), true, NOW);
        assert_eq!(check(b"order:12"), Ok(()));
        assert_eq!(code_of(check(b"order:123")), Code::LimitBytes);
        assert_eq!(code_of(check(b"order")), Code::LimitOperation);
        assert_eq!(code_of(check(b"Order:1")), Code::LimitOperation);
        let long = message(&vec![0; SIGN_MESSAGE_BYTES_MAX + 1]);
        assert_eq!(code_of(check_template(&long, policy(KeyPurpose::Message), None, false, NOW)), Code::LimitBytes);
    }

    #[test]
    fn namespaces_match_exactly() {
        let template = SignTemplate { ssh_namespaces: vec!["git".into()], ..SignTemplate::default() };
        let check =
            |namespace: &str| check_template(&ssh(namespace), policy(KeyPurpose::Ssh), Some(&template), true, NOW);
        assert_eq!(check("git"), Ok(()));
        for bad in ["file", "gi", "git2", "Git", "*"] {
            assert_eq!(code_of(check(bad)), Code::LimitOperation, "{bad}");
        }
        for bad in ["", "git ", "git\n", "gít", &"g".repeat(SIGN_NAME_CHARS_MAX + 1)] {
            assert_eq!(code_of(check(bad)), Code::MessageRefused, "{bad}");
        }
    }

    #[test]
    fn fixed_claims_are_filled_and_never_differ() {
        let template = jwt_template();
        let made = jwt_claims(&map(json!({"sub": "me"})), Some(&template), NOW).expect("within the template");
        let expected =
            json!({"iss": "vault", "scope": ["a", "b"], "sub": "me", "iat": NOW_SECS, "exp": NOW_SECS + 300});
        assert_eq!(Value::Object(made), expected);
        assert!(jwt_claims(&map(json!({"iss": "vault"})), Some(&template), NOW).is_ok());
        for bad in [
            json!({"iss": "other"}),
            json!({"iss": null}),
            json!({"scope": ["a"]}),
            json!({"aud": "x"}),
            json!({"Sub": "x"}),
        ] {
            assert_eq!(code_of(jwt_claims(&map(bad.clone()), Some(&template), NOW)), Code::LimitOperation, "{bad}");
        }
    }

    #[test]
    fn times_of_a_token() {
        let template = jwt_template();
        let exp = |exp: Value| jwt_claims(&map(json!({"exp": exp})), Some(&template), NOW);
        assert!(exp(json!(NOW_SECS + 1)).is_ok() && exp(json!(NOW_SECS + 300)).is_ok());
        assert_eq!(code_of(exp(json!(NOW_SECS + 301))), Code::LimitOperation);
        assert_eq!(code_of(exp(json!(u64::MAX))), Code::LimitOperation);
        for bad in
            [json!(NOW_SECS), json!(0), json!(-1), json!(NOW_SECS as f64 + 5.0), json!("9"), json!(null), json!([])]
        {
            assert_eq!(code_of(exp(bad.clone())), Code::MessageRefused, "{bad}");
        }
        let nbf = |nbf: Value| jwt_claims(&map(json!({"nbf": nbf, "exp": NOW_SECS + 60})), Some(&template), NOW);
        assert!(nbf(json!(NOW_SECS)).is_ok() && nbf(json!(NOW_SECS + 59)).is_ok());
        for bad in [json!(NOW_SECS - 1), json!(NOW_SECS + 60), json!(0), json!(1e300), json!("now")] {
            assert_eq!(code_of(nbf(bad.clone())), Code::MessageRefused, "{bad}");
        }
        assert_eq!(code_of(jwt_claims(&map(json!({"iat": NOW_SECS})), None, NOW)), Code::MessageRefused);
        let own = jwt_claims(&map(json!({"exp": NOW_SECS + 999_999})), None, NOW).expect("the member's own");
        assert_eq!(own["exp"], json!(NOW_SECS + 999_999));
        let own = jwt_claims(&Map::new(), None, NOW).expect("the member's own");
        assert_eq!(own["exp"], json!(NOW_SECS + JWT_LIFETIME_SECS_DEFAULT));
    }

    #[test]
    fn templates_that_cannot_be_kept() {
        let with = |change: fn(&mut JwtTemplate)| {
            let mut jwt = jwt_template();
            change(&mut jwt);
            SignTemplate { jwt: Some(jwt), ..SignTemplate::default() }
        };
        assert_eq!(with(|_| ()).check(policy(KeyPurpose::Jwt)), Ok(()));
        for bad in [
            with(|jwt| jwt.lifetime_secs_max = 0),
            with(|jwt| jwt.lifetime_secs_max = JWT_LIFETIME_SECS_MAX + 1),
            with(|jwt| drop(jwt.fixed.insert("exp".into(), json!(1)))),
            with(|jwt| drop(jwt.fixed.insert("nbf".into(), json!(1)))),
            with(|jwt| jwt.free.push("iat".into())),
            with(|jwt| jwt.free.push("iss".into())),
            with(|jwt| drop(jwt.fixed.insert("x".into(), json!("x".repeat(JWT_CLAIMS_BYTES_MAX))))),
            with(|jwt| jwt.free.extend((0..JWT_CLAIMS_MAX).map(|n| n.to_string()))),
        ] {
            assert_eq!(code_of(bad.check(policy(KeyPurpose::Jwt))), Code::ValueRefused, "{bad:?}");
        }
    }

    #[test]
    fn claims_have_bounds() {
        let mut deep = json!(1);
        for _ in 0..JWT_DEPTH_MAX {
            deep = json!([deep]);
        }
        assert!(jwt_claims(&map(json!({"d": deep.clone()})), None, NOW).is_ok());
        assert_eq!(code_of(jwt_claims(&map(json!({"d": [deep]})), None, NOW)), Code::MessageRefused);
        let many = (0..=JWT_CLAIMS_MAX).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(code_of(jwt_claims(&many, None, NOW)), Code::MessageRefused);
        let long = map(json!({"x": "x".repeat(JWT_CLAIMS_BYTES_MAX)}));
        assert_eq!(code_of(jwt_claims(&long, None, NOW)), Code::LimitBytes);
    }

    #[test]
    fn crypt_calls_fit_the_purpose_and_the_bounds() {
        let key = |purpose, algorithm| KeyPolicy { purpose, algorithm };
        let encrypt = key(KeyPurpose::Encrypt, KeyAlgorithm::Xchacha20Poly1305);
        let mac = key(KeyPurpose::Mac, KeyAlgorithm::HmacSha256);
        let derive = key(KeyPurpose::Derive, KeyAlgorithm::HkdfSha256);
        let bytes = |length: usize| Bytes(vec![0; length]);
        let (max, context) = (CRYPT_BYTES_MAX, CRYPT_CONTEXT_BYTES_MAX);
        let encrypted =
            |plaintext, context| CryptCall::Encrypt { plaintext: bytes(plaintext), context: bytes(context) };
        let decrypted = |length| CryptCall::Decrypt { ciphertext: bytes(length), context: bytes(0) };
        let derived = |purpose| CryptCall::Derive { context: bytes(0), purpose };
        assert_eq!(check_crypt(&encrypted(max, context), encrypt), Ok(()));
        assert_eq!(check_crypt(&decrypted(max + CRYPT_OVERHEAD_BYTES), encrypt), Ok(()));
        assert_eq!(check_crypt(&derived(KeyPurpose::Mac), derive), Ok(()));
        assert_eq!(code_of(check_crypt(&encrypted(max + 1, 0), encrypt)), Code::LimitBytes);
        assert_eq!(code_of(check_crypt(&encrypted(0, context + 1), encrypt)), Code::LimitBytes);
        assert_eq!(code_of(check_crypt(&decrypted(max + CRYPT_OVERHEAD_BYTES + 1), encrypt)), Code::LimitBytes);
        assert_eq!(code_of(check_crypt(&CryptCall::Mac { message: bytes(max + 1) }, mac)), Code::LimitBytes);
        assert_eq!(code_of(check_crypt(&derived(KeyPurpose::Derive), derive)), Code::ValueRefused);
        assert_eq!(code_of(check_crypt(&encrypted(1, 0), mac)), Code::PolicyMissing);
        assert_eq!(code_of(check_crypt(&derived(KeyPurpose::Mac), mac)), Code::PolicyMissing);
        let crossed = key(KeyPurpose::Encrypt, KeyAlgorithm::HmacSha256);
        assert_eq!(code_of(check_crypt(&encrypted(1, 0), crossed)), Code::PolicyMissing);
    }

    #[test]
    fn key_ids_cannot_break_out() {
        let check = |key_id: &str| {
            let call = SignCall::Jwt { claims: Map::new(), key_id: Some(key_id.into()) };
            check_template(&call, policy(KeyPurpose::Jwt), None, false, NOW)
        };
        assert!(check("2026-01/main").is_ok() && check("https://id.example/keys#1").is_ok());
        for bad in ["", "a b", "a\"b", "../../dev/null", "a;b", "a\0", "x'--", &"k".repeat(SIGN_NAME_CHARS_MAX + 1)] {
            assert_eq!(code_of(check(bad)), Code::MessageRefused, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_within_the_template(
            names in proptest::collection::vec("[a-z]{1,3}", 0..6),
            exp in proptest::option::of(0..NOW_SECS * 2),
            nbf in proptest::option::of(NOW_SECS - 10..NOW_SECS + 400),
        ) {
            let mut wanted: Map<String, Value> = names.into_iter().map(|name| (name, json!(1))).collect();
            exp.map(|exp| wanted.insert("exp".into(), json!(exp)));
            nbf.map(|nbf| wanted.insert("nbf".into(), json!(nbf)));
            let template = jwt_template();
            if let Ok(claims) = jwt_claims(&wanted, Some(&template), NOW) {
                let listed = |name: &String| template.fixed.contains_key(name) || template.free.contains(name);
                prop_assert!(claims.keys().all(|name| name == "iat" || name == "exp" || listed(name)));
                prop_assert!(template.fixed.iter().all(|(name, value)| claims.get(name) == Some(value)));
                let exp = claims["exp"].as_u64().expect("the vault sets a number");
                prop_assert!(exp > NOW_SECS && exp <= NOW_SECS + template.lifetime_secs_max);
                prop_assert_eq!(&claims["iat"], &json!(NOW_SECS));
            }
        }
    }
}
