//! What this host is called and which addresses it has.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The name of the host, as the system has it.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The names and addresses by which clients may reach this host: those of the loopback, the host name
/// in its forms, the addresses towards the network, and `further`.
#[must_use]
pub fn reachable_names(further: &[String]) -> Vec<String> {
    let mut names: BTreeSet<String> =
        ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).chain(further.iter().cloned()).collect();
    let host = host_name();
    names.extend(aliases(&host));
    if let Some((short, _)) = host.split_once('.') {
        names.insert(short.to_owned());
    }
    names.insert(host);
    names.extend(addresses().iter().map(IpAddr::to_string));
    names.into_iter().collect()
}

/// The addresses of this host on which a listener is reached.
#[must_use]
pub(super) fn listening_on(listener: SocketAddr) -> Vec<IpAddr> {
    if !listener.ip().is_unspecified() {
        return vec![listener.ip()];
    }
    // A listener for all IPv6 addresses serves IPv4 as well.
    let mut known = addresses();
    known.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    known.retain(|address| listener.is_ipv6() || address.is_ipv4());
    known.into_iter().collect()
}

/// Other names of the host in `/etc/hosts`, where the full name usually stands.
fn aliases(host: &str) -> Vec<String> {
    // A host without that file has no aliases.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter(|line| line.split_whitespace().skip(1).any(|name| name.eq_ignore_ascii_case(host)))
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(str::to_owned)
        .collect()
}

/// The addresses from which packets towards the network leave, and the IPv6 addresses of all interfaces.
fn addresses() -> BTreeSet<IpAddr> {
    // Connecting a UDP socket sends nothing; it only makes the system choose a source address. The
    // targets are addresses reserved for documentation.
    let towards = |from: &str, target: &str| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((target, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let chosen = [towards("0.0.0.0", "192.0.2.1"), towards("::", "2001:db8::1")];
    // Lines as "fe80…0001 02 40 20 80 eth0": the address in 32 digits first, the scope fourth (20 is link-local).
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let of_interfaces = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = fields.nth(2)?;
        (scope == "00").then(|| IpAddr::from(Ipv6Addr::from(address)))
    });
    chosen.into_iter().flatten().chain(of_interfaces).filter(|address| !address.is_unspecified()).collect()
}
