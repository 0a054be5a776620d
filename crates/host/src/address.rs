//! Which addresses a tunnel may lead to.
//!
//! From the IANA registries of special-purpose addresses (RFC 6890 and what updated it). Whatever carries an IPv4 address
//! inside is judged by that as well, since that is where a packet may end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The public internet.
    Global,
    /// This machine, its network, or a network behind it: only where the item allows it.
    Private,
    /// Nowhere that a request should go: metadata services, multicast, reserved and documentation addresses.
    Never,
}

/// How far `address` reaches.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// Whether a tunnel may lead to `to`.
pub(crate) fn may_connect(to: SocketAddr, allow_private: bool, own_listeners: &[SocketAddr]) -> bool {
    let far_enough = match reach(to.ip()) {
        Reach::Global => true,
        Reach::Private => allow_private,
        Reach::Never => false,
    };
    far_enough && !own_listeners.iter().any(|listener| leads_to(to, *listener))
}

/// Whether a connection to `to` would end at our own `listener`.
fn leads_to(to: SocketAddr, listener: SocketAddr) -> bool {
    if to.port() != listener.port() {
        return false;
    }
    let (to, listener) = (to.ip().to_canonical(), listener.ip().to_canonical());
    to == listener
        || to.is_loopback() && listener.is_loopback()
        || listener.is_unspecified() && (to.is_loopback() || is_of_this_machine(to))
}

/// An address can be bound exactly where it is one of this machine's own.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let bits = address.to_bits();
    let found = V4.iter().find(|(network, length, _)| same_prefix_32(bits, network.to_bits(), *length));
    found.map_or(Reach::Global, |(_, _, reach)| *reach)
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let bits = address.to_bits();
    let found = V6.iter().find(|(network, length, _)| same_prefix_128(bits, network.to_bits(), *length));
    // Outside of 2000::/3 nothing was given out for global use.
    match found.map_or(Rule::Is(Reach::Never), |(_, _, rule)| *rule) {
        Rule::Is(reach) => reach,
        Rule::Embeds(at) => reach_v4(embedded(bits, at)),
        Rule::Compatible => reach_v4(embedded(bits, 96)).max(Reach::Private),
        Rule::LocalNat64 => local_nat64(address),
        // RFC 4380, section 4: the server as it is, the client with every bit turned over.
        Rule::Teredo => reach_v4(embedded(bits, 32)).max(reach_v4(Ipv4Addr::from_bits(!embedded(bits, 96).to_bits()))),
    }
}

/// RFC 8215: a network's own translator, with the IPv4 address at a place of its choice (RFC 6052, section 2.2). The prefix
/// itself is not global, so only a reading that is never allowed changes the answer.
fn local_nat64(address: Ipv6Addr) -> Reach {
    let o = address.octets();
    // Prefixes of 48, 56, 64 and 96 bits; octet 8 holds no part of the address.
    let readings = [
        [o[6], o[7], o[9], o[10]],
        [o[7], o[9], o[10], o[11]],
        [o[9], o[10], o[11], o[12]],
        [o[12], o[13], o[14], o[15]],
    ];
    let metadata = readings.into_iter().any(|reading| METADATA_V4.contains(&reading.into()));
    if metadata { Reach::Never } else { Reach::Private }
}

fn embedded(bits: u128, at: u32) -> Ipv4Addr {
    let [.., a, b, c, d] = (bits >> (96 - at)).to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

fn same_prefix_32(a: u32, b: u32, length: u32) -> bool {
    length == 0 || (a ^ b) >> (32 - length) == 0
}

fn same_prefix_128(a: u128, b: u128, length: u32) -> bool {
    length == 0 || (a ^ b) >> (128 - length) == 0
}

const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254), // most clouds
    Ipv4Addr::new(169, 254, 170, 2),   // AWS, credentials of containers
    Ipv4Addr::new(169, 254, 170, 23),  // AWS, credentials of pods
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure; a public address that leads to the machine's own host
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud
];

/// The first row that matches decides.
const V4: &[(Ipv4Addr, u32, Reach)] = &[
    (METADATA_V4[0], 32, Reach::Never),
    (METADATA_V4[1], 32, Reach::Never),
    (METADATA_V4[2], 32, Reach::Never),
    (METADATA_V4[3], 32, Reach::Never),
    (METADATA_V4[4], 32, Reach::Never),
    (METADATA_V4[5], 32, Reach::Never),
    (Ipv4Addr::new(0, 0, 0, 0), 8, Reach::Never), // "this network"; 0.0.0.0 ends at this machine
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reach::Private), // private use
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reach::Private), // shared address space (CGNAT)
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reach::Private), // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reach::Private), // link-local
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reach::Private), // private use
    (Ipv4Addr::new(192, 0, 0, 9), 32, Reach::Global), // PCP anycast
    (Ipv4Addr::new(192, 0, 0, 10), 32, Reach::Global), // TURN anycast
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reach::Never), // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24, Reach::Never), // 6to4 relays, withdrawn
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reach::Private), // private use
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reach::Private), // benchmarking; some proxies answer there
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4, Reach::Never), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4, Reach::Never), // reserved, broadcast
];

#[derive(Clone, Copy)]
enum Rule {
    Is(Reach),
    /// An IPv4 address begins at this bit, and that is where packets go.
    Embeds(u32),
    /// The withdrawn form `::a.b.c.d`.
    Compatible,
    LocalNat64,
    Teredo,
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, last)
}

const GLOBAL: Rule = Rule::Is(Reach::Global);
const PRIVATE: Rule = Rule::Is(Reach::Private);
const NEVER: Rule = Rule::Is(Reach::Never);

/// The first row that matches decides.
const V6: &[(Ipv6Addr, u32, Rule)] = &[
    (v6(0xfd00, 0xec2, 0, 0, 0x254), 128, NEVER), // AWS metadata
    (v6(0xfd00, 0xec2, 0, 0, 0x23), 128, NEVER),  // AWS, credentials of pods
    (v6(0xfd20, 0xce, 0, 0, 0x254), 128, NEVER),  // Google metadata
    (Ipv6Addr::UNSPECIFIED, 128, NEVER),
    (Ipv6Addr::LOCALHOST, 128, PRIVATE),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, Rule::Embeds(96)), // IPv4-mapped
    (Ipv6Addr::UNSPECIFIED, 96, Rule::Compatible),
    (v6(0x64, 0xff9b, 0, 0, 0), 96, Rule::Embeds(96)), // NAT64
    (v6(0x64, 0xff9b, 1, 0, 0), 48, Rule::LocalNat64),
    (v6(0x2001, 0, 0, 0, 0), 32, Rule::Teredo),
    (v6(0x2001, 1, 0, 0, 1), 128, GLOBAL),          // PCP anycast
    (v6(0x2001, 1, 0, 0, 2), 128, GLOBAL),          // TURN anycast
    (v6(0x2001, 1, 0, 0, 3), 128, GLOBAL),          // DNS-SD SRP anycast
    (v6(0x2001, 2, 0, 0, 0), 48, PRIVATE),          // benchmarking
    (v6(0x2001, 3, 0, 0, 0), 32, GLOBAL),           // AMT
    (v6(0x2001, 4, 0x112, 0, 0), 48, GLOBAL),       // AS112
    (v6(0x2001, 0x20, 0, 0, 0), 28, GLOBAL),        // ORCHIDv2
    (v6(0x2001, 0x30, 0, 0, 0), 28, GLOBAL),        // drone remote id
    (v6(0x2001, 0, 0, 0, 0), 23, NEVER),            // IETF protocol assignments
    (v6(0x2001, 0xdb8, 0, 0, 0), 32, NEVER),        // documentation
    (v6(0x2002, 0, 0, 0, 0), 16, Rule::Embeds(16)), // 6to4
    (v6(0x3fff, 0, 0, 0, 0), 20, NEVER),            // documentation
    (v6(0x2000, 0, 0, 0, 0), 3, GLOBAL),            // global unicast
    (v6(0xfc00, 0, 0, 0, 0), 7, PRIVATE),           // unique local
    (v6(0xfe80, 0, 0, 0, 0), 10, PRIVATE),          // link-local
    (v6(0xfec0, 0, 0, 0, 0), 10, PRIVATE),          // site-local, withdrawn
];

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last address of each registered block, and their neighbours outside.
    const TABLE: &[(&str, Reach)] = &[
        ("0.0.0.0", Reach::Never),
        ("0.255.255.255", Reach::Never),
        ("1.0.0.0", Reach::Global),
        ("9.255.255.255", Reach::Global),
        ("10.0.0.0", Reach::Private),
        ("10.255.255.255", Reach::Private),
        ("11.0.0.0", Reach::Global),
        ("100.63.255.255", Reach::Global),
        ("100.64.0.0", Reach::Private),
        ("100.100.100.200", Reach::Never),
        ("100.127.255.255", Reach::Private),
        ("100.128.0.0", Reach::Global),
        ("126.255.255.255", Reach::Global),
        ("127.0.0.1", Reach::Private),
        ("127.255.255.255", Reach::Private),
        ("128.0.0.0", Reach::Global),
        ("168.63.129.16", Reach::Never),
        ("169.253.255.255", Reach::Global),
        ("169.254.0.0", Reach::Private),
        ("169.254.169.253", Reach::Private),
        ("169.254.169.254", Reach::Never),
        ("169.254.170.2", Reach::Never),
        ("169.254.170.23", Reach::Never),
        ("169.254.255.255", Reach::Private),
        ("172.15.255.255", Reach::Global),
        ("172.16.0.0", Reach::Private),
        ("172.31.255.255", Reach::Private),
        ("172.32.0.0", Reach::Global),
        ("191.255.255.255", Reach::Global),
        ("192.0.0.0", Reach::Never),
        ("192.0.0.8", Reach::Never),
        ("192.0.0.9", Reach::Global),
        ("192.0.0.10", Reach::Global),
        ("192.0.0.170", Reach::Never),
        ("192.0.0.192", Reach::Never),
        ("192.0.1.0", Reach::Global),
        ("192.0.2.0", Reach::Never),
        ("192.0.2.255", Reach::Never),
        ("192.31.196.1", Reach::Global),
        ("192.52.193.1", Reach::Global),
        ("192.88.99.1", Reach::Never),
        ("192.167.255.255", Reach::Global),
        ("192.168.0.0", Reach::Private),
        ("192.168.255.255", Reach::Private),
        ("192.169.0.0", Reach::Global),
        ("192.175.48.1", Reach::Global),
        ("198.17.255.255", Reach::Global),
        ("198.18.0.0", Reach::Private),
        ("198.19.255.255", Reach::Private),
        ("198.20.0.0", Reach::Global),
        ("198.51.100.1", Reach::Never),
        ("203.0.113.1", Reach::Never),
        ("223.255.255.255", Reach::Global),
        ("224.0.0.0", Reach::Never),
        ("239.255.255.255", Reach::Never),
        ("240.0.0.0", Reach::Never),
        ("255.255.255.255", Reach::Never),
        ("8.8.8.8", Reach::Global),
        ("::", Reach::Never),
        ("::1", Reach::Private),
        ("::2", Reach::Never),           // compatible with 0.0.0.2
        ("::127.0.0.1", Reach::Private), // compatible
        ("::8.8.8.8", Reach::Private),   // compatible: withdrawn, not global
        ("::169.254.169.254", Reach::Never),
        ("::ffff:8.8.8.8", Reach::Global),
        ("::ffff:10.0.0.1", Reach::Private),
        ("::ffff:127.0.0.1", Reach::Private),
        ("::ffff:169.254.169.254", Reach::Never),
        ("::ffff:0.0.0.0", Reach::Never),
        ("::ffff:0:8.8.8.8", Reach::Never), // IPv4-translated, never given out
        ("64:ff9b::8.8.8.8", Reach::Global),
        ("64:ff9b::10.0.0.1", Reach::Private),
        ("64:ff9b::127.0.0.1", Reach::Private),
        ("64:ff9b::169.254.169.254", Reach::Never),
        ("64:ff9b:0:1::8.8.8.8", Reach::Never),
        ("64:ff9b:1::8.8.8.8", Reach::Private),
        ("64:ff9b:1::10.0.0.1", Reach::Private),
        ("64:ff9b:1::169.254.169.254", Reach::Never),
        ("64:ff9b:1:a9fe:a9:fe00::", Reach::Never), // 169.254.169.254 behind a prefix of 48 bits
        ("64:ff9b:1:00a9:00fe:a9fe::", Reach::Never), // behind 56 bits
        ("64:ff9b:1:0:a9:fea9:fe00:0", Reach::Never), // behind 64 bits
        ("64:ff9b:2::1", Reach::Never),
        ("100::1", Reach::Never),
        ("100:0:0:1::1", Reach::Never),
        ("1fff:ffff::1", Reach::Never),
        ("2000::1", Reach::Global),
        ("2001::1", Reach::Never),                        // Teredo with server 0.0.0.0
        ("2001:0:808:808:0:0:f7f7:f7f7", Reach::Global),  // server and client 8.8.8.8
        ("2001:0:808:808:0:0:f5ff:fffe", Reach::Private), // client 10.0.0.1
        ("2001:0:a00:1:0:0:f7f7:f7f7", Reach::Private),   // server 10.0.0.1
        ("2001:0:808:808:0:0:5601:5601", Reach::Never),   // client 169.254.169.254
        ("2001:1::1", Reach::Global),
        ("2001:1::2", Reach::Global),
        ("2001:1::3", Reach::Global),
        ("2001:1::4", Reach::Never),
        ("2001:2::1", Reach::Private),
        ("2001:2:1::1", Reach::Never),
        ("2001:3::1", Reach::Global),
        ("2001:4:112::1", Reach::Global),
        ("2001:4:113::1", Reach::Never),
        ("2001:10::1", Reach::Never),
        ("2001:20::1", Reach::Global),
        ("2001:3f::1", Reach::Global),
        ("2001:40::1", Reach::Never),
        ("2001:1ff:ffff::1", Reach::Never),
        ("2001:200::1", Reach::Global),
        ("2001:db8::1", Reach::Never),
        ("2001:db9::1", Reach::Global),
        ("2002:808:808::1", Reach::Global),
        ("2002:a00:1::1", Reach::Private),
        ("2002:7f00:1::1", Reach::Private),
        ("2002:a9fe:a9fe::1", Reach::Never),
        ("2606:4700::1111", Reach::Global),
        ("2620:4f:8000::1", Reach::Global),
        ("3fff::1", Reach::Never),
        ("3fff:fff::1", Reach::Never),
        ("3fff:1000::1", Reach::Global),
        ("4000::1", Reach::Never),
        ("5f00::1", Reach::Never),
        ("fbff::1", Reach::Never),
        ("fc00::1", Reach::Private),
        ("fd00:ec2::254", Reach::Never),
        ("fd00:ec2::23", Reach::Never),
        ("fd00:ec2::253", Reach::Private),
        ("fd20:ce::254", Reach::Never),
        ("fdff:ffff::1", Reach::Private),
        ("fe00::1", Reach::Never),
        ("fe80::1", Reach::Private),
        ("febf::1", Reach::Private),
        ("fec0::1", Reach::Private),
        ("feff::1", Reach::Private),
        ("ff02::1", Reach::Never),
        ("ffff::1", Reach::Never),
    ];

    #[test]
    fn every_registered_block_and_its_neighbours() {
        for (text, expected) in TABLE {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(reach(address), *expected, "{text}");
        }
    }

    #[test]
    fn private_needs_leave_and_never_has_none() {
        for (text, expected) in TABLE {
            let to = SocketAddr::new(text.parse().expect("an address"), 443);
            assert_eq!(may_connect(to, false, &[]), *expected == Reach::Global, "{text}");
            assert_eq!(may_connect(to, true, &[]), *expected != Reach::Never, "{text}");
        }
    }

    #[test]
    fn our_own_listeners_are_refused_even_with_leave() {
        let listeners = |text: &str| [text.parse::<SocketAddr>().expect("an address")];
        for (to, listener) in [
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("127.0.0.2:8443", "127.0.0.1:8443"),
            ("127.0.0.1:8443", "0.0.0.0:8443"),
            ("[::1]:8443", "[::]:8443"),
            ("127.0.0.1:8443", "[::]:8443"),
            ("[::ffff:127.0.0.1]:8443", "127.0.0.1:8443"),
            ("10.1.2.3:8443", "10.1.2.3:8443"),
        ] {
            let to: SocketAddr = to.parse().expect("an address");
            assert!(!may_connect(to, true, &listeners(listener)), "{to} {listener}");
            let elsewhere = SocketAddr::new(to.ip(), 9443);
            assert!(may_connect(elsewhere, true, &listeners(listener)), "{elsewhere} {listener}");
        }
    }
}
