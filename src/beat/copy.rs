//! What a heartbeat says of a node's copy of a group's trees: what it holds, and what its owner has not
//! sent yet. Numbers that only people read travel as one byte each.

use serde::{Deserialize, Serialize};

/// What the sender's copy of a group's trees is, held against the generation that the same beat names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// No copy with a history, or the group has no mirror.
    #[default]
    Nothing,
    /// A copy of an earlier generation.
    Older,
    /// A copy of that generation.
    Newest,
}

/// Age of the oldest change that the owner has not sent: nothing shows what the peer has.
pub const UNSENT_UNKNOWN_S: u16 = u16::MAX;

/// A group's copy, as its node says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyBeat {
    /// What it is.
    pub holds: Holds,
    /// There is no name in the trees.
    pub empty: bool,
    /// Age in s of the oldest change that the receiver lacks, rounded up; 0: none but what changed a
    /// moment ago; [`UNSENT_UNKNOWN_S`]: not known.
    pub unsent_s: u16,
    /// What a plain serial frame has no room for.
    pub detail: Option<CopyDetail>,
}

/// The same for groups without a mirror.
impl Default for CopyBeat {
    fn default() -> CopyBeat {
        CopyBeat { holds: Holds::Nothing, empty: false, unsent_s: UNSENT_UNKNOWN_S, detail: None }
    }
}

/// More about a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyDetail {
    /// The newest commit in it, of the generation that it is of.
    pub commit: CommitBeat,
    /// Files that the receiver lacks.
    pub files: Approx,
    /// Their bytes.
    pub bytes: Approx,
}

/// The newest commit in a copy. Recordings hold it as frames do, as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum CommitBeat {
    /// The sender's worker has not looked at the copy yet, or does not answer: the sender may hold anything.
    #[default]
    NotSaid,
    /// The index of the copy was lost, and the number with it.
    Unknown,
    /// The low 24 bits of its number; 0: none.
    Number(u32),
}

/// What three bytes have room for; the highest two numbers stand for what is no number.
const COMMIT_BITS: u32 = (1 << 24) - 1;
const UNKNOWN: u32 = COMMIT_BITS;
const NOT_SAID: u32 = COMMIT_BITS - 1;

impl CommitBeat {
    /// Of a commit's whole number. The few whose low bits stand for something else are not known to the peer.
    pub fn of(number: u64) -> CommitBeat {
        match (number & u64::from(COMMIT_BITS)) as u32 {
            NOT_SAID | UNKNOWN => CommitBeat::Unknown,
            bits => CommitBeat::Number(bits),
        }
    }

    /// Whether this comes after another one.
    pub fn is_after(self, than: CommitBeat) -> bool {
        match (self, than) {
            (CommitBeat::Number(this), CommitBeat::Number(than)) => {
                (1..COMMIT_BITS / 2).contains(&(this.wrapping_sub(than) & COMMIT_BITS))
            }
            (CommitBeat::NotSaid | CommitBeat::Unknown, _)
            | (_, CommitBeat::NotSaid | CommitBeat::Unknown) => false,
        }
    }
}

/// The low three bytes stand for it.
impl From<CommitBeat> for u32 {
    fn from(commit: CommitBeat) -> u32 {
        match commit {
            CommitBeat::NotSaid => NOT_SAID,
            CommitBeat::Unknown => UNKNOWN,
            CommitBeat::Number(bits) => bits,
        }
    }
}

impl From<u32> for CommitBeat {
    fn from(bits: u32) -> CommitBeat {
        match bits & COMMIT_BITS {
            NOT_SAID => CommitBeat::NotSaid,
            UNKNOWN => CommitBeat::Unknown,
            bits => CommitBeat::Number(bits),
        }
    }
}

/// A number in one byte: exact up to 16, then too small by an eighth at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approx(pub u8);

impl Approx {
    /// The nearest number that is not above `number`.
    pub fn of(number: u64) -> Approx {
        let Some(magnitude) = number.checked_ilog2().filter(|magnitude| *magnitude >= 3) else {
            return Approx(u8::try_from(number).unwrap_or(u8::MAX));
        };
        let eighths = (number >> (magnitude - 3)) & 0b111;
        let code = (u64::from(magnitude) - 2) * 8 + eighths;
        Approx(u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// The number.
    pub fn value(self) -> u64 {
        let (exponent, eighths) = (u32::from(self.0 / 8), u64::from(self.0 % 8));
        match exponent.checked_sub(1) {
            None => eighths,
            Some(shift) => (8 + eighths) << shift,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_are_exact() {
        for number in 0..=16 {
            assert_eq!(Approx::of(number).value(), number);
        }
    }

    proptest! {
        #[test]
        fn large_numbers_are_near(number in 0..=(u64::MAX >> 30)) {
            let shown = Approx::of(number).value();
            prop_assert!(shown <= number && number - shown <= number / 8, "{} for {}", shown, number);
        }

        #[test]
        fn a_byte_is_one_number(code in 0..=247u8) {
            prop_assert_eq!(Approx::of(Approx(code).value()), Approx(code));
        }
    }
}
