//! Which names are links of one file. Of an inode's names the lowest is the `File`, the others are
//! `Link`s to it; so a change at one name can be a change of the others' entries.

use std::collections::{BTreeSet, HashMap};

use crate::mirror::entry::{Key, RelPath, Seen, TreeId};

/// The names of files that have more than one, by inode.
#[derive(Debug, Default)]
pub struct Links {
    names: HashMap<(TreeId, u64), BTreeSet<Key>>,
    inodes: HashMap<Key, u64>,
}

impl Links {
    /// Forgets everything: a walk begins.
    pub fn clear(&mut self) {
        self.names.clear();
        self.inodes.clear();
    }

    /// A name looks like this now. Returns the other names of what it was, if that was another file.
    #[must_use = "their entries may have changed with it, and nobody tells of them"]
    pub fn saw(&mut self, key: &Key, seen: &Seen) -> Vec<Key> {
        let mut others = Vec::new();
        if self.inodes.get(key).is_some_and(|known| *known != seen.ino) {
            others = self.gone(key);
        }
        if seen.nlink > 1 {
            self.inodes.insert(key.clone(), seen.ino);
            self.names.entry((key.tree, seen.ino)).or_default().insert(key.clone());
        }
        others
    }

    /// A name is no more. Returns the other names of what it was.
    #[must_use = "their entries may have changed with it, and nobody tells of them"]
    pub fn gone(&mut self, key: &Key) -> Vec<Key> {
        let Some(inode) = self.inodes.remove(key) else { return Vec::new() };
        let place = (key.tree, inode);
        let Some(names) = self.names.get_mut(&place) else { return Vec::new() };
        names.remove(key);
        let others = names.iter().cloned().collect();
        if names.is_empty() {
            self.names.remove(&place);
        }
        others
    }

    /// Every known name, with the lowest one of the same file if that is another.
    pub fn pairs(&self) -> impl Iterator<Item = (&Key, Option<&RelPath>)> {
        self.names.values().flat_map(|names| {
            let leader = names.first();
            names.iter().map(move |name| {
                (name, leader.filter(|leader| *leader != name).map(|leader| &leader.path))
            })
        })
    }

    /// All known names of an inode, lowest first.
    pub fn of(&self, tree: TreeId, inode: u64) -> impl Iterator<Item = &Key> {
        self.names.get(&(tree, inode)).into_iter().flatten()
    }
}
