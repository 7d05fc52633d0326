//! One path: when the peer was last heard on it, and what that silence proves.
//!
//! ```text
//!            beat                    2 beats missing                dead_after
//!  silent ─────────▶ up / one-way ───────────────────▶ late ──────────────────────▶ silent
//!                        ▲                              │ asks go out on all paths
//!                        └──────────── beat ────────────┘
//! ```
//! One thing shortens this: the crossover's carrier is lost, still lost at a second look, and an ask
//! stays unanswered for a few round trips.

use std::time::Duration;

use super::time::Time;
use crate::beat::{DropReason, Path};
use crate::control::status::PathState;
use crate::limits;

/// What is known of one path.
#[derive(Clone, Debug)]
pub struct PathWatch {
    /// Which path.
    pub path: Path,
    /// Whether the config has it.
    pub configured: bool,
    /// Time between beats on it.
    pub interval: Duration,
    /// The same in rounds of beats: a slow serial line skips some.
    pub rounds: u32,
    /// Silence that makes it silent.
    pub dead_after: Duration,
    /// When the last counted beat came.
    pub counted_at: Option<Time>,
    /// The same, moved forward by the length of own stalls: silence is measured from here.
    pub heard_at: Option<Time>,
    /// Highest sequence counted on it in the peer's current incarnation.
    pub sequence: u64,
    /// `sent_us` of the newest beat on it, whose it was, and when it came: what the next beat echoes.
    pub echo: Option<Echo>,
    /// When the oldest ask was sent that nothing has answered yet.
    pub asked_at: Option<Time>,
    /// When an answer to an ask or introduction was last sent.
    pub answered_at: Option<Time>,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Beats that did not come when they were due.
    pub lost: u64,
    /// Frames refused, by [`DropReason::ALL`].
    pub refused: [u64; DropReason::ALL.len()],
    /// State at the last look, and since when.
    pub told: PathState,
    told_since: Time,
    /// What was said of it last, apart from its being late.
    said: PathState,
    /// When a late warning was last told.
    pub late_told_at: Option<Time>,
}

/// What a beat on a path echoes.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// The incarnation that sent it.
    pub incarnation: u64,
    /// Its `sent_us`.
    pub sent_us: u64,
    /// When it came.
    pub at: Time,
}

impl PathWatch {
    /// A path on which nothing was heard yet.
    pub fn new(
        path: Path,
        configured: bool,
        interval: Duration,
        rounds: u32,
        dead_after: Duration,
    ) -> Self {
        PathWatch {
            path,
            configured,
            interval,
            rounds,
            // A slow serial line beats less often, and is silent later.
            dead_after: dead_after.max(interval * (limits::LATE_AFTER_INTERVALS + 1)),
            counted_at: None,
            heard_at: None,
            sequence: 0,
            echo: None,
            asked_at: None,
            answered_at: None,
            rtt: None,
            lost: 0,
            refused: [0; DropReason::ALL.len()],
            told: PathState::Silent,
            told_since: Time(0),
            said: PathState::Silent,
            late_told_at: None,
        }
    }

    /// Counts a frame that was refused.
    pub fn refuse(&mut self, reason: DropReason) {
        let place = DropReason::ALL.iter().position(|&known| known == reason);
        if let Some(counter) = place.and_then(|place| self.refused.get_mut(place)) {
            *counter = counter.saturating_add(1);
        }
    }

    /// How many frames were refused for that reason.
    pub fn refused_for(&self, reason: DropReason) -> u64 {
        let counted = DropReason::ALL.iter().zip(self.refused);
        counted.filter(|(known, _)| **known == reason).map(|(_, count)| count).sum()
    }

    /// A beat counted: the path is alive. `rtt` is the round trip that it proves, if any.
    pub fn heard(&mut self, now: Time, sequence: u64, rtt: Option<Duration>) {
        if let Some(before) = self.counted_at {
            // Half an interval of jitter is no loss.
            // A path that is silent loses nothing more: there may be nobody who sends.
            let gap = now.since(before).min(self.dead_after);
            let intervals =
                (gap + self.interval / 2).as_micros() / self.interval.as_micros().max(1);
            self.lost += u64::try_from(intervals.saturating_sub(1)).unwrap_or(u64::MAX);
        }
        self.counted_at = Some(now);
        self.heard_at = Some(now);
        self.asked_at = None;
        self.sequence = sequence;
        if let Some(sample) = rtt {
            // RFC 6298's smoothing: an eighth of each new sample.
            self.rtt = Some(match self.rtt {
                Some(smooth) => (smooth * 7 + sample) / 8,
                None => sample,
            });
        }
    }

    /// A gap in our own time says nothing about the peer: silence does not grow by it. A path that
    /// was not silent before is listened to for one more interval before anything is concluded.
    pub fn forgive(&mut self, now: Time, gap: Duration, peer_gap: Duration) {
        if let Some(at) = self.asked_at {
            self.asked_at = Some((at + gap).min(now));
        }
        let Some(silent_at) = self.silent_at(peer_gap) else { return };
        let Some(heard_at) = self.heard_at else { return };
        let before = Time(now.0.saturating_sub(gap.as_micros() as u64));
        let listened = now + self.interval;
        let shifted = (heard_at + gap).min(now);
        self.heard_at = Some(if before <= silent_at && silent_at + gap < listened {
            shifted + listened.since(silent_at + gap)
        } else {
            shifted
        });
    }

    /// When it will be late if nothing comes.
    pub fn late_at(&self) -> Option<Time> {
        self.heard_at.map(|at| at + self.interval * limits::LATE_AFTER_INTERVALS)
    }

    /// When it will be silent if nothing comes. `peer_gap`: the sender's own worst recent gap; silence
    /// shorter than twice that proves nothing.
    pub fn silent_at(&self, peer_gap: Duration) -> Option<Time> {
        let gap = peer_gap.min(limits::GAP_HEEDED_MAX) * 2;
        self.heard_at.map(|at| at + self.dead_after.max(gap))
    }

    /// When an ask that stays unanswered makes it silent, if the crossover's carrier is lost. `None` also
    /// while no round trip was measured: a slow line is not told from a dead one then.
    pub fn ask_over_at(&self) -> Option<Time> {
        let patience = self.rtt? * limits::ASK_PATIENCE_ROUND_TRIPS;
        self.asked_at.map(|at| at + patience.max(limits::ASK_PATIENCE_MIN))
    }

    /// Whether nothing may be concluded yet (`false`), or it is silent.
    pub fn is_silent(&self, now: Time, peer_gap: Duration) -> bool {
        self.silent_at(peer_gap).is_none_or(|at| now >= at)
    }

    /// Whether beats are missing.
    pub fn is_late(&self, now: Time) -> bool {
        self.late_at().is_none_or(|at| now > at)
    }

    /// Whether its state is to be told now: if it differs from what was said last. Late is told at a
    /// bounded rate, one-way only if it lasts; what recovers from either untold is no news.
    pub fn is_news(&mut self, now: Time, state: PathState) -> bool {
        if state != self.told {
            self.told = state;
            self.told_since = now;
        }
        let lasts = now.since(self.told_since);
        let news = match state {
            PathState::Late => {
                let every = limits::LATE_TOLD_EVERY;
                let news = self.late_told_at.is_none_or(|at| now.since(at) >= every);
                if news {
                    self.late_told_at = Some(now);
                }
                return news;
            }
            PathState::OneWay => {
                self.said != state && lasts >= self.interval * limits::ONE_WAY_TOLD_AFTER_INTERVALS
            }
            PathState::Up | PathState::Silent | PathState::Off => self.said != state,
        };
        if news {
            self.said = state;
        }
        news
    }

    /// The peer said goodbye: what follows is no silence of a path.
    pub fn close(&mut self) {
        self.heard_at = None;
        self.asked_at = None;
        self.told = PathState::Silent;
        self.said = PathState::Silent;
    }

    /// Its state, as `status` shows it. `peer_hears`: the peer says that it hears us here.
    pub fn state(&self, now: Time, peer_gap: Duration, peer_hears: bool) -> PathState {
        if !self.configured {
            PathState::Off
        } else if self.is_silent(now, peer_gap) {
            PathState::Silent
        } else if self.is_late(now) {
            PathState::Late
        } else if peer_hears {
            PathState::Up
        } else {
            PathState::OneWay
        }
    }
}
