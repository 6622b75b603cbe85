//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};

/// The address that text such as `127.0.0.1:9180`, `localhost:9180` or `[fe80::1%eth0]:9180` means.
pub(super) fn listening(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port?.parse().ok()?;
    if host.eq_ignore_ascii_case("localhost") {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let host = host.strip_prefix('[')?.strip_suffix(']')?;
    let (address, zone) = host.split_once('%')?;
    let address = SocketAddrV6::new(address.parse().ok()?, port, 0, interface(zone)?);
    Some(address.into())
}

/// Whether the text may be the zone of a link-local address: the name or number of an interface.
pub(super) fn is_zone(zone: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // The kernel has 15 bytes for it; "." and ".." are no names.
    (1..=15).contains(&zone.len()) && zone.bytes().all(letters) && !zone.starts_with('.')
}

/// The number of the interface of this name.
pub(super) fn interface(zone: &str) -> Option<u32> {
    if let Ok(number) = zone.parse() {
        return Some(number);
    }
    if !is_zone(zone) {
        return None;
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?;
    index.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_localhost_or_have_a_zone() {
        for (text, expected) in [
            ("127.0.0.1:9180", "127.0.0.1:9180"),
            ("[::]:1", "[::]:1"),
            ("localhost:9180", "127.0.0.1:9180"),
            ("LocalHost:0", "127.0.0.1:0"),
            ("[fe80::1%lo]:9180", "[fe80::1%1]:9180"),
            ("[fe80::1%7]:9180", "[fe80::1%7]:9180"),
        ] {
            let found = listening(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "localhost",
            "localhost:",
            "localhost:+1",
            "localhost:65536",
            "example.com:80",
            "[fe80::1%no-such-link]:1",
            "[fe80::1%../lo]:1",
            "[fe80::1%]:1",
            "fe80::1%lo:1",
        ] {
            assert_eq!(listening(text), None, "{text}");
        }
    }
}
