//! Which names are links of one file. Of an inode's names the lowest is the `File`, the others are
//! `Link`s to it; so a change at one name can be a change of the others' entries. What happens to many
//! names of one inode is looked at once for all of them: [`Links::take_shaken`].

use std::collections::{BTreeSet, HashMap};

use crate::mirror::entry::{Key, RelPath, Seen, TreeId};

/// An inode of a tree.
pub type Inode = (TreeId, u64);

/// The names of files that have more than one, by inode.
#[derive(Debug, Default)]
pub struct Links {
    names: HashMap<Inode, Names>,
    inodes: HashMap<Key, u64>,
    /// What happened to a name of these may have changed the entries of others.
    shaken: BTreeSet<Inode>,
}

#[derive(Debug, Default)]
struct Names {
    known: BTreeSet<Key>,
    nlink: u64,
    /// A whole walk has met no more: the others are outside the tree, or excluded.
    has_outer: bool,
}

impl Links {
    /// Forgets everything: a walk begins.
    pub fn clear(&mut self) {
        self.names.clear();
        self.inodes.clear();
    }

    /// A regular file's name looks like this now.
    pub fn saw(&mut self, key: &Key, seen: &Seen) {
        let known = self.inodes.get(key);
        if known.is_some_and(|known| *known != seen.ino || seen.nlink < 2) {
            self.gone(key);
        }
        if seen.nlink < 2 {
            return;
        }
        let names = self.names.entry((key.tree, seen.ino)).or_default();
        if names.nlink != seen.nlink {
            (names.nlink, names.has_outer) = (seen.nlink, false);
        }
        if names.known.insert(key.clone()) {
            self.inodes.insert(key.clone(), seen.ino);
        }
    }

    /// A name is no more, or is something else.
    pub fn gone(&mut self, key: &Key) {
        let Some(inode) = self.inodes.remove(key) else { return };
        let place = (key.tree, inode);
        let Some(names) = self.names.get_mut(&place) else { return };
        names.known.remove(key);
        if names.known.is_empty() {
            self.names.remove(&place);
        } else {
            self.shaken.insert(place);
        }
    }

    /// The entries of an inode's names may be others now.
    pub fn shake(&mut self, inode: Inode) {
        if self.names.contains_key(&inode) {
            self.shaken.insert(inode);
        }
    }

    /// The inodes to be looked at.
    pub fn take_shaken(&mut self) -> BTreeSet<Inode> {
        std::mem::take(&mut self.shaken)
    }

    /// A walk has met every name.
    pub fn walked_all(&mut self) {
        for names in self.names.values_mut() {
            names.has_outer = (names.known.len() as u64) < names.nlink;
        }
    }

    /// Whether there may be names of it that nobody has told of.
    pub fn is_incomplete(&self, inode: Inode) -> bool {
        let lacks = |names: &Names| !names.has_outer && (names.known.len() as u64) < names.nlink;
        self.names.get(&inode).is_some_and(lacks)
    }

    /// The lowest name of each file that has names outside the tree: what is written through these,
    /// nothing tells.
    pub fn with_outer(&self) -> impl Iterator<Item = &Key> {
        self.names.values().filter(|names| names.has_outer).filter_map(|names| names.known.first())
    }

    /// Every known name, with the lowest one of the same file if that is another.
    pub fn pairs(&self) -> impl Iterator<Item = (&Key, Option<&RelPath>)> {
        self.names.values().flat_map(|names| {
            let leader = names.known.first();
            names.known.iter().map(move |name| {
                (name, leader.filter(|leader| *leader != name).map(|leader| &leader.path))
            })
        })
    }

    /// All known names of an inode, lowest first.
    pub fn of(&self, inode: Inode) -> impl Iterator<Item = &Key> {
        self.names.get(&inode).into_iter().flat_map(|names| &names.known)
    }
}
