use super::*;
use crate::mirror::entry::{RelPath, TreeId};

fn key(path: &str) -> Key {
    Key { tree: TreeId(0), path: RelPath::new(path.as_bytes()).unwrap() }
}

fn keys(paths: &[&str]) -> Vec<Key> {
    paths.iter().map(|path| key(path)).collect()
}

fn names(paths: &[&str]) -> Drained {
    Drained { names: keys(paths), ..Drained::default() }
}

fn backlog(parts: impl IntoIterator<Item = Drained>) -> Backlog {
    let mut backlog = Backlog::default();
    parts.into_iter().for_each(|part| backlog.push(part, true));
    backlog
}

fn take(backlog: &mut Backlog, least: usize, read: &[&str]) -> Vec<String> {
    let read = keys(read);
    let taken = backlog.take(least, read.iter());
    let taken = taken.map(|all| [all.names, all.directories, all.subtrees].concat());
    let text = |key: Key| String::from_utf8(key.path.as_bytes().to_vec()).unwrap();
    taken.unwrap_or_default().into_iter().map(text).collect()
}

#[test]
fn the_oldest_parts_go_first() {
    let mut backlog = backlog([names(&["a", "b"]), names(&["c"]), names(&["d"]), names(&["e"])]);
    let end = backlog.end();
    assert_eq!(take(&mut backlog, 3, &[]), ["a", "b", "c"]);
    assert_eq!((backlog.len(), backlog.has_before(end)), (2, true));
    assert!(take(&mut backlog, 0, &["a", "x"]).is_empty());
    assert_eq!(take(&mut backlog, 9, &[]), ["d", "e"]);
    assert_eq!((backlog.is_empty(), backlog.len(), backlog.has_before(end)), (true, 0, false));
    assert_eq!(backlog.end(), end);
}

/// `b` was written before `a` was written last: it must not come later.
#[test]
fn what_was_done_before_a_name_was_written_last_comes_with_it() {
    let parts = || [names(&["a"]), names(&["b"]), names(&["a", "c"]), names(&["c"]), names(&["d"])];
    assert_eq!(take(&mut backlog(parts()), 1, &[]), ["a", "b", "a", "c", "c"]);
    // It was read already.
    assert_eq!(take(&mut backlog(parts()), 0, &["b"]), ["a", "b", "a", "c", "c"]);
    assert!(take(&mut backlog(parts()), 0, &["x"]).is_empty());
}

#[test]
fn a_directory_that_moved_comes_with_what_was_in_it() {
    let moved = Drained { names: keys(&["d", "e"]), subtrees: keys(&["d", "e"]), ..names(&[]) };
    let parts = [names(&["d/f"]), names(&["a"]), moved.clone(), names(&["b"])];
    assert_eq!(take(&mut backlog(parts), 1, &[]), ["d/f", "a", "d", "e", "d", "e"]);
    // What is below is walked, as it is now.
    let parts = [moved, names(&["a"]), names(&["e/f"]), names(&["b"])];
    assert_eq!(take(&mut backlog(parts), 1, &[]), ["d", "e", "a", "e/f", "d", "e"]);
    // A new one is empty.
    assert_eq!(take(&mut backlog([names(&["d"]), names(&["d/f"])]), 1, &[]), ["d"]);
}

#[test]
fn how_a_directory_looks_holds_nothing_together() {
    let part = |name| Drained { directories: keys(&["d"]), ..names(&[name]) };
    let mut backlog = backlog([part("d/a"), part("d/b")]);
    assert_eq!(take(&mut backlog, 1, &[]), ["d/a", "d"]);
    assert!(take(&mut backlog, 0, &["d", "d/a"]).is_empty());
}

#[test]
fn without_an_order_all_is_one_part() {
    let mut backlog = Backlog::default();
    for name in ["a", "b", "c"] {
        backlog.push(names(&[name]), false);
    }
    assert!(take(&mut backlog, 0, &["x"]).is_empty());
    assert_eq!(take(&mut backlog, 1, &[]), ["a", "b", "c"]);
    backlog.push(names(&["d"]), false);
    assert_eq!(take(&mut backlog, 0, &["d"]), ["d"]);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is done in which order: what a series reads is the state of one moment.
        #[test]
        fn what_is_read_is_the_state_of_one_moment(
            writes in prop::collection::vec((0..6u8, any::<bool>()), 1..40),
            least in 1..5usize,
        ) {
            // Each write has a number; where `true` the watch was read after it.
            let mut backlog = Backlog::default();
            let mut newest = [0; 6];
            let mut part = Vec::new();
            for (number, (name, ends)) in writes.iter().enumerate() {
                newest[usize::from(*name)] = number;
                part.push(key(&name.to_string()));
                if *ends {
                    backlog.push(Drained { names: std::mem::take(&mut part), ..names(&[]) }, true);
                }
            }
            backlog.push(Drained { names: part, ..names(&[]) }, true);
            let mut copy = std::collections::BTreeMap::new();
            while !backlog.is_empty() {
                for key in backlog.take(least, [].iter()).unwrap().names {
                    let name: usize =
                        std::str::from_utf8(key.path.as_bytes()).unwrap().parse().unwrap();
                    copy.insert(name, newest[name]);
                }
                let at = copy.values().max().unwrap();
                for (number, (name, _)) in writes.iter().enumerate().take(at + 1) {
                    let has = copy.get(&usize::from(*name));
                    prop_assert!(has.is_some_and(|&has| has >= number), "{name} at {at}");
                }
            }
        }
    }
}
