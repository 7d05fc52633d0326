use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{self, Hash};
use crate::mirror::engine::trees::Trees;
use crate::mirror::entry::{RelPath, TreeId};
use crate::mirror::proto::Change;
use crate::sys::file::{lease, mapped_store};

/// A tree that is watched, and its index.
struct Place {
    tree: PathBuf,
    trees: Trees,
    index: Index,
    hints: Hints,
    rests: Rests,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place::at(&std::env::temp_dir())
    }

    fn at(beside: &Path) -> Place {
        let directory = tempfile::tempdir_in(beside).unwrap();
        let tree = directory.path().join("www");
        fs::create_dir(&tree).unwrap();
        let config = config::Tree {
            path: tree.clone(),
            exclude: Vec::new(),
            hash: Hash::Auto,
            max_delete_percent: 100,
        };
        let trees = Trees::new(&[config]).unwrap();
        let index = Index::open(&directory.path().join("state")).unwrap();
        let hints = Hints::new(&trees).unwrap();
        Place { tree, trees, index, hints, rests: Rests::default(), _directory: directory }
    }

    /// One series of one batch.
    fn gather(&mut self) -> (Series, Batch) {
        let pass = self.trees.open(&self.index).unwrap();
        let mut series = Series::default();
        let mut gather = Gather {
            pass: &pass,
            index: &self.index,
            hints: &mut self.hints,
            forced: &HashSet::new(),
            rests: &mut self.rests,
            ahead: &mut Ahead::default(),
            interrupted: &|| false,
        };
        let batch = gather.batch(&mut series).unwrap();
        (series, batch)
    }

    fn record(&mut self, series: Series) {
        let (forced, rests) = (&mut HashSet::new(), &mut self.rests);
        series.record(&self.trees, &self.index, None, forced, rests).unwrap();
    }
}

fn key(path: &str) -> Key {
    Key { tree: TreeId(0), path: RelPath::new(path.as_bytes()).unwrap() }
}

#[test]
fn what_was_told_of_is_read() {
    let mut place = Place::new();
    fs::write(place.tree.join("a"), "first").unwrap();
    let (series, batch) = place.gather();
    assert!(batch.ops.iter().any(|op| op.key == key("a")), "{batch:?}");
    assert!(!batch.fuzzy && !batch.more);
    place.record(series);
    assert_eq!(place.index.dirty_len(), 0);
    let (_, batch) = place.gather();
    assert!(batch.ops.is_empty(), "{batch:?}");
}

/// Names that come to nothing take no room: what waits behind them is not left out of the series.
#[test]
fn a_series_ends_when_no_name_waits() {
    let mut place = Place::new();
    fs::write(place.tree.join("z"), "first").unwrap();
    let ghosts: Vec<Key> = (0..limits::BATCH_OPS_MAX).map(|n| key(&format!("ghost-{n}"))).collect();
    place.index.mark(&ghosts).unwrap();
    let (_, batch) = place.gather();
    assert!(batch.ops.iter().any(|op| op.key == key("z")), "{} ops", batch.ops.len());
    assert!(!batch.more);
}

/// It waits for the next series: whoever gathers must look.
#[test]
fn what_is_written_while_others_are_read_waits() {
    let mut place = Place::new();
    let (first, second) = (place.tree.join("a"), place.tree.join("b"));
    fs::write(&second, "before").unwrap();
    let (series, _) = place.gather();
    place.record(series);
    fs::write(&first, "first").unwrap();
    let pass = place.trees.open(&place.index).unwrap();
    let mut series = Series::default();
    let written = std::cell::Cell::new(false);
    let mut gather = Gather {
        pass: &pass,
        index: &place.index,
        hints: &mut place.hints,
        forced: &HashSet::new(),
        rests: &mut place.rests,
        ahead: &mut Ahead::default(),
        // Asked for each name that is read.
        interrupted: &|| {
            if !written.replace(true) {
                fs::write(&second, "meanwhile").unwrap();
            }
            false
        },
    };
    let batch = gather.batch(&mut series).unwrap();
    assert!(batch.ops.iter().all(|op| op.key != key("b")), "{batch:?}");
    assert_eq!(place.hints.backlog().len(), 1);
}

/// A takeover would wait for all of them.
#[test]
fn of_many_names_a_series_takes_the_oldest() {
    let mut place = Place::new();
    let (series, _) = place.gather();
    place.record(series);
    let tree = place.tree.clone();
    let file = |number: usize| tree.join(format!("{number:05}"));
    for number in 0..limits::SERIES_NAMES + 100 {
        fs::write(file(number), "x").unwrap();
        if number % 10 == 0 {
            place.hints.listen().unwrap();
        }
    }
    let (series, batch) = place.gather();
    let first = batch.ops.len();
    assert!((limits::SERIES_NAMES..limits::SERIES_NAMES + 20).contains(&first), "{first}");
    assert!(!batch.more && !batch.fuzzy);
    place.record(series);
    // Written again, it is read as it is now: all that was done before comes with it.
    fs::write(file(limits::SERIES_NAMES + 15), "y").unwrap();
    let (series, batch) = place.gather();
    assert!(batch.ops.len() >= 80, "{}", batch.ops.len());
    place.record(series);
    assert_eq!((place.hints.backlog().len(), place.index.dirty_len()), (0, 0));
}

/// Such a store moves no time and tells no event: only reading once more finds it.
#[test]
fn a_mapped_store_right_after_the_reading_is_found() {
    let (mut place, series) = loop {
        let mut place = Place::new();
        let path = place.tree.join("mapped");
        fs::write(&path, [0; 4096]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let store = mapped_store(&file);
        // The page is dirty, and stays so unless somebody else syncs the file system just now.
        store(1);
        let (series, batch) = place.gather();
        assert!(batch.ops.iter().any(|op| op.key == key("mapped")));
        let written_at = file.metadata().unwrap().modified().unwrap();
        store(2);
        if file.metadata().unwrap().modified().unwrap() == written_at {
            break (place, series);
        }
    };
    place.record(series);
    assert_eq!(place.index.waiting(), 1);
    let (series, batch) = place.gather();
    let op = batch.ops.iter().find(|op| op.key == key("mapped")).unwrap();
    let Change::Put(Entry { kind: Kind::File(content), .. }) = &op.change else { panic!("{op:?}") };
    let mut page = vec![0; 4096];
    page[0] = 2;
    assert_eq!(content.chunks, [hash::hash_chunk(&page)]);
    place.record(series);
    assert_eq!(place.index.dirty_len(), 0);
}

/// Reads names, does `between`, and reads other ones in the same series: in another batch.
fn read_twice(
    place: &mut Place,
    first: &[&str],
    between: impl FnOnce(),
    then: &[&str],
    one_batch: bool,
) -> (Series, Batch) {
    let names = |names: &[&str]| names.iter().map(|name| key(name)).collect();
    let pass = place.trees.open(&place.index).unwrap();
    let (mut series, mut made) = (Series::default(), Made::default());
    let mut gather = Gather {
        pass: &pass,
        index: &place.index,
        hints: &mut place.hints,
        forced: &HashSet::new(),
        rests: &mut place.rests,
        ahead: &mut Ahead::default(),
        interrupted: &|| false,
    };
    gather.read(names(first), &mut series, &mut made).unwrap();
    between();
    if !one_batch {
        made = Made::default();
    }
    gather.read(names(then), &mut series, &mut made).unwrap();
    (series, made.batch(false, false))
}

fn change_of<'a>(batch: &'a Batch, path: &str) -> &'a Change {
    &batch.ops.iter().find(|op| op.key == key(path)).unwrap().change
}

#[test]
fn what_was_read_before_a_change_is_not_sent() {
    let mut place = Place::new();
    let path = place.tree.join("a");
    fs::write(&path, "small").unwrap();
    let (_, batch) = {
        let grow = || fs::write(&path, vec![7; 600_000]).unwrap();
        read_twice(&mut place, &["a"], grow, &["a"], true)
    };
    let Change::Put(Entry { kind: Kind::File(content), .. }) = change_of(&batch, "a") else {
        panic!("{batch:?}")
    };
    assert_eq!(content.size, 600_000);
    let chunks: Vec<_> = batch.contents.values().flat_map(|chunks| chunks.keys()).collect();
    assert_eq!(chunks, [&0, &1, &2], "of the large one");
}

#[test]
fn what_came_and_went_is_gone() {
    let mut place = Place::new();
    let path = place.tree.join("a");
    fs::write(&path, "here").unwrap();
    let remove = || fs::remove_file(&path).unwrap();
    let (series, batch) = read_twice(&mut place, &["a"], remove, &["a"], true);
    assert_eq!(*change_of(&batch, "a"), Change::Delete, "it may have been offered");
    place.record(series);
    assert_eq!(place.index.get(&key("a")).unwrap(), None);
}

#[test]
fn what_went_and_came_back_is_told_and_what_was_in_it_goes() {
    let mut place = Place::new();
    let path = place.tree.join("d");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in"), "it").unwrap();
    let (series, _) = place.gather();
    place.record(series);
    assert!(place.index.get(&key("d/in")).unwrap().is_some());
    fs::remove_dir_all(&path).unwrap();
    let again = || fs::create_dir(&path).unwrap();
    let names = ["d", "d/in"];
    let (series, batch) = read_twice(&mut place, &names, again, &names, true);
    assert!(matches!(change_of(&batch, "d"), Change::Put(_)), "{batch:?}");
    assert_eq!(*change_of(&batch, "d/in"), Change::Delete);
    place.record(series);
    assert!(place.index.get(&key("d")).unwrap().is_some());
    assert_eq!(place.index.get(&key("d/in")).unwrap(), None);
}

/// A file of two names, known to the index. The lower one leads.
fn of_two_names() -> Place {
    let mut place = Place::new();
    fs::write(place.tree.join("a"), "first").unwrap();
    fs::hard_link(place.tree.join("a"), place.tree.join("b")).unwrap();
    let (series, batch) = place.gather();
    let Change::Put(Entry { kind: Kind::Link { .. }, .. }) = change_of(&batch, "b") else {
        panic!("{batch:?}")
    };
    place.record(series);
    place
}

fn assert_file(batch: &Batch, path: &str) {
    let Change::Put(Entry { kind: Kind::File(_), .. }) = change_of(batch, path) else {
        panic!("{path}: {batch:?}")
    };
}

/// The one that stays is told of by nobody.
#[test]
fn the_other_name_of_a_file_that_lost_one_is_read_even_after_a_void_series() {
    let mut place = of_two_names();
    fs::write(place.tree.join("a"), "second").unwrap();
    fs::remove_file(place.tree.join("a")).unwrap();
    let (_void, batch) = place.gather();
    assert_file(&batch, "b");
    place.index.give_back();
    let (series, batch) = place.gather();
    assert_file(&batch, "b");
    place.record(series);
    assert_eq!(place.index.get(&key("a")).unwrap(), None);
}

#[test]
fn the_other_name_of_a_file_that_was_replaced_at_one_is_read() {
    let mut place = of_two_names();
    fs::write(place.tree.join("new"), "other").unwrap();
    fs::rename(place.tree.join("new"), place.tree.join("a")).unwrap();
    let (_, batch) = place.gather();
    assert_file(&batch, "a");
    assert_file(&batch, "b");
}

/// A directory that was read with what is in it, and then replaced by a file.
#[test]
fn what_was_in_a_directory_that_became_a_file_is_not_sent() {
    let mut place = Place::new();
    let path = place.tree.join("d");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in"), "it").unwrap();
    let replace = || {
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
    };
    // What was in it is not told: it is gone, and the index has not heard of it.
    let (series, batch) = read_twice(&mut place, &["d", "d/in"], replace, &["d"], true);
    let Change::Put(Entry { kind: Kind::File(_), .. }) = change_of(&batch, "d") else {
        panic!("{batch:?}")
    };
    assert!(batch.ops.iter().all(|op| op.key != key("d/in")), "{batch:?}");
    place.record(series);
    assert_eq!(place.index.get(&key("d/in")).unwrap(), None);
}

/// A directory that was moved away when its name was read, and back: the peer has lost all of it.
#[test]
fn what_was_below_a_name_that_was_gone_is_told_again() {
    let mut place = Place::new();
    let (path, away) = (place.tree.join("d"), place.tree.join("away"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in"), "it").unwrap();
    let (series, _) = place.gather();
    place.record(series);
    // Until it looks as the index says: a young file is not trusted.
    while place.index.get(&key("d/in")).unwrap().unwrap().seen.is_none() {
        place.index.mark(&[key("d/in")]).unwrap();
        let (series, _) = place.gather();
        place.record(series);
    }
    fs::rename(&path, &away).unwrap();
    let back = || fs::rename(&away, &path).unwrap();
    let (_, batch) = read_twice(&mut place, &["d"], back, &["d", "d/in"], false);
    assert!(matches!(change_of(&batch, "d"), Change::Put(_)), "{batch:?}");
    assert!(matches!(change_of(&batch, "d/in"), Change::Put(_)), "{batch:?}");
}

fn names_of(batch: &Batch) -> Vec<String> {
    batch.ops.iter().map(|op| op.key.path.to_string()).collect()
}

/// `ln a b`: of `b` alone the watch tells.
#[test]
fn a_second_name_of_a_known_file_becomes_a_link() {
    let mut place = Place::new();
    fs::write(place.tree.join("a"), "it").unwrap();
    let (series, _) = place.gather();
    place.record(series);
    fs::hard_link(place.tree.join("a"), place.tree.join("b")).unwrap();
    let (series, batch) = place.gather();
    let Change::Put(Entry { kind: Kind::Link { to }, .. }) = change_of(&batch, "b") else {
        panic!("{batch:?}")
    };
    assert_eq!(*to, key("a").path);
    place.record(series);
    // And what is written by one name is told of all.
    let mut file = fs::OpenOptions::new().append(true).open(place.tree.join("b")).unwrap();
    std::io::Write::write_all(&mut file, b"more").unwrap();
    drop(file);
    let (_, batch) = place.gather();
    assert_file(&batch, "a");
    assert!(names_of(&batch).contains(&"b".to_owned()), "{batch:?}");
}

/// Each name is looked at a few times, not once for each other one.
#[test]
fn many_names_of_one_file_cost_as_much_as_many_files() {
    const NAMES: usize = 1500;
    let mut place = Place::new();
    fs::write(place.tree.join("0000"), "it").unwrap();
    for number in 1..NAMES {
        fs::hard_link(place.tree.join("0000"), place.tree.join(format!("{number:04}"))).unwrap();
    }
    let begun = std::cell::Cell::new(0);
    let pass = place.trees.open(&place.index).unwrap();
    let mut series = Series::default();
    let mut gather = Gather {
        pass: &pass,
        index: &place.index,
        hints: &mut place.hints,
        forced: &HashSet::new(),
        rests: &mut place.rests,
        ahead: &mut Ahead::default(),
        // Asked for each name that is read.
        interrupted: &|| {
            begun.set(begun.get() + 1);
            false
        },
    };
    let batch = gather.batch(&mut series).unwrap();
    let links = batch.ops.iter().filter(|op| {
        matches!(&op.change, Change::Put(Entry { kind: Kind::Link { to }, .. }) if *to == key("0000").path)
    });
    assert_eq!(links.count(), NAMES - 1);
    assert!(begun.get() < 10 * NAMES, "{} looks", begun.get());
    drop(pass);
    place.record(series);
    // The lowest goes: all others lead to another one, once.
    fs::remove_file(place.tree.join("0000")).unwrap();
    let (series, batch) = place.gather();
    assert_file(&batch, "0001");
    assert_eq!(batch.ops.len(), NAMES + 1, "each once, and the directory");
    place.record(series);
}

/// Nothing tells of what is written through a name outside the tree.
#[test]
fn what_is_written_by_a_name_outside_is_found() {
    let mut place = Place::new();
    let outside = place.tree.parent().unwrap().join("outside");
    fs::write(&outside, "it").unwrap();
    fs::hard_link(&outside, place.tree.join("in")).unwrap();
    let (series, _) = place.gather();
    place.record(series);
    assert!(place.hints.outer_at().is_some());
    fs::write(&outside, "written outside").unwrap();
    let pass = place.trees.open(&place.index).unwrap();
    assert!(place.hints.look_outside(&pass, &place.index).unwrap());
    drop(pass);
    let (_, batch) = place.gather();
    assert_file(&batch, "in");
}

/// It is left out, and tried again; the others come.
#[test]
fn what_cannot_be_read_holds_up_nothing_else() {
    let mut place = Place::at(Path::new("/dev/shm"));
    fs::write(place.tree.join("a"), "it").unwrap();
    let (series, _) = place.gather();
    place.record(series);
    fs::write(place.tree.join("b"), "it").unwrap();
    fs::write(place.tree.join("a"), "bad from now on").unwrap();
    let holder = fs::OpenOptions::new().read(true).write(true).open(place.tree.join("a")).unwrap();
    lease(&holder);
    let (series, batch) = place.gather();
    assert!(names_of(&batch).contains(&"b".to_owned()), "{batch:?}");
    assert!(!names_of(&batch).contains(&"a".to_owned()), "the peer's copy stays: {batch:?}");
    place.record(series);
    assert_eq!(place.rests.reasons().count(), 1);
    assert!(place.rests.reasons().next().unwrap().contains("/www/a: "));
    assert!(place.index.get(&key("a")).unwrap().is_some(), "the last common commit");
    drop(holder);
    let names = place.rests.wake(Instant::now());
    place.index.mark(&names).unwrap();
    let (_, batch) = place.gather();
    assert_file(&batch, "a");
    assert_eq!(place.rests.reasons().count(), 0);
}

/// Number 14: 30 000 files are renamed while the engine has something else to do, as long as it listens. What comes
/// first is a series of its own: a takeover waits for no more.
#[test]
fn what_a_burst_of_renames_tells_is_taken_in_parts() {
    const FILES: usize = 30_000;
    let place = Place::at(Path::new("/dev/shm"));
    let at = |kind: &str, number: usize| place.tree.join(format!("{kind}{number}"));
    (0..FILES).for_each(|number| drop(File::create(at("old", number)).unwrap()));
    let mut hints = Hints::new(&place.trees).unwrap();
    for number in 0..FILES {
        fs::rename(at("old", number), at("new", number)).unwrap();
        if number.is_multiple_of(500) {
            hints.listen().unwrap();
        }
    }
    let pass = place.trees.open(&place.index).unwrap();
    let series = Series::default();
    assert!(hints.absorb(&pass, &place.index, &series, limits::SERIES_NAMES, &|| false).unwrap());
    assert!(!hints.has_more_to_walk(), "the trees were walked");
    let marked = place.index.dirty_len();
    assert!((limits::SERIES_NAMES..4 * limits::SERIES_NAMES).contains(&marked), "{marked}");
}
