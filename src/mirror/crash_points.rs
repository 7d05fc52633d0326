//! Every write to a tree or a conflict store takes a step first. In life that does nothing; a test stops
//! at each of them in turn, as a power cut would.

use super::proto::Trouble;

/// How many writes may still be made.
#[derive(Debug)]
pub struct CrashPoints {
    left: Option<u64>,
}

impl CrashPoints {
    /// As many as are needed.
    pub fn all() -> CrashPoints {
        CrashPoints { left: None }
    }

    /// Only so many: then each further one fails.
    #[cfg(test)]
    pub(super) fn until(left: u64) -> CrashPoints {
        CrashPoints { left: Some(left) }
    }

    /// One more write.
    pub(super) fn take(&mut self) -> Result<(), Trouble> {
        let Some(left) = &mut self.left else { return Ok(()) };
        *left = left.checked_sub(1).ok_or_else(|| Trouble::Failed("stopped".to_owned()))?;
        Ok(())
    }
}
