//! The far end of a cable as evidence: the crossover's carrier, the serial line's modem lines. A peer that loses its
//! power drops both at once, but so does a cable that is pulled. So a loss only makes asks urgent, for a short time.

use std::time::Duration;

use crate::core::io::time::Time;
use crate::limits;

/// What is known of a carrier or of modem lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct CarrierWatch {
    up: Option<bool>,
    lost_at: Option<Time>,
    confirmed_at: Option<Time>,
    /// Its interface is set down on this node: the missing carrier says nothing about the far end.
    down_here: bool,
    /// The second look was commanded. If its answer is lost, the next round looks again.
    looked: bool,
}

/// What a cable says about its far end, in order of how likely it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FarEnd {
    /// It was not lost just now, or the peer outlived that.
    Kept,
    /// It may have been lost: the second look is still to come.
    InDoubt,
    /// It was lost just now, and the peer perhaps with it.
    Lost,
}

/// What a report about the carrier changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierNews {
    /// Nothing.
    None,
    /// There is a carrier now.
    Up,
    /// It was lost: to be looked at again.
    Lost,
    /// It is still lost at the second look: since then.
    Confirmed(Time),
}

impl CarrierWatch {
    /// Takes a report.
    pub fn report(&mut self, now: Time, up: bool) -> CarrierNews {
        let before = self.up.replace(up);
        self.down_here = false;
        if up {
            self.lost_at = None;
            self.confirmed_at = None;
            return if before == Some(true) { CarrierNews::None } else { CarrierNews::Up };
        }
        if before == Some(true) {
            self.lost_at = Some(now);
            self.looked = false;
            return CarrierNews::Lost;
        }
        match self.lost_at {
            Some(at) if self.confirmed_at.is_none() && now >= at + limits::CARRIER_SECOND_LOOK => {
                self.confirmed_at = Some(now);
                CarrierNews::Confirmed(at)
            }
            Some(_) | None => CarrierNews::None,
        }
    }

    /// Its interface is set down on this node.
    pub fn set_down(&mut self, now: Time) {
        self.up = Some(false);
        self.lost_at.get_or_insert(now);
        self.confirmed_at.get_or_insert(now);
        self.down_here = true;
    }

    /// Whether its interface is set down on this node, or is not there.
    pub fn is_set_down(&self) -> bool {
        self.down_here
    }

    /// Whether there is a carrier; `None` before the first report.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Since when it has been lost, confirmed or not.
    pub fn lost_at(&self) -> Option<Time> {
        self.lost_at
    }

    /// When to look a second time.
    pub fn look_at(&self) -> Option<Time> {
        let lost_at = self.lost_at.filter(|_| self.confirmed_at.is_none() && !self.looked);
        lost_at.map(|at| at + limits::CARRIER_SECOND_LOOK)
    }

    /// Whether the second look is due; true once.
    pub fn take_look(&mut self, now: Time) -> bool {
        let due = self.look_at().is_some_and(|at| now >= at);
        self.looked |= due;
        due
    }

    /// What it says about the far end. A loss explains a silence only for `span` after the second look confirmed it.
    pub fn far_end(&self, now: Time, span: Duration) -> FarEnd {
        match (self.lost_at.filter(|_| !self.down_here), self.confirmed_at) {
            (Some(_), None) => FarEnd::InDoubt,
            (Some(_), Some(at)) if now.since(at) <= span => FarEnd::Lost,
            (Some(_), Some(_)) | (None, _) => FarEnd::Kept,
        }
    }
}
