//! The normal form of a config: every value in effect, in one order and spelling. It is itself a
//! config file that reads back as the same config.

use std::fmt::Write;
use std::path::Path;

use super::form::show_duration;
use super::table::show_key;
use super::{Config, Failback, Hash, Nic, Probe, Service, Tree, WhenUnsure};

/// The config as text, with nothing left out that has an effect.
pub fn print(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_config(&mut text, config);
    text
}

/// See [`Config::digest`]. Two releases of the daemon say the same of the same meaning: what is printed today stays as it
/// is (`a_digest_is_frozen`), and a key that a later release adds is printed only where it differs from its default.
pub(super) fn digest(config: &Config) -> [u8; 8] {
    let hash = blake3::hash(print(config).as_bytes());
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn write_config(out: &mut String, config: &Config) -> std::fmt::Result {
    writeln!(out, "[cluster]")?;
    writeln!(out, "name = {}", quoted(&config.cluster))?;
    writeln!(out, "key = {}", quoted_path(&config.key_file))?;
    for node in &config.nodes {
        writeln!(out, "\n[node.{}]", show_key(&node.name))?;
        writeln!(out, "address = \"{}\"", node.address)?;
        writeln!(out, "lan = {}", quoted(&node.lan))?;
        writeln!(out, "crossover = {}", quoted(&node.crossover))?;
        if let Some(redundant) = &node.redundant {
            writeln!(out, "redundant = {}", quoted(redundant))?;
        }
        if let Some(serial) = &node.serial {
            let device = quoted_path(&serial.device);
            writeln!(out, "serial = {{ device = {device}, baud = {} }}", serial.baud)?;
        }
    }
    writeln!(out, "\n[heartbeat]")?;
    writeln!(out, "interval = \"{}\"", show_duration(config.heartbeat.interval))?;
    writeln!(out, "dead_after = \"{}\"", show_duration(config.heartbeat.dead_after))?;
    writeln!(out, "boot_patience = \"{}\"", show_duration(config.heartbeat.boot_patience))?;
    writeln!(out, "\n[reach]")?;
    writeln!(out, "hosts = {}", list(&config.reach_hosts))?;
    if let Some(exec) = &config.notify_exec {
        writeln!(out, "\n[notify]")?;
        writeln!(out, "exec = {}", quoted_path(exec))?;
    }
    for group in &config.groups {
        let failback = match group.failback {
            Failback::Auto => "auto",
            Failback::Manual => "manual",
        };
        writeln!(out, "\n[group.{}]", show_key(&group.name))?;
        writeln!(out, "prefer = {}", quoted(&config.node(group.prefer).name))?;
        writeln!(out, "failback = \"{failback}\"")?;
        writeln!(out, "stable_for = \"{}\"", show_duration(group.stable_for))?;
        writeln!(out, "address = {}", list(&group.addresses))?;
        let nic = match group.nic {
            Nic::Lan => "lan",
            Nic::Redundant => "redundant",
        };
        writeln!(out, "nic = \"{nic}\"")?;
        if let Some(mac) = group.mac {
            writeln!(out, "mac = \"{mac}\"")?;
        }
        if !group.mirror.is_empty() {
            let unsure = match group.when_unsure {
                WhenUnsure::Wait => "wait",
                WhenUnsure::Serve => "serve",
            };
            writeln!(out, "when_unsure = \"{unsure}\"")?;
            writeln!(out, "max_behind = \"{}\"", show_duration(group.max_behind))?;
            let trees: Vec<String> = group.mirror.iter().map(tree).collect();
            writeln!(out, "mirror = [{}]", trees.join(", "))?;
        }
        for service in &group.services {
            write_service(out, &group.name, service)?;
        }
    }
    Ok(())
}

fn tree(tree: &Tree) -> String {
    let hash = match tree.hash {
        Hash::Auto => "auto",
        Hash::Map => "map",
        Hash::Read => "read",
    };
    let (path, exclude) = (quoted_path(&tree.path), list(&tree.exclude));
    let max_delete = tree.max_delete_percent;
    format!(
        "{{ path = {path}, exclude = {exclude}, hash = \"{hash}\", on_return = \"keep\", max_delete = \
         \"{max_delete}%\" }}"
    )
}

fn write_service(out: &mut String, group: &str, service: &Service) -> std::fmt::Result {
    writeln!(out, "\n[[group.{}.service]]", show_key(group))?;
    writeln!(out, "exec = {}", quoted_path(&service.exec))?;
    if let Some(check) = &service.check {
        let probe = match &check.probe {
            Probe::Http(url) => format!("http = {}", quoted(url)),
            Probe::Tcp(address) => format!("tcp = \"{address}\""),
            Probe::Exec(program) => format!("exec = {}", quoted_path(program)),
        };
        let (every, timeout) = (show_duration(check.every), show_duration(check.timeout));
        write!(out, "check = {{ {probe}, every = \"{every}\", timeout = \"{timeout}\", ")?;
        writeln!(out, "failures = {} }}", check.failures)?;
    }
    writeln!(out, "warm = {}", service.warm)?;
    writeln!(out, "start_timeout = \"{}\"", show_duration(service.start_timeout))?;
    writeln!(out, "stop_timeout = \"{}\"", show_duration(service.stop_timeout))?;
    writeln!(out, "restarts = {}", service.restarts)
}

fn list<T: ToString>(values: &[T]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
