//! Every key of the config file, for people: the man page is made from this table, and the tests below hold it
//! against what the parser accepts.

/// One key.
pub(crate) struct Row {
    /// Its name.
    pub(crate) key: &'static str,
    /// What may stand there, with the unit.
    pub(crate) shape: &'static str,
    /// What holds without it; as TOML where it is a value. Empty: the key must be there.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

/// One table of the file.
pub(crate) struct Section {
    /// Its header, or where it stands.
    pub(crate) title: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// Its keys, in the order of the parser's list.
    pub(crate) rows: &'static [Row],
}

const fn row(
    key: &'static str,
    shape: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Row {
    Row { key, shape, default, meaning }
}

/// All tables. `N` and `G` stand for the names of a node and a group.
pub(crate) const SECTIONS: [Section; 10] = [
    Section {
        title: "[cluster]",
        about: "The pair.",
        rows: &[
            row("name", "text", "", "The pair's name. Its hash is in every heartbeat."),
            row(
                "key",
                "path",
                "",
                "File with the 32 random bytes that authenticate every heartbeat and encrypt the mirror. It must \
                 belong to root, mode 0600. `clusterd keygen` makes it, `clusterd key rotate` changes the key of \
                 a running pair.",
            ),
        ],
    },
    Section {
        title: "[node.N]",
        about: "A node; there are exactly two.",
        rows: &[
            row("address", "IP address", "", "The node's own address on the LAN."),
            row(
                "lan",
                "interface",
                "",
                "Its interface on the LAN, by its name or an altname of it.",
            ),
            row(
                "crossover",
                "interface",
                "",
                "Its interface of the crossover cable, by its name or an altname of it. It needs no address.",
            ),
            row(
                "serial",
                "device, or { device = …, baud = … }",
                "none",
                "The null-modem line to the other node. Both nodes have one, or neither has.",
            ),
            row(
                "redundant",
                "interface",
                "none",
                "A third interface, on the LAN as well, for groups with `nic = \"redundant\"`.",
            ),
        ],
    },
    Section {
        title: "serial of [node.N]",
        about: "The serial line as a table.",
        rows: &[
            row("device", "path", "", "Its device, such as `/dev/ttyS0`."),
            row("baud", "bits a second", "115200", "Its speed, the same on both nodes."),
        ],
    },
    Section {
        title: "[heartbeat]",
        about: "Times of the heartbeat. The whole table may be left out.",
        rows: &[
            row(
                "interval",
                "10ms to 1s",
                "\"20ms\"",
                "Time between two heartbeats on a path. On serial they are at least 50 ms apart.",
            ),
            row(
                "dead_after",
                "two intervals to 10s",
                "three intervals",
                "Silence after which a path is silent. The peer is dead when all paths are.",
            ),
            row(
                "boot_patience",
                "dead_after to 60m",
                "\"1m\"",
                "How long a node that hears nobody after its start waits before it serves a group without trees.",
            ),
        ],
    },
    Section {
        title: "[reach]",
        about: "Arbitration, see REACH.",
        rows: &[row(
            "hosts",
            "list of at most 8 IP addresses",
            "[]",
            "Hosts that both nodes should reach over the LAN, on it (asked by ARP) or beyond (by ping). The node \
             that reaches fewer hands over.",
        )],
    },
    Section {
        title: "[notify]",
        about: "Who is told.",
        rows: &[row(
            "exec",
            "path",
            "none",
            "Program that gets each event as one line of JSON on its standard input, one at a time, in order. It has \
             30 s.",
        )],
    },
    Section {
        title: "[group.G]",
        about: "Addresses, trees and services that move together. At most eight groups.",
        rows: &[
            row("prefer", "node", "", "The node where the group is at home."),
            row(
                "failback",
                "\"auto\" or \"manual\"",
                "\"manual\"",
                "Whether the group returns to its preferred node by itself.",
            ),
            row(
                "stable_for",
                "0s to 1440m",
                "\"30s\"",
                "With `failback = \"auto\"`: how long the preferred node must be well before the group returns to \
                 its preferred node.",
            ),
            row(
                "when_unsure",
                "\"wait\" or \"serve\"",
                "\"wait\"",
                "What a node does that has heard nobody since its start and whose trees may be old: wait for the other \
                 node, or serve them after `boot_patience`. See MIRRORED TREES.",
            ),
            row(
                "max_behind",
                "0s to 65000s",
                "\"1m\"",
                "How old may be what the trees lack that the other node serves by itself when the owner dies. \
                 `\"0s\"`: nothing.",
            ),
            row(
                "address",
                "list of IP/PREFIX",
                "",
                "The service addresses, IPv4 or IPv6. The prefix length names their network. At most 128 in all groups.",
            ),
            row(
                "nic",
                "\"lan\" or \"redundant\"",
                "\"lan\"",
                "The interface that holds them. `\"redundant\"` needs `mac`.",
            ),
            row(
                "mac",
                "Ethernet address",
                "that of the interface",
                "Ethernet address that moves with the group, see OWN MAC. On both nodes the same, and of nobody else.",
            ),
            row(
                "mirror",
                "list of at most 8 trees",
                "none",
                "Mirrored trees, each a path such as `\"/srv/www\"` or a table.",
            ),
            row(
                "service",
                "[[group.G.service]]",
                "none",
                "A service, at most 16. They start in this order and stop in reverse.",
            ),
        ],
    },
    Section {
        title: "mirror of [group.G]",
        about: "A mirrored tree as a table.",
        rows: &[
            row(
                "path",
                "path",
                "",
                "Its root: absolute, the same on both nodes, no tree inside another.",
            ),
            row(
                "exclude",
                "list of at most 64 globs",
                "[]",
                "Paths below the root that are not mirrored, such as `\"cache/**\"`.",
            ),
            row(
                "hash",
                "\"auto\", \"map\" or \"read\"",
                "\"auto\"",
                "How files are looked at: mapped into memory, read, or by their size.",
            ),
            row(
                "on_return",
                "\"keep\"",
                "\"keep\"",
                "What becomes of a returning node's own changes: they go to the conflict store.",
            ),
            row(
                "max_delete",
                "1% to 100%",
                "\"100%\"",
                "A commit that takes more than this share of the tree's names away (ten at least, within a minute) \
                 waits for `clusterd sync G --from NODE`.",
            ),
        ],
    },
    Section {
        title: "[[group.G.service]]",
        about: "A service, see SERVICES.",
        rows: &[
            row("exec", "path", "", "Its program, called with `start`, `stop` or `status`."),
            row("check", "table", "its `status`", "How it is checked while it runs."),
            row("warm", "true or false", "false", "Whether it runs on both nodes."),
            row(
                "start_timeout",
                "100ms to 60m",
                "\"1m\"",
                "How long it may take to start and to pass its check. A service that does not is failed.",
            ),
            row(
                "stop_timeout",
                "100ms to 60m",
                "\"1m\"",
                "How long `stop` may take before everything that it started is killed.",
            ),
            row(
                "restarts",
                "0 to 100",
                "3",
                "Restarts in place within ten minutes before the group moves.",
            ),
        ],
    },
    Section {
        title: "check of [[group.G.service]]",
        about: "A check: one of `http`, `tcp` and `exec`.",
        rows: &[
            row("http", "http:// URL", "none", "GET this: well if the status is 200 to 399."),
            row("tcp", "IP:PORT", "none", "Connect there: well if that succeeds."),
            row("exec", "path", "none", "Run this program: well if it ends with 0."),
            row("every", "100ms to 60m", "\"2s\"", "Time between two checks."),
            row("timeout", "50ms to 1m", "\"1s\"", "Longest time for an answer."),
            row(
                "failures",
                "1 to 100",
                "3",
                "So many failures in a row mean that the service has failed.",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::super::{normal, parse, parts, schema};
    use super::*;

    /// What must be there and nothing else, with one of each table that may be left out.
    const LEAST: &str = r#"
        [cluster]
        name = "office"
        key = "/key"
        [node.serv1]
        address = "203.0.113.11"
        lan = "eth0"
        crossover = "eth1"
        serial = { device = "/dev/ttyS0" }
        redundant = "eth2"
        [node.serv2]
        address = "203.0.113.12"
        lan = "eth0"
        crossover = "eth1"
        serial = { device = "/dev/ttyS0" }
        redundant = "eth2"
        [group.web]
        prefer = "serv1"
        address = ["203.0.113.50/24"]
        mirror = [{ path = "/srv/www" }]
        [[group.web.service]]
        exec = "/web"
        check = { tcp = "127.0.0.1:80" }
    "#;

    #[test]
    fn the_table_has_the_keys_that_the_parser_accepts() {
        let lists = [
            &schema::CLUSTER,
            &schema::NODE,
            &schema::SERIAL,
            &schema::HEARTBEAT,
            &schema::REACH,
            &schema::NOTIFY,
            &schema::GROUP,
            &parts::TREE,
            &parts::SERVICE,
            &parts::CHECK,
        ];
        for (section, list) in SECTIONS.iter().zip(lists) {
            let keys: Vec<&str> = section.rows.iter().map(|row| row.key).collect();
            assert_eq!(keys, list.built, "{}", section.title);
        }
        for table in schema::TOP.built {
            let titled = |section: &Section| {
                let title = section.title.trim_start_matches('[');
                title.strip_prefix(table).is_some_and(|rest| rest.starts_with([']', '.']))
            };
            assert!(SECTIONS.iter().any(titled), "[{table}]");
        }
    }

    #[test]
    fn what_has_no_default_must_be_there() {
        for line in LEAST.lines().filter(|line| line.contains('=')) {
            let key = line.split('=').next().unwrap_or_default().trim();
            let rest: String =
                LEAST.lines().filter(|other| *other != line).collect::<Vec<_>>().join("\n");
            let needed = SECTIONS.iter().flat_map(|section| section.rows);
            let needed = needed.filter(|row| row.key == key).all(|row| row.default.is_empty());
            // Where a key of that name is needed in one table and not in another, the parser alone knows.
            if needed {
                assert!(parse(&rest, "least").is_err(), "without {line}");
            }
        }
    }

    #[test]
    fn the_defaults_are_those_in_effect() {
        let config = parse(LEAST, "least").unwrap();
        let print = normal::print(&config);
        let mut checked = 0;
        for row in SECTIONS.iter().flat_map(|section| section.rows) {
            let assignment = format!("{} = {}", row.key, row.default);
            if toml::from_str::<toml::Table>(&assignment).is_ok() {
                assert!(print.contains(&assignment), "{assignment} is not in\n{print}");
                checked += 1;
            }
        }
        assert!(checked >= 18, "{checked}");
        assert_eq!(config.heartbeat.dead_after, 3 * config.heartbeat.interval);
    }
}
