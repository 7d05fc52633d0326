//! Frames on a line of bytes: consistent overhead byte stuffing (Cheshire and Baker, 1999).
//!
//! A frame is stuffed so that it holds no zero, and stands between two zeros. Noise, a BREAK (read as
//! a zero) and the end of a frame whose beginning was lost spoil at most the frame that they touch:
//! the next zero starts again. There is no checksum: the frame's tag is better than any.

use super::message::DropReason;
use crate::limits::INTRODUCTION_BYTES_MAX;

/// Longest frame with its stuffing: one byte of it for each 254 begun.
const STUFFED_BYTES_MAX: usize = INTRODUCTION_BYTES_MAX + 1;
/// Bytes on the line beyond the frame's own: stuffing and two delimiters.
pub(super) const OVERHEAD_BYTES: usize = 3;

const DELIMITER: u8 = 0;

/// A frame as it goes on the line.
#[derive(Debug)]
pub(super) struct Stuffed {
    bytes: [u8; INTRODUCTION_BYTES_MAX + OVERHEAD_BYTES],
    length: usize,
}

impl Stuffed {
    /// Stuffs `frame` between two delimiters. `None`: it is longer than any serial frame.
    pub(super) fn new(frame: &[u8]) -> Option<Stuffed> {
        if frame.len() > INTRODUCTION_BYTES_MAX {
            return None;
        }
        let mut stuffed = Stuffed { bytes: [DELIMITER; _], length: frame.len() + OVERHEAD_BYTES };
        // Each run of other bytes is led by a code: the distance to the next zero, or to the end.
        let mut at = 1;
        for run in frame.split(|&byte| byte == DELIMITER) {
            *stuffed.bytes.get_mut(at)? = u8::try_from(run.len() + 1).ok()?;
            stuffed.bytes.get_mut(at + 1..at + 1 + run.len())?.copy_from_slice(run);
            at += run.len() + 1;
        }
        Some(stuffed)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Finds frames in what the line brings, in bounded memory.
///
/// ```text
///            byte                    full
///   Between ------> Inside (n bytes) ----> Skipping (told: Oversized)
///      ^  delimiter: nothing |  delimiter: frame     | delimiter: nothing
///      +---------------------+  or LineNoise         |
///      +---------------------------------------------+
/// ```
/// `Between` is `Inside` with no bytes.
#[derive(Debug)]
pub(super) struct Deframer {
    bytes: [u8; STUFFED_BYTES_MAX],
    length: usize,
    skipping: bool,
}

/// A frame without its stuffing.
#[derive(Debug)]
pub(super) struct Unstuffed {
    bytes: [u8; STUFFED_BYTES_MAX],
    length: usize,
}

impl Unstuffed {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Deframer {
    /// Begins as if frames before had been cut off: what comes before the first delimiter is noise.
    pub(super) fn new() -> Deframer {
        Deframer { bytes: [0; _], length: 0, skipping: false }
    }

    /// Bytes since the last delimiter that may become a frame.
    pub(super) fn held_bytes(&self) -> usize {
        self.length
    }

    /// Takes one byte. `Some` when it ends a frame, or shows that there is none.
    pub(super) fn push(&mut self, byte: u8) -> Option<Result<Unstuffed, DropReason>> {
        if byte == DELIMITER {
            let length = std::mem::take(&mut self.length);
            let skipped = std::mem::take(&mut self.skipping);
            if skipped || length == 0 {
                return None;
            }
            let stuffed = self.bytes.get(..length).unwrap_or_default();
            return Some(unstuff(stuffed).ok_or(DropReason::LineNoise));
        }
        if self.skipping {
            return None;
        }
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
                None
            }
            None => {
                self.skipping = true;
                Some(Err(DropReason::Oversized))
            }
        }
    }
}

/// Undoes the stuffing; `None` if these bytes, none of them zero, do not come from it.
fn unstuff(mut stuffed: &[u8]) -> Option<Unstuffed> {
    let mut frame = Unstuffed { bytes: [0; _], length: 0 };
    while let Some((&code, rest)) = stuffed.split_first() {
        let (run, rest) = rest.split_at_checked(usize::from(code).checked_sub(1)?)?;
        frame.bytes.get_mut(frame.length..frame.length + run.len())?.copy_from_slice(run);
        frame.length += run.len();
        // A zero follows each run but the last; the bytes there are zero already.
        if !rest.is_empty() {
            frame.length += 1;
        }
        stuffed = rest;
    }
    Some(frame)
}
