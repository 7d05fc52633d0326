use super::*;
#[test]
fn bench_tmp() {
    let path = std::env::var("BENCH_FILE").unwrap();
    let file = File::open(path).unwrap();
    let seen = seen_of(&file).unwrap();
    for round in 0..3 {
        for threads in [1, 2] {
            for how in [Hash::Read, Hash::Map] {
                let t = std::time::Instant::now();
                let c0 = nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
                let c = content(&file, &seen, how, threads).unwrap();
                let c1 = nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
                println!(
                    "{round} {threads} {how:?} wall {:?} cpu {:?} {}",
                    t.elapsed(),
                    std::time::Duration::from(c1 - c0),
                    c.chunks.len()
                );
            }
        }
    }
}
use nix::time::ClockId;
