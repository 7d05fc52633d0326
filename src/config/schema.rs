//! The file as it is written: which keys there are, of which type, and where each value stands.
//!
//! A missing or unreadable value is reported and left out, so that one reading finds every error.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::form::{self, Form};
use super::place::{At, Problems, any_of};
use super::{Failback, ServiceAddress};
use crate::limits::NAME_BYTES_MAX;

/// The keys of one kind of table.
struct Keys {
    built: &'static [&'static str],
    /// Part of the contract, not built yet.
    later: &'static [&'static str],
}

const TOP: Keys = Keys {
    built: &["cluster", "node", "heartbeat", "reach", "notify", "group"],
    later: &["fencing", "watchdog", "witness"],
};
const CLUSTER: Keys = Keys { built: &["name", "key"], later: &[] };
const NODE: Keys =
    Keys { built: &["address", "lan", "crossover", "serial"], later: &["redundant"] };
const SERIAL: Keys = Keys { built: &["device", "baud"], later: &[] };
const HEARTBEAT: Keys = Keys { built: &["interval", "dead_after", "boot_patience"], later: &[] };
const REACH: Keys = Keys { built: &["hosts"], later: &[] };
const NOTIFY: Keys = Keys { built: &["exec"], later: &["mail"] };
const GROUP: Keys = Keys {
    built: &["prefer", "failback", "stable_for", "address", "nic"],
    later: &["mac", "mirror", "service", "after", "with"],
};

/// A whole config file.
pub(super) struct Written {
    pub cluster: Option<Cluster>,
    pub nodes: Vec<Node>,
    /// Where the nodes are, if there is any.
    pub nodes_place: Range<usize>,
    pub heartbeat: Heartbeat,
    pub reach_hosts: Vec<At<IpAddr>>,
    pub notify_exec: Option<At<PathBuf>>,
    pub groups: Vec<Group>,
}

/// `[cluster]`.
pub(super) struct Cluster {
    pub name: Option<At<String>>,
    pub key: Option<At<PathBuf>>,
}

/// `[node.NAME]`.
pub(super) struct Node {
    pub name: At<String>,
    pub address: Option<At<IpAddr>>,
    pub lan: Option<At<String>>,
    pub crossover: Option<At<String>>,
    pub serial: Option<Serial>,
}

/// `serial`, in either form.
pub(super) struct Serial {
    pub device: Option<At<PathBuf>>,
    pub baud: Option<At<u32>>,
    pub place: Range<usize>,
}

/// `[heartbeat]`.
#[derive(Default)]
pub(super) struct Heartbeat {
    pub interval: Option<At<Duration>>,
    pub dead_after: Option<At<Duration>>,
    pub boot_patience: Option<At<Duration>>,
}

/// `[group.NAME]`.
pub(super) struct Group {
    pub name: At<String>,
    pub prefer: Option<At<String>>,
    pub failback: Option<At<Failback>>,
    pub stable_for: Option<At<Duration>>,
    pub addresses: Vec<At<ServiceAddress>>,
}

/// Reads a parsed document, reporting every key and value that cannot be.
pub(super) fn read(document: &DeTable<'_>, problems: &mut Problems) -> Written {
    let top = Table { title: String::new(), place: 0..0, entries: document };
    top.check_keys(&TOP, problems);

    let cluster = top.required_table("cluster", &CLUSTER, problems).map(|table| Cluster {
        name: table.required("name", &form::NAME, problems),
        key: table.required("key", &form::PATH, problems),
    });
    let nodes = top.named_tables("node", &NODE, problems);
    let nodes_place = top.find("node").map_or(0..0, |(key, _)| key);
    let nodes = nodes.iter().map(|(name, table)| node(name, table, problems)).collect();
    let heartbeat = top.table("heartbeat", &HEARTBEAT, problems).map(|table| Heartbeat {
        interval: table.optional("interval", &form::DURATION, problems),
        dead_after: table.optional("dead_after", &form::DURATION, problems),
        boot_patience: table.optional("boot_patience", &form::DURATION, problems),
    });
    let reach = top.table("reach", &REACH, problems);
    let reach_hosts = reach.map(|table| table.list("hosts", &form::HOST, problems));
    let notify = top.table("notify", &NOTIFY, problems);
    let notify_exec = notify.and_then(|table| table.optional("exec", &form::PATH, problems));
    let groups = top.named_tables("group", &GROUP, problems);
    let groups = groups.iter().map(|(name, table)| group(name, table, problems)).collect();

    Written {
        cluster,
        nodes,
        nodes_place,
        heartbeat: heartbeat.unwrap_or_default(),
        reach_hosts: reach_hosts.unwrap_or_default(),
        notify_exec,
        groups,
    }
}

fn node(name: &At<String>, table: &Table<'_>, problems: &mut Problems) -> Node {
    Node {
        name: name.clone(),
        address: table.required("address", &form::HOST, problems),
        lan: table.required("lan", &form::INTERFACE, problems),
        crossover: table.required("crossover", &form::INTERFACE, problems),
        serial: serial(table, problems),
    }
}

fn serial(node: &Table<'_>, problems: &mut Problems) -> Option<Serial> {
    let (key, value) = node.find("serial")?;
    match value.get_ref() {
        DeValue::Table(entries) => {
            let title = format!("{}.serial", node.title);
            let table = Table { title, place: key.clone(), entries };
            table.check_keys(&SERIAL, problems);
            Some(Serial {
                device: table.required("device", &form::PATH, problems),
                baud: table.whole_number("baud", problems),
                place: key,
            })
        }
        DeValue::String(_) => {
            let device = node.optional("serial", &form::PATH, problems);
            Some(Serial { device, baud: None, place: value.span() })
        }
        other => {
            let what = format!("serial is {}", type_name(other));
            let expected = "a device such as \"/dev/ttyS0\", or { device = …, baud = … }";
            problems.report(&value.span(), what, expected);
            None
        }
    }
}

fn group(name: &At<String>, table: &Table<'_>, problems: &mut Problems) -> Group {
    let choices = [("auto", Failback::Auto), ("manual", Failback::Manual)];
    let nics = [("lan", true), ("redundant", false)];
    if let Some(At { value: false, place }) = table.choice("nic", &nics, problems) {
        problems.report_later(&place, "nic = \"redundant\"");
    }
    Group {
        name: name.clone(),
        prefer: table.required("prefer", &form::NODE_NAME, problems),
        failback: table.choice("failback", &choices, problems),
        stable_for: table.optional("stable_for", &form::DURATION, problems),
        addresses: table.required_list("address", &form::SERVICE_ADDRESS, problems),
    }
}

/// A table of the file, with what a person would call it and where it begins.
struct Table<'a> {
    /// `cluster`, `node.serv1`; empty for the file itself.
    title: String,
    place: Range<usize>,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The place of a key, and its value.
    fn find(&self, key: &str) -> Option<(Range<usize>, &'a toml::Spanned<DeValue<'a>>)> {
        let (place, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((place.span(), value))
    }

    /// In brackets, as in the file.
    fn shown(&self) -> String {
        if self.title.is_empty() { "the file".to_owned() } else { format!("[{}]", self.title) }
    }

    fn titled(&self, key: &str) -> String {
        let key = show_key(key);
        if self.title.is_empty() { key } else { format!("{}.{key}", self.title) }
    }

    /// Reports the keys that are not known, and those that are not built yet.
    fn check_keys(&self, keys: &Keys, problems: &mut Problems) {
        for (key, _) in self.entries.iter() {
            let name: &str = key.get_ref();
            if keys.later.contains(&name) {
                problems.report_later(&key.span(), &self.titled(name));
            } else if !keys.built.contains(&name) {
                let what = format!("unknown key {} in {}", show_text(name), self.shown());
                let all = [keys.built, keys.later].concat();
                problems.report_word(&key.span(), what, &any_of(&all), name, &all);
            }
        }
    }

    fn report_missing(&self, key: &str, expected: &str, problems: &mut Problems) {
        let what = format!("{key} is missing in {}", self.shown());
        problems.report(&self.place, what, expected);
    }

    /// The table under `key`, if it is there.
    fn table(&self, key: &str, keys: &Keys, problems: &mut Problems) -> Option<Table<'a>> {
        let (place, value) = self.find(key)?;
        let title = self.titled(key);
        let DeValue::Table(entries) = value.get_ref() else {
            let what = format!("{title} is {}", type_name(value.get_ref()));
            problems.report(&place, what, &format!("a table [{title}]"));
            return None;
        };
        let table = Table { title, place, entries };
        table.check_keys(keys, problems);
        Some(table)
    }

    fn required_table(&self, key: &str, keys: &Keys, problems: &mut Problems) -> Option<Table<'a>> {
        if self.find(key).is_none() {
            let what = format!("[{key}] is missing");
            problems.report(&self.place, what, &format!("a table [{key}]"));
        }
        self.table(key, keys, problems)
    }

    /// The tables `[kind.NAME]` with their names, in the order of the file.
    fn named_tables(
        &self,
        kind: &str,
        keys: &Keys,
        problems: &mut Problems,
    ) -> Vec<(At<String>, Table<'a>)> {
        let Some((place, value)) = self.find(kind) else {
            return Vec::new();
        };
        let DeValue::Table(entries) = value.get_ref() else {
            let what = format!("{kind} is {}", type_name(value.get_ref()));
            problems.report(&place, what, &format!("tables [{kind}.NAME]"));
            return Vec::new();
        };
        let all = Table { title: kind.to_owned(), place, entries };
        let mut tables = Vec::new();
        for (key, _) in entries.iter() {
            let Some(table) = all.table(key.get_ref(), keys, problems) else {
                continue;
            };
            // A wrong name is reported and kept: the node still counts as one.
            let what = format!("the name of the {kind}");
            read_text(&what, key.get_ref(), &key.span(), &form::NAME, problems);
            tables.push((At { value: key.get_ref().to_string(), place: key.span() }, table));
        }
        tables.sort_by_key(|(name, _)| name.place.start);
        tables
    }

    /// The value under `key`, if it is there.
    fn optional<T>(&self, key: &str, form: &Form<T>, problems: &mut Problems) -> Option<At<T>> {
        let (_, value) = self.find(key)?;
        read_value(key, value, form, problems)
    }

    /// The value under `key`; reports if it is not there.
    fn required<T>(&self, key: &str, form: &Form<T>, problems: &mut Problems) -> Option<At<T>> {
        if self.find(key).is_none() {
            self.report_missing(key, form.expected, problems);
        }
        self.optional(key, form, problems)
    }

    /// The values of the list under `key`; none if it is not there.
    fn list<T>(&self, key: &str, form: &Form<T>, problems: &mut Problems) -> Vec<At<T>> {
        let Some((_, value)) = self.find(key) else {
            return Vec::new();
        };
        let DeValue::Array(values) = value.get_ref() else {
            let what = format!("{key} is {}", type_name(value.get_ref()));
            problems.report(&value.span(), what, &format!("a list in [ ], each {}", form.expected));
            return Vec::new();
        };
        values.iter().filter_map(|value| read_value(key, value, form, problems)).collect()
    }

    /// The values of the list under `key`; reports if there is none.
    fn required_list<T>(&self, key: &str, form: &Form<T>, problems: &mut Problems) -> Vec<At<T>> {
        let expected = || format!("a list in [ ], each {}", form.expected);
        match self.find(key).map(|(_, value)| (value.span(), value.get_ref())) {
            None => self.report_missing(key, &expected(), problems),
            Some((place, DeValue::Array(values))) if values.is_empty() => {
                problems.report(&place, format!("{key} is an empty list"), &expected());
            }
            Some(_) => {}
        }
        self.list(key, form, problems)
    }

    /// One of a few words, if it is there.
    fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<At<T>> {
        let (_, value) = self.find(key)?;
        let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
        let DeValue::String(text) = value.get_ref() else {
            let what = format!("{key} is {}", type_name(value.get_ref()));
            problems.report(&value.span(), what, &any_of(&words));
            return None;
        };
        let chosen = choices.iter().find(|&&(word, _)| word == text);
        if chosen.is_none() {
            let what = format!("{key} {} is unknown", show_text(text));
            problems.report_word(&value.span(), what, &any_of(&words), text, &words);
        }
        chosen.map(|&(_, chosen)| At { value: chosen, place: value.span() })
    }

    /// A whole number that is not negative, if it is there.
    fn whole_number(&self, key: &str, problems: &mut Problems) -> Option<At<u32>> {
        let (_, value) = self.find(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            let what = match value.get_ref() {
                DeValue::Integer(_) => format!("{key} is an impossible number"),
                other => format!("{key} is {}", type_name(other)),
            };
            problems.report(&value.span(), what, "a number such as 115200");
        }
        number.map(|number| At { value: number, place: value.span() })
    }
}

fn read_value<T>(
    key: &str,
    value: &toml::Spanned<DeValue<'_>>,
    form: &Form<T>,
    problems: &mut Problems,
) -> Option<At<T>> {
    let DeValue::String(text) = value.get_ref() else {
        let what = format!("{key} is {}", type_name(value.get_ref()));
        problems.report(&value.span(), what, form.expected);
        return None;
    };
    read_text(key, text, &value.span(), form, problems)
}

fn read_text<T>(
    what: &str,
    text: &str,
    place: &Range<usize>,
    form: &Form<T>,
    problems: &mut Problems,
) -> Option<At<T>> {
    match (form.parse)(text) {
        Ok(value) => Some(At { value, place: place.clone() }),
        Err(reason) => {
            problems.report(place, format!("{what} {} {reason}", show_text(text)), form.expected);
            None
        }
    }
}

/// A key as it is written: in quotes where TOML wants them.
pub(super) fn show_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { format!("{key:?}") }
}

/// A text of the file in quotes, cut where it gets long: the line itself is shown below.
fn show_text(text: &str) -> String {
    match text.char_indices().nth(NAME_BYTES_MAX + 1) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or("")),
        None => format!("{text:?}"),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
