//! What a batch and a need must look like: checked on what a peer sent.

use std::collections::VecDeque;

use crate::limits;
use crate::mirror::entry::Kind;
use crate::mirror::proto::{Change, Op, Wanted};

/// The measures of one op's content; an op without content has no chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    size: u64,
    chunk_bytes: u64,
    chunks: u32,
}

impl Measure {
    fn of(op: &Op) -> Measure {
        let Change::Put(entry) = &op.change else { return Measure::default() };
        let Kind::File(content) = &entry.kind else { return Measure::default() };
        let chunks = u32::try_from(content.chunks.len()).unwrap_or(u32::MAX);
        Measure { size: content.size, chunk_bytes: content.chunk_bytes, chunks }
    }

    /// How long a chunk is, in bytes.
    fn chunk_len(self, chunk: u32) -> u64 {
        let begin = u64::from(chunk).saturating_mul(self.chunk_bytes);
        self.size.saturating_sub(begin).min(self.chunk_bytes)
    }
}

/// The measures of a batch.
pub(super) fn measures(ops: &[Op]) -> Vec<Measure> {
    ops.iter().map(Measure::of).collect()
}

/// Whether a batch may be staged: `trees` is how many the group has.
///
/// # Errors
/// Why not, in words.
pub(super) fn check(ops: &[Op], trees: usize) -> Result<(), String> {
    if ops.len() > limits::BATCH_OPS_MAX {
        return Err(format!("a batch of {} changes", ops.len()));
    }
    for Op { key, change, .. } in ops {
        if usize::from(key.tree.0) >= trees {
            return Err(format!("a tree of number {}, of {trees}", key.tree.0));
        }
        match change {
            Change::Delete if key.path.is_root() => {
                return Err("the deletion of a tree's root".into());
            }
            Change::Delete => {}
            Change::Put(entry) => match &entry.kind {
                Kind::Dir => {}
                Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. } if key.path.is_root() => {
                    return Err("a tree's root that is no directory".into());
                }
                Kind::File(content) if !content.is_consistent() => {
                    return Err(format!("a content that does not fit itself: {}", key.path));
                }
                Kind::File(content)
                    if content.chunk_bytes > limits::MIRROR_MESSAGE_BYTES_MAX as u64 =>
                {
                    return Err(format!("a file too large to be mirrored: {}", key.path));
                }
                Kind::File(_) | Kind::Symlink { .. } => {}
                Kind::Link { to } if to.is_root() || *to == key.path => {
                    return Err(format!("a link to itself or the root: {}", key.path));
                }
                Kind::Link { .. } => {}
            },
        }
    }
    Ok(())
}

/// Whether a need asks only for chunks that were offered, in rising order.
///
/// # Errors
/// Why not, in words.
pub(super) fn check_need(wanted: &[Wanted], offered: &[Measure]) -> Result<(), String> {
    if !wanted.is_sorted_by(|a, b| a.op < b.op) {
        return Err("a need whose changes are not in order".into());
    }
    for want in wanted {
        let measure = usize::try_from(want.op).ok().and_then(|op| offered.get(op));
        let chunks = measure.map_or(0, |measure| measure.chunks);
        // Rising, so the last is the largest; and none is not a need.
        let within = want.chunks.last().is_some_and(|&last| last < chunks);
        if !within || !want.chunks.is_sorted_by(|a, b| a < b) {
            return Err(format!("a need of chunks that were not offered, of change {}", want.op));
        }
    }
    Ok(())
}

/// The chunks that are still to come, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Expected(VecDeque<(u32, u32, u64)>);

impl Expected {
    /// After this need was said.
    pub(super) fn new(wanted: &[Wanted], offered: &[Measure]) -> Expected {
        let mut expected = VecDeque::new();
        for want in wanted {
            let op = usize::try_from(want.op).ok();
            let measure = op.and_then(|op| offered.get(op)).copied().unwrap_or_default();
            let chunks = want.chunks.iter();
            expected.extend(chunks.map(|&chunk| (want.op, chunk, measure.chunk_len(chunk))));
        }
        Expected(expected)
    }

    /// Takes a chunk in: it must be the next one, and as long as its content says.
    ///
    /// # Errors
    /// It is not, in words.
    pub(super) fn take(&mut self, op: u32, chunk: u32, bytes: usize) -> Result<(), String> {
        match self.0.pop_front() {
            Some(next) if next == (op, chunk, bytes as u64) => Ok(()),
            Some(_) | None => {
                Err(format!("{bytes} bytes of chunk {chunk} of change {op}, not what comes next"))
            }
        }
    }

    /// Nothing more comes of this op.
    pub(super) fn drop_op(&mut self, op: u32) {
        self.0.retain(|(next, _, _)| *next != op);
    }

    /// Whether all came.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::entry::{Content, Entry, Key, RelPath, Stamp, TreeId};

    fn put(tree: u8, path: &str, kind: Kind) -> Op {
        let (mode, uid, gid, mtime) = (0o644, 0, 0, Stamp::default());
        let key = Key { tree: TreeId(tree), path: RelPath::new(path.as_bytes()).unwrap() };
        Op {
            key,
            change: Change::Put(Entry { kind, mode, uid, gid, mtime, xattrs: Vec::new() }),
            keep: false,
        }
    }

    fn file(size: u64) -> Kind {
        let chunk_bytes = Content::chunk_bytes_for(size);
        let chunks = vec![[7; 32]; usize::try_from(size.div_ceil(chunk_bytes)).unwrap()];
        Kind::File(Content { size, chunk_bytes, chunks })
    }

    fn want(op: u32, chunks: &[u32]) -> Wanted {
        Wanted { op, chunks: chunks.to_vec() }
    }

    #[test]
    fn a_batch_must_make_sense() {
        let link = |to: &str| Kind::Link { to: RelPath::new(to.as_bytes()).unwrap() };
        let root = Op { change: Change::Delete, ..put(0, "", Kind::Dir) };
        let misfit = Kind::File(Content { size: 9, chunk_bytes: 8, chunks: Vec::new() });
        let huge = file(1 << 37);
        for bad in [
            root,
            put(2, "a", Kind::Dir),
            put(0, "", file(1)),
            put(0, "a", misfit),
            put(0, "a", huge),
            put(0, "a", link("a")),
            put(0, "a", link("")),
        ] {
            assert!(check(std::slice::from_ref(&bad), 2).is_err(), "{bad:?}");
        }
        let good = [put(0, "", Kind::Dir), put(1, "a", file(0)), put(1, "b", link("a"))];
        check(&good, 2).unwrap();
        check(&[put(0, "a", file(1 << 36))], 1).unwrap();
        assert!(check(&vec![put(0, "a", Kind::Dir); limits::BATCH_OPS_MAX + 1], 1).is_err());
    }

    #[test]
    fn a_need_names_only_what_was_offered() {
        let offered = measures(&[put(0, "a", file(600_000)), put(0, "b", Kind::Dir)]);
        check_need(&[], &offered).unwrap();
        check_need(&[want(0, &[0, 2])], &offered).unwrap();
        for bad in [
            vec![want(0, &[3])],
            vec![want(0, &[1, 1])],
            vec![want(0, &[1, 0])],
            vec![want(1, &[0])],
            vec![want(2, &[0])],
            vec![want(0, &[])],
            vec![want(9, &[])],
            vec![want(0, &[0]), want(0, &[1])],
        ] {
            assert!(check_need(&bad, &offered).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chunks_come_in_order_and_whole() {
        let offered = measures(&[put(0, "a", Kind::Dir), put(0, "b", file(600_000))]);
        let begin = || Expected::new(&[want(1, &[0, 2])], &offered);
        let mut expected = begin();
        expected.take(1, 0, 256 * 1024).unwrap();
        assert!(!expected.is_empty());
        expected.take(1, 2, 600_000 - 512 * 1024).unwrap();
        assert!(expected.is_empty());
        expected.take(1, 2, 600_000 - 512 * 1024).unwrap_err();
        begin().take(1, 2, 600_000 - 512 * 1024).unwrap_err();
        begin().take(1, 0, 256 * 1024 - 1).unwrap_err();
        begin().take(0, 0, 0).unwrap_err();
    }
}
