//! What `status` is told, and what heals by itself.

use std::time::Duration;

use super::world::{Fault, GENERATION, PAST, World, trees};
use crate::core::Time;
use crate::limits;
use crate::mirror::entry::{Key, RelPath, TreeId};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{self, Change, Differ, Envelope, Op, Refused, ToReceiver, ToSender};
use crate::mirror::session::receiver::{self, Receiver};
use crate::mirror::session::sender::{Command, Event, Gathered, Sender, SenderState, Verdict};

const LONG: Duration = Duration::from_secs(60);

fn settled() -> World {
    let mut world = World::new([].into());
    world.write(1, true);
    world.settle(LONG);
    assert!(world.agree());
    assert_eq!(world.told, [SenderState::Syncing, SenderState::InSync]);
    world.told.truncate(0);
    world.told.push(SenderState::InSync);
    world
}

#[test]
fn small_changes_leave_it_in_sync() {
    let mut world = settled();
    world.write(2, true);
    world.settle(LONG);
    assert!(world.agree());
    assert_eq!(world.told, [SenderState::InSync]);
}

#[test]
fn an_idle_link_is_pinged_and_stays() {
    let mut world = settled();
    let before = world.delivered;
    world.settle(Duration::from_secs(2 * 3600));
    assert!(world.delivered > before + 1000);
    assert_eq!((world.sender.disconnects(), world.receiver.disconnects()), (0, 0));
    assert_eq!(world.told, [SenderState::InSync]);
}

#[test]
fn trouble_is_told_and_heals() {
    for (fault, blocked) in [
        (Fault::Stage, false),
        (Fault::Write, true),
        (Fault::Harden, true),
        (Fault::Apply, true),
        (Fault::Gather, true),
        (Fault::Begin, true),
        (Fault::Record, true),
    ] {
        let mut world = settled();
        world.fail_once(fault);
        world.write(2, true);
        world.settle(LONG);
        assert!(world.agree(), "{fault:?}");
        let bad = world.told.get(1);
        assert_eq!(matches!(bad, Some(SenderState::Blocked(_))), blocked, "{fault:?}: {bad:?}");
        assert_eq!(matches!(bad, Some(SenderState::Behind(_))), !blocked, "{fault:?}: {bad:?}");
        assert_eq!(world.told.last(), Some(&SenderState::InSync));
    }
}

/// The peer has it, this node's index has not: nothing here differs from the index any more.
#[test]
fn what_was_applied_and_not_recorded_can_be_taken_back() {
    for fault in [Fault::Record, Fault::Apply] {
        let mut world = settled();
        world.fail_once(fault);
        world.write(9, true);
        while world.told.len() == 1 {
            world.steps(1);
        }
        assert!(matches!(world.told[1], SenderState::Blocked(_)));
        world.delete(9, true);
        world.settle(LONG);
        assert!(world.agree(), "{fault:?}: {:?}", world.standby_tree());
    }
}

/// Its series goes on without it, and a barrier waits for the next one.
#[test]
fn a_file_that_cannot_be_read_any_more_voids_nothing() {
    let mut world = settled();
    world.write(2, true);
    world.write(4, true);
    world.fail_once(Fault::Change);
    let barrier = world.barrier();
    world.settle(LONG);
    assert!(world.agree());
    assert!(world.done >= barrier);
    assert!(world.told.iter().all(|told| !matches!(told, SenderState::Behind(_))));
}

fn commands(sender: &mut Sender) -> Vec<Command> {
    std::iter::from_fn(|| sender.poll()).collect()
}

fn heard(message: ToSender) -> Event {
    Event::Heard(Envelope { generation: GENERATION, message })
}

/// The peer's trees may be replaced.
fn follows() -> Event {
    Event::Judged { verdict: Verdict::Follows, lineage: Lineage::default() }
}

/// What a sender says to a peer that stands at `PAST`, and is told of that.
fn judged(verdict: Verdict) -> (Sender, Vec<Command>) {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    commands(&mut sender);
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [1; 16], commit: 0, past: PAST }));
    assert_eq!(
        commands(&mut sender),
        [Command::Judge { past: PAST, commit: 0 }],
        "before anything is offered"
    );
    sender.handle(Time(0), Event::Judged { verdict, lineage: Lineage::default() });
    let commands = commands(&mut sender);
    (sender, commands)
}

#[test]
fn p3_trees_that_are_not_contained_are_not_replaced() {
    let (sender, commands) = judged(Verdict::Conflict("forked".into()));
    let [Command::Say(said), Command::Disconnect(_), Command::State(SenderState::Conflict(_))] =
        &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert!(matches!(said.message, ToReceiver::Conflict { .. }));
    assert_eq!(sender.next_deadline(), None);
}

#[test]
fn p3_replaced_trees_are_disowned_first_and_compared_anew() {
    let (mut sender, commands) = judged(Verdict::Approved);
    let [Command::Say(said)] = &commands[..] else { panic!("{commands:?}") };
    assert!(matches!(said.message, ToReceiver::Lineage { disown: true, .. }));
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [2; 16], commit: 0, past: PAST }));
    let said = self::commands(&mut sender);
    assert!(!said.iter().any(|command| matches!(command, Command::Judge { .. })), "{said:?}");
    let asks = Envelope { generation: GENERATION, message: ToReceiver::AskBuckets };
    assert!(said.contains(&Command::Say(asks)), "{said:?}");
}

#[test]
fn p3_nothing_is_taken_in_before_the_owner_has_said_what_its_trees_contain() {
    let mut receiver = Receiver::new(GENERATION, "web".into(), trees());
    receiver.handle(Time(0), receiver::Event::Linked);
    let version = crate::mirror::proto::VERSION;
    let hello = ToReceiver::Hello { version, group: "web".into(), trees: trees() };
    let offer =
        ToReceiver::Offer { series: 1, batch: 0, last: true, fuzzy: false, ops: Vec::new() };
    for message in [hello, offer] {
        let envelope = Envelope { generation: GENERATION, message };
        receiver.handle(Time(0), receiver::Event::Heard(envelope));
        receiver
            .handle(Time(0), receiver::Event::Opened { digest: [0; 16], commit: 0, past: PAST });
    }
    let said: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
    assert!(matches!(said.last(), Some(receiver::Command::Disconnect(_))), "{said:?}");
}

#[test]
fn a_peer_that_says_nothing_is_left_at_every_wait() {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    let mut now = Time(0);
    sender.handle(now, Event::Linked);
    sender.handle(now, Event::Walked { digest: [0; 16] });
    let mut disconnects = 0;
    // One word more each time, then silence.
    let words = [
        heard(ToSender::Welcome { digest: [1; 16], commit: 0, past: PAST }),
        heard(ToSender::Buckets { digests: vec![[1; 16]; limits::BUCKETS] }),
    ];
    for count in 0..=words.len() {
        sender.handle(now, Event::Linked);
        sender.handle(now, Event::Walked { digest: [0; 16] });
        for word in &words[..count] {
            sender.handle(now, word.clone());
            sender.handle(now, follows());
            sender.handle(now, Event::Differ(vec![3]));
        }
        while commands(&mut sender).iter().all(|command| !matches!(command, Command::Disconnect(_)))
        {
            now = sender.next_deadline().expect("a wait without a deadline");
            sender.handle(now, Event::Tick);
        }
        disconnects += 1;
        assert_eq!(sender.disconnects(), disconnects);
        assert_eq!(sender.next_deadline(), None);
    }
}

#[test]
fn a_ping_without_an_answer_ends_the_link() {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [0; 16], commit: 0, past: PAST }));
    sender.handle(Time(0), follows());
    sender.handle(Time(0), Event::Gathered(Default::default()));
    // The first series of a link is sent though there is nothing in it.
    sender.handle(
        Time(0),
        heard(ToSender::Need { series: 1, batch: 0, wanted: vec![], refused: vec![] }),
    );
    sender.handle(Time(0), heard(ToSender::Acked { series: 1, batch: 0 }));
    sender.handle(
        Time(0),
        heard(ToSender::Applied { series: 1, conflicts: 0, unfinished: Vec::new() }),
    );
    sender.handle(Time(0), Event::Recorded);
    commands(&mut sender);
    let ping_at = sender.next_deadline().unwrap();
    sender.handle(ping_at, Event::Tick);
    let ping = Envelope { generation: GENERATION, message: ToReceiver::Ping };
    assert_eq!(commands(&mut sender), [Command::Say(ping)]);
    let pong_by = sender.next_deadline().unwrap();
    sender.handle(pong_by, Event::Tick);
    let [Command::Disconnect(_), Command::State(SenderState::Behind(_))] =
        &commands(&mut sender)[..]
    else {
        panic!("it waits on");
    };
}

#[test]
fn another_config_is_refused_with_the_reason() {
    let hello = |version: u16, group: &str, trees: Vec<String>| ToReceiver::Hello {
        version,
        group: group.into(),
        trees,
    };
    for message in [
        hello(99, "web", trees()),
        hello(proto::VERSION, "mail", trees()),
        hello(proto::VERSION, "web", vec!["/srv/www".into()]),
    ] {
        let mut receiver = Receiver::new(GENERATION, "web".into(), trees());
        receiver.handle(Time(0), receiver::Event::Linked);
        let envelope = Envelope { generation: GENERATION, message };
        receiver.handle(Time(0), receiver::Event::Heard(envelope));
        let Some(receiver::Command::Say(said)) = receiver.poll() else { panic!() };
        let ToSender::Refuse { why } = said.message else { panic!("{said:?}") };
        assert!(why.contains("config") || why.contains("version"), "{why}");
        assert!(matches!(receiver.poll(), Some(receiver::Command::Disconnect(_))));
    }
}

#[test]
fn streaming_ends_when_the_peer_says_that_it_is_void() {
    use crate::mirror::proto::{Change, Op, Trouble, Wanted};
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [0; 16], commit: 0, past: PAST }));
    sender.handle(Time(0), follows());
    let change = Change::Put(super::world::entry_of(1));
    let ops = vec![Op { key: super::world::key(1), change, keep: false }];
    let gathered = super::super::sender::Gathered {
        ops,
        fuzzy: false,
        more: false,
        ahead: false,
        owes: false,
    };
    sender.handle(Time(0), Event::Gathered(gathered));
    let wanted = vec![Wanted { op: 0, chunks: vec![0] }];
    sender.handle(Time(0), heard(ToSender::Need { series: 1, batch: 0, wanted, refused: vec![] }));
    assert!(sender.is_streaming());
    sender.handle(Time(0), heard(ToSender::Trouble(Trouble::Failed("EIO".into()))));
    assert!(!sender.is_streaming());
    commands(&mut sender);
    sender.handle(sender.next_deadline().unwrap(), Event::Tick);
    assert_eq!(commands(&mut sender), [Command::Gather { batch: 0 }]);
}

/// What is on its way ahead of its series is not on the peer: nobody says so, and nothing is asked again and
/// again.
#[test]
fn a_barrier_waits_for_what_is_sent_ahead() {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [0; 16], commit: 0, past: PAST }));
    sender.handle(Time(0), follows());
    sender.handle(Time(0), Event::Barrier { id: 1, sync: false, owes: false });
    let gathered = Gathered { ops: vec![], fuzzy: true, more: false, ahead: true, owes: false };
    sender.handle(Time(0), Event::Gathered(gathered));
    let (series, batch, wanted, refused) = (1, 0, vec![], vec![]);
    sender.handle(Time(0), heard(ToSender::Need { series, batch, wanted, refused }));
    sender.handle(Time(0), heard(ToSender::Acked { series, batch }));
    let unfinished = vec![];
    sender.handle(Time(0), heard(ToSender::Applied { series, conflicts: 0, unfinished }));
    sender.handle(Time(0), Event::Recorded);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    let gathered = Gathered { ops: vec![], fuzzy: false, more: false, ahead: true, owes: false };
    sender.handle(Time(0), Event::Gathered(gathered));
    let said = commands(&mut sender);
    let is_wrong = |command: &Command| {
        matches!(command, Command::Done(_) | Command::State(SenderState::InSync))
    };
    assert!(!said.iter().any(is_wrong), "{said:?}");
    assert_eq!(said.last(), Some(&Command::Gather { batch: 0 }), "{said:?}");
    assert!(sender.is_ready());
    sender.handle(Time(0), Event::Dirty);
    let gathered = Gathered { ops: vec![], fuzzy: false, more: false, ahead: false, owes: false };
    sender.handle(Time(0), Event::Gathered(gathered));
    let said = commands(&mut sender);
    assert!(
        said.iter().any(|command| matches!(command, Command::Say(said)
        if said.message == (ToReceiver::Verify { barrier: 1 }))),
        "{said:?}"
    );
    sender.handle(Time(0), heard(ToSender::Verified { barrier: 1 }));
    let said = commands(&mut sender);
    assert!(said.contains(&Command::Done(1)), "{said:?}");
    assert!(said.contains(&Command::State(SenderState::InSync)), "{said:?}");
}

/// Nothing of it would be found until the owner changes the same name.
#[test]
fn what_somebody_changes_on_the_standby_is_restored() {
    let mut world = settled();
    world.meddle(1, true);
    world.meddle(5, true);
    world.settle(LONG);
    assert!(world.agree(), "{:?}", world.standby_tree());
    assert_eq!(world.told, [SenderState::InSync, SenderState::Restoring(1), SenderState::InSync]);
}

/// No event tells of it: the barrier asks.
#[test]
fn a_barrier_asks_the_standby() {
    let mut world = settled();
    world.meddle(1, false);
    world.settle(LONG);
    assert!(!world.agree());
    let barrier = world.barrier();
    while world.done < barrier {
        world.steps(1);
    }
    assert!(world.agree(), "{:?}", world.standby_tree());
    assert_eq!(world.verified, 1, "what is restored is not asked for again");
}

/// The standby could not look: the barrier waits, and what was changed is restored.
#[test]
fn a_standby_that_cannot_look_holds_the_barrier() {
    let mut world = settled();
    world.meddle(1, false);
    world.fail_once(Fault::Verify);
    let barrier = world.barrier();
    while world.done < barrier {
        world.steps(1);
    }
    assert!(world.agree(), "{:?}", world.standby_tree());
    assert!(world.told.iter().any(|state| matches!(state, SenderState::Blocked(_))));
}

/// Whoever writes there all the time costs a comparison now and then, and ends no session.
#[test]
fn a_writer_on_the_standby_does_not_keep_the_session_busy() {
    let mut world = settled();
    let before = world.delivered;
    let began = world.now;
    for second in 1..=600 {
        world.meddle(1, true);
        while world.now.since(began) < Duration::from_secs(second) {
            world.steps(1);
        }
    }
    world.settle(LONG);
    assert!(world.agree());
    assert_eq!((world.sender.disconnects(), world.receiver.disconnects()), (0, 0));
    // A word of each change, a ping and its answer every two seconds, and some twenty for each comparison.
    let said = world.delivered - before;
    assert!(said < 600 + 700 + 40 * 20, "{said} messages in ten minutes");
}

/// What cannot be restored is told again with the answer, and the barrier waits for it without haste.
#[test]
fn what_cannot_be_restored_is_tried_again_without_haste() {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    let differ = Differ { names: 1, first: Vec::new() };
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [0; 16], commit: 0, past: PAST }));
    sender.handle(Time(0), follows());
    sender.handle(Time(0), Event::Barrier { id: 1, sync: false, owes: false });
    let mut now = Time(0);
    let (mut series, mut compared, mut done) = (1, 0, false);
    let until = Time(0) + Duration::from_secs(60);
    while now < until {
        let Some(command) = sender.poll() else {
            now = sender.next_deadline().expect("it waits for something").max(now);
            sender.handle(now, Event::Tick);
            continue;
        };
        let answers = match command {
            Command::Gather { .. } => vec![Event::Gathered(Default::default())],
            Command::Walk { .. } => vec![Event::Walked { digest: [0; 16] }],
            Command::CompareBuckets(_) => vec![Event::Differ(Vec::new())],
            Command::Record { .. } => vec![Event::Recorded],
            Command::Say(Envelope { message, .. }) => match message {
                ToReceiver::AskBuckets => {
                    compared += 1;
                    vec![heard(ToSender::Buckets { digests: vec![[0; 16]; limits::BUCKETS] })]
                }
                ToReceiver::Offer { series: number, batch, .. } => {
                    series = number;
                    vec![heard(ToSender::Need { series, batch, wanted: vec![], refused: vec![] })]
                }
                ToReceiver::Close { series, batch } => vec![
                    heard(ToSender::Acked { series, batch }),
                    heard(ToSender::Differs(differ.clone())),
                    heard(ToSender::Applied { series, conflicts: 0, unfinished: vec![] }),
                ],
                ToReceiver::Verify { barrier } => vec![
                    heard(ToSender::Differs(differ.clone())),
                    heard(ToSender::Verified { barrier }),
                ],
                ToReceiver::Ping => vec![heard(ToSender::Pong)],
                _ => vec![],
            },
            Command::Done(_) => {
                done = true;
                vec![]
            }
            _ => vec![],
        };
        for answer in answers {
            sender.handle(now, answer);
        }
    }
    assert_eq!(sender.disconnects(), 0);
    assert!(series > 0 && compared >= 2, "{compared} comparisons");
    assert!(compared <= 62, "{compared} comparisons in a minute");
    let _ = done;
}

/// What waits for room that the series itself makes is not left out: a barrier is kept when it is there.
#[test]
fn what_fits_after_the_deletions_comes_before_the_barrier_is_kept() {
    let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
    sender.handle(Time(0), Event::Linked);
    sender.handle(Time(0), Event::Walked { digest: [0; 16] });
    sender.handle(Time(0), heard(ToSender::Welcome { digest: [0; 16], commit: 0, past: PAST }));
    sender.handle(Time(0), follows());
    sender.handle(Time(0), Event::Gathered(Default::default()));
    sender.handle(Time(0), Event::Barrier { id: 1, sync: false, owes: false });
    let key = Key { tree: TreeId(0), path: RelPath::new(b"large").unwrap() };
    let (mut soon, mut kept_at) = (0, None);
    for _ in 0..100 {
        let mut answers = Vec::new();
        for command in commands(&mut sender) {
            let (series, batch) = match command {
                Command::Walk { .. } => {
                    answers.push(Event::Walked { digest: [0; 16] });
                    continue;
                }
                Command::Gather { .. } => {
                    let op = Op { key: key.clone(), change: Change::Delete, keep: false };
                    let gathered = Gathered {
                        ops: vec![op],
                        fuzzy: false,
                        more: false,
                        ahead: false,
                        owes: false,
                    };
                    answers.push(Event::Gathered(gathered));
                    continue;
                }
                Command::Record { .. } => {
                    answers.push(Event::Recorded);
                    continue;
                }
                Command::LeaveOut(refused) => {
                    soon += refused.len();
                    continue;
                }
                Command::Done(1) => {
                    kept_at = Some(soon);
                    continue;
                }
                Command::Say(Envelope { message, .. }) => match message {
                    ToReceiver::Offer { series, batch, .. } => {
                        let mut refused = Vec::new();
                        if soon < 2 {
                            let why = "no room".to_owned();
                            refused.push(Refused { soon: true, ..Refused::new(key.clone(), why) });
                        }
                        answers.push(heard(ToSender::Need {
                            series,
                            batch,
                            wanted: vec![],
                            refused,
                        }));
                        continue;
                    }
                    ToReceiver::Verify { barrier } => {
                        answers.push(heard(ToSender::Verified { barrier }));
                        continue;
                    }
                    ToReceiver::Close { series, batch } => (series, batch),
                    _ => continue,
                },
                _ => continue,
            };
            answers.push(heard(ToSender::Acked { series, batch }));
            answers.push(heard(ToSender::Applied { series, conflicts: 0, unfinished: vec![] }));
        }
        for answer in answers {
            sender.handle(Time(0), answer);
        }
        if kept_at.is_some() {
            break;
        }
    }
    assert_eq!(kept_at, Some(2));
}
