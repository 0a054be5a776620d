//! `grant`: standing permissions with their limits.

use clap::{Args, Subcommand};
use strongroom_client::clock;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, GrantAdd, GrantView};
use strongroom_client::wire::policy::{
    Consumer, CryptOperation, Destination, Hours, HttpLimits, JwtTemplate, Limits, Mode, SignTemplate,
};
use strongroom_client::wire::{Bytes, GrantId};

use crate::app::{App, find_field, find_guest, unexpected};
use crate::failure::Failure;
use crate::human;
use crate::output::{escape, table};

/// `grant …`
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Give a guest the use of one field by one consumer
    #[command(after_help = "Without --mode you are asked each time.

Examples:
  strongroom grant add --guest helper Weather http --method GET --path /v1 --mode always --expires 30d
  strongroom grant add --guest helper Weather http --mode once:10m --uses 100
  strongroom grant add --guest deploy \"Release key\" sign --prefix release:
  strongroom grant add --guest ci Tokens sign --jwt-fixed iss=ci --jwt-free sub --jwt-lifetime 5m
  strongroom grant add --guest laptop \"Git key\" sign --namespace git
  strongroom grant add --guest backup Archive crypt --operation encrypt --operation rewrap")]
    Add(Box<Add>),
    /// List grants
    List {
        /// Those of one guest
        #[arg(long, value_name = "NAME")]
        guest: Option<String>,
    },
    /// End a grant, at once
    Revoke {
        /// Its id
        grant: GrantId,
    },
}

/// `grant add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Who: a guest's name or id
    #[arg(long, value_name = "NAME")]
    pub(crate) guest: String,
    /// What: an item, ITEM/FIELD or vault://…
    pub(crate) item: String,
    /// How: http, sign, totp or crypt
    pub(crate) consumer: Consumer,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Flags for every limit and mode of a grant.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// ask (each time), once:DURATION (an answer covers as long) or always (never asked)
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) mode: Option<Mode>,
    /// When it ends, from now
    #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
    pub(crate) expires: Option<u64>,
    /// Uses in all
    #[arg(long, value_name = "NUMBER")]
    pub(crate) uses: Option<u64>,
    /// Calls in any 60 seconds
    #[arg(long, value_name = "NUMBER")]
    pub(crate) per_minute: Option<u32>,
    /// Bytes in all, both ways; a call that a lock or a crash cuts off takes all that was left
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    pub(crate) bytes: Option<u64>,
    /// Hours of the day in UTC, such as 08:00-18:00
    #[arg(long, value_name = "FROM-TO", value_parser = human::parse_hours)]
    pub(crate) hours: Option<Hours>,
    /// http: of the item's hosts, only this (repeat)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) host: Vec<Destination>,
    /// http: a method (repeat); GET and HEAD where none is named
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Vec<String>,
    /// http: a path and what lies below it (repeat)
    #[arg(long, value_name = "/PATH")]
    pub(crate) path: Vec<String>,
    /// http: bytes of one body, each way
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    pub(crate) body: Option<u64>,
    /// http: let Set-Cookie of answers through
    #[arg(long)]
    pub(crate) set_cookie: bool,
    /// sign: what the message starts with
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// sign: bytes of a message at most
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    pub(crate) message: Option<u64>,
    /// sign with an SSH key: a namespace (repeat), such as git
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Vec<String>,
    /// sign tokens: a claim that is always this (repeat); the value is JSON, or else text
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = parse_claim)]
    pub(crate) jwt_fixed: Vec<(String, serde_json::Value)>,
    /// sign tokens: a claim that the guest chooses (repeat)
    #[arg(long, value_name = "CLAIM")]
    pub(crate) jwt_free: Vec<String>,
    /// sign tokens: the longest lifetime
    #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
    pub(crate) jwt_lifetime: Option<u64>,
    /// crypt: an operation (repeat): encrypt, decrypt, rewrap, mac, verify_mac, derive
    #[arg(long, value_name = "OPERATION")]
    pub(crate) operation: Vec<CryptOperation>,
}

/// Runs `grant …`.
pub(crate) fn run(app: &App, command: &GrantCommand) -> Result<(), Failure> {
    match command {
        GrantCommand::Add(args) => app.session(|session| {
            if !args.consumer.for_guests() {
                return Err(Failure::usage(format!("{} is the member's own and never a guest's", args.consumer)));
            }
            let (limits, mode) = args.limits.build(args.consumer)?;
            let guest = find_guest(session, &args.guest)?;
            let default = (args.consumer == Consumer::Totp).then_some("totp");
            let (reference, item) = find_field(session, &args.item, default)?;
            let told = match (&item, mode) {
                (Some(item), Mode::Always) => Some(item.label.clone()),
                _ => None,
            };
            if let Some(label) = told {
                app.out.note(&format!(
                    "`{}` may use `{}` over {} without asking you, within these limits: {}",
                    escape(&guest.name),
                    escape(&label),
                    args.consumer,
                    escape(&limits_text(&limits))
                ));
            }
            let request = GrantAdd { guest: guest.id, reference, consumer: args.consumer, limits, mode };
            match session.ask(&DeviceRequest::GrantAdd(request))? {
                DeviceAnswer::Grant(grant) => {
                    app.out.result(&grant, || format!("Granted: {}\n{}", grant.id, one(&grant)))
                }
                _ => Err(unexpected()),
            }
        }),
        GrantCommand::List { guest } => app.session(|session| {
            let guest = guest.as_ref().map(|name| find_guest(session, name)).transpose()?.map(|guest| guest.id);
            match session.ask(&DeviceRequest::GrantList { guest })? {
                DeviceAnswer::Grants { grants } => app.out.result(&grants, || list_text(&grants)),
                _ => Err(unexpected()),
            }
        }),
        GrantCommand::Revoke { grant } => {
            app.ask(&DeviceRequest::GrantRevoke { grant: *grant })?;
            app.out.done("Ended.")
        }
    }
}

impl LimitArgs {
    /// The limits and the mode; a flag of another consumer is an error, never without effect.
    pub(crate) fn build(&self, consumer: Consumer) -> Result<(Limits, Mode), Failure> {
        let http = HttpLimits {
            hosts: self.host.clone(),
            methods: self.method.iter().map(|method| method.to_ascii_uppercase()).collect(),
            path_prefixes: self.path.clone(),
            body_bytes_max: self.body,
            set_cookie: self.set_cookie,
        };
        let jwt = !self.jwt_fixed.is_empty() || !self.jwt_free.is_empty() || self.jwt_lifetime.is_some();
        let sign = SignTemplate {
            prefix: self.prefix.as_ref().map(|prefix| Bytes::from(prefix.as_bytes())),
            message_bytes_max: self.message,
            ssh_namespaces: self.namespace.clone(),
            jwt: jwt.then(|| JwtTemplate {
                fixed: self.jwt_fixed.iter().cloned().collect(),
                free: self.jwt_free.clone(),
                lifetime_secs_max: self.jwt_lifetime.unwrap_or(JWT_LIFETIME_SECS),
            }),
        };
        for (set, belongs) in [
            (http != HttpLimits::default(), Consumer::Http),
            (sign != SignTemplate::default(), Consumer::Sign),
            (!self.operation.is_empty(), Consumer::Crypt),
        ] {
            if set && belongs != consumer {
                return Err(Failure::usage(format!("a limit of {belongs} was given for {consumer}")));
            }
        }
        if let Some(path) = self.path.iter().find(|path| !path.starts_with('/')) {
            return Err(Failure::usage(format!("a path starts with /, unlike `{}`", escape(path))));
        }
        let limits = Limits {
            http: (http != HttpLimits::default()).then_some(http),
            sign: (sign != SignTemplate::default()).then_some(sign),
            crypt: self.operation.clone(),
            uses_max: self.uses,
            calls_per_minute_max: self.per_minute,
            bytes_max: self.bytes,
            expires_at: self.expires.map(|secs| clock::now().plus_secs(secs)),
            hours: self.hours,
        };
        Ok((limits, self.mode.unwrap_or(Mode::Ask)))
    }
}

/// Limits in words.
pub(crate) fn limits_text(limits: &Limits) -> String {
    let mut parts = Vec::new();
    if let Some(http) = &limits.http {
        let hosts: Vec<String> = http.hosts.iter().map(ToString::to_string).collect();
        for (list, what) in [(&hosts, "hosts"), (&http.methods, "methods"), (&http.path_prefixes, "paths")] {
            if !list.is_empty() {
                parts.push(format!("{what} {}", list.join(" ")));
            }
        }
        if let Some(bytes) = http.body_bytes_max {
            parts.push(format!("bodies of {bytes} bytes"));
        }
        if http.set_cookie {
            parts.push("cookies pass".to_owned());
        }
    }
    if let Some(sign) = &limits.sign {
        if let Some(prefix) = &sign.prefix {
            parts.push(format!("messages that start with `{}`", String::from_utf8_lossy(&prefix.0)));
        }
        if let Some(bytes) = sign.message_bytes_max {
            parts.push(format!("messages of {bytes} bytes"));
        }
        if !sign.ssh_namespaces.is_empty() {
            parts.push(format!("namespaces {}", sign.ssh_namespaces.join(" ")));
        }
        if let Some(jwt) = &sign.jwt {
            let fixed = serde_json::Value::Object(jwt.fixed.clone());
            let life = human::duration(jwt.lifetime_secs_max);
            parts.push(format!("claims {fixed}, free {}, for {life}", jwt.free.join(" ")));
        }
    }
    if !limits.crypt.is_empty() {
        let operations: Vec<&str> = limits.crypt.iter().map(|operation| operation.as_str()).collect();
        parts.push(operations.join(" "));
    }
    if let Some(uses) = limits.uses_max {
        parts.push(format!("{uses} uses"));
    }
    if let Some(calls) = limits.calls_per_minute_max {
        parts.push(format!("{calls} a minute"));
    }
    if let Some(bytes) = limits.bytes_max {
        parts.push(format!("{bytes} bytes in all"));
    }
    if let Some(at) = limits.expires_at {
        parts.push(format!("ends {at}"));
    }
    if let Some(hours) = limits.hours {
        parts.push(human::hours(hours));
    }
    if parts.is_empty() { "the defaults".to_owned() } else { parts.join("; ") }
}

/// A mode in words.
pub(crate) fn mode_text(mode: Mode) -> String {
    match mode {
        Mode::Always => "always".to_owned(),
        Mode::AskOnce { secs } => format!("once:{}", human::duration(secs).replace(' ', "")),
        Mode::Ask => "ask".to_owned(),
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text.split_once(':') {
        None if text == "ask" => Ok(Mode::Ask),
        None if text == "always" => Ok(Mode::Always),
        Some(("once", duration)) => human::parse_duration(duration).map(|secs| Mode::AskOnce { secs }),
        _ => Err("expected ask, once:DURATION or always".to_owned()),
    }
}

fn parse_claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (claim, value) = text.split_once('=').ok_or_else(|| "expected CLAIM=VALUE".to_owned())?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_owned()));
    Ok((claim.to_owned(), value))
}

fn one(grant: &GrantView) -> String {
    format!(
        "  {} may use {} of `{}` over {} ({}): {}",
        escape(&grant.guest_name),
        grant.grant.reference.field,
        escape(&grant.item_label),
        grant.grant.consumer,
        mode_text(grant.grant.mode),
        escape(&limits_text(&grant.grant.limits)),
    )
}

fn list_text(grants: &[GrantView]) -> String {
    if grants.is_empty() {
        return "No grants. Next: strongroom grant add --guest NAME ITEM CONSUMER".to_owned();
    }
    let row = |grant: &GrantView| {
        let used = grant.used_at.map_or_else(|| "never".to_owned(), human::relative);
        vec![
            grant.id.to_string(),
            grant.guest_name.clone(),
            format!("{}/{}", grant.item_label, grant.grant.reference.field),
            grant.grant.consumer.to_string(),
            mode_text(grant.grant.mode),
            format!("{} ({used})", grant.uses),
            limits_text(&grant.grant.limits),
        ]
    };
    table(&["ID", "GUEST", "WHAT", "HOW", "MODE", "USES", "LIMITS"], &grants.iter().map(row).collect::<Vec<_>>())
}

const JWT_LIFETIME_SECS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_another_consumer_is_an_error() {
        let args = LimitArgs { method: vec!["get".into()], ..LimitArgs::default() };
        assert_eq!(args.build(Consumer::Http).unwrap().0.http.unwrap().methods, ["GET"]);
        assert!(args.build(Consumer::Sign).is_err());
        let bad_path = LimitArgs { path: vec!["v1".into()], ..LimitArgs::default() };
        assert!(bad_path.build(Consumer::Http).is_err());
    }

    #[test]
    fn modes_read_as_they_are_shown() {
        for text in ["ask", "always", "once:10m"] {
            assert_eq!(mode_text(parse_mode(text).unwrap()), text);
        }
        assert!(parse_mode("never").is_err() && parse_mode("once").is_err());
        assert_eq!(LimitArgs::default().build(Consumer::Totp).unwrap().1, Mode::Ask, "asking is the default");
    }
}
