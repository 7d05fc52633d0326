//! What silence proves: the rules, as questions to the evidence.

use std::time::Duration;

use super::Evidence;
use super::carrier::{CarrierWatch, FarEnd};
use super::path::PathWatch;
use crate::beat::Path;
use crate::core::io::time::Time;
use crate::limits;

impl Evidence {
    /// How late the peer's loop was lately: its asks may be answered as late.
    pub fn peer_late(&self) -> Duration {
        let gap = self.peer.worst_gap().min(limits::GAP_HEEDED_MAX);
        gap.saturating_sub(self.pace.sends)
    }

    /// The far end of a cable was lost a moment ago: each path is asked until that moment is over.
    pub fn is_urgent(&self, now: Time) -> bool {
        let span = self.pace.dead_after;
        self.peer.is_alive()
            && self.crossover.far_end(now, span).max(self.modem.far_end(now, span)) > FarEnd::Kept
    }

    /// When a beat on one of the fast paths is overdue, and the carriers have not been looked at since.
    pub fn overdue_at(&self) -> Option<Time> {
        let overdue = self.fast_paths().filter_map(PathWatch::overdue_at);
        overdue.filter(|at| self.looked_at < *at).min()
    }

    pub fn configured(&self) -> impl Iterator<Item = &PathWatch> {
        self.paths.iter().filter(|watch| watch.configured)
    }

    pub fn fast_paths(&self) -> impl Iterator<Item = &PathWatch> {
        self.configured().filter(|watch| watch.path != Path::Serial)
    }

    /// Whether the peer is silent: on every path for so long that it is dead; or it vanished with the far end of a
    /// cable, at once. That cable alone proves nothing, nor does a LAN that may just be slow besides: a second,
    /// independent path must leave an ask unanswered, too (P1). Without one only time counts.
    pub fn is_peer_silent(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        // Since the peer was met, a slow line may not have had the time to bring anything.
        let had_time = |watch: &PathWatch| {
            watch.heard_at.is_some() || now.since(self.peer.met_at()) >= watch.dead_after
        };
        let silent = |watch: &PathWatch| {
            (watch.is_silent(now, gap) && had_time(watch)) || self.line_is_silent(now, watch)
        };
        self.configured().all(silent)
            || (self.far_end(now) == FarEnd::Lost
                && self.configured().any(|watch| watch.path == Path::Serial)
                && self.configured().all(|watch| self.went_with_far_end(now, watch)))
    }

    /// Whether nothing came on the serial line for as long as makes the fast paths silent, and an ask stays unanswered
    /// there. Its heartbeats are further apart; but where the fast paths were well a moment ago it is asked.
    fn line_is_silent(&self, now: Time, watch: &PathWatch) -> bool {
        let span = self.pace.dead_after.max(self.peer.worst_gap().min(limits::GAP_HEEDED_MAX) * 2);
        let over = watch.ask_over_at(self.peer_late()).is_some_and(|at| now >= at);
        let silent = watch.heard_at.is_none_or(|at| now.since(at) >= span);
        watch.path == Path::Serial
            && over
            && silent
            && self
                .fast_paths()
                .any(|fast| fast.heard_at.is_some_and(|at| now.since(at) <= span * 2))
    }

    /// Whether heartbeats are overdue on both fast paths, and were not a moment ago. Then the serial line is asked, and
    /// nothing holds its asks up.
    pub fn asks_line_first(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        let lately = self.fast_paths().any(|watch| !watch.is_silent(now, gap));
        self.peer.is_alive() && lately && self.is_unheard(now)
    }

    /// Whether a path that was well has fallen silent with the far end of a cable. A cable that was pulled long ago is
    /// no evidence of a death now, nor is a LAN that failed before, where the peer has said that it has no carrier, or
    /// where it answered elsewhere meanwhile.
    fn went_with_far_end(&self, now: Time, watch: &PathWatch) -> bool {
        let over = watch.ask_over_at(self.peer_late()).is_some_and(|at| now >= at);
        let span = self.pace.dead_after;
        match watch.path {
            Path::Crossover => self.crossover.far_end(now, span) == FarEnd::Lost || over,
            Path::Serial => self.modem.far_end(now, span) == FarEnd::Lost || over,
            Path::Lan => {
                let on_lan = self.peer.last().is_some_and(|beat| beat.lan_carrier);
                on_lan && over && !watch.asked_at.is_some_and(|at| self.lived_beyond(at))
            }
        }
    }

    /// What the far ends of the cables say of the peer. A crossover that was pulled before counts for the serial line,
    /// too: an owner that loses the rest then cannot let go in time.
    pub fn far_end(&self, now: Time) -> FarEnd {
        let of = |cable: &CarrierWatch| match self.lived_on(cable) {
            true => FarEnd::Kept,
            false => cable.far_end(now, self.pace.dead_after),
        };
        match self.lived_on(&self.crossover) {
            true => FarEnd::Kept,
            false => of(&self.crossover).max(of(&self.modem)),
        }
    }

    /// Whether the peer outlived the loss of this cable. Then a plug was pulled, and what is silent afterwards may
    /// be the next one (P1): only silence counts.
    fn lived_on(&self, cable: &CarrierWatch) -> bool {
        cable.lost_at().is_some_and(|lost_at| self.lived_beyond(lost_at))
    }

    /// Whether the peer still answered, on any path, when it would have been given up had it died at `at`.
    fn lived_beyond(&self, at: Time) -> bool {
        self.configured().any(|watch| watch.lived_after() >= at + limits::ASK_PATIENCE_MIN)
    }

    /// When a beat will be overdue on both fast paths.
    pub fn unheard_at(&self) -> Option<Time> {
        self.fast_paths().filter_map(PathWatch::overdue_at).max()
    }

    /// Whether a beat is overdue on both fast paths; where both have been silent for long, on the serial line, too.
    pub fn is_unheard(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        let overdue = |watch: &PathWatch| watch.overdue_at().is_none_or(|at| now >= at);
        let long = self.fast_paths().all(|watch| watch.is_silent(now, gap));
        self.configured().filter(|watch| long || watch.path != Path::Serial).all(overdue)
    }

    /// Whether no cable is left by which anybody could be heard. An owner then lets go at once, before
    /// the peer, which sees the crossover's carrier lost too, can take over; it proves no death. A serial
    /// line that is late, or where an ask hangs, is as good as none: the peer may have heard its last up to
    /// a beat before this node did, and its own asks may prove more to it, so waiting for silence here would
    /// be too long. It costs little: without a LAN carrier nobody is served here.
    pub fn has_no_cable(&self, now: Time) -> bool {
        let line_silent = |watch: &PathWatch| {
            let hangs_at = watch.ask_hangs_at(Duration::ZERO);
            let gone = hangs_at.into_iter().chain(self.line_gone_at(watch)).any(|at| now >= at);
            watch.path != Path::Serial || watch.is_late(now) || gone
        };
        // A second look whose answer is late must not keep the address here.
        let lost = |at: Time| now.since(at) >= limits::CARRIER_SECOND_LOOK;
        self.peer.is_alive()
            && self.crossover.lost_at().is_some_and(lost)
            && self.reach.carrier_lost_at(now).is_some()
            && self.configured().all(line_silent)
    }

    /// When a line on which nothing was answered since the crossover was lost counts as lost with it. Nothing
    /// prolongs that, not what is on the line nor this node's own lateness: the peer's patience began at the same
    /// moment.
    pub fn line_gone_at(&self, watch: &PathWatch) -> Option<Time> {
        let lost_at = self.crossover.lost_at()?;
        (watch.lived_after() < lost_at).then(|| lost_at + watch.let_go_patience())
    }
}
