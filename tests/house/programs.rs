//! What the programs are made of: guard and heart keep all of theirs in locked memory, and on a server is nothing of
//! the bed.

use std::path::{Path, PathBuf};

/// Names as both ways of mangling write them: with their length.
const NOT_IN_THE_HEART: [&str; 9] = [
    "12clap_builder",
    "4redb",
    "4snow",
    "7globset",
    "14regex_automata",
    "4ureq",
    "8clusterd6mirror",
    "8clusterd7service",
    "8clusterd3cli",
];

/// What the bed is made of, and the bed.
const NOT_ON_A_SERVER: [&str; 3] = ["5tokio", "9rtnetlink", "12clusterd_bed"];

fn contains(program: &[u8], name: &str) -> bool {
    program.windows(name.len()).any(|window| window == name.as_bytes())
}

#[test]
fn the_heart_links_neither_mirror_nor_services_nor_the_command_line() {
    let heart = std::fs::read(Path::new(env!("CARGO_BIN_EXE_clusterd-heart"))).unwrap();
    let all = std::fs::read(Path::new(env!("CARGO_BIN_EXE_clusterd"))).unwrap();
    for name in NOT_IN_THE_HEART {
        assert!(contains(&all, name), "{name} is nowhere: is it spelt so?");
        assert!(!contains(&heart, name), "{name} is in the program of guard and heart");
    }
}

#[test]
fn what_runs_on_a_server_links_no_bed() {
    let clusterd = PathBuf::from(env!("CARGO_BIN_EXE_clusterd"));
    let demo = clusterd.with_file_name("clusterd-demo");
    let demo = std::fs::read(&demo).unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo build -p clusterd-bed` builds it", demo.display())
    });
    for program in [clusterd, PathBuf::from(env!("CARGO_BIN_EXE_clusterd-heart"))] {
        let bytes = std::fs::read(&program).unwrap();
        for name in NOT_ON_A_SERVER {
            assert!(contains(&demo, name), "{name} is nowhere: is it spelt so?");
            assert!(!contains(&bytes, name), "{name} is in {}", program.display());
        }
    }
}
