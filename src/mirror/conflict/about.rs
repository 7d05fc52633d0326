//! What is known of a conflict beside its file: what it was, where, and why it was kept.

use serde::{Deserialize, Serialize};

use super::{hex, unhex};
use crate::mirror::entry::{Entry, Kind, RelPath, Stamp};
use crate::mirror::meta::Look;

/// Why something was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was changed on this node since the last common commit.
    #[serde(rename = "changed here")]
    Changed,
    /// It was made on this node since the last common commit.
    #[serde(rename = "created here")]
    Created,
    /// It was changed or made on this node, and deleted by the owner.
    #[serde(rename = "deleted there")]
    Deleted,
    /// Its content is the common one, but its owner, mode, times or attributes were changed on this
    /// node: they are kept, without the content.
    #[serde(rename = "only owner, mode, times or attributes changed here")]
    Metadata,
    /// It is the common state; the owner lost or changed it by nobody's order, while it was not the owner,
    /// or in a crash.
    #[serde(rename = "lost or changed on the other node by nobody's order")]
    Unordered,
    /// An administrator's `restore` put another version in its place.
    #[serde(rename = "replaced by a restore")]
    Replaced,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Changed => "changed here",
            Why::Created => "created here",
            Why::Deleted => "deleted there",
            Why::Metadata => "only owner, mode, times or attributes changed here",
            Why::Unordered => "lost or changed on the other node by nobody's order",
            Why::Replaced => "replaced by a restore",
        })
    }
}

/// What `about.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name in the store.
    pub id: String,
    /// When it was kept, RFC 3339.
    pub time: String,
    /// On which node.
    pub node: String,
    /// The group.
    pub group: String,
    /// The tree's path.
    pub tree: String,
    /// The path below it, for people.
    pub path: String,
    /// The same, exactly: its bytes in hexadecimal.
    pub path_hex: String,
    /// Why it was kept.
    pub why: Why,
    /// What it is: `file`, `symlink`, or what else stood there.
    pub kind: String,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Last modification: seconds since 1970, nanoseconds.
    pub mtime: Stamp,
    /// Extended attributes: name, value in hexadecimal.
    pub xattrs: Vec<(String, String)>,
    /// Number of the generation whose owner's change replaced it; `None`: an administrator's `restore`.
    pub generation: Option<u32>,
    /// Whether `file` is there.
    pub has_file: bool,
    /// The directories above it as they were, from the one in the root down, as far as is known: a restore
    /// creates them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// Versions of the same path that were kept on the same day between an earlier one and this, and removed
    /// because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub versions_removed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A directory above something that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes, as those of [`About`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(String, String)>,
}

impl Parent {
    /// A directory as it looks.
    pub(in crate::mirror) fn of(look: &Look) -> Parent {
        let Look { mode, uid, gid, .. } = *look;
        Parent { mode, uid, gid, xattrs: shown_xattrs(&look.xattrs) }
    }

    /// One in that directory of which nothing is known: it lets in whom that one lets in.
    pub(super) fn like(look: &Look) -> Parent {
        let mut parent = Parent::of(look);
        parent.xattrs.retain(|(name, _)| name.starts_with("system.posix_acl_"));
        parent
    }

    /// As [`crate::mirror::meta::set`] takes it, with this time.
    pub(super) fn entry(&self, mtime: Stamp) -> Entry {
        let Parent { mode, uid, gid, .. } = *self;
        Entry { kind: Kind::Dir, mode, uid, gid, mtime, xattrs: read_xattrs(&self.xattrs) }
    }
}

impl About {
    /// The path below the tree's root; `None`: it is damaged.
    pub fn rel_path(&self) -> Option<RelPath> {
        unhex(&self.path_hex).and_then(|bytes| RelPath::new(&bytes).ok())
    }

    /// The tree and the path in it, for people.
    pub fn place(&self) -> String {
        format!("{}/{}", self.tree, self.path)
    }

    /// Why it was kept, in a sentence.
    pub fn reason(&self) -> String {
        let node = &self.node;
        let mut text = match self.why {
            Why::Changed => {
                format!("it was changed on {node} alone; the owner's version took its place")
            }
            Why::Created => format!(
                "it was made on {node} alone; the owner has nothing of this name, or something else"
            ),
            Why::Deleted => format!("it was changed on {node} alone; the owner has deleted it"),
            Why::Metadata if self.generation.is_none() => format!(
                "a restore set others; these are the owner, mode, times and attributes that it had on {node} \
                 before"
            ),
            Why::Metadata => format!(
                "its owner, mode, times or attributes were changed on {node} alone, and the owner's took their \
                 place; its content was the same and is not kept"
            ),
            Why::Unordered => format!(
                "the owner has lost or changed it by nobody's order, such as in a crash or while it did not \
                 own the group; this is the version from before, of {node}"
            ),
            Why::Replaced => "a restore put another version in its place".to_owned(),
        };
        if self.versions_removed > 0 {
            let removed = self.versions_removed;
            text.push_str(&format!(
                "; {removed} versions of that day before this one were removed: there were too many"
            ));
        }
        text
    }

    /// Owner, mode, times and attributes as [`crate::mirror::meta::set`] takes them; of the kind it knows
    /// only whether it is a symlink.
    pub(super) fn metadata(&self) -> Entry {
        let kind = match self.kind.as_str() {
            "symlink" => Kind::Symlink { target: Vec::new() },
            _ => Kind::Dir,
        };
        let About { mode, uid, gid, mtime, .. } = *self;
        Entry { kind, mode, uid, gid, mtime, xattrs: read_xattrs(&self.xattrs) }
    }
}

/// Attributes as `about.json` has them.
pub(super) fn shown_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(String, String)> {
    let shown = |(name, value): &(Vec<u8>, Vec<u8>)| {
        (String::from_utf8_lossy(name).into_owned(), hex(value))
    };
    xattrs.iter().map(shown).collect()
}

fn read_xattrs(shown: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = |(name, value): &(String, String)| Some((name.clone().into_bytes(), unhex(value)?));
    shown.iter().filter_map(read).collect()
}
