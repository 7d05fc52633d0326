//! Reading tables: every key known, every value of its type, everything else reported.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::form::{self, Form};
use super::place::{At, Problems, any_of};
use crate::limits::NAME_BYTES_MAX;

/// The keys of one kind of table.
pub(super) struct Keys {
    pub built: &'static [&'static str],
    /// Part of the contract, not built yet.
    pub later: &'static [&'static str],
}

/// A table of the file, with what a person would call it and where it begins.
pub(super) struct Table<'a> {
    /// `cluster`, `node.serv1`; empty for the file itself.
    pub title: String,
    pub place: Range<usize>,
    pub entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The place of a key, and its value.
    pub(super) fn find(&self, key: &str) -> Option<(Range<usize>, &'a toml::Spanned<DeValue<'a>>)> {
        let (place, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((place.span(), value))
    }

    /// In brackets, as in the file.
    fn shown(&self) -> String {
        if self.title.is_empty() { "the file".to_owned() } else { format!("[{}]", self.title) }
    }

    pub(super) fn titled(&self, key: &str) -> String {
        let key = show_key(key);
        if self.title.is_empty() { key } else { format!("{}.{key}", self.title) }
    }

    /// Reports the keys that are not known, and those that are not built yet.
    pub(super) fn check_keys(&self, keys: &Keys, problems: &mut Problems) {
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

    pub(super) fn report_missing(&self, key: &str, expected: &str, problems: &mut Problems) {
        let what = format!("{key} is missing in {}", self.shown());
        problems.report(&self.place, what, expected);
    }

    /// The table under `key`, if it is there.
    pub(super) fn table(
        &self,
        key: &str,
        keys: &Keys,
        problems: &mut Problems,
    ) -> Option<Table<'a>> {
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

    pub(super) fn required_table(
        &self,
        key: &str,
        keys: &Keys,
        problems: &mut Problems,
    ) -> Option<Table<'a>> {
        if self.find(key).is_none() {
            let what = format!("[{key}] is missing");
            problems.report(&self.place, what, &format!("a table [{key}]"));
        }
        self.table(key, keys, problems)
    }

    /// The tables `[kind.NAME]` with their names, in the order of the file.
    pub(super) fn named_tables(
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
    pub(super) fn optional<T>(
        &self,
        key: &str,
        form: &Form<T>,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        let (_, value) = self.find(key)?;
        read_value(key, value, form, problems)
    }

    /// The value under `key`; reports if it is not there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        form: &Form<T>,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        if self.find(key).is_none() {
            self.report_missing(key, form.expected, problems);
        }
        self.optional(key, form, problems)
    }

    /// The values of the list under `key`; none if it is not there.
    pub(super) fn list<T>(&self, key: &str, form: &Form<T>, problems: &mut Problems) -> Vec<At<T>> {
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
    pub(super) fn required_list<T>(
        &self,
        key: &str,
        form: &Form<T>,
        problems: &mut Problems,
    ) -> Vec<At<T>> {
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
    pub(super) fn choice<T: Copy>(
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

    /// A boolean, if it is there.
    pub(super) fn boolean(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        let (_, value) = self.find(key)?;
        if let DeValue::Boolean(value) = value.get_ref() {
            return Some(*value);
        }
        let what = format!("{key} is {}", type_name(value.get_ref()));
        problems.report(&value.span(), what, "true or false");
        None
    }

    /// A whole number that is not negative, if it is there.
    pub(super) fn whole_number(
        &self,
        key: &str,
        example: u32,
        problems: &mut Problems,
    ) -> Option<At<u32>> {
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
            problems.report(&value.span(), what, &format!("a number such as {example}"));
        }
        number.map(|number| At { value: number, place: value.span() })
    }
}

pub(super) fn read_value<T>(
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

pub(super) fn read_text<T>(
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
pub(super) fn show_text(text: &str) -> String {
    match text.char_indices().nth(NAME_BYTES_MAX + 1) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or("")),
        None => format!("{text:?}"),
    }
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
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
