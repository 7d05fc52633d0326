//! Golden files. `good/X.toml` is accepted, and `X.ok` is its normal form and its warnings.
//! `bad/X.toml` is refused, and `X.err` is the exact text of the errors.
//!
//! `UPDATE_GOLDENS=1 cargo test --test config` writes them again; read the difference before you commit.

// Helpers of tests are tests: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clusterd::config::{self, Config};
use proptest::prelude::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// The configs of a folder by file name, and the golden files beside them.
fn cases(name: &str, golden: &str) -> BTreeMap<PathBuf, PathBuf> {
    let files = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let (configs, others): (Vec<_>, Vec<_>) =
        files.partition(|path| path.extension().is_some_and(|end| end == "toml"));
    for other in others {
        assert!(
            configs.contains(&other.with_extension("toml")),
            "{} has no config",
            other.display()
        );
    }
    configs.into_iter().map(|path| (path.clone(), path.with_extension(golden))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn compare(config: &Path, golden: &Path, seen: &str, failures: &mut Vec<String>) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(golden, seen).unwrap();
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    if seen != expected {
        let name = file_name(config);
        failures.push(format!("--- {name}: expected\n{expected}\n--- {name}: seen\n{seen}"));
    }
}

fn parse_file(path: &Path) -> Result<Config, String> {
    let text = fs::read_to_string(path).unwrap();
    config::parse(&text, &file_name(path)).map_err(|errors| format!("{errors}\n"))
}

#[test]
fn good_configs_have_their_normal_form() {
    let cases = cases("good", "ok");
    assert!(cases.len() >= 8);
    let mut failures = Vec::new();
    for (path, golden) in &cases {
        let config = parse_file(path).unwrap_or_else(|errors| panic!("{errors}"));
        let mut seen = config::normal::print(&config);
        for warning in config::warnings(&config) {
            seen.push_str(&format!("# warning: {warning}\n"));
        }
        compare(path, golden, &seen, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_configs_have_their_errors() {
    let cases = cases("bad", "err");
    assert!(cases.len() >= 30);
    let mut failures = Vec::new();
    for (path, golden) in &cases {
        let seen = match parse_file(path) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => errors,
        };
        assert_ne!(seen, "accepted\n", "{} is accepted", path.display());
        compare(path, golden, &seen, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_error_has_file_line_and_column() {
    for path in cases("bad", "err").keys() {
        let text = fs::read_to_string(path).unwrap();
        let Err(config::ConfigErrors::Wrong(errors)) = config::parse(&text, "f.toml") else {
            panic!("{}", path.display());
        };
        assert!(!errors.is_empty());
        for error in errors {
            assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1, "{error}");
            assert!(error.column >= 1);
            assert!(error.to_string().starts_with("f.toml:"), "{error}");
        }
    }
}

#[test]
fn normal_forms_read_back_as_the_same_config() {
    for path in cases("good", "ok").keys() {
        let config = parse_file(path).unwrap();
        let again = config::parse(&config::normal::print(&config), "normal").unwrap();
        assert_eq!(config, again, "{}", path.display());
    }
}

/// So two releases of the daemon say the same of the same config: see `config::normal`.
#[test]
fn a_digest_is_frozen() {
    let digest = parse_file(&folder("good").join("usual.toml")).unwrap().digest;
    assert_eq!(digest.map(|byte| format!("{byte:02x}")).concat(), "71856ccef7c3df2d");
}

#[test]
fn groups_whose_names_have_one_hash_are_refused() {
    let text = std::fs::read_to_string(folder("good").join("usual.toml")).unwrap();
    let header = text.lines().find(|line| line.starts_with("[group.")).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let (one, other) = (0..)
        .find_map(|number| {
            let name = format!("group-{number}");
            let tag = config::GroupTags::of([name.as_str()]).tag(config::GroupIndex(0));
            seen.insert(tag, name.clone()).map(|earlier: String| (earlier, name))
        })
        .unwrap();
    let group = |name: &str, last: u8| {
        format!("[group.{name}]\nprefer = \"serv1\"\naddress = [\"203.0.113.{last}/24\"]\n")
    };
    let cut = text.find(header).unwrap();
    let text = format!("{}{}{}", &text[..cut], group(&one, 71), group(&other, 72));
    let errors = config::parse(&text, "x.toml").unwrap_err().to_string();
    assert!(errors.contains("cannot tell the groups"), "{errors}");
}

#[test]
fn order_and_spelling_do_not_change_the_digest() {
    let digest = |name: &str| parse_file(&folder("good").join(name)).unwrap().digest;
    assert_eq!(digest("usual.toml"), digest("usual-other-order.toml"));
    assert_eq!(digest("usual.toml"), digest("windows-line-ends.toml"));
    let different = [
        "usual.toml",
        "own-mac.toml",
        "smallest.toml",
        "one-ended-serial.toml",
        "eight-groups.toml",
    ];
    let digests: std::collections::BTreeSet<_> = different.into_iter().map(digest).collect();
    assert_eq!(digests.len(), different.len());
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clusterd.toml");
    let config = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config::warnings(&config), Vec::<String>::new());
}

#[test]
fn files_that_are_no_text_are_refused_with_their_place() {
    let dir = std::env::temp_dir().join(format!("clusterd-config-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let refused = |bytes: &[u8]| {
        let path = dir.join("c.toml");
        fs::write(&path, bytes).unwrap();
        config::load(&path).unwrap_err().to_string()
    };
    let latin1 = refused(b"[cluster]\nname = \"b\xfcro\"\n");
    let huge = refused(&vec![b'#'; 1 << 20]);
    let huge_and_no_text = refused(&vec![0xff; 1 << 20]);
    let missing = config::load(&dir.join("none.toml")).unwrap_err().to_string();
    let directory = config::load(&dir).unwrap_err().to_string();
    fs::remove_dir_all(&dir).unwrap();
    assert!(latin1.contains("c.toml:2:10: a byte that is not UTF-8"), "{latin1}");
    assert!(huge.contains("the file is too long; expected at most 262144 bytes"), "{huge}");
    assert!(huge_and_no_text.contains("the file is too long"), "{huge_and_no_text}");
    assert!(missing.contains("none.toml: cannot read the config"), "{missing}");
    assert!(directory.contains("cannot read the config"), "{directory}");
}

/// A good config with a few bytes put in, taken out or replaced.
fn damaged_config() -> impl Strategy<Value = String> {
    let texts: Vec<String> =
        cases("good", "ok").keys().map(|path| fs::read_to_string(path).unwrap()).collect();
    let edits =
        prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "\\PC{0,6}"), 1..4);
    (prop::sample::select(texts), edits).prop_map(|(text, edits)| {
        edits.into_iter().fold(text, |text, (at, length, new)| {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars[..at]
                .iter()
                .copied()
                .chain(new.chars())
                .chain(chars[end..].iter().copied())
                .collect()
        })
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(errors) = config::parse(&text, "random") {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn random_toml_like_text_never_panics(text in "([a-z.]{1,5}|[\\[\\]{}=\"'#,\n 0-9:-]){0,200}") {
        let _ = config::parse(&text, "random").map_err(|errors| errors.to_string());
    }

    #[test]
    fn damaged_configs_are_read_back_or_refused(text in damaged_config()) {
        match config::parse(&text, "damaged") {
            Ok(config) => {
                let again = config::parse(&config::normal::print(&config), "normal");
                prop_assert_eq!(Some(config), again.ok());
            }
            Err(errors) => prop_assert!(errors.to_string().starts_with("damaged:")),
        }
    }
}
