//! The normal form of a config: every value in effect, in one order and spelling. It is itself a
//! config file that reads back as the same config.

use std::fmt::Write;
use std::path::Path;

use super::form::show_duration;
use super::schema::show_key;
use super::{Config, Failback};

/// The config as text, with nothing left out that has an effect.
pub fn print(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_config(&mut text, config);
    text
}

/// See [`Config::digest`].
pub(super) fn digest(config: &Config) -> [u8; 8] {
    let names: Vec<&str> = config.groups.iter().map(|group| group.name.as_str()).collect();
    let halves =
        [blake3::hash(names.join("\n").as_bytes()), blake3::hash(print(config).as_bytes())];
    let mut digest = [0; 8];
    for (place, hash) in digest.chunks_exact_mut(4).zip(&halves) {
        place.iter_mut().zip(hash.as_bytes()).for_each(|(byte, &hashed)| *byte = hashed);
    }
    digest
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
        writeln!(out, "nic = \"lan\"")?;
    }
    Ok(())
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
