//! What no peer of ours would say: nothing panics, nothing of another generation has an effect.

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::world::{GENERATION, PAST, Strike, World, entry_of, key, trees};
use crate::core::{Generation, Time};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{
    self, Change, Differ, Envelope, Op, ToReceiver, ToSender, Trouble, Wanted,
};
use crate::mirror::session::receiver::{self, Receiver};
use crate::mirror::session::sender::{self, Gathered, Sender};

fn op() -> impl Strategy<Value = Op> {
    (0u8..4, 0u64..9).prop_map(|(name, write)| {
        let change = if write == 0 { Change::Delete } else { Change::Put(entry_of(write)) };
        Op { key: key(name), change, keep: false }
    })
}

fn wanted() -> impl Strategy<Value = Vec<Wanted>> {
    let one = (0u32..4, proptest::collection::vec(0u32..4, 0..3));
    proptest::collection::vec(one.prop_map(|(op, chunks)| Wanted { op, chunks }), 0..3)
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::NoRoom { needed: 1, reserve: 0, path: "/".into() }),
        Just(Trouble::Root("gone".into())),
        Just(Trouble::Failed("EIO".into())),
    ]
}

fn differ() -> impl Strategy<Value = Differ> {
    (0u64..3, 0usize..9).prop_map(|(names, first)| Differ { names, first: vec![key(1); first] })
}

fn hello() -> ToReceiver {
    ToReceiver::Hello { version: proto::VERSION, group: "web".into(), trees: trees() }
}

fn to_receiver() -> impl Strategy<Value = ToReceiver> {
    let ops = proptest::collection::vec(op(), 0..4);
    prop_oneof![
        2 => Just(hello()),
        1 => Just(ToReceiver::AskBuckets),
        1 => any::<u16>().prop_map(|bucket| ToReceiver::AskListing { bucket: bucket % 300 }),
        4 => (0u64..4, 0u32..3, any::<bool>(), ops).prop_map(|(series, batch, last, ops)| {
            ToReceiver::Offer { series, batch, last, fuzzy: false, ops }
        }),
        2 => (0u32..3, 0u32..3, 0usize..12).prop_map(|(op, chunk, length)| {
            ToReceiver::Data { op, chunk, bytes: vec![0; length] }
        }),
        4 => (0u64..4, 0u32..3).prop_map(|(series, batch)| ToReceiver::Close { series, batch }),
        1 => (0u64..4).prop_map(|series| ToReceiver::Withdraw { series }),
        1 => Just(ToReceiver::Ping),
        1 => (0u64..9).prop_map(|barrier| ToReceiver::Verify { barrier }),
        1 => (0u32..3).prop_map(|op| ToReceiver::Drop { op }),
        3 => any::<bool>().prop_map(|disown| {
            ToReceiver::Lineage { lineage: Lineage::default(), disown }
        }),
        1 => Just(ToReceiver::Conflict { why: "no".into() }),
        1 => (0u64..9, 0u32..4, 0usize..9).prop_map(|(chunk_bytes, chunk, length)| {
            let (key, bytes) = (super::world::key(1), vec![0; length]);
            ToReceiver::Ahead { key, chunk_bytes, chunk, bytes }
        }),
    ]
}

fn to_sender() -> impl Strategy<Value = ToSender> {
    let listing = proptest::collection::vec((0u8..4).prop_map(|name| (key(name), [0; 16])), 0..3);
    prop_oneof![
        3 => any::<bool>().prop_map(|same| ToSender::Welcome { digest: [u8::from(same); 16], commit: 1, past: PAST }),
        1 => Just(ToSender::Refuse { why: "no".into() }),
        1 => Just(ToSender::NotNow { why: "not yet".into() }),
        2 => (255usize..257).prop_map(|count| ToSender::Buckets { digests: vec![[0; 16]; count] }),
        2 => (0u16..3, listing, any::<bool>()).prop_map(|(bucket, entries, more)| {
            ToSender::Listing { bucket, entries, more }
        }),
        4 => (0u64..4, 0u32..3, wanted()).prop_map(|(series, batch, wanted)| {
            ToSender::Need { series, batch, wanted, refused: Vec::new() }
        }),
        4 => (0u64..4, 0u32..3).prop_map(|(series, batch)| ToSender::Acked { series, batch }),
        2 => (0u64..4).prop_map(|series| ToSender::Applied { series, conflicts: 0, unfinished: Vec::new() }),
        1 => trouble().prop_map(ToSender::Trouble),
        1 => Just(ToSender::Pong),
        2 => differ().prop_map(ToSender::Differs),
        2 => (0u64..9).prop_map(|barrier| ToSender::Verified { barrier }),
    ]
}

/// Also answers that nobody asked for.
fn receiver_event() -> impl Strategy<Value = receiver::Event> {
    use receiver::Event;
    prop_oneof![
        2 => Just(Event::Linked),
        1 => Just(Event::Cut),
        12 => to_receiver().prop_map(|message| {
            Event::Heard(Envelope { generation: GENERATION, message })
        }),
        3 => Just(Event::Opened { digest: [0; 16], commit: 0, past: PAST }),
        1 => Just(Event::BucketsRead(vec![[0; 16]; 256])),
        1 => any::<bool>().prop_map(|more| Event::ListingRead { entries: Vec::new(), more }),
        3 => wanted().prop_map(|wanted| Event::Staged { wanted, refused: Vec::new() }),
        1 => Just(Event::Written),
        3 => Just(Event::Durable),
        2 => Just(Event::Applied { conflicts: 1, unfinished: Vec::new() }),
        2 => differ().prop_map(Event::Verified),
        1 => differ().prop_map(Event::Differs),
        1 => trouble().prop_map(Event::Failed),
        1 => Just(Event::Tick),
    ]
}

fn sender_event() -> impl Strategy<Value = sender::Event> {
    use sender::Event;
    let ops = proptest::collection::vec(op(), 0..4);
    prop_oneof![
        2 => Just(Event::Linked),
        1 => Just(Event::Cut("x".into())),
        12 => to_sender().prop_map(|message| {
            Event::Heard(Envelope { generation: GENERATION, message })
        }),
        3 => Just(Event::Walked { digest: [0; 16] }),
        1 => proptest::collection::vec(0u16..3, 0..3).prop_map(Event::Differ),
        1 => Just(Event::Compared),
        4 => (ops, any::<bool>()).prop_map(|(ops, more)| {
            Event::Gathered(Gathered { ops, fuzzy: false, more, ahead: false, owes: false })
        }),
        2 => any::<bool>().prop_map(|dropped| Event::Sent { dropped }),
        2 => Just(Event::Recorded),
        1 => Just(Event::Failed("x".into())),
        2 => Just(Event::Dirty),
        1 => (0u64..9).prop_map(|id| Event::Barrier { id, sync: id % 2 == 0, owes: false }),
        1 => Just(Event::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_receiver_survives_anything(
        events in proptest::collection::vec((receiver_event(), 0u64..40_000_000_000), 0..40),
    ) {
        let mut receiver = Receiver::new(GENERATION, "web".into(), trees());
        let mut now = 0;
        for (event, later) in events {
            now += if later % 2 == 0 { 1 } else { later };
            receiver.handle(Time(now), event);
            // An event has few effects: nothing piles up.
            let commands = std::iter::from_fn(|| receiver.poll()).count();
            prop_assert!(commands <= 4, "{} commands", commands);
        }
    }

    #[test]
    fn a_sender_survives_anything(
        events in proptest::collection::vec((sender_event(), 0u64..40_000_000_000), 0..40),
    ) {
        let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
        let (mut now, mut done) = (0, 0);
        for (event, later) in events {
            now += if later % 2 == 0 { 1 } else { later };
            sender.handle(Time(now), event);
            let mut commands = 0;
            while let Some(command) = sender.poll() {
                commands += 1;
                if let sender::Command::Done(id) = command {
                    prop_assert!(id > done);
                    done = id;
                }
            }
            prop_assert!(commands <= 5, "{} commands", commands);
        }
    }

    #[test]
    fn a_flipped_bit_at_any_message_is_survived(at in 0usize..60, bit: usize) {
        let mut world = World::new([(key(0), 1), (key(9), 4)].into());
        world.strike_at(at, Strike::Flip(bit));
        for name in 0..5 {
            world.write(name, true);
            world.steps(12);
        }
        world.barrier();
        world.steps(200);
    }
}

/// Everything that may be said, in another generation, to ends that are in the middle of a session.
#[test]
fn another_generation_changes_nothing() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let other = Generation { number: GENERATION.number - 1, ..GENERATION };
    let forged = Generation { id: GENERATION.id + 1, ..GENERATION };
    for generation in [other, forged] {
        for _ in 0..300 {
            let said = to_receiver().new_tree(&mut runner).unwrap().current();
            let heard = to_sender().new_tree(&mut runner).unwrap().current();
            let refusal = matches!(heard, ToSender::Refuse { .. });
            let mut receiver = Receiver::new(GENERATION, "web".into(), trees());
            receiver.handle(Time(0), receiver::Event::Linked);
            if !matches!(said, ToReceiver::Hello { .. }) {
                let mine = Envelope { generation: GENERATION, message: hello() };
                receiver.handle(Time(0), receiver::Event::Heard(mine));
                receiver.handle(
                    Time(0),
                    receiver::Event::Opened { digest: [0; 16], commit: 0, past: PAST },
                );
            }
            while receiver.poll().is_some() {}
            let event = receiver::Event::Heard(Envelope { generation, message: said });
            receiver.handle(Time(1), event);
            let commands: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
            let [receiver::Command::Say(answer), receiver::Command::Disconnect(_)] = &commands[..]
            else {
                panic!("{commands:?}");
            };
            assert!(matches!(answer.message, ToSender::Refuse { .. }));
            assert_eq!(answer.generation, GENERATION);

            let mut sender = Sender::new(GENERATION, "web".into(), trees(), 1);
            sender.handle(Time(0), sender::Event::Linked);
            while sender.poll().is_some() {}
            let event = sender::Event::Heard(Envelope { generation, message: heard });
            sender.handle(Time(1), event);
            let commands: Vec<_> = std::iter::from_fn(|| sender.poll()).collect();
            let [sender::Command::Disconnect(_), sender::Command::State(state)] = &commands[..]
            else {
                panic!("{commands:?}");
            };
            assert_eq!(refusal, matches!(state, sender::SenderState::Blocked(_)));
        }
    }
}
