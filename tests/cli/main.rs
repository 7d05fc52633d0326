//! The program itself: verbs, flags, exit status.

// Helpers of tests are tests: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const CONFIG: &str = r#"
[cluster]
name = "office"
key = "KEY"
[node.serv1]
address = "203.0.113.11"
lan = "eth0"
crossover = "eth1"
serial = "/dev/ttyS0"
[node.serv2]
address = "203.0.113.12"
lan = "eth0"
crossover = "eth1"
serial = "/dev/ttyS0"
[reach]
hosts = ["203.0.113.1", "203.0.113.53"]
[group.web]
prefer = "serv1"
address = ["203.0.113.50/24"]
"#;

/// A directory with a config and a key, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("clusterd-cli-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let place = Place(dir);
        let key = place.file("cluster.key");
        fs::write(place.file("c.toml"), CONFIG.replace("KEY", &key)).unwrap();
        assert_eq!(place.clusterd(&["keygen", &key]).status, 0);
        place
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn clusterd(&self, arguments: &[&str]) -> Seen {
        self.clusterd_with(arguments, &[])
    }

    fn clusterd_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Seen {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterd"));
        for name in ["CLUSTERD_CONFIG", "CLUSTERD_NODE", "CLUSTERD_RUN_DIR", "CLUSTERD_STATE_DIR"] {
            command.env_remove(name);
        }
        let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
        Seen {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn check(&self) -> Seen {
        self.clusterd(&["check", "--config", &self.file("c.toml"), "--node", "serv1"])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Seen {
    status: i32,
    out: String,
    err: String,
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn check_says_ok_with_the_digest() {
    let place = Place::new();
    assert!(is_root(), "a key must belong to root, so this test needs root");
    let seen = place.check();
    assert_eq!((seen.status, seen.err.as_str()), (0, ""), "{seen:?}");
    let digest = seen.out.strip_prefix("configuration OK, digest ").unwrap().trim_end();
    assert!(digest.len() == 16 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{digest}");
}

#[test]
fn flags_count_before_and_after_the_verb_and_from_the_environment() {
    let place = Place::new();
    let config = place.file("c.toml");
    let expected = place.check().out;
    let before = place.clusterd(&["--config", &config, "--node", "serv1", "check"]);
    let environment = [("CLUSTERD_CONFIG", config.as_str()), ("CLUSTERD_NODE", "serv2")];
    let from_environment = place.clusterd_with(&["check"], &environment);
    let wrong = [("CLUSTERD_CONFIG", "/nowhere.toml"), ("CLUSTERD_NODE", "nobody")];
    let flag_first =
        place.clusterd_with(&["check", "--config", &config, "--node", "serv1"], &wrong);
    for seen in [before, from_environment, flag_first] {
        assert_eq!(seen.out, expected, "{seen:?}");
    }
}

#[test]
fn a_wrong_config_is_shown_with_its_place() {
    let place = Place::new();
    let config = place.file("c.toml");
    fs::write(&config, CONFIG.replace("crossover", "crossovr")).unwrap();
    let seen = place.check();
    assert_eq!((seen.status, seen.out.as_str()), (2, ""));
    assert!(seen.err.contains(&format!("{config}:8:1: unknown key \"crossovr\"")), "{seen:?}");
    assert!(seen.err.contains("did you mean \"crossover\"?"), "{seen:?}");

    let seen = place.clusterd(&["check", "--config", "/nowhere/c.toml"]);
    assert_eq!(seen.status, 2);
    assert!(seen.err.contains("/nowhere/c.toml: cannot read the config"), "{seen:?}");
}

#[test]
fn an_unknown_node_is_refused_with_the_names_that_are() {
    let place = Place::new();
    let config = place.file("c.toml");
    for verb in ["check", "run"] {
        let seen = place.clusterd(&[verb, "--config", &config, "--node", "serv3"]);
        assert_eq!(seen.status, 2, "{seen:?}");
        assert!(seen.err.contains("\"serv3\" is not a node"), "{seen:?}");
        assert!(seen.err.contains("\"serv1\" or \"serv2\""), "{seen:?}");
    }
}

#[test]
fn a_key_that_others_can_read_or_of_another_size_or_owner_is_refused() {
    let place = Place::new();
    assert!(is_root(), "this test needs root");
    let key = place.file("cluster.key");
    let refused = |reason: &str| {
        let seen = place.check();
        assert_eq!((seen.status, seen.out.as_str()), (2, ""), "{reason}: {seen:?}");
        assert!(seen.err.contains(&key) && seen.err.contains(reason), "{reason}: {seen:?}");
    };
    let set_mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let good = fs::read(&key).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601, 0o660, 0o777] {
        set_mode(mode);
        refused("others than root may use it");
    }
    set_mode(0o400);
    assert_eq!(place.check().status, 0);
    set_mode(0o600);

    fs::write(&key, [&good[..], b"\n"].concat()).unwrap();
    refused("it has 33 bytes, not 32");
    fs::write(&key, &good[..31]).unwrap();
    refused("it has 31 bytes, not 32");
    fs::write(&key, [0; 32]).unwrap();
    refused("all zero");
    fs::write(&key, &good).unwrap();

    chown(&key, Some(65534), None).unwrap();
    refused("it belongs to user 65534, not to root");
    chown(&key, Some(0), None).unwrap();
    assert_eq!(place.check().status, 0);

    fs::remove_file(&key).unwrap();
    refused("No such file");
    fs::create_dir(&key).unwrap();
    refused("not a regular file");
    fs::remove_dir(&key).unwrap();
    nix::unistd::mkfifo(Path::new(&key), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("not a regular file");
}

#[test]
fn keygen_makes_a_closed_file_and_overwrites_nothing() {
    let place = Place::new();
    let key = place.file("cluster.key");
    let first = fs::read(&key).unwrap();
    assert_eq!(first.len(), 32);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);

    let seen = place.clusterd(&["keygen", &key]);
    assert_eq!(seen.status, 1);
    assert!(seen.err.contains("not overwritten"), "{seen:?}");
    assert_eq!(fs::read(&key).unwrap(), first);

    let other = place.file("other.key");
    assert_eq!(place.clusterd(&["keygen", &other]).status, 0);
    assert_ne!(fs::read(&other).unwrap(), first);
    assert_eq!(place.clusterd(&["keygen", "/nowhere/key"]).status, 1);
}

#[test]
fn conflicts_need_no_daemon() {
    let place = Place::new();
    let config = place.file("c.toml");
    let of =
        |group: &str| place.clusterd(&["conflicts", group, "--config", &config, "--node", "serv1"]);
    let seen = of("web");
    assert_eq!((seen.status, seen.out.as_str()), (0, ""), "{seen:?}");
    let seen = of("wbe");
    assert_eq!(seen.status, 2, "{seen:?}");
    assert!(seen.err.contains("expected web"), "{seen:?}");
}

#[test]
fn what_is_not_built_is_refused() {
    let place = Place::new();
    let config = place.file("c.toml");
    let refused = [
        &["init"][..],
        &["init", "--cluster", "office"],
        &["verify", "web", "--repair"],
        &["drill"],
        &["drill", "--config", &config],
    ];
    for arguments in refused {
        let seen = place.clusterd(arguments);
        assert_eq!((seen.status, seen.out.as_str()), (2, ""), "{arguments:?} {seen:?}");
        assert!(seen.err.contains("not supported yet"), "{arguments:?} {seen:?}");
    }
    let mut file = OpenOptions::new().append(true).mode(0o600).open(&config).unwrap();
    file.write_all(b"[[group.web.service]]\nsystemd = \"nginx.service\"\n").unwrap();
    let seen = place.check();
    assert_eq!(seen.status, 2);
    assert!(
        seen.err.contains("c.toml:21:1: group.web.service.systemd: not supported yet"),
        "{seen:?}"
    );
}

#[test]
fn wrong_usage_is_status_2_and_help_is_0() {
    let place = Place::new();
    let wrong = [
        &[][..],
        &["ckeck"],
        &["check", "--confg", "x"],
        &["move"],
        &["move", "web", "serv2", "serv1"],
        &["keygen"],
        &["check", "--node", ""],
        &["events", "--since"],
    ];
    for arguments in wrong {
        let seen = place.clusterd(arguments);
        assert_eq!((seen.status, seen.out.as_str()), (2, ""), "{arguments:?} {seen:?}");
        assert!(!seen.err.is_empty());
    }
    for arguments in [&["--help"][..], &["check", "--help"], &["--version"]] {
        let seen = place.clusterd(arguments);
        assert_eq!((seen.status, seen.err.as_str()), (0, ""), "{arguments:?} {seen:?}");
    }
}

/// Copies a program by a process of its own: a file that was written here may be open in what another test starts just
/// then, and cannot be executed as long as that is so.
fn install(from: &str, to: &str) {
    assert!(Command::new("install").args(["-m", "755", from, to]).status().unwrap().success());
}

#[test]
fn the_demo_is_a_program_of_its_own() {
    let place = Place::new();
    let clusterd = place.file("clusterd");
    install(env!("CARGO_BIN_EXE_clusterd"), &clusterd);
    let demo = |path: &str| {
        let mut command = Command::new(&clusterd);
        command.args(["demo", "--rounds", "2", "--help"]).env("PATH", path).output().unwrap()
    };
    let absent = demo(&place.file("nothing"));
    let reason = String::from_utf8(absent.stderr).unwrap();
    assert_eq!(absent.status.code(), Some(1), "{reason}");
    assert!(reason.contains("clusterd-demo") && reason.contains("make install"), "{reason}");
    let program = |directory: &str, says: &str| {
        fs::create_dir_all(directory).unwrap();
        let text = place.file("text");
        fs::write(&text, format!("#!/bin/sh\necho {says} \"$@\"\n")).unwrap();
        install(&text, &format!("{directory}/clusterd-demo"));
    };
    let in_path = place.file("bin");
    program(&in_path, "in PATH");
    assert_eq!(demo(&in_path).stdout, b"in PATH --rounds 2 --help\n");
    program(&place.file("."), "beside");
    assert_eq!(demo(&in_path).stdout, b"beside --rounds 2 --help\n");
}
