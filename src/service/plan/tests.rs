use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Check, Probe};
use crate::limits;

/// A plan, the jobs that it has begun, and what really runs.
struct Stage {
    plan: Plan,
    services: Vec<Service>,
    now: Instant,
    orders: u32,
    jobs: Vec<(usize, u64, Task)>,
    interrupted: Vec<usize>,
    notes: Vec<String>,
    up: Vec<bool>,
}

fn service(name: &str, warm: bool, has_check: bool) -> Service {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    Service {
        exec: name.into(),
        check: has_check.then_some(Check {
            probe: Probe::Tcp(address),
            every: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            failures: 2,
        }),
        warm,
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        restarts: 2,
    }
}

impl Stage {
    /// Named a, b, c...; `warm` says which, and every other one has a check.
    fn new(warm: &[bool]) -> Stage {
        let named = warm.iter().zip('a'..).enumerate();
        let services: Vec<Service> = named
            .map(|(number, (warm, name))| service(&name.to_string(), *warm, number % 2 == 0))
            .collect();
        Stage {
            plan: Plan::new(&services),
            up: vec![false; services.len()],
            services,
            now: Instant::now(),
            orders: 0,
            jobs: Vec::new(),
            interrupted: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn order(&mut self, duty: ServiceDuty) {
        self.orders += 1;
        self.plan.order(self.now, self.orders, duty);
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.plan.tick(self.now);
        self.collect();
    }

    fn states(&self) -> Vec<String> {
        self.plan.report().services.into_iter().map(|service| service.state).collect()
    }

    fn wanted(&self, service: usize) -> Option<bool> {
        match self.plan.duty {
            ServiceDuty::Leave => None,
            ServiceDuty::Run => Some(true),
            ServiceDuty::Standby => Some(self.services[service].warm),
            ServiceDuty::End => Some(false),
        }
    }

    /// Takes the plan's actions, and checks the rules.
    fn collect(&mut self) {
        while let Some(action) = self.plan.poll() {
            match action {
                Action::Begin { service, job, task } => {
                    self.may_begin(service, task);
                    // What is begun beside a check ends that.
                    self.jobs.retain(|(other, _, task)| *other != service || *task != Task::Check);
                    self.jobs.push((service, job, task));
                }
                Action::Interrupt { service } => {
                    assert!(self.jobs.iter().any(|job| job.0 == service && job.2 == Task::Start));
                    self.interrupted.push(service);
                }
                Action::Note(text) => self.notes.push(text),
            }
        }
        let report = self.plan.report();
        assert_eq!(report.why.is_empty(), report.word == ServiceWord::Done);
        if report.word == ServiceWord::Done {
            for service in 0..self.up.len() {
                assert_eq!(Some(self.up[service]), self.wanted(service));
            }
        }
    }

    fn may_begin(&self, service: usize, task: Task) {
        let states = self.states();
        let others = |other: usize| self.jobs.iter().any(|job| job.0 == other);
        let busy = self.jobs.iter().any(|job| job.0 == service && job.2 != Task::Check);
        assert!(!busy, "{task:?} beside another job");
        match task {
            Task::Look => assert!(self.wanted(service).is_some()),
            Task::Start => {
                assert_eq!(self.wanted(service), Some(true));
                for (other, state) in states.iter().enumerate() {
                    match self.wanted(other) {
                        Some(true) if other < service => assert_eq!(state, "running"),
                        Some(false) => assert!(!self.up[other] && !others(other)),
                        Some(true) | None => {}
                    }
                }
            }
            Task::Stop => {
                assert!(self.wanted(service).is_some());
                if self.wanted(service) == Some(false) {
                    for other in service + 1..self.up.len() {
                        let is_in_the_way = self.wanted(other) == Some(false) && self.up[other];
                        assert!(!is_in_the_way, "{service} before {other}");
                    }
                }
            }
            Task::Check => assert_ne!(self.wanted(service), Some(false)),
        }
    }

    /// Ends a job that is under way; `luck` 0: as it should.
    fn finish(&mut self, which: usize, luck: u8) {
        let (service, job, task) = self.jobs.remove(which);
        let up = self.up[service];
        let why = || format!("bad luck {luck}");
        let outcome = match (task, luck) {
            (Task::Look, 0..=2) if up => Outcome::Looked(Found::Runs),
            (Task::Look, 0..=2) => Outcome::Looked(Found::Not),
            (Task::Look, _) => Outcome::Looked(Found::Unclear(why())),
            (Task::Start, 0) => Outcome::Started(Ok(true)),
            (Task::Start, 1) => Outcome::Started(Ok(false)),
            (Task::Start | Task::Stop, 3..) => task.not_begun(why()),
            (Task::Start, _) => Outcome::Started(Err(why())),
            (Task::Stop, _) => Outcome::Stopped(Ok(())),
            (Task::Check, 0) if up => Outcome::Checked(Verdict::Well),
            (Task::Check, 0 | 1) => Outcome::Checked(Verdict::Gone(why())),
            (Task::Check, _) => Outcome::Checked(Verdict::Bad(why())),
        };
        match outcome {
            Outcome::Started(Ok(_)) => self.up[service] = true,
            Outcome::Started(Err(_)) => self.up[service] = luck == 2,
            Outcome::Stopped(Ok(())) => self.up[service] = false,
            Outcome::Stopped(Err(_)) | Outcome::Looked(_) | Outcome::Checked(_) => {}
        }
        self.plan.ended(self.now, service, job, outcome);
        self.collect();
    }

    fn die(&mut self, service: usize) {
        let changing = |job: &(usize, u64, Task)| job.0 == service && job.2 != Task::Check;
        if self.up[service] && !self.jobs.iter().any(changing) {
            self.up[service] = false;
            self.plan.lost(self.now, service);
            self.collect();
        }
    }

    /// Everything goes well from now on, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if self.plan.report().word == ServiceWord::Done {
                return;
            }
            if !self.jobs.is_empty() {
                self.finish(0, 0);
            } else if let Some(deadline) = self.plan.next_deadline(self.now) {
                self.pass(deadline - self.now);
            } else {
                break;
            }
        }
        panic!("not settled: {:?}", self.plan);
    }

    /// The only job under way.
    fn only(&self) -> (usize, Task) {
        assert_eq!(self.jobs.len(), 1, "{:?}", self.jobs);
        (self.jobs[0].0, self.jobs[0].2)
    }

    fn running(warm: &[bool]) -> Stage {
        let mut stage = Stage::new(warm);
        stage.order(ServiceDuty::Run);
        stage.settle();
        assert!(stage.notes.is_empty());
        stage
    }

    fn word(&self) -> ServiceWord {
        self.plan.report().word
    }
}

#[test]
fn nothing_is_touched_before_the_first_order_nor_under_leave() {
    let mut stage = Stage::new(&[false, true]);
    stage.pass(Duration::from_secs(60));
    stage.order(ServiceDuty::Leave);
    stage.pass(Duration::from_secs(60));
    assert!(stage.jobs.is_empty());
    assert_eq!((stage.word(), stage.states()), (ServiceWord::Unknown, vec!["unknown".into(); 2]));
}

#[test]
fn they_start_in_order_and_stop_in_reverse() {
    let mut stage = Stage::new(&[false, false]);
    stage.order(ServiceDuty::Run);
    assert_eq!(stage.jobs.iter().map(|job| job.2).collect::<Vec<_>>(), [Task::Look, Task::Look]);
    stage.finish(1, 0);
    stage.finish(0, 0);
    assert_eq!(stage.only(), (0, Task::Start));
    stage.finish(0, 0);
    assert_eq!(stage.only(), (0, Task::Check));
    assert_eq!((stage.word(), stage.states()[0].as_str()), (ServiceWord::Changing, "starting"));
    stage.finish(0, 0);
    assert_eq!(stage.only(), (1, Task::Start));
    stage.finish(0, 0);
    stage.finish(0, 0);
    assert_eq!(stage.word(), ServiceWord::Done);
    let checks: Vec<String> = stage.plan.report().services.into_iter().map(|s| s.check).collect();
    assert_eq!(checks, ["ok", "none"]);
    stage.order(ServiceDuty::End);
    assert_eq!(stage.only(), (1, Task::Stop));
    stage.finish(0, 0);
    assert_eq!(stage.only(), (0, Task::Stop));
    stage.finish(0, 0);
    assert_eq!((stage.word(), stage.states()), (ServiceWord::Done, vec!["stopped".into(); 2]));
    assert_eq!(stage.plan.next_deadline(stage.now), None);
}

#[test]
fn one_that_runs_already_is_taken_over_or_stopped_as_a_stray() {
    let mut stage = Stage::new(&[false]);
    stage.up[0] = true;
    stage.order(ServiceDuty::Run);
    stage.finish(0, 0);
    assert_eq!(stage.only(), (0, Task::Check));
    stage.finish(0, 0);
    assert_eq!(stage.word(), ServiceWord::Done);
    for duty in [ServiceDuty::Standby, ServiceDuty::End] {
        let mut stage = Stage::new(&[false]);
        stage.up[0] = true;
        stage.order(duty);
        stage.finish(0, 0);
        assert_eq!((stage.only(), stage.word()), ((0, Task::Stop), ServiceWord::Changing));
        stage.finish(0, 0);
        assert_eq!(stage.word(), ServiceWord::Done);
    }
}

#[test]
fn one_that_cannot_be_judged_is_stopped_first() {
    let mut stage = Stage::new(&[false]);
    stage.order(ServiceDuty::Run);
    stage.finish(0, 3);
    assert_eq!(stage.only(), (0, Task::Stop));
    stage.finish(0, 0);
    assert_eq!(stage.only(), (0, Task::Start));
    stage.settle();
    assert!(stage.notes.is_empty());
}

#[test]
fn restarts_are_counted_and_then_come_at_growing_intervals() {
    let mut stage = Stage::running(&[false, false]);
    for count in 1..=2 {
        stage.die(0);
        assert_eq!(stage.word(), ServiceWord::Changing);
        let note = format!("a failed: all its processes have ended; restart {count} of 2");
        assert_eq!(stage.notes.pop(), Some(note));
        stage.settle();
        assert_eq!(stage.notes.pop().as_deref(), Some("a runs again"));
    }
    stage.die(0);
    assert_eq!(stage.word(), ServiceWord::Failed);
    let note = stage.notes.pop().unwrap();
    assert!(note.contains("it was restarted 2 times in 10 minutes"), "{note}");
    let mut patience = limits::SERVICE_AGAIN_AFTER;
    for _ in 0..6 {
        // The stop; then the rest of the time since the failure.
        stage.jobs.retain(|job| job.2 != Task::Check);
        assert_eq!(stage.only(), (0, Task::Stop));
        stage.finish(0, 0);
        stage.pass(patience - Duration::from_millis(1));
        stage.jobs.retain(|job| job.2 != Task::Check);
        assert_eq!((stage.jobs.len(), stage.states()[0].as_str()), (0, "failed"));
        stage.pass(Duration::from_millis(1));
        assert_eq!(stage.only(), (0, Task::Start));
        stage.finish(0, 3);
        assert_eq!((stage.word(), stage.notes.len()), (ServiceWord::Failed, 0));
        patience = (2 * patience).min(limits::SERVICE_AGAIN_AFTER_MAX);
    }
    assert_eq!(patience, limits::SERVICE_AGAIN_AFTER_MAX);
    assert!(stage.plan.report().why.contains("a is stopping: bad luck 3"));
    stage.settle();
    assert_eq!(
        (stage.notes.pop().as_deref(), stage.word()),
        (Some("a runs again"), ServiceWord::Done)
    );
    // Long ago is forgotten.
    stage.pass(limits::SERVICE_RESTARTS_WINDOW);
    stage.settle();
    stage.jobs.clear();
    stage.die(0);
    assert_eq!(stage.word(), ServiceWord::Changing);
    assert!(stage.notes.pop().unwrap().ends_with("restart 1 of 2"));
}

#[test]
fn a_check_must_fail_several_times_in_a_row_and_status_once() {
    let mut stage = Stage::running(&[false]);
    for luck in [2, 0, 2] {
        stage.pass(Duration::from_secs(3));
        stage.finish(0, luck);
        assert_eq!(stage.word(), ServiceWord::Done);
        let check = if luck == 0 { "ok" } else { "failing" };
        assert_eq!(stage.plan.report().services[0].check, check);
    }
    stage.pass(Duration::from_secs(3));
    stage.finish(0, 2);
    assert_eq!(stage.only(), (0, Task::Stop));
    assert!(stage.notes[0].contains("a failed: its check failed 2 times: bad luck 2"));
    stage.settle();
    stage.notes.clear();
    stage.pass(Duration::from_secs(3));
    stage.finish(0, 1);
    assert_eq!(stage.only(), (0, Task::Stop));
    assert!(stage.notes[0].starts_with("a failed: bad luck 1; restart 2"), "{:?}", stage.notes);
}

#[test]
fn one_that_is_never_well_after_its_start_has_failed() {
    let mut stage = Stage::new(&[false]);
    stage.order(ServiceDuty::Run);
    stage.finish(0, 0);
    stage.finish(0, 0);
    stage.finish(0, 2);
    stage.pass(limits::CHECK_FIRST_EVERY);
    assert_eq!(stage.only(), (0, Task::Check));
    // Also while a check is under way.
    stage.pass(Duration::from_secs(60));
    assert_eq!(stage.only(), (0, Task::Stop));
    let note = "a failed: it did not pass its check within 60s: bad luck 2; restart 1 of 2";
    assert_eq!(stage.notes, [note]);
    stage.settle();
}

#[test]
fn an_order_interrupts_a_start_and_that_is_no_failure() {
    let mut stage = Stage::new(&[false]);
    stage.order(ServiceDuty::Run);
    stage.finish(0, 0);
    stage.order(ServiceDuty::End);
    stage.order(ServiceDuty::End);
    assert_eq!((stage.interrupted.as_slice(), stage.only()), ([0].as_slice(), (0, Task::Start)));
    stage.order(ServiceDuty::Run);
    stage.finish(0, 3);
    assert_eq!(stage.only(), (0, Task::Stop));
    stage.settle();
    assert!(stage.notes.is_empty(), "{:?}", stage.notes);
}

#[test]
fn on_standby_the_warm_run_and_their_failure_moves_nothing() {
    let mut stage = Stage::running(&[true, false, true]);
    stage.order(ServiceDuty::Standby);
    assert_eq!(stage.jobs.iter().filter(|job| job.2 == Task::Stop).count(), 1);
    stage.settle();
    assert_eq!(stage.states(), ["running", "stopped", "running"]);
    for _ in 0..3 {
        stage.die(0);
        while stage.jobs.iter().any(|job| job.2 != Task::Check) {
            let next = stage.jobs.iter().position(|job| job.2 != Task::Check).unwrap();
            stage.finish(next, 0);
        }
        let check = stage.jobs.iter().position(|job| job.0 == 0);
        check.into_iter().for_each(|which| stage.finish(which, 0));
    }
    assert_eq!(stage.word(), ServiceWord::Changing);
    assert!(stage.plan.report().why.starts_with("a is failed: all its processes have ended"));
    stage.settle();
}

#[test]
fn under_leave_it_is_looked_at_and_left_alone() {
    let mut stage = Stage::running(&[false]);
    stage.order(ServiceDuty::Leave);
    stage.pass(Duration::from_secs(3));
    assert_eq!(stage.only(), (0, Task::Check));
    stage.finish(0, 0);
    stage.die(0);
    stage.pass(Duration::from_secs(600));
    assert!(stage.jobs.is_empty());
    assert_eq!(stage.notes, ["a failed: all its processes have ended; not restarted for now"]);
    stage.order(ServiceDuty::Run);
    assert_eq!(stage.only(), (0, Task::Stop));
    stage.settle();
}

#[test]
fn one_that_cannot_be_stopped_is_told_once_and_stopped_again() {
    let mut stage = Stage::running(&[false, false]);
    stage.order(ServiceDuty::End);
    for _ in 0..3 {
        assert_eq!(stage.only(), (1, Task::Stop));
        stage.finish(0, 3);
        assert_eq!((stage.word(), stage.jobs.len()), (ServiceWord::Changing, 0));
        assert_eq!(stage.notes, ["b cannot be stopped: bad luck 3"]);
        stage.pass(limits::SERVICE_STOP_AGAIN_AFTER);
    }
    stage.settle();
    // One that shall be restarted is of no use either.
    let mut stage = Stage::running(&[false]);
    stage.die(0);
    stage.finish(0, 3);
    assert_eq!(stage.word(), ServiceWord::Failed);
    stage.settle();
}

#[test]
fn a_report_names_its_order_and_a_group_without_services_is_done() {
    let mut stage = Stage::new(&[]);
    stage.order(ServiceDuty::Run);
    stage.order(ServiceDuty::Standby);
    let report = stage.plan.report();
    assert_eq!((report.order, report.word, report.services), (2, ServiceWord::Done, Vec::new()));
}

#[derive(Clone, Debug)]
enum Step {
    Order(ServiceDuty),
    Finish(prop::sample::Index, u8),
    Die(usize),
    Pass(u64),
}

fn duty() -> impl Strategy<Value = ServiceDuty> {
    use ServiceDuty::{End, Leave, Run, Standby};
    prop::sample::select(vec![Leave, Run, Run, Standby, End])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => duty().prop_map(Step::Order),
        8 => (any::<prop::sample::Index>(), prop::sample::select(vec![0u8, 0, 0, 1, 2, 3]))
            .prop_map(|(which, luck)| Step::Finish(which, luck)),
        1 => (0usize..4).prop_map(Step::Die),
        3 => prop::sample::select(vec![1u64, 100, 1_000, 5_000, 70_000]).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Whatever happens, the rules in [`Stage::collect`] hold; and when it ends, all becomes as ordered.
    #[test]
    fn whatever_happens_the_rules_hold_and_it_settles(
        services in prop::collection::vec(any::<(bool, bool)>(), 0..4),
        steps in prop::collection::vec(step(), 0..120),
        last in prop::sample::select(vec![ServiceDuty::Run, ServiceDuty::Standby, ServiceDuty::End]),
    ) {
        let (warm, up): (Vec<bool>, Vec<bool>) = services.into_iter().unzip();
        let mut stage = Stage::new(&warm);
        stage.up = up;
        for step in steps {
            match step {
                Step::Order(duty) => stage.order(duty),
                Step::Finish(which, luck) if !stage.jobs.is_empty() => {
                    stage.finish(which.index(stage.jobs.len()), luck);
                }
                Step::Die(service) if service < warm.len() => stage.die(service),
                Step::Finish(..) | Step::Die(_) => {}
                Step::Pass(ms) => stage.pass(Duration::from_millis(ms)),
            }
        }
        stage.order(last);
        stage.settle();
    }
}
