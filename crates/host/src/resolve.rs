//! From a destination to the addresses a tunnel may try.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use strongroom_wire::policy::Destination;
use strongroom_wire::{Code, Refusal};
use tokio::sync::Semaphore;

use crate::address;
use crate::config::HostConfig;

/// The system's resolver, with what this host's tunnels may not reach. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    config: Arc<HostConfig>,
    /// Look-ups of the whole host: each takes a thread.
    everybodys: Arc<Semaphore>,
    /// Look-ups of one vault, so that it cannot keep the others waiting.
    own: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new(config: Arc<HostConfig>) -> Self {
        let everybodys = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { config, everybodys, own: Arc::new(Semaphore::new(LOOKUPS_PER_VAULT_MAX)) }
    }

    /// For a further vault.
    pub(crate) fn for_vault(&self) -> Self {
        Self { own: Arc::new(Semaphore::new(LOOKUPS_PER_VAULT_MAX)), ..self.clone() }
    }

    /// The addresses of `to` that a tunnel may try, in order, not empty.
    pub(crate) async fn addresses(&self, to: &Destination, allow_private: bool) -> Result<Vec<SocketAddr>, Refusal> {
        let found = self.look_up(to).await?;
        let mut allowed: Vec<SocketAddr> = found
            .into_iter()
            .map(|address| SocketAddr::new(address.to_canonical(), to.port))
            .filter(|address| address::may_connect(*address, allow_private, &self.config.own_listeners))
            .collect();
        allowed.dedup();
        if allowed.is_empty() { Err(Code::AddressRefused.into()) } else { Ok(alternating(allowed)) }
    }

    async fn look_up(&self, to: &Destination) -> Result<Vec<IpAddr>, Refusal> {
        let bare = to.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&to.host);
        if let Ok(literal) = bare.parse() {
            return Ok(vec![literal]);
        }
        #[cfg(feature = "danger")]
        if let Some(addresses) = self.config.danger_addresses.get(&to.host) {
            return Ok(addresses.clone());
        }
        // These names are this machine's, whatever a resolver would say (RFC 6761, section 6.3).
        if to.host == "localhost" || to.host.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let failed = |_| Refusal::new(Code::ConnectFailed).detail("The host's name could not be resolved.");
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(|_| Code::HostFailed)?;
        let everybodys = Arc::clone(&self.everybodys).acquire_owned().await.map_err(|_| Code::HostFailed)?;
        let name = (to.host.clone(), to.port);
        let found = tokio::task::spawn_blocking(move || {
            // Given back when the look-up is over, not when the tunnel stops waiting for it.
            let _permits = (own, everybodys);
            name.to_socket_addrs().map(|addresses| addresses.map(|address| address.ip()).collect::<Vec<_>>())
        });
        found.await.map_err(|_| Code::Bug)?.map_err(failed)
    }
}

/// One family after the other, beginning with the one the system prefers, so that a broken one costs one wait
/// (RFC 8305, section 4); at most [`ADDRESSES_MAX`].
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let pairs = std::iter::from_fn(|| match (preferred.next(), other.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1]),
    });
    pairs.flatten().flatten().take(ADDRESSES_MAX).collect()
}

const LOOKUPS_MAX: usize = 64;
const LOOKUPS_PER_VAULT_MAX: usize = 8;
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(table: &[(&str, &[&str])]) -> Resolver {
        let mut config = HostConfig::new("data", "shares", "program");
        for (name, addresses) in table {
            let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
            config.danger_addresses.insert((*name).to_owned(), addresses);
        }
        Resolver::new(Arc::new(config))
    }

    async fn ask(resolver: &Resolver, to: &str, allow_private: bool) -> Result<Vec<String>, Code> {
        let to = to.parse().expect("a destination");
        let found = resolver.addresses(&to, allow_private).await;
        found.map(|found| found.iter().map(SocketAddr::to_string).collect()).map_err(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_name_leads_to_its_global_addresses_only() {
        let resolver = resolver(&[
            ("api.example.com", &["8.8.8.8", "10.0.0.1", "::ffff:127.0.0.1", "2606:4700::1", "9.9.9.9"]),
            ("rebound.example.com", &["127.0.0.1", "169.254.169.254"]),
        ]);
        let global = ["8.8.8.8:443", "[2606:4700::1]:443", "9.9.9.9:443"].map(str::to_owned);
        assert_eq!(ask(&resolver, "api.example.com", false).await, Ok(global.to_vec()));
        assert_eq!(ask(&resolver, "rebound.example.com", false).await, Err(Code::AddressRefused));
        assert_eq!(ask(&resolver, "rebound.example.com", true).await, Ok(vec!["127.0.0.1:443".to_owned()]));
    }

    #[tokio::test]
    async fn literals_are_judged_as_names_are() {
        let resolver = resolver(&[]);
        for literal in ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]:8443", "192.168.1.1:8443", "0x7f.1", "2130706433"] {
            assert_eq!(ask(&resolver, literal, false).await, Err(Code::AddressRefused), "{literal}");
        }
        for literal in ["169.254.169.254", "[fd00:ec2::254]", "0.0.0.0:22", "[::]:22"] {
            assert_eq!(ask(&resolver, literal, true).await, Err(Code::AddressRefused), "{literal}");
        }
        assert_eq!(ask(&resolver, "[2606:4700::1]:8443", false).await, Ok(vec!["[2606:4700::1]:8443".to_owned()]));
        for name in ["localhost:9", "app.localhost:9"] {
            assert_eq!(ask(&resolver, name, false).await, Err(Code::AddressRefused));
            assert_eq!(ask(&resolver, name, true).await, Ok(vec!["127.0.0.1:9".to_owned(), "[::1]:9".to_owned()]));
        }
    }
}
