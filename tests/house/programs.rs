//! What the programs are made of: guard and heart keep all of theirs in locked memory.

use std::path::Path;

/// Names as both ways of mangling write them: with their length.
const NOT_IN_THE_HEART: [&str; 10] = [
    "12clap_builder",
    "4redb",
    "4snow",
    "7globset",
    "14regex_automata",
    "4ureq",
    "5tokio",
    "8clusterd6mirror",
    "8clusterd7service",
    "8clusterd3cli",
];

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
