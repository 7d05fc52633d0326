//! The table of the role machine: every state and every event, and what follows at once. The machine itself makes it:
//! `UPDATE_GOLDENS=1` writes `tests/roles/transitions.txt` anew. Read the difference as a change of the rules.

use std::fmt::Write as _;

use super::duties::{draining, with_service};
use super::*;
use crate::control::status::Mirror;
use crate::core::evidence::peer::{Death, Life};
use crate::core::group::role::{Active, Check, Draining, Role};

/// The want of this node, and the peer's.
const MINE: u16 = 41;
const THEIRS: u16 = 7;

/// This node (`serv1`, where the group is at home) in the middle of something.
#[derive(Clone)]
struct Scene {
    core: Core,
    now: Time,
    /// What the peer sends next, unless an event changes it.
    beat: Beat,
    /// The worker's newest orders, for services and mirror.
    orders: [Option<u32>; 2],
}

impl Scene {
    fn of(story: &Story) -> Scene {
        let sent = story.recorded.iter().filter(|(from, ..)| *from == B);
        let last = sent.map(|(.., beat)| beat.sequence).max().expect("it sends");
        let beat = Beat { sequence: last, ..newest(story, B, Path::Crossover) };
        let node = &story.nodes[A];
        let services = node.services_ordered.map(|(order, _)| order);
        let mirror = node.mirror_ordered.map(|(order, _)| order);
        Scene { core: node.core.clone(), now: story.local(A), beat, orders: [services, mirror] }
    }

    fn set(mut self, role: Role) -> Scene {
        self.core.groups[0].role = role;
        self
    }

    /// The peer says this now.
    fn hears(&mut self, edit: impl FnOnce(&mut Beat)) {
        edit(&mut self.beat);
        self.beat.sequence += 1;
        self.beat.echo_us = self.now.0;
        self.beat.echo_held_us = 0;
        let beat = self.beat.clone();
        self.give(Event::Heard { path: Path::Crossover, beat });
    }

    fn says(&mut self, stance: Stance) {
        self.hears(|beat| beat.groups[0].stance = stance);
    }

    /// The same before the state that is looked at.
    fn said(mut self, stance: Stance) -> Scene {
        self.says(stance);
        while self.core.poll().is_some() {}
        self
    }

    /// The peer has been found dead.
    fn dead(&mut self, death: Death) {
        self.core.evidence.peer.life = Life::Dead { death, at: self.now };
        self.give(Event::Tick);
    }

    fn give(&mut self, event: Event) {
        self.core.handle(self.now, event);
    }

    /// The worker says so of its newest order for the services.
    fn services(&mut self, word: ServiceWord) {
        let order = self.orders[0].unwrap_or(0);
        let report = ServiceReport { order, word, why: String::new(), services: Vec::new() };
        self.give(Event::Services { group: WEB, report });
    }

    fn role(&mut self) -> &mut Role {
        &mut self.core.groups[0].role
    }

    fn claim(&self) -> u32 {
        self.core.claim
    }

    /// It serves in a generation so much later than the one that is known here.
    fn generation(&mut self, later: i64, stance: Stance) {
        let known = self.core.disk.served("web").expect("it was served");
        self.hears(|beat| {
            let part = &mut beat.groups[0];
            part.stance = stance;
            part.generation = u32::try_from(i64::from(known.number) + later).unwrap();
            (part.owner, part.id) = (index(B), known.id.wrapping_add(1));
        });
    }
}

fn name(role: &Role) -> String {
    match role {
        Role::Passive { granted: None } => "passive".into(),
        Role::Passive { granted: Some(_) } => "passive, granting".into(),
        Role::Wanting { .. } => "wanting".into(),
        Role::Probing { granted: true, .. } => "probing, granted".into(),
        Role::Probing { granted: false, .. } => "probing".into(),
        Role::Active(active) => {
            let mut name = String::from("active");
            let marks = [
                (!active.held, ", not held"),
                (active.check.is_some(), ", checking"),
                (active.offer.is_some(), ", offering"),
                (active.stopping.is_some(), ", stopping"),
                (active.contested, ", contested"),
            ];
            marks.iter().filter(|(is, _)| *is).for_each(|(_, mark)| name.push_str(mark));
            name
        }
        Role::Releasing { handover: true, .. } => "releasing for the peer".into(),
        Role::Releasing { handover: false, .. } => "releasing".into(),
        Role::Draining(_) => "draining".into(),
    }
}

/// What is done to addresses, services and trees, and told; not what is sent, asked and written all the time.
fn deed(command: &Command) -> Option<String> {
    match command {
        Command::Probe { .. } => Some("probe".into()),
        Command::Claim { .. } => Some("claim".into()),
        Command::Renew { .. } => Some("renew".into()),
        Command::Release { .. } => Some("release".into()),
        Command::Announce { .. } => Some("announce".into()),
        Command::Tickle { .. } => Some("tickle".into()),
        Command::Services { duty, .. } => Some(format!("services {duty:?}")),
        Command::Mirror { duty, .. } => {
            let duty = format!("{duty:?}");
            let word = duty.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            Some(format!("mirror {word}"))
        }
        Command::Tell(told) => Some(format!("tell {:?}", told.kind)),
        Command::Answer { outcome, .. } => {
            Some(if outcome.is_ok() { "answer: done" } else { "answer: refused" }.into())
        }
        Command::Exit => Some("exit".into()),
        Command::Will { .. }
        | Command::Sweep
        | Command::Send { .. }
        | Command::Pulse(_)
        | Command::LookAtCarriers
        | Command::AskReach { .. }
        | Command::Configured
        | Command::Addresses { .. }
        | Command::Persist { .. }
        | Command::Clients { .. }
        | Command::Approve { .. }
        | Command::Sync { .. } => None,
    }
}

/// Every state, and what the peer says in it.
fn states() -> Vec<(&'static str, Scene)> {
    let mut story = with_service();
    story.run(MS * 1_000);
    story.services(A, ServiceWord::Done);
    story.services(B, ServiceWord::Done);
    story.run(MS * 5_000);
    let active = Scene::of(&story);
    let to = Some(index(B));
    let wish = Wish::Move { group: WEB, to, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    story.run(MS * 100);
    story.services(A, ServiceWord::Done);
    story.time_until_held(B, MS * 2_000);
    story.services(B, ServiceWord::Done);
    story.run(MS * 30_000);
    let passive = Scene::of(&story);
    let now = passive.now;
    let dead = |mut scene: Scene| {
        scene.dead(Death::Silent { gone: Some(true) });
        while scene.core.poll().is_some() {}
        scene
    };
    let alone = dead(passive.clone());
    let granted = {
        let mut scene = passive.clone().said(Stance::Granting(MINE));
        scene.core.groups[0].lan.begin(now, false);
        scene.set(Role::Probing { want: MINE, granted: true })
    };
    let edit = |change: fn(&mut Active, Time)| {
        let mut scene = active.clone();
        let now = scene.now;
        let Role::Active(state) = scene.role() else { panic!("it serves") };
        change(state, now);
        scene
    };
    let wanting = Role::Wanting { want: MINE, since: now, served: false };
    let releasing = |handover| {
        let repeat_at = active.now + limits::RELEASE_REPEAT;
        let scene = active.clone().said(Stance::Wanting(THEIRS));
        scene.set(Role::Releasing { handover, repeat_at, drain: None })
    };
    vec![
        ("passive; the peer serves", passive.clone()),
        ("passive, granting; the peer wants it", {
            let scene = passive.clone().said(Stance::Wanting(THEIRS));
            scene.set(Role::Passive { granted: Some(THEIRS) })
        }),
        ("wanting; the peer is passive", passive.clone().said(Stance::Passive).set(wanting)),
        ("probing; the peer is dead", alone),
        ("probing, granted; the peer grants it", granted),
        (
            "active, not held; the peer is passive",
            edit(|active, _| (active.held, active.held_since) = (false, None)),
        ),
        ("active; the peer is passive", active.clone()),
        (
            "active, checking after a stall; the peer is passive",
            edit(|active, now| active.check = Some(Check::begin(now))),
        ),
        ("active, offering, stopping; the peer wants it", {
            let mut scene = active.clone();
            let wish = Wish::Move { group: WEB, to, accept_loss: false };
            scene.give(Event::Wished { request: 1, wish });
            scene.said(Stance::Wanting(THEIRS))
        }),
        ("releasing for the peer, which wants it", releasing(true)),
        ("releasing for nobody; the peer wants it", releasing(false)),
        ("draining; the peer wants it", {
            let (story, _) = draining();
            Scene::of(&story)
        }),
    ]
}

type Happens = fn(&mut Scene);

/// What may happen in any state.
const EVENTS: [(&str, Happens); 35] = [
    ("nothing", |scene| scene.give(Event::Tick)),
    ("its patience is over", |scene| {
        let now = scene.now;
        match scene.role() {
            Role::Wanting { since, .. } => *since = Time(0),
            Role::Releasing { repeat_at, .. } => *repeat_at = now,
            Role::Draining(Draining { until, .. }) => *until = now,
            Role::Active(active) => {
                if let Some(check) = &mut active.check {
                    check.until = now;
                }
            }
            Role::Passive { .. } | Role::Probing { .. } => {}
        }
        scene.give(Event::Tick);
    }),
    ("the peer says unable", |scene| scene.says(Stance::Unable)),
    ("the peer says passive", |scene| scene.says(Stance::Passive)),
    ("the peer says wanting", |scene| scene.says(Stance::Wanting(THEIRS))),
    ("the peer grants this node's want", |scene| scene.says(Stance::Granting(MINE))),
    ("the peer grants another want", |scene| scene.says(Stance::Granting(MINE - 1))),
    ("the peer says active, generation before", |scene| scene.generation(-1, Stance::Active)),
    ("the peer says active, generation after", |scene| scene.generation(1, Stance::Active)),
    ("the peer says offering", |scene| scene.generation(1, Stance::Offering)),
    ("the peer claims, generation after", |scene| {
        scene.generation(1, Stance::Claiming);
    }),
    ("the peer is in standby mode", |scene| {
        scene.hears(|beat| {
            beat.state = NodeState::Standby;
            beat.groups[0].stance = Stance::Unable;
        });
    }),
    ("the peer is silent, the LAN answers", |scene| scene.dead(Death::Silent { gone: Some(true) })),
    ("the peer is silent, nobody answers", |scene| scene.dead(Death::Silent { gone: Some(false) })),
    ("the peer says goodbye", |scene| {
        scene.hears(|beat| beat.farewell = true);
    }),
    ("the peer's guard says its last will", |scene| {
        scene.hears(|beat| (beat.farewell, beat.will) = (true, true));
    }),
    ("the peer answers for the address", |scene| {
        scene.give(Event::AddressSeen { group: WEB, holder: Holder::Peer });
    }),
    ("the peer announces the address", |scene| {
        scene.give(Event::AddressSeen { group: WEB, holder: Holder::PeerAnnounces });
    }),
    ("a stranger answers for the address", |scene| {
        scene.give(Event::AddressSeen { group: WEB, holder: Holder::Stranger([2, 0, 0, 0, 0, 9]) });
    }),
    ("the claim is held", |scene| {
        let claim = scene.claim();
        scene.give(Event::Held { group: WEB, claim });
    }),
    ("the kernel refuses the claim", |scene| {
        let (claim, error) = (scene.claim(), "refused".to_string());
        scene.give(Event::HoldFailed { group: WEB, claim, error });
    }),
    ("an earlier claim fails", |scene| {
        let (claim, error) = (scene.claim().wrapping_sub(1), "refused".to_string());
        scene.give(Event::HoldFailed { group: WEB, claim, error });
    }),
    ("the release is done", |scene| {
        let release = scene.core.groups[0].release;
        scene.give(Event::Released { group: WEB, release });
    }),
    ("an earlier release is done", |scene| {
        let release = scene.core.groups[0].release.wrapping_sub(1);
        scene.give(Event::Released { group: WEB, release });
    }),
    ("somebody deletes the address here", |scene| scene.give(Event::AddressLost { group: WEB })),
    ("somebody adds the address here", |scene| scene.give(Event::AddressFound { group: WEB })),
    ("the services are as ordered", |scene| scene.services(ServiceWord::Done)),
    ("a service fails", |scene| scene.services(ServiceWord::Failed)),
    ("the last changes are sent", |scene| {
        let report = MirrorReport {
            order: scene.orders[1].unwrap_or(0),
            known: true,
            still: true,
            drained: true,
            complete: true,
            copy_of: None,
            commit: 0,
            ready_for: None,
            empty: false,
            in_sync: true,
            unsent: Unsent::Nothing,
            stuck: 0,
            held: String::new(),
            status: Mirror::off(),
        };
        scene.give(Event::Mirror { group: WEB, report });
    }),
    ("standby is asked for", |scene| {
        scene.give(Event::Wished { request: 9, wish: Wish::Standby(index(A)) });
    }),
    ("a move to the peer is asked for", |scene| {
        let wish = Wish::Move { group: WEB, to: Some(index(B)), accept_loss: false };
        scene.give(Event::Wished { request: 9, wish });
    }),
    ("this node is told to end", |scene| scene.give(Event::Shutdown)),
    ("this node slept for 400 ms", |scene| {
        scene.now = scene.now + MS * 400;
        scene.give(Event::Tick);
    }),
    ("this node slept longer than a lease", |scene| {
        scene.now = scene.now + limits::LEASE + MS * 400;
        scene.give(Event::Tick);
    }),
    ("this node's guard is gone", |scene| scene.give(Event::GuardGone)),
];

fn table() -> String {
    let mut text = String::from(
        "The role of a node in a group: every state, every event, and what follows at once.\n\
         Made by the machine itself (src/core/tests/transitions.rs); \"-\": the state stays.\n",
    );
    for (title, scene) in states() {
        let before = name(&scene.core.groups[0].role);
        let _ = writeln!(text, "\n## {title}\n");
        for (event, happens) in EVENTS {
            let mut scene = scene.clone();
            happens(&mut scene);
            let after = name(scene.role());
            let after = if after == before { "-".to_string() } else { after };
            let deeds: Vec<String> =
                std::iter::from_fn(|| scene.core.poll()).filter_map(|it| deed(&it)).collect();
            let line = format!("{event:36} | {after:24} | {}", deeds.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

#[test]
fn what_follows_each_event_in_each_role() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/roles/transitions.txt");
    let table = table();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (number, (now, before)) in table.lines().zip(golden.lines()).enumerate() {
        assert_eq!(now, before, "line {}", number + 1);
    }
    assert_eq!(table, golden);
}
