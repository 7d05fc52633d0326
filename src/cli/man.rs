//! The man pages: prose from `man/*.md`, with options and verbs as the command line has them and keys from the
//! table of the config. A test holds `man/*.1`, `*.5` and `*.8` against that; `UPDATE_GOLDENS=1` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::Arguments;
use crate::config::{self, reference};

/// Name and section of each.
const PAGES: [(&str, &str); 3] =
    [("clusterd", "8"), ("clusterd.toml", "5"), ("clusterd-demo", "1")];

fn file(name: &str, section: &str, end: &str) -> PathBuf {
    let name = format!("{name}.{section}{end}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name)
}

fn prose(name: &str, section: &str) -> String {
    fs::read_to_string(file(name, section, ".md")).unwrap()
}

/// A whole page.
fn page(name: &str, section: &str) -> String {
    let mut page = Roff::new();
    let version = concat!("clusterd ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [&*name.to_uppercase(), section, "", version, ""]);
    let mut text = String::from(
        ".\\\" Made by `UPDATE_GOLDENS=1 cargo test --lib man`; edit man/*.md instead.\n",
    );
    text.push_str(&page.to_roff());
    for part in parts(&prose(name, section)) {
        text.push_str(&match part {
            Part::Marker("options") => options(Arguments::command()),
            Part::Marker("demo-options") => options(clusterd_bed::demo::command()),
            Part::Marker("verbs") => verbs(),
            Part::Marker("keys") => keys(),
            Part::Marker(other) => panic!("nothing is called {other}"),
            Part::Prose(lines) => markdown(&lines),
        });
    }
    text
}

enum Part<'a> {
    Prose(Vec<&'a str>),
    /// `{{NAME}}` on a line of its own.
    Marker(&'a str),
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = vec![Part::Prose(Vec::new())];
    for line in text.lines() {
        match line.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            Some(name) => parts.extend([Part::Marker(name), Part::Prose(Vec::new())]),
            None => match parts.last_mut() {
                Some(Part::Prose(lines)) => lines.push(line),
                Some(Part::Marker(_)) | None => {}
            },
        }
    }
    parts
}

/// Our prose: headings, paragraphs, lists, tables of two columns, code; each paragraph on one line.
fn markdown(lines: &[&str]) -> String {
    let mut page = Roff::new();
    let mut code = false;
    let mut tables = 0;
    for &line in lines {
        if line.starts_with("```") {
            code = !code;
            if code {
                page.control("PP", []).control("RS", ["4"]).control("nf", []);
            } else {
                page.control("fi", []).control("RE", []);
            }
        } else if code {
            page.text([roman(line)]);
        } else if let Some(title) = line.strip_prefix("# ") {
            page.control("SH", [title]);
        } else if let Some(item) = line.strip_prefix("* ") {
            page.control("IP", ["\\(bu", "2"]).text(inlines(item));
        } else if let Some(row) = line.strip_prefix('|') {
            tables += 1;
            // The first two lines of a table are its head.
            let cells: Vec<&str> = row.trim_end_matches('|').splitn(2, '|').collect();
            if let (3.., [name, meaning]) = (tables, cells.as_slice()) {
                page.control("TP", []).text([bold(name.trim())]).text(inlines(meaning.trim()));
            }
            continue;
        } else if !line.is_empty() {
            page.control("PP", []).text(inlines(line));
        }
        tables = 0;
    }
    page.to_roff()
}

/// `code` is bold, *words* italic.
fn inlines(text: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 1 {
            found.push(bold(part));
            continue;
        }
        let words = part.split('*').enumerate();
        found.extend(words.map(|(place, part)| match place % 2 {
            1 => italic(part),
            _ => roman(part),
        }));
    }
    found
}

/// The options of a command, without a heading.
fn options(command: Command) -> String {
    let command = command.disable_help_flag(true).disable_version_flag(true);
    let mut bytes = Vec::new();
    Man::new(command).render_options_section(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(".SH"));
    lines.skip(1).fold(String::new(), |text, line| text + line + "\n")
}

/// What is typed for a command.
fn usage(command: &Command) -> Vec<Inline> {
    let mut words = vec![bold(command.get_name())];
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set()) {
        let (open, close) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        words.push(roman(open));
        if let Some(long) = arg.get_long() {
            words.push(bold(format!("--{long}")));
        }
        if arg.get_long().is_none() || arg.get_action().takes_values() {
            let name = value_name(arg);
            words.extend(arg.get_long().map(|_| roman(" ")));
            words.push(italic(name));
        }
        words.push(roman(close));
    }
    words
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string)
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).unwrap();
    let sentences = about.to_string().replace("\n\n", ". ").replace('\n', " ");
    sentences.trim_end_matches('.').to_owned() + "."
}

/// All verbs that a person types, each with its options.
fn verbs() -> String {
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    let mut text = String::new();
    let command = Arguments::command();
    for verb in command.get_subcommands().filter(shown) {
        let mut head = Roff::new();
        head.control("SS", [verb.get_name()]).text(usage(verb)).control("PP", []);
        head.text([roman(about(verb))]);
        for action in verb.get_subcommands().filter(shown) {
            head.control("TP", []).text(usage(action)).text([roman(about(action))]);
        }
        text.push_str(&head.to_roff());
        let leaf = verb.clone().disable_help_subcommand(true);
        if leaf.get_arguments().any(|arg| !arg.is_hide_set()) {
            text.push_str(&options(leaf));
        }
    }
    text
}

/// The table of the config's keys.
fn keys() -> String {
    let mut page = Roff::new();
    for section in &reference::SECTIONS {
        page.control("SS", [section.title]).text(inlines(section.about));
        for row in section.rows {
            let mut head = vec![bold(row.key), roman(" = "), italic(row.shape)];
            if !row.default.is_empty() {
                head.extend(inlines(&format!("  (default: {})", row.default)));
            }
            page.control("TP", []).text(head).text(inlines(row.meaning));
        }
    }
    page.to_roff()
}

#[test]
fn man_pages_say_what_the_code_does() {
    for (name, section) in PAGES {
        let made = page(name, section);
        let file = file(name, section, "");
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&file, &made).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == made, "{} is old: UPDATE_GOLDENS=1 cargo test --lib man", file.display());
    }
}

/// An example that is a whole config is read as it is; a part of one together with the first whole one.
#[test]
fn examples_in_man_pages_are_accepted() {
    let mut count = 0;
    for (name, section) in PAGES {
        let text = prose(name, section);
        let examples = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut whole = None;
        for example in examples {
            let is_whole = example.contains("[cluster]");
            let base = whole.get_or_insert(example);
            let text = match (is_whole, example.contains("[[group.web.service]]")) {
                (true, _) => example.to_owned(),
                // Another service of the same group must be another program.
                (false, true) => format!("{base}\n{}", example.replace("/web\"", "/other\"")),
                (false, false) => format!("{base}\n{example}"),
            };
            config::parse(&text, "an example").unwrap_or_else(|errors| panic!("{errors}"));
            count += 1;
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clusterd.toml");
    config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(count >= 3, "{count}");
}
