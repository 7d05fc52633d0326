//! Documents: what they point at is there.

use std::path::{Path, PathBuf};

use super::{files, read, root};

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let mut all = files("docs", ".md");
    all.extend(files("man", ".md"));
    all.extend(
        ["README.md", "CONTRIBUTING.md", "bench/README.md", "hw/CABLING.md"].map(PathBuf::from),
    );
    all
}

/// `(target)` of each `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let rests = text.split("](").skip(1);
    rests.filter_map(|rest| rest.split(')').next()).collect()
}

/// A heading as a link names it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

/// What stands between single backquotes, outside of blocks of code.
fn quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let here = root().join(document.parent().unwrap_or(Path::new("")));
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            seen += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&document) } else { here.join(path) };
            assert!(target.exists(), "{}: {link}", document.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
                assert!(
                    anchors.into_iter().any(|one| one == heading),
                    "{}: {link}",
                    document.display()
                );
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
}

/// A file that a document names must be there, in full or by the end of its path.
#[test]
fn files_that_are_named_are_there() {
    let mut known = Vec::new();
    for directory in
        ["src", "tests", "docs", "bed", "bench", "hw", "examples", "man", "udev", "systemd"]
    {
        known.extend(files(directory, "").iter().map(|path| format!("/{}", path.display())));
    }
    let tops = ["src/", "tests/", "docs/", "bed/", "bench/", "hw/", "examples/"];
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for name in quoted(&text) {
            let name = name.split("::").next().unwrap_or(name);
            let is_path = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let from_top = tops.iter().any(|top| name.starts_with(top));
            // A name in capitals stands for any.
            let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
            let is_any = name.ends_with(".toml") && !stem.contains(|c: char| c.is_lowercase());
            if !is_path || is_any || !(from_top || name.ends_with(".rs")) {
                continue;
            }
            seen += 1;
            let is_there = root().join(name).exists()
                || known.iter().any(|path| path.ends_with(&format!("/{name}")));
            assert!(is_there, "{}: there is no {name}", document.display());
        }
    }
    assert!(seen > 150, "only {seen} names were found");
}

/// A test that a document names must be there.
#[test]
fn tests_that_are_named_are_there() {
    let mut code = String::new();
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        code.push_str(&read(path));
    }
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let is_test = |name: &&str| {
            let mut letters = name.chars();
            letters.next() == Some('p')
                && letters.next().is_some_and(|digit| ('1'..='6').contains(&digit))
                && letters.next() == Some('_')
        };
        for name in quoted(&text).into_iter().filter(is_test).filter(|name| !name.contains('…')) {
            seen += 1;
            assert!(code.contains(&format!("fn {name}")), "{}: {name}", document.display());
        }
    }
    assert!(seen > 5, "only {seen} names were found");
}

#[test]
fn every_document_is_found_from_the_readme() {
    let readme = read("README.md");
    for path in files("docs", ".md") {
        let path = path.to_string_lossy().into_owned();
        assert!(readme.contains(&format!("({path})")), "README.md does not lead to {path}");
    }
}

/// It is read in one sitting.
#[test]
fn the_readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 1000, "{words} words");
}
