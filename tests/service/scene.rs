//! A group with one service, its script in a directory of its own, and what its supervisor tells.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clusterd::config::Service;
use clusterd::core::{ServiceDuty, ServiceReport, ServiceWord};
use clusterd::service::{Setup, Supervisor, Telling};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Nothing that the usual cases do not cover.
pub const DAEMON: &str = "";

const USUAL: &str = "
start) setsid sleep 1000 & echo $! >$D/pid ;;
stop) kill $(cat $D/pid) ;;
status) kill -0 $(cat $D/pid) && ! grep -q ') Z' /proc/$(cat $D/pid)/stat ;;
";

/// Far longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Told {
    reports: Vec<ServiceReport>,
    notes: Vec<String>,
    /// So many tellings are not heard.
    deaf: u32,
}

pub struct Scene {
    directory: tempfile::TempDir,
    /// In the environment of every process of the scene, and nowhere else.
    tag: String,
    pub service: Service,
    told: Arc<Mutex<Told>>,
    running: Option<(Supervisor, JoinHandle<()>)>,
    orders: u32,
}

impl Scene {
    /// `cases` go before the usual ones of the script.
    pub fn new(cases: &str) -> Scene {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::tempdir().unwrap();
        let exec = directory.path().join("web");
        let body = format!(
            "#!/bin/sh\nD={}\necho $1 >>$D/calls\ncase $1 in\n{cases}\n{USUAL}\nesac\n",
            directory.path().display()
        );
        // By another process: one of ours that is just being started would hold the open file for a
        // moment, and the script could not be run (ETXTBSY).
        let writer = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
        let mut writer = Command::new("sh").args(writer).arg(&exec).arg(&body).spawn().unwrap();
        assert!(writer.wait().unwrap().success());
        Scene {
            directory,
            tag: format!("CLUSTERD_CLUSTER=test-{}-{count}", std::process::id()),
            service: Service {
                exec,
                check: None,
                warm: false,
                start_timeout: Duration::from_secs(60),
                stop_timeout: Duration::from_secs(60),
                restarts: 3,
            },
            told: Arc::default(),
            running: None,
            orders: 0,
        }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A supervisor begins, as in a worker that has just started.
    pub fn begin(&mut self) {
        let (supervisor, end) = Supervisor::new(Setup {
            run_dir: self.run_dir(),
            clusterd: env!("CARGO_BIN_EXE_clusterd").into(),
            cluster: self.tag.split_once('=').unwrap().1.to_owned(),
            node: "serv1".into(),
            group: "web".into(),
            services: vec![self.service.clone()],
        });
        let told = Arc::clone(&self.told);
        let thread = std::thread::spawn(move || {
            end.run(|telling| {
                let mut told = told.lock().unwrap();
                if told.deaf > 0 {
                    told.deaf -= 1;
                    return false;
                }
                match telling {
                    Telling::Report(report) => told.reports.push(report.clone()),
                    Telling::Note(note) => told.notes.push(note.clone()),
                }
                true
            });
        });
        self.running = Some((supervisor, thread));
    }

    /// It ends, as with its worker: services are left as they are.
    pub fn end(&mut self) {
        if let Some((supervisor, thread)) = self.running.take() {
            drop(supervisor);
            thread.join().unwrap();
        }
    }

    pub fn deafen(&mut self, times: u32) {
        self.told.lock().unwrap().deaf = times;
    }

    pub fn order(&mut self, duty: ServiceDuty) {
        if self.running.is_none() {
            self.begin();
        }
        self.orders += 1;
        self.running.as_ref().unwrap().0.order(self.orders, duty);
    }

    pub fn order_and_wait(&mut self, duty: ServiceDuty) {
        self.order(duty);
        self.wait("done", |report| report.word == ServiceWord::Done);
    }

    /// The newest report of the newest order.
    pub fn report(&self) -> ServiceReport {
        self.told.lock().unwrap().reports.last().unwrap().clone()
    }

    pub fn notes(&self) -> Vec<String> {
        self.told.lock().unwrap().notes.clone()
    }

    pub fn wait(&self, what: &str, is_so: impl Fn(&ServiceReport) -> bool) {
        self.wait_until(what, |told| {
            told.reports.last().is_some_and(|last| last.order == self.orders && is_so(last))
        });
    }

    pub fn wait_note(&self, text: &str) {
        self.wait_until(text, |told| told.notes.iter().any(|note| note.contains(text)));
    }

    pub fn wait_for_processes(&self, more_than: usize) {
        self.wait_until("enough processes", |_| self.left().len() > more_than);
    }

    /// Until the usual daemon has executed its last program. In the middle of an execve(2) a process has
    /// no environment, so before that it comes and goes in `left`.
    pub fn wait_for_the_daemon(&self) {
        let name = || fs::read_to_string(format!("/proc/{}/comm", self.pid())).unwrap_or_default();
        self.wait_until("the daemon", |_| name() == "sleep\n" && self.left().contains(&self.pid()));
    }

    pub fn wait_for_file(&self, name: &str) {
        self.wait_until(name, |_| fs::read(self.path(name)).is_ok_and(|text| !text.is_empty()));
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Told) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.told.lock().unwrap()) {
            if begin.elapsed() > PATIENCE {
                let told = self.told.lock().unwrap();
                panic!("not {what}: {:?}, {:?}", told.reports.last(), told.notes);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the script by hand.
    pub fn run_script(&self, argument: &str) {
        let (name, value) = self.tag.split_once('=').unwrap();
        let mut command = Command::new(&self.service.exec);
        assert!(command.arg(argument).env(name, value).status().unwrap().success());
    }

    /// How often the script was called so.
    pub fn calls(&self, argument: &str) -> usize {
        self.file("calls").lines().filter(|call| *call == argument).count()
    }

    /// What the script says is its daemon.
    pub fn pid(&self) -> i32 {
        self.file("pid").trim().parse().unwrap()
    }

    /// The holder, by its record.
    pub fn holder(&self) -> i32 {
        let files = fs::read_dir(self.run_dir().join("services")).unwrap();
        let records = files.map(|file| file.unwrap().path());
        let record = records.filter(|path| path.extension().is_some_and(|end| end != "log")).last();
        let text = fs::read_to_string(record.unwrap()).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// The processes of the scene, whoever is their parent. Zombies have no environment.
    pub fn left(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let has_tag = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|pair| pair == self.tag.as_bytes())
        };
        pids.filter(has_tag).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end();
        let begin = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() || begin.elapsed() > PATIENCE {
                return;
            }
            left.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
        }
    }
}

pub fn kill(pid: i32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// A file of a process in /proc.
pub fn words_of(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}
