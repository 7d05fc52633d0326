//! The demo's command line. That this test is here makes cargo build the program, which tests of a pair find beside `clusterd`.

// Helpers of tests are tests: a panic is how they fail.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn help_and_wrong_usage() {
    let demo = |argument: &str| {
        Command::new(env!("CARGO_BIN_EXE_clusterd-demo")).arg(argument).output().unwrap()
    };
    let help = demo("--help");
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("clusterd demo [OPTIONS]") && text.contains("--rounds"), "{text}");
    assert!(!text.contains("bed-responder"), "{text}");
    assert_eq!(demo("--rounds=0").status.code(), Some(2));
}
