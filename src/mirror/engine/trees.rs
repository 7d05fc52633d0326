//! The group's trees as configured, and as they are found at the moment.

use std::path::{Path, PathBuf};

use crate::config::{self, Hash};
use crate::mirror::entry::{Key, RelPath, TreeId};
use crate::mirror::exclude::{BadExclude, Excludes};
use crate::mirror::index::{Index, IndexError};
use crate::mirror::scan::Walk;
use crate::mirror::tree::{Root, TreeError};

/// Why nothing can be read from the trees, or told of them.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A root is missing, or another one than before. Nothing may be concluded from what is there.
    #[error("{0}")]
    Root(String),
    /// A name in a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk, in words.
    #[error("{0}")]
    Disk(String),
    /// So much would be deleted that a person must say whether it is meant.
    #[error("{0}")]
    Brake(String),
    /// Another order came: what was begun is void.
    #[error("interrupted by another order")]
    Interrupted,
}

/// A tree as configured.
#[derive(Debug)]
pub struct Tree {
    /// Its place in the list.
    pub id: TreeId,
    /// Its root.
    pub path: PathBuf,
    /// What is not mirrored.
    pub excludes: Excludes,
    /// If a commit takes more of its names away, a person must say so.
    pub max_delete_percent: u8,
    /// How files are hashed.
    pub hash: Hash,
}

/// All trees of a group.
#[derive(Debug)]
pub struct Trees {
    list: Vec<Tree>,
}

impl Trees {
    /// The trees of a checked config.
    ///
    /// # Errors
    /// A pattern is none (the config refuses it before).
    pub fn new(config: &[config::Tree]) -> Result<Trees, BadExclude> {
        let list = (0u8..).zip(config).map(|(id, tree)| {
            Ok::<_, BadExclude>(Tree {
                id: TreeId(id),
                path: tree.path.clone(),
                excludes: Excludes::new(&tree.exclude)?,
                max_delete_percent: tree.max_delete_percent,
                hash: tree.hash,
            })
        });
        Ok(Trees { list: list.collect::<Result<_, _>>()? })
    }

    /// Their paths, as both nodes must have them.
    pub fn names(&self) -> Vec<String> {
        self.list.iter().map(|tree| tree.path.display().to_string()).collect()
    }

    /// Where a name is, in words.
    pub fn place(&self, key: &Key) -> String {
        let tree = self.list.get(usize::from(key.tree.0));
        let path = tree.map_or_else(String::new, |tree| tree.path.display().to_string());
        if key.path.is_root() { path } else { format!("{path}/{}", key.path) }
    }

    /// For the watch.
    pub fn places(&self) -> Vec<(TreeId, PathBuf)> {
        self.list.iter().map(|tree| (tree.id, tree.path.clone())).collect()
    }

    /// Opens all roots for one pass. Each must be the one that was mirrored before; one that never was
    /// becomes it.
    ///
    /// # Errors
    /// A root is missing or another one; the sentence says what to do.
    pub fn open(&self, index: &Index) -> Result<Pass<'_>, Fault> {
        let mut roots = Vec::new();
        for tree in &self.list {
            let root = Root::open(&tree.path).map_err(|error| Fault::Root(error.to_string()))?;
            let is = root.identity();
            let before = root.identity_before();
            match index.root_id(tree.id)? {
                Some(was) if was == (is.fsid, is.ino) => {}
                Some(was) if was != (before.fsid, before.ino) => {
                    return Err(Fault::Root(foreign(&tree.path, index.path())));
                }
                None | Some(_) => index.set_root_id(tree.id, (is.fsid, is.ino))?,
            }
            roots.push(root);
        }
        Ok(Pass { trees: &self.list, roots })
    }
}

/// The sentence for a root that is another directory than before.
fn foreign(root: &Path, index: &Path) -> String {
    format!(
        "{} is not the directory that was mirrored before: is its file system mounted? Nothing is sent and nothing \
         is deleted. If it was replaced on purpose (restored, or on a new disk): stop clusterd on this node, move \
         {} away, and start clusterd again. The peer's copy is then compared with this one; nothing is deleted, \
         because there is no common state, and what differs here is kept in the conflict store",
        root.display(),
        index.parent().unwrap_or(index).display()
    )
}

/// All roots, open.
#[derive(Debug)]
pub struct Pass<'t> {
    trees: &'t [Tree],
    roots: Vec<Root>,
}

impl Pass<'_> {
    /// The trees with their roots.
    pub fn iter(&self) -> impl Iterator<Item = (&Tree, &Root)> {
        self.trees.iter().zip(&self.roots)
    }

    /// The roots in the trees' order.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The tree that a name is in; `None`: there is no such tree.
    pub fn of(&self, key: &Key) -> Option<(&Tree, &Root)> {
        let place = usize::from(key.tree.0);
        self.trees.get(place).zip(self.roots.get(place))
    }

    /// Writes back what is dirty on the trees' file systems.
    ///
    /// # Errors
    /// A disk refuses.
    pub fn sync(&self) -> Result<(), Fault> {
        for (tree, root) in self.iter() {
            let directory = root.open_dir(&RelPath::root())?;
            let path = tree.path.display();
            nix::unistd::syncfs(&directory)
                .map_err(|errno| Fault::Disk(format!("syncfs of {path}: {errno}")))?;
        }
        Ok(())
    }

    /// Whether there is nothing to be mirrored in any tree.
    ///
    /// # Errors
    /// A root cannot be read.
    pub fn is_empty(&self) -> Result<bool, Fault> {
        for (tree, root) in self.iter() {
            let mut walk = Walk::new(root, &tree.excludes)?;
            if walk.any(|found| !found.path.is_root()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the roots are still what the paths lead to: asked after a pass, before anything is
    /// concluded from what was not found.
    ///
    /// # Errors
    /// A root was unmounted or exchanged meanwhile.
    pub fn check(&self) -> Result<(), Fault> {
        for (tree, root) in self.iter() {
            let now = Root::open(&tree.path).map_err(|error| Fault::Root(error.to_string()))?;
            if now.identity() != root.identity() {
                let path = tree.path.display();
                return Err(Fault::Root(format!("{path} was replaced while it was read")));
            }
        }
        Ok(())
    }
}
