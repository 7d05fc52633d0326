use std::time::Duration;

use super::*;

const WEB: &str = r#"{"cluster":"bed","node":"serv1","state":"online","version":"0","incarnation":"a",
    "guarded":true,"worst_gap_ms":3,"loop":{"lateness":[],"worst_us":0},
    "peer":{"name":"serv2","state":"alive","incarnation":"b","same_config":true,"paths":[]},
    "reach":{"local":2,"peer":2,"of":2},
    "troubles":[],"groups":[{"name":"web","state":"active","in_service":true,"owner":"serv1","redundant":true,"generation":7,
    "why":"at home","addresses":[{"address":"203.0.113.50/24","held":true,"lease_ms":1800}],
    "services":[],"mirror":{"state":"off","why":"","direction":"none","commit":0,
    "pending_files":0,"pending_bytes":0,"rate":0,"conflicts":0,"fuzzy":0,"skipped":[]}}]}"#;

fn said(redundant: bool) -> Option<Status> {
    let mut status: Status = serde_json::from_str(WEB).unwrap();
    status.groups[0].redundant = redundant;
    Some(status)
}

/// Words as `(ms before the cut, node, redundant)`, and when something was done to the pair.
fn claimed(words: &[(u64, NodeIndex, bool)], disturbed_ms: u64) -> bool {
    let now = Instant::now() + Duration::from_secs(60);
    let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
    let word = |&(ms, node, redundant)| Word { node, asked: ago(ms), said: said(redundant) };
    let words: Vec<Word> = words.iter().map(word).collect();
    let groups = redundant_groups(words.iter(), NodeIndex::Lower, now, ago(disturbed_ms));
    let others = redundant_groups(words.iter(), NodeIndex::Upper, now, ago(disturbed_ms));
    assert!(others.is_empty(), "the other node owns nothing");
    groups == ["web"]
}

#[test]
fn what_was_said_is_what_counts() {
    use NodeIndex::{Lower, Upper};
    assert!(claimed(&[(200, Lower, true), (100, Upper, true)], 5000), "both");
    assert!(!claimed(&[(200, Lower, true), (100, Upper, false)], 5000), "one is quicker to know");
    assert!(!claimed(&[(1200, Lower, true), (1100, Upper, true)], 5000), "long ago");
    assert!(!claimed(&[(200, Lower, true), (100, Upper, true)], 250), "a fault not yet noticed");
    assert!(claimed(&[(200, Lower, true), (100, Upper, true)], 600));
    let firm = [(900, Lower, true), (500, Lower, true), (400, Upper, false), (100, Lower, true)];
    assert!(claimed(&firm, 5000), "one of them all the while");
    assert!(!claimed(&[(900, Lower, false), (100, Lower, true)], 5000), "one has just begun to");
    assert!(!claimed(&[(300, Lower, true), (200, Lower, false), (100, Upper, true)], 5000));
    assert!(!claimed(&[], 5000));
}

fn book() -> Book {
    Book {
        words: VecDeque::new(),
        disturbed: Instant::now(),
        trials: Vec::new(),
        survived: 0,
        lies: Vec::new(),
    }
}

#[test]
fn a_cut_is_survived_or_it_was_a_lie() {
    let at = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
    let cut = |at| Trial { group: "web".into(), dead: NodeIndex::Upper, at, before: String::new() };
    let word = |node, said| Word { node, asked: Instant::now(), said };
    let mut book = book();
    book.trials.push(cut(at));
    // Served elsewhere, said before the cut, or by the dead: none of that counts.
    assert!(book.hear(word(NodeIndex::Upper, said(true))).is_empty());
    let early = at.checked_sub(Duration::from_secs(1)).unwrap();
    assert!(book.hear(Word { asked: early, ..word(NodeIndex::Lower, said(true)) }).is_empty());
    assert!(book.hear(word(NodeIndex::Lower, None)).is_empty());
    assert_eq!((book.trials.len(), book.survived), (1, 0));
    assert!(book.hear(word(NodeIndex::Lower, said(false))).is_empty());
    assert_eq!((book.trials.len(), book.survived), (0, 1));

    let long_ago = Instant::now().checked_sub(limits::BED_EFFECT_WITHIN * 2).unwrap();
    book.trials.push(cut(long_ago));
    let mut waits = said(true);
    waits.as_mut().unwrap().groups[0].state = GroupState::Passive;
    let lies = book.hear(word(NodeIndex::Lower, waits));
    assert!(lies[0].starts_with("redundancy lie: serv2 lost its power"), "{lies:?}");
    assert!(lies[0].contains("serv1 does not have the group web in service"), "{lies:?}");
    assert_eq!((book.trials.len(), book.survived), (0, 1));
}
