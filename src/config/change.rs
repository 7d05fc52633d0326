//! What changed from one config to another, and whether a running daemon can take it in.
//!
//! Taken in: `[heartbeat]`, `reach.hosts`, `notify.exec`, and of each group `failback`, `stable_for`, `when_unsure`,
//! `max_behind`,
//! `address`, and how its services are checked, timed and kept warm. Everything else names the pair,
//! its wires, its trees or its programs: it needs a start from the beginning.

use std::net::IpAddr;

use super::{Config, Group, Service};
use crate::limits::ADDRESSES_MAX;

/// A difference that can be taken in while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The keys that changed, as an administrator knows them.
    pub keys: Vec<String>,
    /// The worker has to start again for it: services or notifications changed.
    pub worker: bool,
}

/// Compares the config in effect with another one.
///
/// # Errors
/// The keys that cannot change while the daemon runs; then nothing of it may be taken in.
pub fn compare(old: &Config, new: &Config) -> Result<Change, Vec<String>> {
    let mut fixed = Vec::new();
    let mut refuse = |same: bool, key: &str| {
        if !same {
            fixed.push(key.to_owned());
        }
    };
    refuse(old.cluster == new.cluster, "cluster.name");
    refuse(old.key_file == new.key_file, "cluster.key");
    refuse(old.nodes == new.nodes, "node (names, addresses, interfaces, serial lines)");
    let names = |config: &Config| -> Vec<String> {
        config.groups.iter().map(|group| group.name.clone()).collect()
    };
    let same_groups = names(old) == names(new);
    refuse(same_groups, "the list of groups");
    let mut change = Change::default();
    let mut take = |same: bool, key: String| {
        if !same {
            change.keys.push(key);
        }
    };
    let (was, is) = (old.heartbeat, new.heartbeat);
    take(was.interval == is.interval, "heartbeat.interval".to_owned());
    take(was.dead_after == is.dead_after, "heartbeat.dead_after".to_owned());
    take(was.boot_patience == is.boot_patience, "heartbeat.boot_patience".to_owned());
    take(old.reach_hosts == new.reach_hosts, "reach.hosts".to_owned());
    let same_notify = old.notify_exec == new.notify_exec;
    take(same_notify, "notify.exec".to_owned());
    let mut same_services = true;
    if same_groups {
        for (was, is) in old.groups.iter().zip(&new.groups) {
            let key = |what: &str| format!("group.{}.{what}", is.name);
            refuse(was.prefer == is.prefer, &key("prefer"));
            refuse(was.mac == is.mac, &key("mac"));
            refuse(was.nic == is.nic, &key("nic"));
            // Its own interface was made without IPv6.
            let ipv6 = |group: &Group| group.addresses.iter().any(|one| one.ip.is_ipv6());
            let text = "address (the first IPv6 address beside a mac)";
            refuse(is.mac.is_none() || ipv6(was) || !ipv6(is), &key(text));
            refuse(was.mirror == is.mirror, &key("mirror"));
            refuse(
                programs(was).eq(programs(is)),
                &key("service (which programs, in which order)"),
            );
            take(was.failback == is.failback, key("failback"));
            take(was.stable_for == is.stable_for, key("stable_for"));
            take(was.when_unsure == is.when_unsure, key("when_unsure"));
            take(was.max_behind == is.max_behind, key("max_behind"));
            take(was.addresses == is.addresses, key("address"));
            take(was.services == is.services, key("service"));
            same_services &= was.services == is.services;
            for ip in is.addresses.iter().map(|one| one.ip) {
                let elsewhere =
                    old.groups.iter().any(|group| group.name != is.name && has(group, ip));
                let text =
                    format!("{ip} (take it out of its group, reload both nodes, then add it)");
                refuse(!elsewhere, &key(&text));
            }
        }
    }
    // While the change is made, the guard must know what was there and what will be.
    let all =
        |config: &Config| config.groups.iter().map(|group| group.addresses.len()).sum::<usize>();
    let added = new.groups.iter().flat_map(|group| &group.addresses);
    let added = added.filter(|one| !old.groups.iter().any(|group| has(group, one.ip))).count();
    refuse(all(old) + added <= ADDRESSES_MAX, "so many addresses at once");
    if !fixed.is_empty() {
        return Err(fixed);
    }
    change.worker = !same_notify || !same_services;
    Ok(change)
}

fn programs(group: &Group) -> impl Iterator<Item = String> {
    group.services.iter().map(Service::name)
}

fn has(group: &Group, ip: IpAddr) -> bool {
    group.addresses.iter().any(|one| one.ip == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [cluster]
        name = "office"
        key = "/etc/clusterd/cluster.key"
        [node.serv1]
        address = "203.0.113.11"
        lan = "eth0"
        crossover = "eth1"
        redundant = "eth9"
        [node.serv2]
        address = "203.0.113.12"
        lan = "eth0"
        crossover = "eth1"
        redundant = "eth9"
        [heartbeat]
        interval = "50ms"
        dead_after = "150ms"
        boot_patience = "60s"
        [reach]
        hosts = ["203.0.113.1"]
        [notify]
        exec = "/etc/clusterd/notify"
        [group.mail]
        prefer = "serv2"
        mac = "02:00:00:00:00:50"
        address = ["203.0.113.60/24"]
        [group.web]
        prefer = "serv1"
        failback = "auto"
        stable_for = "10s"
        address = ["203.0.113.50/24"]
        mirror = [{ path = "/srv/www", exclude = ["cache/**"] }]
        [[group.web.service]]
        exec = "/etc/clusterd/web"
        check = { tcp = "127.0.0.1:80", every = "2s" }
        start_timeout = "60s"
    "#;

    fn compared(edits: &[(&str, &str)]) -> Result<Change, Vec<String>> {
        let old = crate::config::parse(CONFIG, "old").unwrap();
        let mut text = CONFIG.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        compare(&old, &crate::config::parse(&text, "new").unwrap())
    }

    #[test]
    fn each_key_that_can_change_is_named() {
        for (from, to, key, worker) in [
            ("interval = \"50ms\"", "interval = \"40ms\"", "heartbeat.interval", false),
            ("\"150ms\"", "\"200ms\"", "heartbeat.dead_after", false),
            ("\"60s\"", "\"50s\"", "heartbeat.boot_patience", false),
            ("[\"203.0.113.1\"]", "[\"203.0.113.2\"]", "reach.hosts", false),
            ("/notify", "/notify2", "notify.exec", true),
            ("\"auto\"", "\"manual\"", "group.web.failback", false),
            ("\"10s\"", "\"11s\"", "group.web.stable_for", false),
            ("50/24\"", "50/24\", \"203.0.113.51/24\"", "group.web.address", false),
            ("every = \"2s\"", "every = \"3s\"", "group.web.service", true),
            ("start_timeout = \"60s\"", "warm = true", "group.web.service", true),
        ] {
            let wanted = Change { keys: vec![key.to_owned()], worker };
            assert_eq!(compared(&[(from, to)]), Ok(wanted));
        }
        assert_eq!(compared(&[]), Ok(Change::default()));
    }

    #[test]
    fn one_key_that_cannot_change_refuses_the_whole_and_is_named() {
        for (from, to, key) in [
            ("office", "home", "cluster.name"),
            ("cluster.key", "other.key", "cluster.key"),
            ("\"eth1\"", "\"eth2\"", "node (names, addresses, interfaces, serial lines)"),
            ("group.mail", "group.post", "the list of groups"),
            ("\"serv2\"", "\"serv1\"", "group.mail.prefer"),
            ("cache/**", "tmp/**", "group.web.mirror"),
            (
                "prefer = \"serv1\"",
                "prefer = \"serv1\"\nmac = \"02:00:00:00:00:51\"",
                "group.web.mac",
            ),
            (
                "mac = \"02:00:00:00:00:50\"",
                "mac = \"02:00:00:00:00:50\"\nnic = \"redundant\"",
                "group.mail.nic",
            ),
            (
                "60/24\"",
                "60/24\", \"2001:db8::60/64\"",
                "group.mail.address (the first IPv6 address beside a mac)",
            ),
            (
                "/etc/clusterd/web",
                "/etc/clusterd/w3",
                "group.web.service (which programs, in which order)",
            ),
        ] {
            let edits = [(from, to), ("\"10s\"", "\"11s\"")];
            assert_eq!(compared(&edits), Err(vec![key.to_owned()]), "{from}");
        }
    }

    #[test]
    fn an_address_does_not_go_from_group_to_group_in_one_step() {
        let moved = [
            ("\"203.0.113.60/24\"", "\"203.0.113.61/24\""),
            ("50/24\"", "50/24\", \"203.0.113.60/24\""),
        ];
        let refused = compared(&moved).unwrap_err();
        assert!(refused.concat().contains("203.0.113.60"), "{refused:?}");
    }

    #[test]
    fn the_guard_has_room_for_what_was_and_what_will_be() {
        let many = |count: u8| -> String {
            let all: Vec<String> =
                (0..count).map(|n| format!("\"203.0.113.{}/24\"", 100 + n)).collect();
            all.join(", ")
        };
        // With the two that are there and the 126 that come, all are full.
        let fits = |count| compared(&[("\"203.0.113.60/24\"", &many(count))]);
        assert!(fits(126).is_ok());
        assert_eq!(fits(127), Err(vec!["so many addresses at once".to_owned()]));
    }
}
