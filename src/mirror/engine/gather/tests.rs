use std::fs::{self, File};
use std::path::PathBuf;

use super::*;
use crate::config::{self, Hash};
use crate::mirror::entry::{RelPath, TreeId};
use crate::sys::file::mapped_store;

/// A tree that is watched, and its index.
struct Place {
    tree: PathBuf,
    trees: Trees,
    index: Index,
    hints: Hints,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("www");
        fs::create_dir(&tree).unwrap();
        let config = config::Tree { path: tree.clone(), exclude: Vec::new(), hash: Hash::Auto };
        let trees = Trees::new(&[config]).unwrap();
        let index = Index::open(&directory.path().join("state")).unwrap();
        let hints = Hints::new(&trees).unwrap();
        Place { tree, trees, index, hints, _directory: directory }
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
            interrupted: &|| false,
        };
        let batch = gather.batch(&mut series).unwrap();
        (series, batch)
    }

    fn record(&self, series: Series) {
        series.record(&self.trees, &self.index, None, &mut HashSet::new()).unwrap();
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

/// Such a store moves no time and tells no event: only reading once more finds it.
#[test]
fn a_mapped_store_right_after_the_reading_is_found() {
    let mut place = Place::new();
    let path = place.tree.join("mapped");
    fs::write(&path, [0; 4096]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let store = mapped_store(&file);
    // The page is dirty, and stays so.
    store(1);
    let (series, batch) = place.gather();
    assert!(batch.ops.iter().any(|op| op.key == key("mapped")));
    store(2);
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
