//! The forms of single values: names, paths, durations, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Mac, ServiceAddress};
use crate::limits::{ALTNAME_BYTES_MAX, FILE_NAME_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX};

/// How a kind of value is written.
pub(super) struct Form<T> {
    /// What was expected, for the error.
    pub expected: &'static str,
    /// Reads it; an error continues a sentence that begins with the value.
    pub parse: fn(&str) -> Result<T, &'static str>,
}

pub(super) const NAME: Form<String> = Form {
    expected: "1 to 64 letters, digits, \"-\", \"_\" or \".\", beginning with a letter or digit",
    parse: name,
};

pub(super) const NODE_NAME: Form<String> =
    Form { expected: "the name of one of the nodes", parse: name };

pub(super) const INTERFACE: Form<String> =
    Form { expected: "the name of a network interface such as \"eth0\"", parse: interface };

pub(super) const PATH: Form<PathBuf> =
    Form { expected: "a path that begins with \"/\"", parse: absolute_path };

pub(super) const TREE: Form<PathBuf> =
    Form { expected: "a directory such as \"/srv/www\"", parse: tree };

pub(super) const GLOB: Form<String> =
    Form { expected: "a glob below the tree such as \"cache/**\"", parse: glob };

pub(super) const PERCENT: Form<u8> =
    Form { expected: "a percentage such as \"10%\", from 1% to 100%", parse: percent };

pub(super) const URL: Form<String> =
    Form { expected: "a URL such as \"http://127.0.0.1/\"", parse: url };

pub(super) const SOCKET: Form<SocketAddr> =
    Form { expected: "an IP address and a port such as \"127.0.0.1:80\"", parse: socket };

pub(super) const DURATION: Form<Duration> =
    Form { expected: "a duration such as \"50ms\", \"2s\" or \"1m\"", parse: duration };

pub(super) const HOST: Form<IpAddr> = Form {
    expected: "an IP address such as \"203.0.113.11\" (names are not resolved)",
    parse: host,
};

pub(super) const SERVICE_ADDRESS: Form<ServiceAddress> = Form {
    expected: "an address with its prefix length such as \"203.0.113.50/24\"",
    parse: service_address,
};

pub(super) const MAC: Form<Mac> =
    Form { expected: "an Ethernet address such as \"02:00:5e:00:00:32\"", parse: mac };

/// The shortest way to write a duration that [`DURATION`] reads back.
pub(super) fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 60_000 == 0 && ms > 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// The first address of the network `of` belongs to.
pub(super) fn network_of(of: ServiceAddress) -> IpAddr {
    masked(of.ip, of.prefix)
}

/// Whether `host` is in the on-link network of `of`.
pub(super) fn is_on_link(host: IpAddr, of: ServiceAddress) -> bool {
    host.is_ipv4() == of.ip.is_ipv4() && masked(host, of.prefix) == network_of(of)
}

/// Whether clients cannot use this address because it names the network itself, or all of it.
pub(super) fn names_whole_network(address: ServiceAddress) -> bool {
    match address.ip {
        // RFC 3021: a /31 has two hosts and neither a network nor a broadcast address.
        IpAddr::V4(ip) if address.prefix < 31 => {
            let host_bits = u32::MAX.checked_shr(address.prefix.into()).unwrap_or(0);
            ip.to_bits() & host_bits == 0 || ip.to_bits() & host_bits == host_bits
        }
        // RFC 4291 2.6.1: all zeros is the anycast address of the routers; RFC 6164: not in a /127.
        IpAddr::V6(_) if address.prefix < 127 => address.ip == network_of(address),
        IpAddr::V4(_) | IpAddr::V6(_) => false,
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & !host_bits).into()
        }
        IpAddr::V6(ip) => {
            let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(ip.to_bits() & !host_bits).into()
        }
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Err("is too long");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("begins with a character that a name cannot begin with");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("has a character that a name cannot have");
    }
    Ok(text.to_owned())
}

/// The kernel's rule (`dev_valid_name`), and the length of an altname.
fn interface(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > ALTNAME_BYTES_MAX {
        return Err("is longer than the 127 characters an interface's name or altname can have");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    if text == "." || text == ".." || text.contains(forbidden) {
        return Err("cannot be the name of an interface");
    }
    Ok(text.to_owned())
}

fn absolute_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.contains(char::is_control) {
        return Err("has a control character");
    }
    if !Path::new(text).is_absolute() {
        return Err("is not an absolute path");
    }
    Ok(PathBuf::from(text))
}

/// One spelling for each tree: both nodes, and every tree's own state, know it by its path.
fn tree(text: &str) -> Result<PathBuf, &'static str> {
    let path = absolute_path(text)?;
    if text == "/" {
        return Err("is the whole file system");
    }
    if text.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
        return Err("has a \"/\" at its end or an empty, \".\" or \"..\" part");
    }
    if text.len() > PATH_BYTES_MAX || text.split('/').any(|name| name.len() > FILE_NAME_BYTES_MAX) {
        return Err("is too long for a path");
    }
    Ok(path)
}

fn percent(text: &str) -> Result<u8, &'static str> {
    let number = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    number.filter(|number| (1..=100).contains(number)).ok_or("is not a percentage from 1% to 100%")
}

fn glob(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains(char::is_control) {
        return Err("has a control character");
    }
    if text.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("has a \"/\" at its begin or end, or an empty, \".\" or \"..\" part");
    }
    match globset::GlobBuilder::new(text).literal_separator(true).build() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is not a glob: are all brackets and braces closed?"),
    }
}

/// `https` is read, to be refused with its own words.
fn url(text: &str) -> Result<String, &'static str> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err("does not begin with \"http://\"");
    }
    let url: ureq::http::Uri = text.parse().map_err(|_| "is not a URL")?;
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => Err("has a user or password in it"),
        Some(authority) if !authority.host().is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("names no host"),
    }
}

fn socket(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "is not an IP address with a port")?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err("cannot be connected to");
    }
    Ok(address)
}

/// A time with its unit, such as `30s`; else what is wrong with it.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err("does not begin with a whole number");
    }
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "" => return Err("has no unit"),
        _ if unit.starts_with('.') => return Err("is not a whole number of its unit"),
        _ => return Err("has an unknown unit"),
    };
    let amount: u64 = digits.parse().map_err(|_| "is too long a time")?;
    amount.checked_mul(unit_ms).map(Duration::from_millis).ok_or("is too long a time")
}

fn host(text: &str) -> Result<IpAddr, &'static str> {
    if text.contains('/') {
        return Err("has a prefix length");
    }
    let ip: IpAddr = text.parse().map_err(|_| "is not an IP address")?;
    usable(ip)
}

fn service_address(text: &str) -> Result<ServiceAddress, &'static str> {
    let Some((ip, prefix)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(_) => "has no prefix length",
            Err(_) => "is not an IP address",
        });
    };
    let ip = usable(ip.parse().map_err(|_| "is not an IP address")?)?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let is_plain = !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_digit());
    let prefix: u8 = match prefix.parse() {
        Ok(prefix) if is_plain && (1..=longest).contains(&prefix) => prefix,
        Ok(_) | Err(_) => return Err("has an impossible prefix length"),
    };
    let address = ServiceAddress { ip, prefix };
    if names_whole_network(address) {
        return Err("is the address of a whole network, not of a host");
    }
    Ok(address)
}

fn mac(text: &str) -> Result<Mac, &'static str> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2);
        let digits = part.filter(|part| part.chars().all(|c| c.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        *byte = value.ok_or("is not six pairs of hexadecimal digits with \":\" between them")?;
    }
    if parts.next().is_some() {
        return Err("is not six pairs of hexadecimal digits with \":\" between them");
    }
    let [first, ..] = bytes;
    if bytes == [0; 6] {
        return Err("is all zeros");
    }
    if first & 1 != 0 {
        return Err("is not the address of one host: its first byte is odd");
    }
    Ok(Mac(bytes))
}

/// Refuses addresses that no host on a LAN can have for others to reach.
fn usable(ip: IpAddr) -> Result<IpAddr, &'static str> {
    if ip.is_unspecified() {
        return Err("is the unspecified address");
    }
    if ip.is_loopback() {
        return Err("is a loopback address");
    }
    if ip.is_multicast() {
        return Err("is a multicast address");
    }
    match ip {
        IpAddr::V4(v4) if v4.is_broadcast() => Err("is the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Err("is in the network 0.0.0.0/8"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err("is a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("is an IPv4 address in IPv6 form"),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for bad in ["", "50", "ms", "-1s", "1.5s", "1 s", "1h", "1S", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("18446744073709551615m"), Err("is too long a time"));
    }

    #[test]
    fn service_addresses() {
        assert!(service_address("203.0.113.50/24").is_ok());
        assert!(service_address("2001:db8::50/64").is_ok());
        assert!(service_address("203.0.113.50/32").is_ok());
        assert!(service_address("203.0.113.0/31").is_ok());
        for bad in [
            "203.0.113.50",
            "203.0.113.50/33",
            "203.0.113.50/0",
            "203.0.113.50/+24",
            "203.0.113.50/",
            "203.0.113.0/24",
            "203.0.113.255/24",
            "2001:db8::/64",
            "2001:db8::50/129",
            "fe80::1/64",
            "::ffff:203.0.113.50/96",
            "224.0.0.1/24",
            "127.0.0.2/8",
            "0.0.0.0/24",
            "web.example.com/24",
        ] {
            assert!(service_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn macs() {
        assert_eq!(mac("02:00:5E:00:00:32"), Ok(Mac([2, 0, 0x5e, 0, 0, 0x32])));
        for bad in [
            "",
            "02:00:5e:00:00",
            "02:00:5e:00:00:32:00",
            "2:0:5e:0:0:32",
            "02-00-5e-00-00-32",
            "02:00:5e:00:00:+2",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
        ] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks() {
        let of = |text: &str| service_address(text).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_on_link(ip("203.0.113.1"), of("203.0.113.50/24")));
        assert!(!is_on_link(ip("203.0.114.1"), of("203.0.113.50/24")));
        assert!(!is_on_link(ip("203.0.113.1"), of("203.0.113.50/32")));
        assert!(is_on_link(ip("2001:db8::1"), of("2001:db8::50/64")));
        assert!(!is_on_link(ip("203.0.113.1"), of("2001:db8::50/64")));
    }

    #[test]
    fn interfaces_and_paths() {
        assert!(interface("enp3s0f1").is_ok());
        assert!(interface("crossover-cable-to-serv2").is_ok(), "an altname may be longer");
        for bad in ["", "a/b", "..", "eth0 ", "eth0:1", &"x".repeat(128)] {
            assert!(interface(bad).is_err(), "{bad}");
        }
        assert!(absolute_path("/etc/key").is_ok());
        for bad in ["", "etc/key", "./key", "/etc/\nkey"] {
            assert!(absolute_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn trees_and_globs() {
        assert!(tree("/srv/www").is_ok());
        for bad in ["", "/", "//", "srv", "/srv/", "/srv//www", "/srv/../etc", "/srv/.", "/a\nb"] {
            assert!(tree(bad).is_err(), "{bad:?}");
        }
        assert!(tree(&format!("/{}", "x".repeat(256))).is_err());
        for good in ["cache/**", "*.tmp", "**/{a,b}/[0-9]?", "a b"] {
            assert!(glob(good).is_ok(), "{good:?}");
        }
        for bad in ["", "/cache", "cache/", "../x", "a//b", "[a", "{a", "a\n"] {
            assert!(glob(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn questions_of_checks() {
        for good in ["http://127.0.0.1/", "http://localhost:8080/health?x=1", "http://[::1]"] {
            assert!(url(good).is_ok(), "{good:?}");
        }
        for bad in ["", "http://", "http:///x", "ftp://a/", "http://a b/", "http://u:p@a/", "a"] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
        assert!(socket("127.0.0.1:80").is_ok() && socket("[::1]:80").is_ok());
        for bad in ["", "127.0.0.1", "localhost:80", "0.0.0.0:80", "127.0.0.1:0", "::1:80x"] {
            assert!(socket(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn durations_read_back(ms in 0u64..100_000_000) {
            let written = show_duration(Duration::from_millis(ms));
            prop_assert_eq!(duration(&written), Ok(Duration::from_millis(ms)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (name(&text), interface(&text), absolute_path(&text), duration(&text));
            let _ = (host(&text), service_address(&text), tree(&text), glob(&text));
            let _ = (url(&text), url(&format!("http://{text}")), socket(&text), mac(&text));
        }

        #[test]
        fn every_prefix_has_its_own_network(bits: u128, prefix in 1u8..=128) {
            let ip = IpAddr::V6(bits.into());
            let itself = ServiceAddress { ip, prefix };
            prop_assert!(is_on_link(ip, itself));
        }
    }
}
