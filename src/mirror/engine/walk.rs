//! Walking all trees beside the index: what differs was changed since the last common commit.

use super::gather::leads_to;
use super::links::Links;
use super::own::{Judge, Own};
use super::trees::{Fault, Pass, Tree};
use crate::limits;
use crate::mirror::entry::{Key, Kind, Seen};
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Sort};
use crate::mirror::proto::Differ;
use crate::mirror::scan::{Found, Summary, Walk};
use crate::mirror::tree::Root;

/// What a walk found out besides what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Names that were met.
    pub names: u64,
    /// Names that differ from the index.
    pub differ: u64,
    /// What is not mirrored, with the reason: the first few.
    pub skipped: Vec<String>,
    /// It was stopped before the end.
    pub stopped: bool,
}

/// What a walk does with a name that differs.
enum Note {
    /// It is there, in another way than the index says, or the index does not know it.
    Differs(Key),
    /// The index has it and the tree has not.
    Gone(Key),
    /// The index has it, and it is no more to be mirrored.
    Excluded(Key),
}

/// Marks names that differ from the index as dirty, as many as the journal has room for, and learns which
/// names are links of one file. Names that `skip` knows are not marked.
///
/// # Errors
/// See [`Fault`]; then nothing may be concluded, and what was marked does no harm.
pub fn mark(
    pass: &Pass<'_>,
    index: &Index,
    links: &mut Links,
    skip: &dyn Fn(&Key) -> bool,
    interrupted: &dyn Fn() -> bool,
) -> Result<Walked, Fault> {
    for (tree, _) in pass.iter() {
        index.walk_begins(tree.id);
    }
    links.clear();
    let mut marks = Vec::new();
    let walked = compare(pass, index, interrupted, &mut |found, note| {
        if let Some((key, seen, Sort::File)) = found {
            links.saw(key, seen);
        }
        let Some(Note::Differs(key) | Note::Gone(key) | Note::Excluded(key)) = note else {
            return Ok(true);
        };
        if skip(&key) {
            return Ok(true);
        }
        marks.push(key);
        if marks.len() >= limits::WALK_MARKS {
            index.mark(&marks)?;
            marks.clear();
            return Ok(index.has_room());
        }
        Ok(true)
    });
    if let Err(error) = walked {
        for (tree, _) in pass.iter() {
            index.mark_tree(tree.id)?;
        }
        return Err(error);
    }
    if walked.as_ref().is_ok_and(|walked| !walked.stopped) {
        links.walked_all();
    }
    // A directory that was renamed can make another name the lowest, and none of them looks different.
    for (key, leader) in links.pairs() {
        let entry = index.get(key)?.and_then(|stored| stored.entry);
        if entry.is_some_and(|entry| !leads_to(&entry, leader)) {
            marks.push(key.clone());
        }
    }
    index.mark(&marks)?;
    walked
}

/// Learns which names are links of one file, and marks nothing.
///
/// # Errors
/// See [`Fault`].
pub fn learn(
    pass: &Pass<'_>,
    links: &mut Links,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    let mut names = 0u64;
    for (tree, root) in pass.iter() {
        for Found { path, seen, sort } in Walk::new(root, &tree.excludes)? {
            names += 1;
            if names.is_multiple_of(limits::WALK_LOOKS_UP) && interrupted() {
                return Err(Fault::Interrupted);
            }
            if sort == Sort::File && seen.nlink > 1 {
                links.saw(&Key { tree: tree.id, path }, &seen);
            }
        }
    }
    links.walked_all();
    Ok(())
}

/// Brings the index of the standby side in line with its trees: what was changed, made or deleted here is
/// in no commit. Returns all that differs, also what was known before.
///
/// # Errors
/// See [`Fault`].
pub fn own(
    pass: &Pass<'_>,
    index: &Index,
    judge: &mut Judge,
    interrupted: &dyn Fn() -> bool,
) -> Result<(Walked, Differ), Fault> {
    let mut own = Own::default();
    let walked = compare(pass, index, interrupted, &mut |_, note| {
        match note {
            Some(Note::Differs(key)) => own.differs(judge, pass, index, key)?,
            Some(Note::Gone(key)) => own.gone(index, key)?,
            Some(Note::Excluded(key)) => own.excluded(key),
            None => {}
        }
        Ok(true)
    })?;
    Ok((walked, own.commit(index)?))
}

/// Files that had content at the last common commit and are empty now lose their entry in the index, as what
/// was changed by nobody's order.
///
/// # Errors
/// See [`Fault`].
pub fn emptied(
    pass: &Pass<'_>,
    index: &Index,
    interrupted: &dyn Fn() -> bool,
) -> Result<Differ, Fault> {
    let mut own = Own::default();
    compare(pass, index, interrupted, &mut |found, note| {
        if let (Some((_, Seen { size: 0, .. }, _)), Some(Note::Differs(key))) = (found, note) {
            let entry = index.get(&key)?.and_then(|stored| stored.entry);
            if entry.is_some_and(|entry| matches!(entry.kind, Kind::File(it) if it.size > 0)) {
                own.unknown(key);
            }
        }
        Ok(true)
    })?;
    Ok(own.commit(index)?)
}

/// False ends the walk.
type Visit<'a> = dyn FnMut(Option<(&Key, &Seen, Sort)>, Option<Note>) -> Result<bool, Fault> + 'a;

/// Walks the trees and the index side by side.
fn compare(
    pass: &Pass<'_>,
    index: &Index,
    interrupted: &dyn Fn() -> bool,
    visit: &mut Visit<'_>,
) -> Result<Walked, Fault> {
    let mut walked = Walked::default();
    for (tree, root) in pass.iter() {
        compare_tree(tree, root, index, interrupted, visit, &mut walked)?;
        if walked.stopped {
            break;
        }
    }
    pass.check()?;
    Ok(walked)
}

fn compare_tree(
    tree: &Tree,
    root: &Root,
    index: &Index,
    interrupted: &dyn Fn() -> bool,
    visit: &mut Visit<'_>,
    walked: &mut Walked,
) -> Result<(), Fault> {
    let mut walk = Walk::new(root, &tree.excludes)?;
    let mut rows = index.iter_tree(tree.id).peekable();
    // Told at the end, when it is known what could not be read.
    let mut missing: Vec<Key> = Vec::new();
    for Found { path, seen, sort } in walk.by_ref() {
        walked.names += 1;
        if walked.names.is_multiple_of(limits::WALK_LOOKS_UP) && interrupted() {
            return Err(Fault::Interrupted);
        }
        let key = Key { tree: tree.id, path };
        while let Some(Ok((known, _))) = rows.peek()
            && *known < key
        {
            missing.extend(rows.next().transpose()?.map(|(known, _)| known));
        }
        let stored = match rows.peek() {
            Some(Ok((known, _))) if *known == key => rows.next().transpose()?.map(|(_, it)| it),
            Some(Err(_)) => {
                rows.next().transpose()?;
                None
            }
            Some(Ok(_)) | None => None,
        };
        if seen.size > limits::FILE_BYTES_MAX {
            let text = format!("{}/{}: larger than 64 GiB", tree.path.display(), key.path);
            walked.skipped.push(text);
        }
        let same = stored.is_some_and(|stored| stored.seen == Some(seen));
        walked.differ += u64::from(!same);
        if !visit(Some((&key, &seen, sort)), (!same).then(|| Note::Differs(key.clone())))? {
            walked.stopped = true;
            return Ok(());
        }
    }
    for row in rows {
        missing.push(row?.0);
    }
    let summary = walk.summary();
    skipped(tree, summary, walked);
    for key in missing {
        if summary.blocks_deleting(&key.path) {
            continue;
        }
        // It may have come back, or may be no more to be mirrored: then it goes from both sides.
        let there = meta::quick(root, &key.path)?;
        let is_dir = matches!(there, Some((_, Sort::Dir)));
        walked.differ += 1;
        let note = match there {
            Some(_) if tree.excludes.matches(&key.path, is_dir) => Note::Excluded(key),
            Some(_) => Note::Differs(key),
            None => Note::Gone(key),
        };
        if !visit(None, Some(note))? {
            walked.stopped = true;
            return Ok(());
        }
    }
    Ok(())
}

fn skipped(tree: &Tree, summary: &Summary, walked: &mut Walked) {
    for listed in [&summary.unknown, &summary.others] {
        for (path, word) in &listed.first {
            if walked.skipped.len() < limits::SKIPPED_SHOWN {
                let place = tree.path.display();
                walked.skipped.push(format!("{place}/{path}: {word}"));
            }
        }
        let more = listed.count.saturating_sub(listed.first.len() as u64);
        if more > 0 {
            walked.skipped.push(format!("and {more} more in {}", tree.path.display()));
        }
    }
}
