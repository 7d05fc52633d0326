//! What the peer shared: the newest whole list of each group. Bounded by [`crate::limits::CONNECTIONS_MAX`]
//! for each group, twice while a list comes in.
//!
//! What can a replayed list do? One of the sender's own epoch is refused. One of another epoch, recorded
//! earlier on that cable, counts only after the sender has been silent for
//! [`crate::limits::SHARE_EPOCH_SILENCE`], and until it speaks and the recording is silent. Then, if this
//! node takes over, some segments go to clients that have no such connection, or have it with the new
//! owner, which hurts neither; and others that should be told are not, and wait as if this did not exist.
//! The list decides nothing else.

use std::time::Instant;

use super::{Connection, Part, Refusal};
use crate::config::GroupIndex;
use crate::limits::{CONNECTIONS_MAX, SHARE_EPOCH_SILENCE, SHARE_KEPT};

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The connections.
    pub connections: Vec<Connection>,
    /// When its last part came.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Group {
    whole: Option<Shared>,
    /// Number of the list whose first part came last.
    number: u64,
    /// That list, if its next part is awaited, and which that is.
    growing: Option<(u16, Vec<Connection>)>,
}

/// The lists of all groups.
#[derive(Debug)]
pub struct Table {
    /// The sender's epoch, and when it was last heard.
    epoch: Option<(u64, Instant)>,
    groups: Vec<Group>,
}

impl Table {
    /// An empty one for so many groups.
    pub fn new(groups: usize) -> Table {
        Table { epoch: None, groups: std::iter::repeat_with(Group::default).take(groups).collect() }
    }

    /// Takes in an authentic part.
    ///
    /// # Errors
    /// Why it was refused; then nothing has changed, or the list that was coming in is given up.
    pub fn take(&mut self, now: Instant, part: Part) -> Result<(), Refusal> {
        match self.epoch {
            Some((epoch, heard_at)) if epoch != part.epoch => {
                if now.saturating_duration_since(heard_at) < SHARE_EPOCH_SILENCE {
                    return Err(Refusal::OtherEpoch);
                }
                for group in &mut self.groups {
                    group.number = 0;
                    group.growing = None;
                }
            }
            Some(_) | None => {}
        }
        let group = self.groups.get_mut(usize::from(part.group.0)).ok_or(Refusal::Malformed)?;
        if part.index == 0 {
            if part.number <= group.number {
                return Err(Refusal::Replay);
            }
            group.number = part.number;
            group.growing = Some((0, Vec::new()));
        } else if part.number < group.number {
            return Err(Refusal::Replay);
        }
        self.epoch = Some((part.epoch, now));
        let same = part.number == group.number;
        if group.growing.as_ref().is_some_and(|(next, _)| same && part.index < *next) {
            return Err(Refusal::Replay);
        }
        let awaited = group.growing.take().filter(|(next, _)| same && *next == part.index);
        let (next, mut connections) = awaited.ok_or(Refusal::Gap)?;
        if connections.len() + part.connections.len() > CONNECTIONS_MAX {
            return Err(Refusal::Malformed);
        }
        connections.extend(part.connections);
        if next + 1 == part.of {
            connections.shrink_to_fit();
            group.whole = Some(Shared { connections, at: now });
        } else {
            group.growing = Some((next + 1, connections));
        }
        Ok(())
    }

    /// The newest whole list of a group that is not too old.
    pub fn shared(&self, group: GroupIndex) -> Option<&Shared> {
        self.groups.get(usize::from(group.0))?.whole.as_ref()
    }

    /// Forgets a group's list: its clients were told.
    pub fn forget(&mut self, group: GroupIndex) {
        if let Some(group) = self.groups.get_mut(usize::from(group.0)) {
            group.whole = None;
        }
    }

    /// Forgets what is too old. To be called before [`Table::shared`].
    pub fn age(&mut self, now: Instant) {
        for group in &mut self.groups {
            group.whole.take_if(|list| now.saturating_duration_since(list.at) >= SHARE_KEPT);
        }
    }
}
