//! One server: machine, kernel, guard, heart, worker.

use std::collections::VecDeque;
use std::rc::Rc;

use super::disk::Disk;
use super::kernel::Kernel;
use super::mirror::replica::Replica;
use super::worker::{Program, Worker};
use super::world::Happening;
use crate::beat::{Codec, Path};
use crate::config::GroupIndex;
use crate::core::{Core, Event, Time};

/// Frames that a socket keeps for a heart that does not read.
const SOCKET_FRAMES: usize = 64;
/// Frames that a heart reads from one socket in one round.
const FRAMES_A_ROUND: usize = 16;

/// What the netlink thread can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Delete everything.
    Sweep,
    /// Both carriers.
    Look,
    /// Add with a lease.
    Claim(GroupIndex, u32),
    /// Renew the lease.
    Renew(GroupIndex, u32),
    /// Delete.
    Release(GroupIndex, u32),
}

/// A frame on its way, or in a socket.
#[derive(Clone, Debug)]
pub struct Frame {
    /// By which way.
    pub path: Path,
    /// As encoded.
    pub bytes: Rc<[u8]>,
}

/// What waits for the heart's next round, by the order in which a round looks at it.
#[derive(Debug, Default)]
pub struct Inbox {
    /// From the netlink thread.
    pub net: VecDeque<Event>,
    /// ARP.
    pub lan: VecDeque<Event>,
    /// Heartbeats, by path.
    frames: [VecDeque<Frame>; 3],
    /// From worker, operator and guard.
    pub link: VecDeque<Event>,
}

impl Inbox {
    /// What an earlier heart has left unread in the socket to the worker.
    pub fn with(link: Vec<Event>) -> Inbox {
        Inbox { link: link.into(), ..Inbox::default() }
    }

    /// Puts a frame into its socket; a full socket drops it.
    pub fn put_frame(&mut self, frame: Frame) {
        let socket = &mut self.frames[frame.path.index()];
        if socket.len() < SOCKET_FRAMES {
            socket.push_back(frame);
        }
    }

    /// Puts something seen on the LAN into its socket.
    pub fn put_lan(&mut self, event: Event) {
        if self.lan.len() < SOCKET_FRAMES {
            self.lan.push_back(event);
        }
    }

    /// The frames that one round reads from a path's socket.
    pub fn frames_of_a_round(&mut self, path: Path) -> Vec<Frame> {
        let socket = &mut self.frames[path.index()];
        let count = socket.len().min(FRAMES_A_ROUND);
        socket.drain(..count).collect()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.net.is_empty()
            && self.lan.is_empty()
            && self.link.is_empty()
            && self.frames.iter().all(VecDeque::is_empty)
    }
}

/// The heart's process: a core, its loop and its netlink thread.
pub struct Heart {
    /// Number of this process on this node, rising.
    pub id: u32,
    /// The decisions.
    pub core: Core,
    /// Encodes and decodes its heartbeats.
    pub codec: Codec,
    /// The machine's clock when the core's time was 0.
    pub birth_us: u64,
    /// When it began to run without an interruption, in the world's time.
    pub running_since_us: u64,
    /// Faults that hold the process at present.
    pub stopped: u8,
    /// What waits for the next round.
    pub inbox: Inbox,
    /// When the next round is due, in the world's time.
    pub round_at_us: Option<u64>,
    /// The core's time at the last `handle`.
    pub handled_at: Time,
    /// What the netlink thread has not begun yet, with the node's clock at the request.
    pub requests: VecDeque<(Request, u64)>,
    /// Groups that the netlink thread was told to hold.
    pub claimed: Vec<bool>,
    /// When their leases began, by the node's clock.
    pub leased_us: Vec<u64>,
    /// Newest round of reach questions.
    pub reach_round: u32,
    /// It has said farewell.
    pub said_farewell: bool,
}

/// How the guard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Watches.
    Running,
    /// Died; the service manager has not started the daemon again.
    Dead,
    /// Ended in order: the whole daemon is down.
    Ended,
}

/// A netlink request that the kernel works on. It ends even if the process is stopped or killed.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Whose.
    pub heart: u32,
    /// What.
    pub request: Request,
    /// When it began, by the node's clock.
    pub began_us: u64,
    /// When it ends, in the world's time, if nobody holds the kernel's lock.
    pub ends_us: u64,
    /// It is done, and not yet answered.
    pub done: bool,
}

/// One server.
pub struct Node {
    /// Has power.
    pub powered: bool,
    /// Counts the times that it got or lost power; old happenings of the machine are void.
    pub boot: u32,
    /// Faults that pause the machine as a whole at present.
    pub paused: u8,
    /// When the present pause began, in the world's time.
    pub paused_at_us: u64,
    /// When it woke from its last pause.
    pub woke_us: u64,
    /// Sum of the past pauses: how far the kernel's jiffies are behind the world.
    pub pauses_us: u64,
    /// Whether the clock is behind by that, too.
    pub clock_stops_in_pause: bool,
    /// What came up while the machine was paused.
    pub parked: Vec<Happening>,
    /// Service addresses.
    pub kernel: Kernel,
    /// The guard's process.
    pub guard: Guard,
    /// Faults that hold the guard at present.
    pub guard_stopped: u8,
    /// The guard has to see to something as soon as it can.
    pub guard_called: bool,
    /// The heart's process.
    pub heart: Option<Heart>,
    /// Number of the next heart.
    pub next_heart: u32,
    /// What the guard says when the heart is dead, by the heart that sealed it.
    pub will: Vec<Frame>,
    /// When the last heart died, in the world's time.
    pub heart_died_us: u64,
    /// What the kernel does for the netlink thread.
    pub in_flight: Option<InFlight>,
    /// The heart died with a claim on its way: nobody took it back.
    pub orphaned_claim: bool,
    /// Its answer, kept for a stopped heart.
    pub unread_answer: bool,
    /// Disk and worker.
    pub disk: Disk,
    /// The worker's process.
    pub worker: Worker,
    /// Its reports that no heart has read.
    pub unread_reports: Vec<Event>,
    /// The services, by group.
    pub programs: Vec<Program>,
    /// The trees, by group.
    pub replicas: Vec<Replica>,
    /// When each group's addresses were here last.
    pub held_us: Vec<Option<u64>>,
    /// Faults that keep each group's services from running at present.
    pub service_fails: Vec<u8>,
    /// Faults that leave no room for what the peer sends at present.
    pub trees_full: u8,
    /// Faults that hold the worker at present.
    pub worker_stopped: u8,
    /// A write ended while the worker was stopped.
    pub worker_late: bool,
    /// Faults that make the disk hang at present.
    pub disk_stuck: u8,
    /// Faults that make writes fail at present.
    pub disk_failing: u8,
    /// Faults that make the kernel refuse addresses at present.
    pub refuses: u8,
    /// Faults that hold the kernel's lock for changes of the network at present.
    pub rtnl_held: u8,
    /// When one of them began or ended last, in the world's time.
    pub rtnl_changed_us: u64,
    /// Faults that make every round late at present.
    pub loaded: u8,
    /// What the heart last heard of its carriers: LAN, crossover, and the serial line's modem lines.
    pub carriers: [Option<bool>; 3],
}

impl Node {
    /// A server without power, with an empty disk.
    pub fn new(groups: usize, clock_stops_in_pause: bool) -> Node {
        Node {
            powered: false,
            boot: 0,
            paused: 0,
            paused_at_us: 0,
            woke_us: 0,
            pauses_us: 0,
            clock_stops_in_pause,
            parked: Vec::new(),
            kernel: Kernel::new(groups),
            guard: Guard::Ended,
            guard_stopped: 0,
            guard_called: false,
            heart: None,
            next_heart: 0,
            will: Vec::new(),
            heart_died_us: 0,
            in_flight: None,
            orphaned_claim: false,
            unread_answer: false,
            disk: Disk::default(),
            worker: Worker::default(),
            unread_reports: Vec::new(),
            programs: vec![Program::Stopped; groups],
            replicas: vec![Replica::new(); groups],
            held_us: vec![None; groups],
            service_fails: vec![0; groups],
            trees_full: 0,
            worker_stopped: 0,
            worker_late: false,
            disk_stuck: 0,
            disk_failing: 0,
            refuses: 0,
            rtnl_held: 0,
            rtnl_changed_us: 0,
            loaded: 0,
            carriers: [None; 3],
        }
    }

    /// Whether its kernel has carried out a claim that is too old by now, or a renewal after the lease had ended,
    /// and nobody could take it back yet: it is yet to answer, its process to read that, or the guard of a dead
    /// process to delete it.
    pub fn has_late_claim(&self, now_us: u64) -> bool {
        let dead = self.heart.is_none() && self.guard == Guard::Running;
        (dead && self.orphaned_claim)
            || self.in_flight.is_some_and(|busy| {
                let claims = matches!(busy.request, Request::Claim(..) | Request::Renew(..));
                claims && busy.done && super::work::is_late(busy.began_us, self.clock_us(now_us))
            })
    }

    /// Has power and is not paused.
    pub fn runs(&self) -> bool {
        self.powered && self.paused == 0
    }

    /// The kernel's own time.
    pub fn jiffies_us(&self, now_us: u64) -> u64 {
        let until = if self.paused > 0 { self.paused_at_us } else { now_us };
        until - self.pauses_us
    }

    /// The clock that the heart reads.
    pub fn clock_us(&self, now_us: u64) -> u64 {
        if self.clock_stops_in_pause { self.jiffies_us(now_us) } else { now_us }
    }

    /// The world's time when that clock will show that time, if nothing comes between.
    pub fn world_us(&self, clock_us: u64) -> u64 {
        if self.clock_stops_in_pause { clock_us + self.pauses_us } else { clock_us }
    }

    /// The heart, if its machine and its process run.
    pub fn running_heart(&mut self) -> Option<&mut Heart> {
        let runs = self.runs();
        self.heart.as_mut().filter(|heart| runs && heart.stopped == 0)
    }

    /// Whether a heart runs, since when.
    pub fn heart_runs_since(&self) -> Option<u64> {
        let heart = self.heart.as_ref()?;
        (self.runs() && heart.stopped == 0).then_some(heart.running_since_us)
    }

    /// Whether the guard can act.
    pub fn guard_runs(&self) -> bool {
        self.runs() && self.guard == Guard::Running && self.guard_stopped == 0
    }
}
