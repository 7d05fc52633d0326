use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::mirror::crash_points::CrashPoints;
use crate::mirror::entry::{Content, Entry, Kind, Stamp};
use crate::mirror::fixture::{GENERATION, Pair, key, snapshot, whose};
use crate::mirror::hash::hash_chunk;
use crate::mirror::proto::{Change, Op, Wanted};

const CHUNK: usize = 256 * 1024;

/// A put of a file of these bytes.
fn put(path: &str, bytes: &[u8]) -> Op {
    let size = bytes.len() as u64;
    let chunk_bytes = Content::chunk_bytes_for(size);
    let chunks = bytes.chunks(chunk_bytes as usize).map(hash_chunk).collect();
    let kind = Kind::File(Content { size, chunk_bytes, chunks });
    let mtime = Stamp { s: 1_000_000, ns: 5 };
    let entry = Entry { kind, mode: 0o640, uid: 7, gid: 8, mtime, xattrs: Vec::new() };
    Op { key: key(path), change: Change::Put(entry), keep: false }
}

fn head(pair: &Pair) -> Head {
    Head { generation: GENERATION, series: 1, commit: pair.commit + 1 }
}

fn begin(pair: &Pair, ops: Vec<Op>) -> (Series, Result<Vec<Wanted>, Trouble>) {
    let mut series = pair.stage.begin(head(pair)).unwrap();
    let wanted = series.add_batch(&pair.roots(), pair.index(), false, ops);
    (
        series,
        wanted.map(|(wanted, refused)| {
            assert_eq!(refused, []);
            wanted
        }),
    )
}

#[test]
fn only_what_is_not_here_is_wanted_and_zeros_are_holes() {
    let mut pair = Pair::new();
    let mut bytes: Vec<u8> = (0..CHUNK * 6 + 100).map(|at| (at / CHUNK) as u8 + 1).collect();
    bytes[CHUNK * 4..CHUNK * 5].fill(0);
    fs::write(pair.owner.join("large"), &bytes).unwrap();
    pair.sync();
    bytes[CHUNK + 5] = 99;
    bytes.extend_from_slice(b"longer");
    let (mut series, wanted) = begin(&pair, vec![put("large", &bytes)]);
    assert_eq!(wanted.unwrap(), [Wanted { op: 0, chunks: vec![1, 6] }]);
    series.write_chunk(0, 1, &bytes[CHUNK..CHUNK * 2]).unwrap();
    series.write_chunk(0, 6, &bytes[CHUNK * 6..]).unwrap();
    series.close_batch().unwrap();
    let ready = series.ready().unwrap();
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    let file = pair.replica.join("large");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let stat = fs::metadata(&file).unwrap();
    assert!(stat.blocks() * 512 < bytes.len() as u64, "no hole in {} blocks", stat.blocks());
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000_000, 5));
}

#[test]
fn content_that_is_here_is_not_staged() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "content").unwrap();
    pair.sync();
    let before = fs::metadata(pair.replica.join("a")).unwrap().ino();
    let (mut series, wanted) = begin(&pair, vec![put("a", b"content")]);
    assert_eq!(wanted.unwrap(), []);
    series.close_batch().unwrap();
    pair.apply(&series.ready().unwrap(), &mut CrashPoints::all()).unwrap();
    let after = fs::metadata(pair.replica.join("a")).unwrap();
    assert_eq!((after.ino(), after.mode() & 0o7777), (before, 0o640));
}

#[test]
fn what_was_changed_here_is_no_donor_by_its_old_hashes() {
    let mut pair = Pair::new();
    let mut bytes = vec![1; CHUNK * 3];
    bytes[CHUNK..CHUNK * 2].fill(2);
    fs::write(pair.owner.join("a"), &bytes).unwrap();
    pair.sync();
    let mut here = bytes.clone();
    here[0] = 77;
    fs::write(pair.replica.join("a"), &here).unwrap();
    bytes[CHUNK * 2] = 5;
    let (_, wanted) = begin(&pair, vec![put("a", &bytes)]);
    assert_eq!(wanted.unwrap(), [Wanted { op: 0, chunks: vec![0, 2] }]);
}

#[test]
fn chunks_that_do_not_belong_end_the_series() {
    let pair = Pair::new();
    let bytes = vec![3; CHUNK + 10];
    type Act = fn(&mut Series, &[u8]) -> Result<(), Trouble>;
    let acts: [Act; 6] = [
        |series, _| series.drop_op(1),
        |series, bytes| series.write_chunk(0, 1, &bytes[..9]),
        |series, bytes| series.write_chunk(0, 2, &bytes[..10]),
        |series, bytes| series.write_chunk(1, 0, &bytes[..CHUNK]),
        |series, bytes| {
            series.write_chunk(0, 0, &bytes[..CHUNK])?;
            series.write_chunk(0, 0, &bytes[..CHUNK])
        },
        |series, _| series.close_batch(),
    ];
    for (number, act) in acts.iter().enumerate() {
        let (mut series, wanted) = begin(&pair, vec![put("a", &bytes)]);
        assert_eq!(wanted.unwrap(), [Wanted { op: 0, chunks: vec![0, 1] }]);
        assert!(act(&mut series, &bytes).is_err(), "act {number}");
        pair.assert_nothing_staged();
        assert!(series.write_chunk(0, 0, &bytes[..CHUNK]).is_err());
        assert!(series.ready().is_err());
        pair.assert_nothing_staged();
        assert!(pair.stage.recover().unwrap().is_none());
    }
}

/// It changed while it was sent: what came is what it is.
#[test]
fn a_chunk_that_is_newer_than_the_offer_is_taken_as_it_came() {
    let mut pair = Pair::new();
    let (mut series, _) = begin(&pair, vec![put("a", &vec![3; CHUNK + 10])]);
    series.write_chunk(0, 0, &[4; CHUNK]).unwrap();
    series.write_chunk(0, 1, &[3; 10]).unwrap();
    series.close_batch().unwrap();
    let ready = series.ready().unwrap();
    pair.commit += 1;
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    let newer = [vec![4; CHUNK], vec![3; 10]].concat();
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), newer);
    let stored = pair.index().get(&key("a")).unwrap().unwrap().entry.unwrap();
    let Change::Put(newest) = put("a", &newer).change else { panic!("a put") };
    assert_eq!(stored, newest);
}

#[test]
fn a_change_that_is_dropped_leaves_what_is_there() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "before").unwrap();
    pair.sync();
    let ops = vec![put("a", &vec![3; CHUNK + 10]), put("b", b"it")];
    let (mut series, _) = begin(&pair, ops);
    series.write_chunk(0, 0, &[3; CHUNK]).unwrap();
    series.drop_op(0).unwrap();
    series.write_chunk(1, 0, b"it").unwrap();
    series.close_batch().unwrap();
    let ready = series.ready().unwrap();
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    assert_eq!(fs::read_to_string(pair.replica.join("a")).unwrap(), "before");
    assert_eq!(fs::read_to_string(pair.replica.join("b")).unwrap(), "it");
    pair.assert_nothing_staged();
}

#[test]
fn a_crash_before_the_end_leaves_nothing_and_after_it_everything() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "content").unwrap();
    let before = snapshot(&pair.replica);
    let (mut series, _) = begin(&pair, vec![put("a", b"content")]);
    series.write_chunk(0, 0, b"content").unwrap();
    series.close_batch().unwrap();
    drop(series);
    pair.reopen();
    assert!(pair.stage.recover().unwrap().is_none());
    pair.assert_nothing_staged();
    assert_eq!(snapshot(&pair.replica), before);

    let ops = pair.ops();
    pair.take_in(&ops).unwrap();
    pair.reopen();
    assert!(pair.stage.begin(head(&pair)).is_err(), "an acknowledged series was thrown away");
    let ready = pair.stage.recover().unwrap().unwrap();
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    pair.assert_same();
}

#[test]
fn no_room_is_told_with_what_is_needed() {
    let pair = Pair::new();
    let size = 1u64 << 50;
    let chunk_bytes = Content::chunk_bytes_for(size);
    let count = size.div_ceil(chunk_bytes) as usize;
    let kind = Kind::File(Content { size, chunk_bytes, chunks: vec![[1; 32]; count] });
    let mut op = put("a", b"");
    if let Change::Put(entry) = &mut op.change {
        entry.kind = kind;
    }
    let (_, wanted) = begin(&pair, vec![op]);
    let Err(Trouble::NoRoom { needed, path, .. }) = wanted else { panic!("{wanted:?}") };
    assert!(needed > 1 << 49, "{needed}");
    assert_eq!(path, pair.replica.display().to_string());
    pair.assert_nothing_staged();
}

#[test]
fn a_damaged_record_is_told_and_not_thrown_away() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "content").unwrap();
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    let record = pair.state.join("incoming/batch-0");
    let mut bytes = fs::read(&record).unwrap();
    bytes[10] ^= 1;
    fs::write(&record, &bytes).unwrap();
    let trouble = pair.apply(&ready, &mut CrashPoints::all()).unwrap_err();
    assert!(trouble.to_string().contains("damaged"), "{trouble}");
    assert!(pair.stage.recover().unwrap().is_some());
}

#[test]
fn other_trees_in_the_config_are_not_written_to() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "content").unwrap();
    let ops = pair.ops();
    pair.take_in(&ops).unwrap();
    let other = pair.owner.parent().unwrap().join("other");
    fs::create_dir(&other).unwrap();
    let tree = config::Tree {
        path: other,
        exclude: Vec::new(),
        hash: config::Hash::Auto,
        max_delete_percent: 100,
    };
    let stage = Stage::open(&pair.state, &whose(), &[tree]).unwrap();
    let trouble = stage.recover().unwrap_err();
    assert!(matches!(trouble, Trouble::Damaged(_)), "{trouble}");
    let trouble = trouble.to_string();
    assert!(trouble.contains(&pair.replica.display().to_string()), "{trouble}");
}

#[test]
fn the_area_is_beside_the_root_and_ours() {
    let pair = Pair::new();
    let area = pair.area();
    assert_eq!(area.parent(), pair.replica.parent());
    let stat = fs::metadata(&area).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o700, 0));
    let open = || StagingArea::open("office", "web", &pair.replica);
    assert!(open().is_ok());
    std::os::unix::fs::chown(&area, Some(12345), None).unwrap();
    assert!(matches!(open(), Err(StageError::NotOurs(_))));
    std::os::unix::fs::chown(&area, Some(0), None).unwrap();
    fs::rename(&area, area.with_extension("moved")).unwrap();
    std::os::unix::fs::symlink(area.with_extension("moved"), &area).unwrap();
    assert!(open().is_err(), "a link was followed");
}

#[test]
fn a_mount_point_has_nothing_beside_it() {
    for root in ["/", "/proc"] {
        let opened = StagingArea::open("office", "web", Path::new(root));
        assert!(matches!(opened, Err(StageError::MountPoint(_))), "{root}: {opened:?}");
    }
}

/// Flags of chattr(1), taken off again.
struct Flag(std::path::PathBuf);

impl Flag {
    fn immutable(path: std::path::PathBuf) -> Flag {
        Flag::change(&path, "+i");
        Flag(path)
    }

    fn change(path: &Path, flag: &str) {
        let done = std::process::Command::new("chattr").arg(flag).arg(path).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        Flag::change(&self.0, "-i");
    }
}

#[test]
fn what_cannot_be_done_is_refused_alone_before_it_is_acknowledged() {
    let mut pair = Pair::new();
    for name in ["locked", "gone", "d/old", "free"] {
        let path = pair.owner.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "first").unwrap();
    }
    pair.sync();
    fs::write(pair.owner.join("free"), "second").unwrap();
    fs::write(pair.owner.join("new"), "second").unwrap();
    let mut ops = pair.ops();
    let _flags = ["locked", "gone", "d"].map(|name| Flag::immutable(pair.replica.join(name)));
    // A directory with an attribute that ext4 does not hold, and what is in it.
    let mut big = put("big", b"");
    if let Change::Put(entry) = &mut big.change {
        entry.kind = Kind::Dir;
        entry.xattrs = vec![(b"user.a".to_vec(), vec![b'a'; 20_000])];
    }
    let delete = Op { key: key("gone"), change: Change::Delete, keep: false };
    let link = {
        let mut link = put("link", b"");
        if let Change::Put(entry) = &mut link.change {
            entry.kind = Kind::Link { to: key("locked").path };
        }
        link
    };
    let bad = [big, put("big/below", b""), put("d/new", b""), delete, put("locked", b""), link];
    ops.extend(bad.iter().cloned());
    let ready = pair.take_in(&ops).unwrap();
    let refused: Vec<_> = pair.refused.iter().map(|one| one.key.clone()).collect();
    assert_eq!(refused, bad.map(|op| op.key), "{:?}", pair.refused);
    let applied = pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    assert_eq!(applied.unfinished, []);
    for name in ["free", "new"] {
        assert_eq!(fs::read(pair.replica.join(name)).unwrap(), b"second", "{name}");
    }
    assert_eq!(fs::read(pair.replica.join("locked")).unwrap(), b"first");
    assert!(pair.replica.join("gone").exists() && !pair.replica.join("big").exists());
    pair.assert_nothing_staged();
}
