use super::*;
use crate::service::cancellation::cancellation;

/// Writes a program, by another process: one of ours that is just being started would hold the open
/// file for a moment, and the program could not be run (ETXTBSY).
pub(in crate::service) fn write_program(path: &Path, body: &str) {
    let writer = ["-c", "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod 755 \"$0\""];
    let mut command = Command::new("sh");
    assert!(command.args(writer).arg(path).arg(body).status().unwrap().success());
}

fn shell(body: &str, patience: Duration) -> (Ran, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    write_program(&program, body);
    let environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("WHO".into(), "web".into())];
    let script =
        Script { program: &program, argument: Some("status"), environment: &environment, patience };
    let (_canceller, cancel) = cancellation().unwrap();
    let begin = Instant::now();
    (script.run(&cancel), begin.elapsed())
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn argument_environment_and_words() {
    let (ran, _) = shell("echo $1 for $WHO in $PWD $HOME; echo bad >&2; exit 3", LONG);
    assert!(matches!(ran.end, End::Exit(Exit::Status(3))), "{ran:?}");
    assert_eq!(ran.words, "status for web in / bad");
}

#[test]
fn one_that_hangs_is_killed_with_its_group() {
    let (ran, _) =
        shell("echo $$; trap '' TERM; sleep 1000; sleep 1000", Duration::from_millis(300));
    assert!(matches!(ran.end, End::TooLong), "{ran:?}");
    let group: i32 = ran.words.parse().unwrap();
    let begin = Instant::now();
    while nix::sys::signal::killpg(Pid::from_raw(group), None).is_ok() {
        assert!(begin.elapsed() < LONG);
        // Another test may have made this process the one that must bury orphans.
        let _ = nix::sys::wait::waitpid(
            Pid::from_raw(-group),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        );
        std::thread::yield_now();
    }
}

#[test]
fn one_that_never_stops_talking_is_bounded() {
    let (ran, _) = shell("while :; do echo yes no maybe; done", Duration::from_millis(300));
    assert!(matches!(ran.end, End::TooLong), "{ran:?}");
    assert!(ran.words.chars().count() <= SERVICE_WORDS_CHARS && ran.words.contains("maybe yes"));
}

#[test]
fn a_daemon_that_keeps_the_output_does_not_hold_it_up() {
    let (ran, took) = shell("sleep 1000 & echo $!", LONG);
    assert!(matches!(ran.end, End::Exit(Exit::Status(0))), "{ran:?}");
    assert!(took < LONG);
    let daemon: i32 = ran.words.parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
}

#[test]
fn a_pulled_leash_kills_and_a_dropped_one_leaves() {
    let environment = Environment::new();
    let program = Path::new("/bin/sleep");
    let script =
        Script { program, argument: Some("1000"), environment: &environment, patience: LONG };
    let (hand, cancel) = cancellation().unwrap();
    let thread = std::thread::spawn(move || {
        hand.pull();
        hand
    });
    assert!(matches!(script.run(&cancel).end, End::Pulled));
    drop(thread.join().unwrap());
    let script = Script { argument: Some("0.2"), ..script };
    let (hand, cancel) = cancellation().unwrap();
    drop(hand);
    assert!(matches!(script.run(&cancel).end, End::Dropped));
}

#[test]
fn what_cannot_be_run_says_so() {
    let environment = Environment::new();
    let program = Path::new("/nonexistent");
    let script = Script { program, argument: None, environment: &environment, patience: LONG };
    let (_canceller, cancel) = cancellation().unwrap();
    assert!(matches!(script.run(&cancel).end, End::NotRun(_)));
}

#[test]
fn words_are_one_short_line() {
    assert_eq!(words(b" one\n\x1b[31mtwo\t\xff\n"), "one  [31mtwo \u{fffd}");
    let long = words("x".repeat(5000).as_bytes());
    assert_eq!(long.chars().count(), SERVICE_WORDS_CHARS);
}
