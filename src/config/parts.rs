//! What moves with a group's addresses: its mirrored trees and its services. As they are written, and
//! what cannot work about them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::check::check_range;
use super::place::{At, Problems};
use super::table::{Keys, Table, read_text, read_value, type_name};
use super::{Check, Hash, Probe, form, schema};
use crate::limits;

pub(super) const TREE: Keys =
    Keys { built: &["path", "exclude", "hash", "on_return", "max_delete"], later: &["when"] };
pub(super) const SERVICE: Keys = Keys {
    built: &["exec", "check", "warm", "start_timeout", "stop_timeout", "restarts"],
    later: &["systemd", "ocf", "mariadb", "params"],
};
pub(super) const CHECK: Keys =
    Keys { built: &["http", "tcp", "exec", "every", "timeout", "failures"], later: &[] };

/// One of `mirror`, in either form.
pub(super) struct Tree {
    pub path: Option<At<PathBuf>>,
    pub exclude: Vec<At<String>>,
    pub hash: Option<At<Hash>>,
    pub max_delete_percent: Option<At<u8>>,
}

/// `[[group.G.service]]`.
pub(super) struct Service {
    pub exec: Option<At<PathBuf>>,
    pub check: Option<CheckWritten>,
    pub warm: bool,
    pub start_timeout: Option<At<Duration>>,
    pub stop_timeout: Option<At<Duration>>,
    pub restarts: Option<At<u32>>,
}

/// `check`.
pub(super) struct CheckWritten {
    pub probe: Option<Probe>,
    pub every: Option<At<Duration>>,
    pub timeout: Option<At<Duration>>,
    pub failures: Option<At<u32>>,
}

/// Reads `mirror` of a group.
pub(super) fn mirror(group: &Table<'_>, problems: &mut Problems) -> Vec<Tree> {
    let expected = "a list in [ ], each a directory such as \"/srv/www\", or { path = …, … }";
    let Some((_, value)) = group.find("mirror") else {
        return Vec::new();
    };
    let DeValue::Array(values) = value.get_ref() else {
        let what = format!("mirror is {}", type_name(value.get_ref()));
        problems.report(&value.span(), what, expected);
        return Vec::new();
    };
    let mut trees = Vec::new();
    for value in values.iter() {
        let place = value.span();
        match value.get_ref() {
            DeValue::String(text) => {
                let path = read_text("mirror", text, &place, &form::TREE, problems);
                let (exclude, hash, max_delete_percent) = (Vec::new(), None, None);
                trees.push(Tree { path, exclude, hash, max_delete_percent });
            }
            DeValue::Table(entries) => {
                let table = Table { title: group.titled("mirror"), place, entries };
                trees.push(tree(&table, problems));
            }
            other => {
                let what = format!("mirror has {} in its list", type_name(other));
                problems.report(&place, what, expected);
            }
        }
    }
    trees
}

fn tree(table: &Table<'_>, problems: &mut Problems) -> Tree {
    table.check_keys(&TREE, problems);
    let hashes = [("auto", Hash::Auto), ("map", Hash::Map), ("read", Hash::Read)];
    let returns = [("keep", true), ("merge", false)];
    if let Some(At { value: false, place }) = table.choice("on_return", &returns, problems) {
        problems.report_later(&place, "on_return = \"merge\"");
    }
    Tree {
        path: table.required("path", &form::TREE, problems),
        exclude: table.list("exclude", &form::GLOB, problems),
        hash: table.choice("hash", &hashes, problems),
        max_delete_percent: table.optional("max_delete", &form::PERCENT, problems),
    }
}

/// Reads the services of a group.
pub(super) fn services(group: &Table<'_>, problems: &mut Problems) -> Vec<Service> {
    let Some((key, value)) = group.find("service") else {
        return Vec::new();
    };
    let title = group.titled("service");
    let DeValue::Array(values) = value.get_ref() else {
        let what = format!("{title} is {}", type_name(value.get_ref()));
        problems.report(&key, what, &format!("tables [[{title}]], one for each service"));
        return Vec::new();
    };
    let mut services = Vec::new();
    for value in values.iter() {
        match value.get_ref() {
            DeValue::Table(entries) => {
                let table = Table { title: title.clone(), place: value.span(), entries };
                services.push(service(&table, problems));
            }
            other => {
                let what = format!("{title} has {} in its list", type_name(other));
                problems.report(&value.span(), what, &format!("tables [[{title}]]"));
            }
        }
    }
    services
}

fn service(table: &Table<'_>, problems: &mut Problems) -> Service {
    table.check_keys(&SERVICE, problems);
    let is_of_later_kind =
        ["systemd", "ocf", "mariadb"].iter().any(|key| table.find(key).is_some());
    let exec = if is_of_later_kind {
        table.optional("exec", &form::PATH, problems)
    } else {
        table.required("exec", &form::PATH, problems)
    };
    Service {
        exec,
        check: table.table("check", &CHECK, problems).map(|check| written_check(&check, problems)),
        warm: table.boolean("warm", problems).unwrap_or(false),
        start_timeout: table.optional("start_timeout", &form::DURATION, problems),
        stop_timeout: table.optional("stop_timeout", &form::DURATION, problems),
        restarts: table.whole_number("restarts", limits::SERVICE_RESTARTS, problems),
    }
}

fn written_check(table: &Table<'_>, problems: &mut Problems) -> CheckWritten {
    let expected = "one of http, tcp and exec";
    let mut probes = Vec::new();
    for kind in ["http", "tcp", "exec"] {
        if let Some((key, value)) = table.find(kind) {
            probes.push((key, probe(kind, value, problems)));
        }
    }
    if probes.is_empty() {
        problems.report(&table.place, "this check has no target".to_owned(), expected);
    }
    if let Some((key, _)) = probes.get(1) {
        problems.report(key, "this check has more than one target".to_owned(), expected);
    }
    CheckWritten {
        probe: probes.into_iter().next().and_then(|(_, probe)| probe),
        every: table.optional("every", &form::DURATION, problems),
        timeout: table.optional("timeout", &form::DURATION, problems),
        failures: table.whole_number("failures", limits::CHECK_FAILURES, problems),
    }
}

fn probe(kind: &str, value: &toml::Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Probe> {
    match kind {
        "http" => {
            let At { value: url, place } = read_value(kind, value, &form::URL, problems)?;
            if url.starts_with("https:") {
                problems.report_later(&place, "a check by https");
            }
            Some(Probe::Http(url))
        }
        "tcp" => {
            let at: At<SocketAddr> = read_value(kind, value, &form::SOCKET, problems)?;
            Some(Probe::Tcp(at.value))
        }
        _ => Some(Probe::Exec(read_value(kind, value, &form::PATH, problems)?.value)),
    }
}

/// Checks trees and services of all groups.
pub(super) fn check(groups: &[schema::Group], problems: &mut Problems) {
    let mut trees: Vec<(&PathBuf, &str)> = Vec::new();
    for group in groups {
        for (count, tree) in group.mirror.iter().enumerate() {
            let Some(At { value: path, place }) = &tree.path else { continue };
            if count == limits::TREES_MAX {
                let expected = format!("at most {} in a group", limits::TREES_MAX);
                problems.report(place, "one mirrored tree too many".to_owned(), &expected);
            }
            let clash =
                |(other, _): &&(&PathBuf, &str)| path.starts_with(other) || other.starts_with(path);
            if let Some((other, owner)) = trees.iter().find(clash) {
                let how = if path == *other {
                    "is"
                } else if path.starts_with(other) {
                    "is inside"
                } else {
                    "contains"
                };
                let what = format!(
                    "the tree {} {how} {} of group {owner}",
                    path.display(),
                    other.display()
                );
                problems.report(place, what, "trees that have no file in common");
            }
            trees.push((path, &group.name.value));
            if let Some(At { place, .. }) = tree.exclude.get(limits::EXCLUDES_MAX) {
                let expected = format!("at most {} in a tree", limits::EXCLUDES_MAX);
                problems.report(place, "one exclude too many".to_owned(), &expected);
            }
        }
        check_services(group, problems);
    }
}

fn check_services(group: &schema::Group, problems: &mut Problems) {
    let mut seen: Vec<&PathBuf> = Vec::new();
    for service in &group.services {
        if let Some(At { value: exec, place }) = &service.exec {
            if seen.contains(&exec) {
                let what = format!("{} is already a service of this group", exec.display());
                problems.report(place, what, "each program once");
            }
            seen.push(exec);
            if seen.len() == limits::SERVICES_MAX + 1 {
                let expected = format!("at most {} in a group", limits::SERVICES_MAX);
                problems.report(place, "one service too many".to_owned(), &expected);
            }
        }
        let patience = limits::SERVICE_TIMEOUT_MIN..=limits::SERVICE_TIMEOUT_MAX;
        check_range("start_timeout", &service.start_timeout, patience.clone(), problems);
        check_range("stop_timeout", &service.stop_timeout, patience, problems);
        check_count("restarts", &service.restarts, 0..=limits::SERVICE_RESTARTS_MAX, problems);
        if let Some(check) = &service.check {
            let every = limits::CHECK_EVERY_MIN..=limits::CHECK_EVERY_MAX;
            let timeout = limits::CHECK_TIMEOUT_MIN..=limits::CHECK_TIMEOUT_MAX;
            check_range("every", &check.every, every, problems);
            check_range("timeout", &check.timeout, timeout, problems);
            check_count("failures", &check.failures, 1..=limits::CHECK_FAILURES_MAX, problems);
        }
    }
}

fn check_count(
    key: &str,
    at: &Option<At<u32>>,
    range: std::ops::RangeInclusive<u32>,
    problems: &mut Problems,
) {
    if let Some(At { value, place }) = at
        && !range.contains(value)
    {
        let expected = format!("{} to {}", range.start(), range.end());
        problems.report(place, format!("{key} {value} is out of range"), &expected);
    }
}

impl Tree {
    /// `None`: something is missing, and was reported.
    pub(super) fn build(&self) -> Option<super::Tree> {
        let mut exclude: Vec<String> = self.exclude.iter().map(|at| at.value.clone()).collect();
        exclude.sort();
        exclude.dedup();
        let hash = self.hash.as_ref().map_or(Hash::default(), |at| at.value);
        let path = self.path.as_ref()?.value.clone();
        let max = self.max_delete_percent.as_ref();
        let max_delete_percent = max.map_or(limits::MAX_DELETE_PERCENT, |at| at.value);
        Some(super::Tree { path, exclude, hash, max_delete_percent })
    }
}

impl Service {
    /// `None`: something is missing, and was reported.
    pub(super) fn build(&self) -> Option<super::Service> {
        let check = match &self.check {
            Some(check) => Some(check.build()?),
            None => None,
        };
        Some(super::Service {
            exec: self.exec.as_ref()?.value.clone(),
            check,
            warm: self.warm,
            start_timeout: or(&self.start_timeout, limits::SERVICE_TIMEOUT),
            stop_timeout: or(&self.stop_timeout, limits::SERVICE_TIMEOUT),
            restarts: or(&self.restarts, limits::SERVICE_RESTARTS),
        })
    }
}

impl CheckWritten {
    fn build(&self) -> Option<Check> {
        Some(Check {
            probe: self.probe.clone()?,
            every: or(&self.every, limits::CHECK_EVERY),
            timeout: or(&self.timeout, limits::CHECK_TIMEOUT),
            failures: or(&self.failures, limits::CHECK_FAILURES),
        })
    }
}

fn or<T: Copy>(at: &Option<At<T>>, default: T) -> T {
    at.as_ref().map_or(default, |at| at.value)
}
