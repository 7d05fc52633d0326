//! Walking all trees beside the index: what differs was changed since the last common commit.

use super::gather::leads_to;
use super::links::Links;
use super::trees::{Fault, Pass, Tree};
use crate::limits;
use crate::mirror::entry::{Key, Kind, Seen, Stored};
use crate::mirror::hash;
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Sort, What};
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
        if let Some((key, seen)) = found {
            // Each name is met once.
            let _ = links.saw(key, seen);
        }
        let Some(Note::Differs(key) | Note::Gone(key)) = note else { return Ok(true) };
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

/// Brings the index of the standby side in line with its trees: what was changed here is in no commit.
///
/// # Errors
/// See [`Fault`].
pub fn own(
    pass: &Pass<'_>,
    index: &Index,
    interrupted: &dyn Fn() -> bool,
) -> Result<Walked, Fault> {
    let mut changes: Vec<(Key, Option<Stored>)> = Vec::new();
    let mut as_before: Vec<(Key, Seen)> = Vec::new();
    let walked = compare(pass, index, interrupted, &mut |_, note| {
        match note {
            // It may only look different: touched, or read before its times were final.
            Some(Note::Differs(key)) => match unchanged(pass, index, &key)? {
                Some(seen) => as_before.push((key, seen)),
                None => changes.push((key, Some(Stored { entry: None, seen: None }))),
            },
            Some(Note::Gone(key)) => changes.push((key, None)),
            None => {}
        }
        Ok(true)
    })?;
    for some in as_before.chunks(limits::WALK_MARKS) {
        index.set_seen(some)?;
    }
    // Deletions of directories take what is below with them: first what is gone, then what is there.
    changes.sort_by_key(|(_, stored)| stored.is_some());
    for some in changes.chunks(limits::WALK_MARKS) {
        index.commit(some, None, &[], true)?;
    }
    Ok(walked)
}

/// How a name looks that is what the index says all the same; `None`: it is not.
fn unchanged(pass: &Pass<'_>, index: &Index, key: &Key) -> Result<Option<Seen>, Fault> {
    let stored = index.get(key)?.and_then(|stored| stored.entry);
    let (Some(entry), Some((tree, root))) = (stored, pass.of(key)) else { return Ok(None) };
    let Some(look) = meta::look(root, &key.path)? else { return Ok(None) };
    let same_kind = match (&entry.kind, &look.what) {
        (Kind::Dir, What::Dir) => true,
        (Kind::Symlink { target }, What::Symlink(here)) => target == here,
        (Kind::Link { to }, What::File) => {
            meta::quick(root, to)?.is_some_and(|(seen, _)| seen.ino == look.seen.ino)
        }
        (Kind::File(content), What::File) => {
            content.size == look.seen.size
                && root.open_file(&key.path).is_ok_and(|file| {
                    hash::content(&file, &look.seen, tree.hash, limits::HASH_THREADS)
                        .is_ok_and(|here| here == *content)
                })
        }
        (Kind::Dir | Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. }, _) => false,
    };
    let same = same_kind && look.has_metadata_of(&entry);
    Ok(same.then_some(look.seen))
}

/// False ends the walk.
type Visit<'a> = dyn FnMut(Option<(&Key, &Seen)>, Option<Note>) -> Result<bool, Fault> + 'a;

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
    for Found { path, seen, .. } in walk.by_ref() {
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
        if !visit(Some((&key, &seen)), (!same).then(|| Note::Differs(key.clone())))? {
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
        let note = if there.is_some() && !tree.excludes.matches(&key.path, is_dir) {
            Note::Differs(key)
        } else {
            Note::Gone(key)
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
