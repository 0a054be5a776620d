//! Where an `http` call may go: what the item's policy and the grant's limits have in common.

use crate::code::{Code, Refusal};
use crate::policy::{Destination, HttpLimits, HttpPolicy};
use crate::target::Target;

/// Hosts, methods and paths that are allowed. Every request of a call is checked against it, redirects included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRules {
    hosts: Vec<Destination>,
    /// `None`: every method.
    methods: Option<Vec<String>>,
    /// `None`: every path.
    path_prefixes: Option<Vec<String>>,
    /// What other grants speak for: a call that did not ask for it does not get there by a redirect.
    elsewhere: Vec<Self>,
}

impl HttpRules {
    /// The item's own hosts with every method and path: the rules for the member's own calls.
    pub fn of_item(policy: &HttpPolicy) -> Self {
        Self { hosts: policy.hosts.clone(), methods: None, path_prefixes: None, elsewhere: Vec::new() }
    }

    /// What the item's policy and a grant's limits both allow. Where several grants match, [`HttpRules::narrow`] by each.
    pub fn new(policy: &HttpPolicy, limits: &HttpLimits) -> Self {
        let mut rules = Self::of_item(policy);
        rules.narrow(limits);
        rules
    }

    /// Takes away what `limits` does not allow.
    pub fn narrow(&mut self, limits: &HttpLimits) {
        if !limits.hosts.is_empty() {
            self.hosts.retain(|host| limits.hosts.contains(host));
        }
        let allowed: Vec<String> = if limits.methods.is_empty() {
            METHODS_DEFAULT.map(str::to_owned).to_vec()
        } else {
            limits.methods.clone()
        };
        self.methods = Some(match self.methods.take() {
            None => allowed,
            Some(methods) => methods.into_iter().filter(|method| allowed.contains(method)).collect(),
        });
        if !limits.path_prefixes.is_empty() {
            self.path_prefixes = Some(match self.path_prefixes.take() {
                None => limits.path_prefixes.clone(),
                Some(prefixes) => intersect(&prefixes, &limits.path_prefixes),
            });
        }
    }

    /// Leaves out what another grant's rules hold: its own limits and its own mode speak for that, and they were not asked.
    pub fn leave_out(&mut self, other: Self) {
        self.elsewhere.push(other);
    }

    /// Whether a request may be made.
    ///
    /// # Errors
    /// `limit_host`, `limit_method` or `limit_path`, the first that applies in this order; the rule is for the member.
    pub fn check(&self, method: &str, target: &Target) -> Result<(), Refusal> {
        if !self.hosts.contains(target.destination()) {
            return Err(Refusal::new(Code::LimitHost).rule(format!("hosts: {}", listed(&self.hosts))));
        }
        if let Some(methods) = &self.methods
            && !methods.iter().any(|allowed| allowed == method)
        {
            return Err(Refusal::new(Code::LimitMethod).rule(format!("methods: {}", listed(methods))));
        }
        if let Some(prefixes) = &self.path_prefixes
            && !prefixes.iter().any(|prefix| covers(prefix, target.path()))
        {
            return Err(Refusal::new(Code::LimitPath).rule(format!("path prefixes: {}", listed(prefixes))));
        }
        if self.elsewhere.iter().any(|other| other.check(method, target).is_ok()) {
            return Err(Refusal::new(Code::LimitPath).rule("another grant speaks for this place; ask for it directly"));
        }
        Ok(())
    }

    /// The hosts in force.
    pub fn hosts(&self) -> &[Destination] {
        &self.hosts
    }
}

/// Whether `prefix` is made of the first whole segments of `path`: `/v1` covers `/v1` and `/v1/x`, not `/v10`. A slash at
/// its end changes nothing. Both are compared as they are written, so an encoded letter never passes for a plain one.
fn covers(prefix: &str, path: &str) -> bool {
    let stem = prefix.strip_suffix('/').unwrap_or(prefix);
    prefix.starts_with('/') && path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The paths that some prefix of each list covers.
fn intersect(left: &[String], right: &[String]) -> Vec<String> {
    let mut both = Vec::new();
    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
        let narrower = if covers(a, b) {
            b
        } else if covers(b, a) {
            a
        } else {
            continue;
        };
        if !both.contains(narrower) {
            both.push(narrower.clone());
        }
    }
    both
}

fn listed(names: &[impl ToString]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

const METHODS_DEFAULT: [&str; 2] = ["GET", "HEAD"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Placement;

    fn policy(hosts: &[&str]) -> HttpPolicy {
        HttpPolicy {
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
            placement: Placement::Bearer,
            allow_private: false,
            allow_short: false,
            roots_pem: None,
        }
    }

    fn limits(hosts: &[&str], methods: &[&str], prefixes: &[&str]) -> HttpLimits {
        HttpLimits {
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
            methods: methods.iter().map(ToString::to_string).collect(),
            path_prefixes: prefixes.iter().map(ToString::to_string).collect(),
            ..HttpLimits::default()
        }
    }

    fn verdict(rules: &HttpRules, method: &str, url: &str) -> Result<(), Code> {
        rules.check(method, &Target::parse(url).expect("a URL")).map_err(|refusal| refusal.code)
    }

    #[test]
    fn what_another_grant_speaks_for_is_left_out() {
        let policy = policy(&["a.example"]);
        let mut rules = HttpRules::new(&policy, &limits(&[], &["GET", "POST"], &[]));
        rules.leave_out(HttpRules::new(&policy, &limits(&[], &["POST"], &["/admin"])));
        assert_eq!(verdict(&rules, "GET", "https://a.example/admin/x"), Ok(()));
        assert_eq!(verdict(&rules, "POST", "https://a.example/administer"), Ok(()));
        assert_eq!(verdict(&rules, "POST", "https://a.example/admin/x"), Err(Code::LimitPath));
    }

    #[test]
    fn a_grant_narrows_the_item() {
        let rules =
            HttpRules::new(&policy(&["a.example", "b.example:8443"]), &limits(&["a.example", "c.example"], &[], &[]));
        assert_eq!(verdict(&rules, "GET", "https://a.example/x"), Ok(()));
        assert_eq!(verdict(&rules, "HEAD", "https://A.example:443/x"), Ok(()));
        assert_eq!(verdict(&rules, "POST", "https://a.example/x"), Err(Code::LimitMethod));
        assert_eq!(verdict(&rules, "get", "https://a.example/x"), Err(Code::LimitMethod));
        for other in
            ["https://b.example:8443/", "https://c.example/", "https://a.example:8443/", "https://x.a.example/"]
        {
            assert_eq!(verdict(&rules, "GET", other), Err(Code::LimitHost), "{other}");
        }
    }

    #[test]
    fn the_member_may_use_every_method_on_the_items_hosts() {
        let rules = HttpRules::of_item(&policy(&["a.example"]));
        assert_eq!(verdict(&rules, "DELETE", "https://a.example/x"), Ok(()));
        assert_eq!(verdict(&rules, "GET", "https://b.example/x"), Err(Code::LimitHost));
        assert_eq!(verdict(&HttpRules::of_item(&policy(&[])), "GET", "https://b.example/x"), Err(Code::LimitHost));
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let rules = HttpRules::new(&policy(&["a.example"]), &limits(&[], &["GET"], &["/v1", "/b/"]));
        for good in ["/v1", "/v1/", "/v1/x", "/v1?x", "/v1//x", "/b", "/b/c"] {
            assert_eq!(verdict(&rules, "GET", &format!("https://a.example{good}")), Ok(()), "{good}");
        }
        for bad in ["/", "", "/v10", "/v", "/V1", "/%76%31", "/v1%20", "/bb", "/x/v1"] {
            assert_eq!(verdict(&rules, "GET", &format!("https://a.example{bad}")), Err(Code::LimitPath), "{bad}");
        }
        let everything = HttpRules::new(&policy(&["a.example"]), &limits(&[], &["GET"], &["/"]));
        assert_eq!(verdict(&everything, "GET", "https://a.example/any"), Ok(()));
        let nothing = HttpRules::new(&policy(&["a.example"]), &limits(&[], &["GET"], &["v1", ""]));
        assert_eq!(verdict(&nothing, "GET", "https://a.example/v1"), Err(Code::LimitPath));
    }

    #[test]
    fn every_grant_counts() {
        let mut rules = HttpRules::new(&policy(&["a.example"]), &limits(&[], &["GET", "POST"], &["/a", "/b"]));
        rules.narrow(&limits(&[], &["POST", "PUT"], &["/a/b", "/c"]));
        assert_eq!(verdict(&rules, "POST", "https://a.example/a/b"), Ok(()));
        assert_eq!(verdict(&rules, "POST", "https://a.example/a"), Err(Code::LimitPath));
        assert_eq!(verdict(&rules, "GET", "https://a.example/a/b"), Err(Code::LimitMethod));
        rules.narrow(&limits(&[], &["POST"], &["/d"]));
        assert_eq!(
            verdict(&rules, "POST", "https://a.example/a/b"),
            Err(Code::LimitPath),
            "an empty intersection is not `all`"
        );
    }

    #[test]
    fn the_rule_is_for_the_member() {
        let refusal = HttpRules::of_item(&policy(&["a.example"]))
            .check("GET", &Target::parse("https://b.example/").expect("a URL"))
            .expect_err("refused");
        assert_eq!(refusal.rule.as_deref(), Some("hosts: a.example"));
        assert_eq!(refusal.for_guest().rule, None);
    }

    fn prefixes() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("(/[ab]{1,2}){0,3}/?", 1..4)
    }

    proptest! {
        #[test]
        fn narrowing_twice_allows_what_both_allow(one in prefixes(), two in prefixes(), path in "(/[ab]{1,2}){1,4}") {
            let limits = |prefixes: &[String]| HttpLimits { path_prefixes: prefixes.to_vec(), ..HttpLimits::default() };
            let target = Target::parse(&format!("https://a.example{path}")).expect("a URL");
            let alone = |prefixes: &[String]| HttpRules::new(&policy(&["a.example"]), &limits(prefixes)).check("GET", &target).is_ok();
            let mut both = HttpRules::new(&policy(&["a.example"]), &limits(&one));
            both.narrow(&limits(&two));
            prop_assert_eq!(both.check("GET", &target).is_ok(), alone(&one) && alone(&two));
        }
    }
}
