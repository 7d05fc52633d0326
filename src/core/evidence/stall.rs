//! This node's own gaps: how they are noticed, forgiven, and told to the peer.

use std::time::Duration;

use crate::control::event::Kind;
use crate::control::status::{Loop, LoopBucket};
use crate::core::io::time::Time;
use crate::core::{Core, Phase};
use crate::limits;

/// How late the loop ran, since the start.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    /// Counts by [`limits::LATENESS_BELOW_MS`], and of what was later than all of them.
    counts: [u64; limits::LATENESS_BELOW_MS.len() + 1],
    worst: Duration,
}

impl Lateness {
    /// Something was done this late.
    pub fn saw(&mut self, late: Duration) {
        self.worst = self.worst.max(late);
        let below = |ms: &u64| late < Duration::from_millis(*ms);
        let place = limits::LATENESS_BELOW_MS.iter().position(below);
        if let Some(count) = self.counts.get_mut(place.unwrap_or(limits::LATENESS_BELOW_MS.len())) {
            *count = count.saturating_add(1);
        }
    }

    /// As `status` shows it.
    pub fn status(&self) -> Loop {
        let ends = limits::LATENESS_BELOW_MS.iter().copied().map(Some).chain([None]);
        let lateness =
            ends.zip(self.counts).map(|(below_ms, count)| LoopBucket { below_ms, count });
        let worst_us = u64::try_from(self.worst.as_micros()).unwrap_or(u64::MAX);
        Loop { lateness: lateness.collect(), worst_us }
    }
}

/// The longest gaps: between rounds of the loop, or until an answer comes.
#[derive(Clone, Debug)]
pub struct Gaps {
    memory: Duration,
    window_began: Time,
    in_window: Duration,
    in_last_window: Duration,
    ever: Duration,
}

impl Gaps {
    /// None yet. A gap counts as recent for this long, at most twice.
    pub fn remembered_for(memory: Duration) -> Gaps {
        let (none, window_began) = (Duration::ZERO, Time(0));
        Gaps { memory, window_began, in_window: none, in_last_window: none, ever: none }
    }

    /// There was one of this length.
    pub fn saw(&mut self, now: Time, gap: Duration) {
        if now.since(self.window_began) >= self.memory {
            self.in_last_window = self.in_window;
            self.in_window = Duration::ZERO;
            self.window_began = now;
        }
        self.in_window = self.in_window.max(gap);
        self.ever = self.ever.max(gap);
    }

    /// The longest recent one.
    pub fn recent(&self) -> Duration {
        self.in_window.max(self.in_last_window)
    }

    /// The longest since the start.
    pub fn ever(&self) -> Duration {
        self.ever
    }
}

/// How much later than planned this round is, if that is a stall. `last` and `planned`: the round
/// before, and the deadline that it armed.
pub fn overslept(now: Time, last: Time, planned: Time) -> Option<Duration> {
    let late = now.since(last.max(planned));
    (late >= limits::STALL_MIN).then_some(late)
}

impl Core {
    /// This node was stalled: what it missed meanwhile does not count as anybody's silence.
    pub(in crate::core) fn overslept(&mut self, now: Time, late: Duration) {
        if !self.obeys_stall_rule() || self.phase == Phase::Sweeping {
            return;
        }
        let longest_safe = self.earliest_claim_by_peer();
        let peer_gap = self.evidence.peer.worst_gap();
        for watch in &mut self.evidence.paths {
            watch.forgive(now, late, peer_gap);
        }
        self.worker.overslept(now);
        let told = late >= longest_safe;
        if told {
            self.stalled = true;
            self.evidence.woke_at = Some(now);
            let text = format!("this node stalled for {} ms", late.as_millis());
            self.tell(Kind::Stall, None, text);
        }
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            self.group_overslept(now, group, late, longest_safe);
        }
        self.groups = groups;
    }

    /// How soon after this node's last beat the peer could have claimed.
    fn earliest_claim_by_peer(&self) -> Duration {
        match self.evidence.crossover.up() {
            // The beat before the gap left up to one interval before it.
            Some(true) => {
                self.evidence.pace.dead_to_peer_after.saturating_sub(self.evidence.pace.expects)
            }
            Some(false) | None => limits::ASK_PATIENCE_MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_between_its_limits() {
        let mut lateness = Lateness::default();
        for us in [0, 999, 1_000, 24_999, 25_000, 99_999, 100_000, 7_000_000] {
            lateness.saw(Duration::from_micros(us));
        }
        let shown = lateness.status();
        let counts: Vec<u64> = shown.lateness.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 1, 1, 1, 2]);
        let limits: Vec<Option<u64>> =
            shown.lateness.iter().map(|bucket| bucket.below_ms).collect();
        assert_eq!(limits.first().zip(limits.last()), Some((&Some(1), &None)));
        assert_eq!(shown.worst_us, 7_000_000);
    }
}
