//! Bytes out and bytes in: a frame under construction, and a reader that cannot read too far.

use super::message::DropReason;
use crate::limits::BEAT_BYTES_MAX;

/// One frame, as long as any may be. No allocation.
#[derive(Clone, Debug)]
pub struct FrameBuffer {
    bytes: [u8; BEAT_BYTES_MAX],
    length: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuffer {
    /// An empty frame.
    pub fn new() -> FrameBuffer {
        FrameBuffer { bytes: [0; BEAT_BYTES_MAX], length: 0 }
    }

    /// What was put in so far.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Starts a new frame.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends. What does not fit is left out whole; the sizes of our frames are proven by tests, and
    /// the receiver would refuse a frame that lacks a field.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }
}

/// Reads a frame from front to back.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], DropReason> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DropReason::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DropReason> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DropReason> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DropReason> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DropReason> {
        self.take().map(u64::from_be_bytes)
    }
}
