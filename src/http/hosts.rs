//! Whom a request over TCP must be meant for.
//!
//! A page of anybody's that a browser inside the network shows can have its own name resolve to this
//! host (DNS rebinding), and then read what is answered here as its own. The name stays in the
//! request, so only those are answered that ask for this host by a name of its own.

use std::net::IpAddr;

use hyper::Request;
use hyper::header::HOST;

/// Whether the request asks for the host by its address `local`, as `localhost`, or by one of
/// `names`. One that names no host, as HTTP/1.0 allows, comes from no browser.
pub(super) fn is_for_us<B>(request: &Request<B>, local: Option<IpAddr>, names: &[String]) -> bool {
    let asked = request.headers().get_all(HOST).iter();
    let mut asked = asked.map(|host| host.to_str().ok()).chain(
        // A proxy may be asked for the whole URL.
        request
            .uri()
            .authority()
            .map(|authority| Some(authority.as_str())),
    );
    asked.all(|host| host.is_some_and(|host| is_ours(host, local, names)))
}

fn is_ours(host: &str, local: Option<IpAddr>, names: &[String]) -> bool {
    let host = without_port(host);
    if let Some(address) = address(host) {
        return local.is_some_and(|local| local.to_canonical() == address)
            || names
                .iter()
                .any(|name| self::address(name) == Some(address));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_host = |name: &str| name.eq_ignore_ascii_case(host);
    is_host("localhost") || names.iter().any(|name| is_host(name))
}

/// The port is the client's affair: it may have come through a tunnel.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    // A link's name means something to the client alone.
    let bare = bare.map(|host| host.split('%').next().unwrap_or(host));
    let address: IpAddr = bare.unwrap_or(host).parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(hosts: &[&str], local: &str, names: &[&str]) -> bool {
        let mut request = Request::builder();
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        is_for_us(&request.body(()).unwrap(), local.parse().ok(), &names)
    }

    #[test]
    fn the_address_localhost_and_the_names_are_ours_with_and_without_a_port() {
        for host in [
            "10.0.0.1",
            "10.0.0.1:9180",
            "localhost",
            "LOCALHOST:1",
            "node1",
            "Node1.:9180",
            "10.9.9.9:80",
        ] {
            assert!(
                answers(&[host], "10.0.0.1", &["node1", "10.9.9.9"]),
                "{host}"
            );
        }
        for (host, local) in [
            ("[fe80::1]:9180", "fe80::1"),
            ("[fe80::1%25eth0]", "fe80::1"),
            ("10.0.0.1:9180", "::ffff:10.0.0.1"),
        ] {
            assert!(answers(&[host], local, &[]), "{host}");
        }
        assert!(answers(&[], "10.0.0.1", &[]), "HTTP/1.0 names none");
    }

    #[test]
    fn any_other_is_not() {
        for host in [
            "",
            "evil.example",
            "evil.example:9180",
            "10.0.0.2",
            "localhost.evil.example",
            "node1.evil.example",
            "10.0.0.1.evil.example",
            "node1@evil.example",
            "[::1]",
        ] {
            assert!(!answers(&[host], "10.0.0.1", &["node1"]), "{host}");
        }
        assert!(!answers(&["10.0.0.1", "evil.example"], "10.0.0.1", &[]));
    }
}
