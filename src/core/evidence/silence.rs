//! What silence proves: the rules, as questions to the evidence.

use std::time::Duration;

use super::Evidence;
use super::carrier::{CarrierWatch, FarEnd};
use super::path::PathWatch;
use crate::beat::Path;
use crate::core::io::time::Time;
use crate::limits;

impl Evidence {
    /// How late the peer's loop ran lately: its answers to asks may come as late.
    pub fn peer_late(&self) -> Duration {
        self.peer.heeded_gap().saturating_sub(self.pace.sends)
    }

    /// The far end of a cable was lost a moment ago, so every path is asked repeatedly for a while.
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

    /// Whether the peer is dead by silence: every path has been silent for its timeout, or the far end of a cable was
    /// lost and asks on all other paths stay unanswered. The lost cable alone proves nothing, and neither does a LAN
    /// besides it, which may just be slow: the serial line must leave an ask unanswered, too (P1). A pair without one
    /// waits for the timeout.
    pub fn is_peer_silent(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        // A slow line may have had no time to deliver anything since this incarnation was met.
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

    /// Whether the serial line was silent for the timeout of the fast paths and leaves an ask unanswered. Its own
    /// timeout is longer because its heartbeats are further apart. This shortcut applies while the fast paths were well
    /// a moment ago, because only then was the line asked.
    fn line_is_silent(&self, now: Time, watch: &PathWatch) -> bool {
        let span = self.pace.dead_after.max(self.peer.heeded_gap() * 2);
        let over = watch.ask_over_at(self.peer_late()).is_some_and(|at| now >= at);
        let silent = watch.heard_at.is_none_or(|at| now.since(at) >= span);
        watch.path == Path::Serial
            && over
            && silent
            && self
                .fast_paths()
                .any(|fast| fast.heard_at.is_some_and(|at| now.since(at) <= span * 2))
    }

    /// Whether heartbeats just became overdue on both fast paths. Then the serial line is asked, ahead of any other
    /// frame.
    pub fn asks_line_first(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        let lately = self.fast_paths().any(|watch| !watch.is_silent(now, gap));
        self.peer.is_alive() && lately && self.is_unheard(now)
    }

    /// Whether a path that was well fell silent together with the far end of a cable. These are no evidence of a death
    /// now: a cable that was pulled long ago; a LAN that failed before; a LAN on which the peer reported no carrier; a
    /// LAN ask that the peer outlived by answering on another path.
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

    /// What the far ends of the cables say about the peer. If the peer outlived the loss of the crossover, the serial
    /// line's far end proves nothing either: an owner that loses its last cables then cannot release in time.
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

    /// Whether the peer outlived the loss of this cable. Then a plug was pulled, and the next silence may be the next
    /// plug (P1): only the timeout counts.
    fn lived_on(&self, cable: &CarrierWatch) -> bool {
        cable.lost_at().is_some_and(|lost_at| self.lived_beyond(lost_at))
    }

    /// Whether the peer showed on any path that it lived longer than a death at `at` could explain.
    fn lived_beyond(&self, at: Time) -> bool {
        self.configured().any(|watch| watch.lived_after() >= at + limits::ASK_PATIENCE_MIN)
    }

    /// When a beat will be overdue on both fast paths.
    pub fn unheard_at(&self) -> Option<Time> {
        self.fast_paths().filter_map(PathWatch::overdue_at).max()
    }

    /// Whether a beat is overdue on both fast paths, and on the serial line as well if both have been silent for long.
    pub fn is_unheard(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        let overdue = |watch: &PathWatch| watch.overdue_at().is_none_or(|at| now >= at);
        let long = self.fast_paths().all(|watch| watch.is_silent(now, gap));
        self.configured().filter(|watch| long || watch.path != Path::Serial).all(overdue)
    }

    /// Whether this node has lost every cable. An owner then releases at once, before the peer, which sees the
    /// crossover's carrier lost too, can take over. It proves no death. A serial line that is late, or leaves an ask
    /// unanswered, counts as lost: the peer may have heard its last beat up to an interval earlier than this node, so
    /// waiting for the timeout would be too long. It costs little: without a LAN carrier no client is served here.
    pub fn has_no_cable(&self, now: Time) -> bool {
        let line_silent = |watch: &PathWatch| {
            let hangs_at = watch.ask_hangs_at(Duration::ZERO);
            let gone = hangs_at.into_iter().chain(self.line_gone_at(watch)).any(|at| now >= at);
            watch.path != Path::Serial || watch.is_late(now) || gone
        };
        // A late answer to the second look must not delay the release.
        let lost = |at: Time| now.since(at) >= limits::CARRIER_SECOND_LOOK;
        self.peer.is_alive()
            && self.crossover.lost_at().is_some_and(lost)
            && self.reach.carrier_lost_at(now).is_some()
            && self.configured().all(line_silent)
    }

    /// When a serial line counts as lost together with the crossover, if nothing was answered on it since. Nothing
    /// extends that time, neither traffic on the line nor this node's own lateness: the peer's time began at the same
    /// moment.
    pub fn line_gone_at(&self, watch: &PathWatch) -> Option<Time> {
        let lost_at = self.crossover.lost_at()?;
        (watch.lived_after() < lost_at).then(|| lost_at + watch.let_go_patience())
    }
}
