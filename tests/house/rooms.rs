//! Who may use whom. The rooms and their order are those of the table in `src/lib.rs`. Tests inside a room may use
//! every room.

use std::path::Path;

use super::{files, read};

/// The rooms from the top to the cellar.
fn rooms() -> Vec<String> {
    let map = read("src/lib.rs");
    let named = map.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let rooms: Vec<String> =
        named.filter_map(|rest| rest.split('`').next()).map(str::to_owned).collect();
    for module in map.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(
            rooms.iter().any(|room| room == module),
            "src/lib.rs does not say what {module} is"
        );
    }
    rooms
}

/// A file that is compiled for tests alone.
fn is_test(path: &Path) -> bool {
    let named = |name: &str| path.components().any(|part| part.as_os_str() == name);
    ["tests", "tests.rs", "fixture.rs", "frozen.rs", "man.rs", "reference.rs"]
        .into_iter()
        .any(named)
}

/// The code of a file, without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let bare = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    bare.collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names: `crate::ROOM`, also in braces.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or(rest);
        let names =
            if rest.starts_with('{') { inside } else { rest.lines().next().unwrap_or(rest) };
        let list = if rest.starts_with('{') { names.split(',').collect() } else { vec![names] };
        for name in list {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let name: String = name.trim().chars().take_while(|&c| word(c)).collect();
            found.push(name);
        }
    }
    found
}

#[test]
fn a_room_uses_only_those_below_it() {
    let rooms = rooms();
    let floor = |name: &str| rooms.iter().position(|room| room == name);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in files("src", ".rs").iter().filter(|path| !is_test(path)) {
        let inner = path.strip_prefix("src").unwrap();
        let room = inner.components().next().unwrap().as_os_str().to_string_lossy();
        let Some(own) = floor(room.trim_end_matches(".rs")) else { continue };
        for name in used(&code(path)) {
            seen += 1;
            if floor(&name).is_some_and(|other| other < own) {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(seen > 500, "only {seen} uses were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Decisions: these take `now` and events, and return commands.
#[test]
fn decisions_have_no_socket_file_clock_thread_or_log() {
    const FORBIDDEN: [&str; 16] = [
        "std::fs",
        "std::io",
        "std::thread",
        "std::process",
        "std::os",
        "Instant::now",
        "SystemTime::now",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "nix::",
        "libc::",
        "log::",
        "getrandom::",
        "println!",
    ];
    let decides = |path: &&std::path::PathBuf| {
        ["src/core", "src/mirror/session", "src/service/plan", "src/service/plan.rs"]
            .iter()
            .any(|place| path.starts_with(place))
    };
    let mut seen = 0;
    let mut wrong = Vec::new();
    for path in files("src", ".rs").iter().filter(decides).filter(|path| !is_test(path)) {
        seen += 1;
        for (number, line) in code(path).lines().enumerate() {
            let words = FORBIDDEN.iter().filter(|word| line.contains(**word));
            wrong.extend(words.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    assert!(seen > 40, "only {seen} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_sys_is_unsafe() {
    let all = ["src", "bed", "bench"].map(|directory| files(directory, ".rs")).concat();
    let outside = || all.iter().filter(|path| !path.starts_with("src/sys"));
    assert!(outside().count() > 200);
    for path in outside() {
        let has = code(path).lines().any(|line| {
            line.split_whitespace().any(|word| word == "unsafe" || word.starts_with("unsafe{"))
        });
        assert!(!has, "{} has unsafe code; that belongs into src/sys", path.display());
    }
}

#[test]
fn the_checks_see_what_is_wrong() {
    let uses =
        used("use crate::net::arp;\nuse crate::{core::Event, beat};\nlet x = crate::limits::A;");
    assert_eq!(uses, ["net", "core", "beat", "limits"]);
    assert!(
        is_test(Path::new("src/core/tests/ends.rs"))
            && !is_test(Path::new("src/core/group/role.rs"))
    );
    assert_eq!(rooms().first().map(String::as_str), Some("cli"));
    assert_eq!(rooms().last().map(String::as_str), Some("limits"));
}
