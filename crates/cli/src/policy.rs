//! Flags that say where an item's secret may go, and what a key does.

use std::path::PathBuf;

use clap::Args;
use strongroom_client::wire::ItemType;
use strongroom_client::wire::policy::{
    Destination, HttpPolicy, ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose, Placement,
};

use crate::failure::Failure;
use crate::prompt;

/// Flags of an item's policy.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where its secret may go")]
pub(crate) struct PolicyArgs {
    /// A host that the secret may be sent to (repeat); exactly, without wildcard
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) host: Vec<Destination>,
    /// How it is placed: bearer, basic:USER, header:NAME, header:NAME:PREFIX, query:NAME, aws:KEY-ID:REGION:SERVICE
    #[arg(long, value_name = "PLACE", value_parser = parse_placement, requires = "host")]
    pub(crate) place: Option<Placement>,
    /// Let the host have an address that is not public (a local network, this machine)
    #[arg(long, requires = "host")]
    pub(crate) allow_private: bool,
    /// Let guests use a secret under 16 bytes, which the echo mask cannot hide well
    #[arg(long, requires = "host")]
    pub(crate) allow_short: bool,
    /// Trust these PEM certificates for the hosts instead of the public roots
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(crate) roots: Option<PathBuf>,
    /// What a key is for: message, ssh, jwt, encrypt, mac, derive
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) purpose: Option<KeyPurpose>,
    /// How a key does it: ed25519, ecdsa_p256, ecdsa_secp256k1, rsa_pss_sha256, rsa_pkcs1_sha256, …
    #[arg(long, value_name = "ALGORITHM")]
    pub(crate) algorithm: Option<KeyAlgorithm>,
    /// The whole policy as JSON, for what the flags do not reach (such as an HMAC over the request)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "purpose", "algorithm"])]
    pub(crate) policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// The policy of a new item; keys get the usual one of their type.
    pub(crate) fn for_new(&self, item_type: ItemType) -> Result<ItemPolicy, Failure> {
        if let Some(policy) = self.read_policy()? {
            return Ok(policy);
        }
        let usual = match item_type {
            ItemType::SshKey => Some(KeyPurpose::Ssh),
            ItemType::SigningKey => Some(KeyPurpose::Message),
            ItemType::CryptKey => Some(KeyPurpose::Encrypt),
            _ => None,
        };
        Ok(ItemPolicy { http: self.http(None)?, key: self.key(self.purpose.or(usual))? })
    }

    /// A changed policy, or `None` where no flag says anything.
    pub(crate) fn for_edit(&self, before: &ItemPolicy) -> Result<Option<ItemPolicy>, Failure> {
        if let Some(policy) = self.read_policy()? {
            return Ok(Some(policy));
        }
        if self.host.is_empty() && self.purpose.is_none() && self.algorithm.is_none() {
            return Ok(None);
        }
        let mut policy = before.clone();
        if let Some(http) = self.http(before.http.as_ref())? {
            policy.http = Some(http);
        }
        if let Some(key) = self.key(self.purpose.or(before.key.map(|key| key.purpose)))? {
            policy.key = Some(key);
        }
        Ok(Some(policy))
    }

    fn read_policy(&self) -> Result<Option<ItemPolicy>, Failure> {
        let Some(path) = &self.policy else { return Ok(None) };
        let text = prompt::read_all(path, 64 * 1024)?;
        let policy = serde_json::from_slice(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        Ok(Some(policy))
    }

    fn http(&self, before: Option<&HttpPolicy>) -> Result<Option<HttpPolicy>, Failure> {
        if self.host.is_empty() {
            return Ok(None);
        }
        let roots_pem = match &self.roots {
            Some(path) => {
                let text = prompt::read_all(path, 64 * 1024)?;
                Some(
                    String::from_utf8(text.to_vec())
                        .map_err(|_| Failure::usage("the certificates are not PEM text"))?,
                )
            }
            None => before.and_then(|http| http.roots_pem.clone()),
        };
        Ok(Some(HttpPolicy {
            hosts: self.host.clone(),
            placement: self
                .place
                .clone()
                .or_else(|| before.map(|http| http.placement.clone()))
                .unwrap_or(Placement::Bearer),
            allow_private: self.allow_private,
            allow_short: self.allow_short,
            roots_pem,
        }))
    }

    fn key(&self, purpose: Option<KeyPurpose>) -> Result<Option<KeyPolicy>, Failure> {
        let Some(purpose) = purpose else {
            return match self.algorithm {
                Some(_) => Err(Failure::usage("--algorithm needs --purpose")),
                None => Ok(None),
            };
        };
        let usual = match purpose {
            KeyPurpose::Message | KeyPurpose::Ssh | KeyPurpose::Jwt => KeyAlgorithm::Ed25519,
            KeyPurpose::Encrypt => KeyAlgorithm::Xchacha20Poly1305,
            KeyPurpose::Mac => KeyAlgorithm::HmacSha256,
            KeyPurpose::Derive => KeyAlgorithm::HkdfSha256,
        };
        let key = KeyPolicy { purpose, algorithm: self.algorithm.unwrap_or(usual) };
        if key.fits() {
            Ok(Some(key))
        } else {
            Err(Failure::usage(format!("a key for {purpose} does not use {}", key.algorithm)))
        }
    }
}

/// How a secret is placed, as people write it.
fn parse_placement(text: &str) -> Result<Placement, String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["bearer"] => Ok(Placement::Bearer),
        ["basic", user] if !user.is_empty() => Ok(Placement::Basic { username: (*user).to_owned() }),
        ["header", name] => Ok(Placement::Header { name: (*name).to_owned(), prefix: String::new() }),
        ["header", name, prefix @ ..] => Ok(Placement::Header { name: (*name).to_owned(), prefix: prefix.join(":") }),
        ["query", name] => Ok(Placement::Query { name: (*name).to_owned() }),
        ["aws", id, region, service] => Ok(Placement::AwsSigV4 {
            access_key_id: (*id).to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
        }),
        _ => {
            Err("expected bearer, basic:USER, header:NAME[:PREFIX], query:NAME or aws:KEY-ID:REGION:SERVICE".to_owned())
        }
    }
}

/// How a secret is placed, in words.
pub(crate) fn placement(placement: &Placement) -> String {
    match placement {
        Placement::Bearer => "bearer".to_owned(),
        Placement::Basic { username } => format!("basic:{username}"),
        Placement::Header { name, prefix } if prefix.is_empty() => format!("header:{name}"),
        Placement::Header { name, prefix } => format!("header:{name}:{prefix}"),
        Placement::Query { name } => format!("query:{name}"),
        Placement::Hmac(hmac) => format!("hmac-{} in {}", hmac.hash, hmac.header),
        Placement::AwsSigV4 { access_key_id, region, service } => format!("aws:{access_key_id}:{region}:{service}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_read_as_they_are_shown() {
        for text in [
            "bearer",
            "basic:me",
            "header:X-Key",
            "header:Authorization:token ",
            "query:key",
            "aws:AKIA:eu-central-1:s3",
        ] {
            assert_eq!(placement(&parse_placement(text).unwrap()), text);
        }
        for bad in ["", "basic", "basic:", "digest:x", "aws:a:b", "bearer:x"] {
            assert!(parse_placement(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_get_the_usual_policy_of_their_type() {
        let none = PolicyArgs::default();
        let key = none.for_new(ItemType::CryptKey).unwrap().key.unwrap();
        assert_eq!((key.purpose, key.algorithm), (KeyPurpose::Encrypt, KeyAlgorithm::Xchacha20Poly1305));
        assert!(none.for_new(ItemType::Login).unwrap().is_empty());
        let jwt = PolicyArgs { purpose: Some(KeyPurpose::Jwt), ..PolicyArgs::default() };
        assert_eq!(jwt.for_new(ItemType::SigningKey).unwrap().key.unwrap().algorithm, KeyAlgorithm::Ed25519);
        let odd = PolicyArgs {
            purpose: Some(KeyPurpose::Mac),
            algorithm: Some(KeyAlgorithm::Ed25519),
            ..PolicyArgs::default()
        };
        assert!(odd.for_new(ItemType::CryptKey).is_err());
        assert_eq!(none.for_edit(&ItemPolicy::default()).unwrap(), None);
    }
}
