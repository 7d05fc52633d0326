//! For tests: an owner's tree and a replica in one temporary directory, and what a session would carry
//! from one to the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply::{Applied, apply};
use super::conflict::About;
use super::crash_points::CrashPoints;
use super::entry::{Entry, Key, Kind, RelPath, TreeId};
use super::index::{Index, Position};
use super::meta::{self, What};
use super::proto::{Change, Op, Refused, Trouble};
use super::stage::{Head, Ready, Stage, Whose};
use super::tree::Root;
use super::{hash, stage};
use crate::config::{Hash, NodeIndex, Tree};
use crate::core::Generation;

pub(super) const TREE: TreeId = TreeId(0);
pub(super) const GENERATION: Generation =
    Generation { number: 3, owner: NodeIndex::Lower, id: 0x1234_5678 };

/// The two trees, and the replica's stage and index.
pub(super) struct Pair {
    pub(super) owner: PathBuf,
    pub(super) replica: PathBuf,
    pub(super) state: PathBuf,
    pub(super) stage: Arc<Stage>,
    pub(super) index: Option<Index>,
    pub(super) commit: u64,
    pub(super) batch_ops: usize,
    /// What was refused when it was staged.
    pub(super) refused: Vec<Refused>,
    _directory: tempfile::TempDir,
}

pub(super) fn whose() -> Whose {
    Whose { cluster: "office".into(), group: "web".into(), node: "serv2".into() }
}

pub(super) fn key(path: &str) -> Key {
    Key { tree: TREE, path: RelPath::new(path.as_bytes()).unwrap() }
}

impl Pair {
    pub(super) fn new() -> Pair {
        let directory = tempfile::tempdir().unwrap();
        let [owner, replica, state] =
            ["owner/www", "replica/www", "state"].map(|name| directory.path().join(name));
        for path in [&owner, &replica, &state] {
            fs::create_dir_all(path).unwrap();
        }
        let stage = open_stage(&state, &replica);
        let index = Some(Index::open(&state).unwrap());
        let _directory = directory;
        let refused = Vec::new();
        Pair {
            owner,
            replica,
            state,
            stage,
            index,
            commit: 0,
            batch_ops: 2048,
            refused,
            _directory,
        }
    }

    pub(super) fn index(&self) -> &Index {
        self.index.as_ref().unwrap()
    }

    /// As after a crash: everything is opened again.
    pub(super) fn reopen(&mut self) {
        self.index = None;
        self.index = Some(Index::open(&self.state).unwrap());
        self.stage = open_stage(&self.state, &self.replica);
    }

    /// What the owner would send: its tree against the index, which is the last common commit.
    pub(super) fn ops(&self) -> Vec<Op> {
        let now = snapshot(&self.owner);
        let before: Vec<_> = self.index().iter_tree(TREE).map(|row| row.unwrap().0).collect();
        let deletes = before.into_iter().filter(|key| !now.contains_key(&key.path));
        let mut ops: Vec<Op> =
            deletes.map(|key| Op { key, change: Change::Delete, keep: false }).collect();
        for (path, entry) in now {
            let key = Key { tree: TREE, path };
            if self
                .index()
                .get(&key)
                .unwrap()
                .is_none_or(|stored| stored.entry.as_ref() != Some(&entry))
            {
                ops.push(Op { key, change: Change::Put(entry), keep: false });
            }
        }
        ops
    }

    /// Stages these ops; the chunks come from the owner's tree.
    pub(super) fn take_in(&mut self, ops: &[Op]) -> Result<Ready, Trouble> {
        let (roots, owner) = (self.roots(), Root::open(&self.owner).unwrap());
        let head = Head { generation: GENERATION, series: 7, commit: self.commit + 1 };
        let mut series = self.stage.begin(head)?;
        for ops in ops.chunks(self.batch_ops) {
            let (wanted, refused) = series.add_batch(&roots, self.index(), false, ops.to_vec())?;
            self.refused.extend(refused);
            for wanted in wanted {
                let op = &ops[wanted.op as usize];
                let Change::Put(Entry { kind: Kind::File(content), .. }) = &op.change else {
                    panic!("{op:?} needs no chunks");
                };
                let file = owner.open_file(&op.key.path).unwrap();
                for chunk in wanted.chunks {
                    let bytes =
                        hash::chunk(&file, chunk, content.chunk_bytes, content.size).unwrap();
                    series.write_chunk(wanted.op, chunk, &bytes)?;
                }
            }
            series.close_batch()?;
        }
        let ready = series.ready()?;
        self.commit += 1;
        Ok(ready)
    }

    pub(super) fn roots(&self) -> Vec<Root> {
        vec![Root::open(&self.replica).unwrap()]
    }

    pub(super) fn apply(
        &self,
        ready: &Ready,
        crash_points: &mut CrashPoints,
    ) -> Result<Applied, Trouble> {
        apply(ready, &self.roots(), self.index(), crash_points, false)
    }

    /// Mirrors everything, and shows that it came.
    pub(super) fn sync(&mut self) -> Applied {
        let ops = self.ops();
        let ready = self.take_in(&ops).unwrap();
        let applied = self.apply(&ready, &mut CrashPoints::all()).unwrap();
        self.assert_same();
        applied
    }

    /// The trees are the same, the index says so, and nothing staged is left.
    pub(super) fn assert_same(&self) {
        let owner = snapshot(&self.owner);
        assert_eq!(snapshot(&self.replica), owner);
        let rows = self.index().iter_tree(TREE).map(|row| row.unwrap());
        let index: BTreeMap<_, _> =
            rows.map(|(key, stored)| (key.path, stored.entry.unwrap())).collect();
        assert_eq!(index, owner);
        let position = Position { generation: GENERATION, commit: self.commit };
        assert_eq!(self.index().position().unwrap(), Some(position));
        self.assert_nothing_staged();
    }

    pub(super) fn assert_nothing_staged(&self) {
        assert_eq!(fs::read_dir(self.state.join("incoming")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(self.area().join("incoming")).unwrap().count(), 0);
    }

    pub(super) fn area(&self) -> PathBuf {
        super::staging_area::StagingArea::path_of("office", "web", &self.replica).unwrap()
    }

    pub(super) fn store(&self) -> super::conflict::Store {
        super::conflict::Store::find(&whose(), &self.replica).unwrap().unwrap()
    }

    /// What is in the conflict store: path, why, and content if a file was kept.
    pub(super) fn conflicts(&self) -> Vec<(String, String, Option<Vec<u8>>)> {
        let store = self.store();
        let content = |about: &About| {
            let file = store.file_of(about)?;
            let is_link = fs::symlink_metadata(&file).unwrap().is_symlink();
            Some(match is_link {
                true => fs::read_link(file).unwrap().into_os_string().into_encoded_bytes(),
                false => fs::read(file).unwrap(),
            })
        };
        let kept = store.list().unwrap().kept;
        let mut found: Vec<_> = kept
            .iter()
            .map(|about| (about.path.clone(), about.why.to_string(), content(about)))
            .collect();
        found.sort();
        found
    }
}

fn open_stage(state: &Path, replica: &Path) -> Arc<Stage> {
    let tree = Tree {
        path: replica.to_owned(),
        exclude: Vec::new(),
        hash: Hash::Auto,
        max_delete_percent: 100,
    };
    stage::Stage::open(state, &whose(), &[tree]).unwrap()
}

/// Everything in a tree, as entries.
pub(super) fn snapshot(root: &Path) -> BTreeMap<RelPath, Entry> {
    let handle = Root::open(root).unwrap();
    let mut paths = vec![RelPath::root()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        at += 1;
        if let Some((_, meta::Sort::Dir)) = meta::quick(&handle, &path).unwrap() {
            let directory = handle.open_dir(&path).unwrap();
            let names = super::staging_area::names(std::os::fd::AsFd::as_fd(&directory)).unwrap();
            paths.extend(names.iter().map(|name| path.join(name).unwrap()));
        }
    }
    paths.sort();
    let mut first_names = BTreeMap::new();
    let mut found = BTreeMap::new();
    for path in paths {
        let look = meta::look(&handle, &path).unwrap().unwrap();
        let kind = match look.what {
            What::Dir => Kind::Dir,
            What::Symlink(target) => Kind::Symlink { target },
            What::File => match first_names.insert(look.seen.ino, path.clone()) {
                Some(first) => {
                    first_names.insert(look.seen.ino, first.clone());
                    Kind::Link { to: first }
                }
                None => {
                    let file = handle.open_file(&path).unwrap();
                    assert_eq!(file.metadata().unwrap().ino(), look.seen.ino);
                    Kind::File(hash::content(&file, &look.seen, Hash::Read, 1).unwrap())
                }
            },
            What::Other(word) => panic!("{path} is a {word}"),
        };
        let (mode, uid, gid, mtime) = (look.mode, look.uid, look.gid, look.seen.mtime);
        found.insert(path, Entry { kind, mode, uid, gid, mtime, xattrs: look.xattrs });
    }
    found
}
