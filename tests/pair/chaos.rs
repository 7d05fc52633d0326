//! Faults by chance between two real daemons, writers on both sides and readers, for a short while; `make chaos`
//! goes on for as long as one likes.

use std::fmt::Write;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clusterd_bed::chaos::{Plan, run};

use crate::scene;

#[test]
fn nothing_is_lost_in_a_short_chaos() {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let _alone = scene::alone();
    let plan = Plan {
        exe: scene::options().exe,
        seed: 7,
        time: Duration::from_secs(30),
        failovers: Some(4),
        stop: &NEVER,
    };
    let mut told = String::new();
    let report = run(&plan, &mut |line| {
        let _ = writeln!(told, "{line}");
    });
    let report = report.unwrap_or_else(|error| panic!("{error}\n{told}"));
    assert!(report.violations.is_empty(), "{report}\n{told}");
    assert!(report.acknowledged > 0, "{report}\n{told}");
}
