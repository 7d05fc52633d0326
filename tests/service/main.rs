//! Services for real: scripts, daemons that escape, holders that outlive their worker.

// Helpers of tests are tests: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod scene;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use clusterd::config::{Check, Probe};
use clusterd::core::{ServiceDuty, ServiceWord};
use nix::sys::signal::Signal;
use scene::{DAEMON, Scene, kill, words_of};

const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_daemon_is_held_and_stopped() {
    let mut scene = Scene::new(DAEMON);
    scene.order_and_wait(ServiceDuty::Run);
    let [pid, holder] = [scene.pid(), scene.holder()];
    assert_eq!(words_of(pid, "stat").split(' ').nth(3).unwrap(), holder.to_string());
    assert_eq!(words_of(holder, "comm").trim(), "clusterd-hold");
    let cmdline = words_of(holder, "cmdline").replace('\0', " ");
    assert!(cmdline.starts_with("clusterd hold /"), "{cmdline}");
    let report = scene.report();
    assert_eq!((report.services[0].state.as_str(), report.why.as_str()), ("running", ""));
    scene.order_and_wait(ServiceDuty::End);
    assert_eq!(scene.report().services[0].state, "stopped");
    assert!(scene.left().is_empty());
    assert_eq!(scene.calls("start"), 1);
    assert_eq!(scene.calls("stop"), 1);
    assert!(scene.notes().is_empty(), "{:?}", scene.notes());
    // What is left is a log.
    let files = fs::read_dir(scene.run_dir().join("services")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert!(!names.is_empty());
    assert!(names.iter().all(|name| name.to_str().unwrap().ends_with(".log")), "{names:?}");
}

#[test]
fn programs_are_started_in_clean_surroundings() {
    let mut scene = Scene::new(
        "start) { env; pwd; grep -E '^Sig(Blk|Ign)|^NoNewPrivs' /proc/self/status
           echo \"sid $(cut -d' ' -f6 /proc/self/stat) holder $PPID\"
           echo \"policy $(cut -d' ' -f41 /proc/self/stat)\"
           readlink /proc/$$/fd/0 /proc/$$/fd/2; } >$D/seen
           ls -l /proc/$$/fd >$D/fds; sleep 1000 & echo $! >$D/pid ;;",
    );
    scene.order_and_wait(ServiceDuty::Run);
    let seen = scene.file("seen");
    for line in
        ["LANG=C.UTF-8", "CLUSTERD_NODE=serv1", "CLUSTERD_GROUP=web", "PWD=/", "/", "policy 0"]
    {
        assert!(seen.lines().any(|seen| seen == line), "{line} is not in {seen}");
    }
    assert!(!seen.contains("CARGO"), "{seen}");
    let signals = seen.lines().filter(|line| line.starts_with("Sig"));
    assert!(signals.clone().count() >= 2, "{seen}");
    for line in signals {
        // Signals 1 to 31: those above may be ignored by whoever started the test.
        let hex = line.split_whitespace().last().unwrap();
        assert_eq!(u64::from_str_radix(hex, 16).unwrap() & 0x7fff_ffff, 0, "{seen}");
    }
    let session: Vec<&str> =
        seen.lines().find(|line| line.starts_with("sid")).unwrap().split(' ').collect();
    assert_eq!(session[1], scene.holder().to_string(), "{seen}");
    // Nothing of the holder's or the worker's: no pipe, no link, no signalfd.
    let descriptors = scene.file("fds");
    let ours = ["pipe:", "socket:", "anon_inode:"];
    assert!(!ours.iter().any(|kind| descriptors.contains(kind)), "{descriptors}");
    assert!(seen.lines().any(|line| line == "/dev/null"), "{seen}");
    assert!(seen.lines().any(|line| line.ends_with(".log")), "{seen}");
    scene.order_and_wait(ServiceDuty::End);
}

#[test]
fn nothing_escapes_a_kill() {
    let mut scene = Scene::new(
        "start) (setsid sh -c 'trap \"\" TERM; (setsid sleep 1000 &); sleep 1000; sleep 1000' &)
           setsid sh -c 'while :; do (sleep 1000 &) ; sleep 0.05; done' & echo $! >$D/pid ;;
         stop) ;;",
    );
    scene.order_and_wait(ServiceDuty::Run);
    scene.wait_for_processes(6);
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty(), "{:?}", scene.left());
    assert!(scene.notes()[0].ends_with("what it left running after `stop` was killed"));
}

#[test]
fn a_start_that_hangs_is_killed_and_told() {
    let mut scene = Scene::new("start) echo waiting for the moon; sleep 1000 ;;");
    scene.service.start_timeout = SOON;
    scene.service.restarts = 0;
    scene.begin();
    scene.order(ServiceDuty::Run);
    scene.wait("failed", |report| report.word == ServiceWord::Failed);
    let note = scene.notes()[0].clone();
    assert!(
        note.contains("`start` took longer than 300ms, saying \"waiting for the moon\""),
        "{note}"
    );
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty());
}

#[test]
fn an_order_ends_a_start_that_hangs() {
    let mut scene = Scene::new("start) echo $$ >$D/pid; sleep 1000 ;;");
    scene.begin();
    scene.order(ServiceDuty::Run);
    scene.wait_for_file("pid");
    scene.order_and_wait(ServiceDuty::Standby);
    assert!(scene.left().is_empty());
    assert!(scene.notes().is_empty(), "{:?}", scene.notes());
}

#[test]
fn a_start_that_fails_says_why() {
    let mut scene = Scene::new("start) echo no such disk >&2; exit 3 ;;");
    scene.service.restarts = 1;
    scene.begin();
    scene.order(ServiceDuty::Run);
    scene.wait("failed", |report| report.word == ServiceWord::Failed);
    let notes = scene.notes();
    assert!(
        notes[0].ends_with("`start` ended with status 3, saying \"no such disk\"; restart 1 of 1"),
        "{notes:?}"
    );
    assert!(scene.report().why.contains("no such disk"));
    assert_eq!((notes.len(), scene.calls("start")), (2, 2));
    scene.order_and_wait(ServiceDuty::End);
}

#[test]
fn a_program_that_is_not_there_fails_and_can_be_stopped() {
    let mut scene = Scene::new(DAEMON);
    scene.service.exec = "/nonexistent/web".into();
    scene.service.restarts = 0;
    scene.begin();
    scene.order(ServiceDuty::Run);
    scene.wait("failed", |report| report.word == ServiceWord::Failed);
    assert!(
        scene.notes()[0].contains("is the program there, and executable?"),
        "{:?}",
        scene.notes()
    );
    scene.order_and_wait(ServiceDuty::End);
}

#[test]
fn a_stop_that_hangs_is_killed_with_the_service() {
    let mut scene = Scene::new("stop) echo still busy; trap '' TERM; sleep 1000; sleep 1000 ;;");
    scene.service.stop_timeout = SOON;
    scene.order_and_wait(ServiceDuty::Run);
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty(), "{:?}", scene.left());
    let notes = scene.notes();
    assert!(notes[0].contains("`stop` took longer than 300ms and was killed"), "{notes:?}");
    assert!(notes[0].ends_with("saying \"still busy\""), "{notes:?}");
}

#[test]
fn a_service_that_dies_is_restarted() {
    let mut scene = Scene::new(DAEMON);
    scene.order_and_wait(ServiceDuty::Run);
    let first = scene.pid();
    kill(first, Signal::SIGKILL);
    scene.wait_note("runs again");
    let notes = scene.notes();
    assert!(notes[0].ends_with("all its processes have ended; restart 1 of 3"), "{notes:?}");
    assert_ne!(scene.pid(), first);
    scene.wait("done", |report| report.word == ServiceWord::Done);
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty());
}

#[test]
fn another_worker_takes_over_what_runs() {
    let mut scene = Scene::new(DAEMON);
    scene.order_and_wait(ServiceDuty::Run);
    let first = scene.pid();
    scene.end();
    assert_eq!(scene.pid(), first);
    scene.begin();
    scene.order(ServiceDuty::Leave);
    scene.wait("unknown", |report| report.word == ServiceWord::Unknown);
    scene.order_and_wait(ServiceDuty::Run);
    assert_eq!((scene.calls("start"), scene.calls("stop"), scene.pid()), (1, 0, first));
    // And notices its end.
    kill(first, Signal::SIGKILL);
    scene.wait_note("runs again");
    assert!(scene.notes()[0].contains("all its processes have ended"), "{:?}", scene.notes());
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty());
}

#[test]
fn strays_of_an_earlier_life_are_stopped() {
    for duty in [ServiceDuty::Standby, ServiceDuty::End] {
        let mut scene = Scene::new(DAEMON);
        scene.order_and_wait(ServiceDuty::Run);
        scene.end();
        scene.begin();
        scene.order_and_wait(duty);
        assert_eq!((scene.left().len(), scene.calls("stop")), (0, 1));
        scene.end();
        // One without a holder.
        scene.run_script("start");
        scene.wait_for_the_daemon();
        assert_eq!(scene.left().len(), 1);
        scene.begin();
        scene.order_and_wait(duty);
        assert_eq!((scene.left().len(), scene.calls("stop")), (0, 2));
    }
}

#[test]
fn a_service_whose_shim_was_killed_is_restarted() {
    let mut scene = Scene::new(DAEMON);
    scene.order_and_wait(ServiceDuty::Run);
    let first = scene.pid();
    kill(scene.holder(), Signal::SIGKILL);
    scene.wait_note("runs again");
    assert_ne!(scene.pid(), first);
    assert_eq!(scene.calls("stop"), 1);
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}

#[test]
fn what_another_manager_runs_is_known_by_its_status() {
    let mut scene = Scene::new(
        "start) echo >$D/unit ;;
         stop) rm -f $D/unit ;;
         status) test -f $D/unit ;;",
    );
    scene.order_and_wait(ServiceDuty::Run);
    assert!(scene.left().is_empty());
    fs::remove_file(scene.path("unit")).unwrap();
    scene.wait_note("runs again");
    assert!(scene.notes()[0].contains("`status` ended with 1"), "{:?}", scene.notes());
    scene.end();
    scene.begin();
    scene.order_and_wait(ServiceDuty::Run);
    assert_eq!(scene.calls("start"), 2);
    scene.order_and_wait(ServiceDuty::Standby);
    assert!(!scene.path("unit").exists());
}

#[test]
fn one_that_is_not_stopped_by_stop_is_never_called_stopped() {
    let mut scene =
        Scene::new("start) echo >$D/unit ;; stop) exit 7 ;; status) test -f $D/unit ;;");
    scene.order_and_wait(ServiceDuty::Run);
    scene.order(ServiceDuty::End);
    scene.wait_note("cannot be stopped: `status` says that it still runs, although `stop` ended");
    assert_eq!(scene.report().word, ServiceWord::Changing);
    fs::remove_file(scene.path("unit")).unwrap();
    scene.wait("done", |report| report.word == ServiceWord::Done);
}

#[test]
fn a_check_decides_when_it_is_in_service_and_when_it_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut scene = Scene::new(DAEMON);
    let probe = Probe::Tcp(address);
    let every = Duration::from_millis(100);
    scene.service.check =
        Some(Check { probe, every, timeout: Duration::from_secs(10), failures: 2 });
    scene.begin();
    scene.order(ServiceDuty::Run);
    scene.wait("waiting", |report| report.services[0].check == "waiting");
    let listener = TcpListener::bind(address).unwrap();
    scene.wait("done", |report| report.word == ServiceWord::Done);
    assert_eq!(scene.report().services[0].check, "ok");
    drop(listener);
    scene.wait_note("its check failed 2 times");
    let _listener = TcpListener::bind(address).unwrap();
    scene.wait_note("runs again");
    assert_eq!(scene.calls("start"), 2);
    scene.order_and_wait(ServiceDuty::End);
    assert!(scene.left().is_empty());
}

#[test]
fn a_heart_that_does_not_listen_is_told_again() {
    let mut scene = Scene::new(DAEMON);
    scene.deafen(3);
    scene.order_and_wait(ServiceDuty::Run);
    scene.order_and_wait(ServiceDuty::End);
}

#[test]
fn a_shim_of_a_program_that_left_the_config_is_named() {
    let mut scene = Scene::new(DAEMON);
    scene.order_and_wait(ServiceDuty::Run);
    let exec = scene.service.exec.clone();
    let run_dir = scene.run_dir();
    let known = [("web", exec.as_path())];
    assert!(clusterd::service::strays(&run_dir, known.into_iter()).is_empty());
    let strays = clusterd::service::strays(&run_dir, [("mail", exec.as_path())].into_iter());
    assert_eq!(strays.len(), 1);
    assert!(strays[0].contains(&format!("`kill {}`", scene.holder())), "{strays:?}");
    // As the sentence says.
    kill(scene.holder(), Signal::SIGTERM);
    scene.wait_note("runs again");
    scene.order_and_wait(ServiceDuty::End);
}
