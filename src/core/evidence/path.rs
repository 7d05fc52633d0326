//! One path: when the peer was last heard on it, and what that silence proves.
//!
//! ```text
//!            beat                    2 beats missing                dead_after
//!  silent ─────────▶ up / one-way ───────────────────▶ late ──────────────────────▶ silent
//!                        ▲                              │ asks go out on all paths
//!                        └──────────── beat ────────────┘
//! ```
//! One thing shortens this: the crossover's carrier is lost, still lost at a second look, and asks on the LAN and on
//! the serial line, which were well, stay unanswered for a few round trips. Only a frame that echoes the ask is an
//! answer; a beat that was on its way when the carrier was lost is not.

use std::collections::VecDeque;
use std::time::Duration;

use super::flap_damping::StormTold;
use super::lan::RoundTrips;
use crate::beat::{DropReason, Path};
use crate::control::status::PathState;
use crate::core::io::time::Time;
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
    /// Time between two urgent asks on it.
    ask_every: Duration,
    /// How long the longest frame keeps it busy.
    frame_time: Duration,
    /// The same in rounds of beats: a slow serial line skips some.
    pub rounds: u32,
    /// Silence that makes it silent.
    pub dead_after: Duration,
    /// When the last counted beat or pulse came.
    pub counted_at: Option<Time>,
    /// The same, moved forward by this node's own stalls: silence is measured from here.
    pub heard_at: Option<Time>,
    /// Highest sequence counted on it in the peer's current incarnation.
    pub sequence: u64,
    /// `sent_us` of the newest beat on it, whose it was, and when it came: what the next beat echoes.
    pub echo: Option<Echo>,
    /// The newest time of this node's clock that it has echoed or answered: the peer lived after that.
    lived_after: Time,
    /// When the oldest ask was sent that nothing has answered yet.
    pub asked_at: Option<Time>,
    /// It was well when that ask was sent: two-way, measured, and without a recent loss. Only then does a missing
    /// answer prove something.
    ask_counts: bool,
    /// The newest asks by pulse, number and time; an answer removes its own.
    asks: VecDeque<(u64, Time)>,
    /// When the line was last seen in the middle of a frame.
    busy_at: Time,
    /// Until when what this node has sent may keep the line busy.
    sending_until: Time,
    /// When a lost beat was last noticed.
    lost_at: Option<Time>,
    /// When an answer to an ask or introduction was last sent.
    pub answered_at: Option<Time>,
    /// Smoothed round trip of beats.
    pub rtt: Option<Duration>,
    /// The longest recent ones.
    round_trips: RoundTrips,
    /// Only echoes of frames sent since then measure the path. An older one may answer a frame that somebody repeated
    /// or held back, or that waited while this node ran late.
    measured_from: Time,
    /// Newest round trips of pulses. The shortest counts: the time that an answer may wait for the line is added
    /// elsewhere.
    pulse_rtts: VecDeque<Duration>,
    /// Beats that did not come when they were due.
    pub lost: u64,
    /// Frames refused, by [`DropReason::ALL`].
    pub refused: [u64; DropReason::ALL.len()],
    /// State at the last look, and since when.
    pub seen: PathState,
    seen_since: Time,
    /// The state last reported by an event, `late` excepted.
    said: PathState,
    /// Flap damping: a path that flaps is not reported up again at every beat.
    pub storm: StormTold<PathState>,
    /// When an event last warned that it is late.
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
    /// A path on which nothing has come yet.
    pub fn new(
        path: Path,
        configured: bool,
        interval: Duration,
        rounds: u32,
        dead_after: Duration,
    ) -> Self {
        let mut watch = PathWatch {
            path,
            configured,
            interval,
            ask_every: limits::ASK_AGAIN_AFTER,
            frame_time: Duration::ZERO,
            rounds,
            dead_after,
            counted_at: None,
            heard_at: None,
            sequence: 0,
            echo: None,
            lived_after: Time(0),
            asked_at: None,
            ask_counts: false,
            asks: VecDeque::with_capacity(limits::ASKS_REMEMBERED),
            busy_at: Time(0),
            sending_until: Time(0),
            lost_at: None,
            answered_at: None,
            rtt: None,
            round_trips: RoundTrips::new(limits::BEATS_IN_A_ROW),
            measured_from: Time(0),
            pulse_rtts: VecDeque::with_capacity(limits::PULSES_REMEMBERED),
            lost: 0,
            refused: [0; DropReason::ALL.len()],
            seen: PathState::Silent,
            seen_since: Time(0),
            said: PathState::Silent,
            storm: StormTold::quiet(),
            late_told_at: None,
        };
        watch.keep_to(interval, rounds, dead_after);
        watch
    }

    /// Sets the expected interval, the send divisor (every Nth round) and the silence timeout.
    pub fn keep_to(&mut self, interval: Duration, rounds: u32, dead_after: Duration) {
        self.interval = interval;
        self.rounds = rounds;
        // A slow serial line has a longer interval, and a longer timeout.
        self.dead_after = dead_after.max(interval * (limits::LATE_AFTER_INTERVALS + 1));
    }

    /// A new incarnation of the peer: beats that were missing while nobody sent are no loss of the path.
    pub fn begin_anew(&mut self) {
        self.sequence = 0;
        self.lived_after = Time(0);
        self.lost_at = None;
        self.counted_at = None;
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

    /// A beat counted: the path is alive. `rtt` is the round trip that it proves, if any; `echo` the time of this
    /// node's clock that it echoes, after which the peer lived.
    pub fn heard(&mut self, now: Time, sequence: u64, rtt: Option<Duration>, echo: Time) {
        self.lives(now, echo);
        self.sequence = sequence;
        if let Some(sample) = rtt.filter(|_| echo >= self.measured_from) {
            self.measured_from = echo;
            self.rtt = Some(smoothed(self.rtt, sample));
            self.round_trips.saw(now, sample);
        }
    }

    /// The peer was heard, and lived after `after`.
    fn lives(&mut self, now: Time, after: Time) {
        if let Some(before) = self.counted_at {
            // Half an interval of jitter is no loss.
            // Beyond the timeout nothing counts as lost: perhaps nobody sends.
            let gap = now.since(before).min(self.dead_after);
            let intervals =
                (gap + self.interval / 2).as_micros() / self.interval.as_micros().max(1);
            self.lost += u64::try_from(intervals.saturating_sub(1)).unwrap_or(u64::MAX);
            if intervals > 1 {
                self.lost_at = Some(now);
            }
        }
        self.counted_at = Some(now);
        self.heard_at = Some(now);
        self.lived_after = self.lived_after.max(after);
        if self.asked_at.is_some_and(|at| after >= at) {
            self.asked_at = None;
        }
    }

    /// A serial line: how long the longest frame and a pulse keep it busy.
    pub fn for_line(mut self, frame_time: Duration, pulse_time: Duration) -> Self {
        self.frame_time = frame_time;
        // Twice the time of a pulse and its answer.
        self.ask_every = self.ask_every.max(pulse_time * 4);
        self
    }

    /// A beat is sent on it now: the next frame waits until a serial line has sent it.
    pub fn sends(&mut self, now: Time) {
        if !self.frame_time.is_zero() {
            self.sending_until = now + self.frame_time;
        }
    }

    /// An ask is sent now, unless one is already unanswered. `peer_hears`: see [`PathWatch::state`].
    pub fn begin_asking(&mut self, now: Time, peer_hears: bool) {
        if self.asked_at.is_none() {
            self.asked_at = Some(now);
            self.ask_counts = self.is_well(now, peer_hears);
        }
    }

    /// Whether an ask on it has gone unanswered for that long.
    pub fn is_unanswered(&self, now: Time, span: Duration) -> bool {
        self.asked_at.is_some_and(|at| now.since(at) >= span)
    }

    /// Whether it may be asked on again already.
    pub fn may_ask(&self, now: Time) -> bool {
        self.asks.back().is_none_or(|(_, at)| now.since(*at) >= self.ask_every)
    }

    /// Whether too few round trips of pulses are known.
    pub fn needs_pulses(&self) -> bool {
        self.configured && self.pulse_rtts.len() < limits::PULSES_REMEMBERED / 2
    }

    /// A pulse asks on it now.
    pub fn asks(&mut self, now: Time, number: u64) {
        if self.asks.len() >= limits::ASKS_REMEMBERED {
            self.asks.pop_front();
        }
        self.asks.push_back((number, now));
    }

    /// A pulse of the peer: an ask or a sign of life. False: it is not newer than what came before.
    pub fn was_pulsed(&mut self, now: Time, number: u64) -> bool {
        let newer = number > self.sequence;
        if newer {
            self.sequence = number;
            self.lives(now, Time(0));
        }
        newer
    }

    /// The peer answers the pulse of that number. False: no pulse waits for that answer.
    pub fn was_answered(&mut self, now: Time, number: u64) -> bool {
        let Some(place) = self.asks.iter().position(|(asked, _)| *asked == number) else {
            return false;
        };
        let Some((_, at)) = self.asks.remove(place) else { return false };
        // An answer that took longer than any line needs proves nothing: somebody held it back.
        if now.since(at) > self.dead_after {
            return false;
        }
        if self.pulse_rtts.len() >= limits::PULSES_REMEMBERED {
            self.pulse_rtts.pop_front();
        }
        self.pulse_rtts.push_back(now.since(at));
        self.lives(now, at);
        true
    }

    /// The line is in the middle of a frame: its sender lives, or did a moment ago.
    pub fn is_busy(&mut self, now: Time) {
        self.busy_at = now;
    }

    /// Whether an unanswered ask on it would prove something now; see [`PathWatch::ask_counts`].
    fn is_well(&self, now: Time, peer_hears: bool) -> bool {
        let lossy = self.lost_at.is_some_and(|at| now.since(at) < limits::LOSS_MEMORY);
        peer_hears && !lossy && !self.is_late(now) && self.ask_rtt().is_some()
    }

    /// The round trip of an ask and its answer.
    fn ask_rtt(&self) -> Option<Duration> {
        match self.path {
            // A network that was slow a moment ago may be so again.
            Path::Crossover | Path::Lan => self.rtt.map(|rtt| rtt.max(self.worst_round_trip())),
            Path::Serial => self.pulse_rtts.iter().min().copied(),
        }
    }

    /// The longest recent round trip of beats.
    pub fn worst_round_trip(&self) -> Duration {
        self.round_trips.worst()
    }

    /// This node was stalled, which says nothing about the peer: its silence does not grow by that time. A path that
    /// was not silent before gets one more interval.
    pub fn forgive(&mut self, now: Time, gap: Duration, peer_gap: Duration) {
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

    /// When the next beat is overdue.
    pub fn overdue_at(&self) -> Option<Time> {
        self.heard_at.map(|at| at + self.interval + self.interval / limits::BEAT_OVERDUE_SHARE)
    }

    /// When it will be late if nothing comes.
    pub fn late_at(&self) -> Option<Time> {
        self.heard_at.map(|at| at + self.interval * limits::LATE_AFTER_INTERVALS)
    }

    /// When it will be silent if nothing comes. `peer_gap`: the peer's longest recent gap; silence shorter than twice
    /// that proves nothing.
    pub fn silent_at(&self, peer_gap: Duration) -> Option<Time> {
        let gap = peer_gap.min(limits::GAP_HEEDED_MAX) * 2;
        self.heard_at.map(|at| at + self.dead_after.max(gap))
    }

    /// When an unanswered ask makes it silent, if the crossover's carrier is lost. `None` also if that would prove
    /// nothing. `peer_late`: how late the peer's loop ran lately.
    pub fn ask_over_at(&self, peer_late: Duration) -> Option<Time> {
        self.ask_hangs_at(peer_late).filter(|_| self.ask_counts)
    }

    /// When an ask has stayed unanswered for that long, whether it proves anything or not.
    pub fn ask_hangs_at(&self, peer_late: Duration) -> Option<Time> {
        let patience = self.ask_rtt()? * limits::ASK_PATIENCE_ROUND_TRIPS;
        let patience = patience.max(limits::ASK_PATIENCE_MIN) + peer_late * 2;
        let asked_at = self.asked_at?;
        // An answer waits behind what is already on the line, in both directions.
        let heard_at = self.heard_at.unwrap_or_default();
        Some(asked_at.max(heard_at).max(self.busy_at).max(self.sending_until) + patience)
    }

    /// A time of this node's clock after which the peer certainly lived, by what came on this path.
    pub fn lived_after(&self) -> Time {
        self.lived_after
    }

    /// How long an owner without any other cable waits for an answer on this line: a fixed time, or some measured round
    /// trips if they are longer, but no longer than its speed explains. While too few round trips are known only the
    /// fixed time counts: the peer may have measured shorter ones.
    pub fn let_go_patience(&self) -> Duration {
        let measured = self.ask_rtt().filter(|_| !self.needs_pulses()).unwrap_or_default();
        let trips = (measured * limits::LET_GO_ROUND_TRIPS).min(self.ask_every);
        limits::LET_GO_PATIENCE.max(trips)
    }

    /// This node ran late by this much, and so did the answers that waited to be read.
    pub fn forgive_ask(&mut self, now: Time, late: Duration) {
        self.measured_from = now;
        self.asked_at = self.asked_at.map(|at| (at + late).min(now));
    }

    /// Whether it is silent; `false` also while that cannot be said yet.
    pub fn is_silent(&self, now: Time, peer_gap: Duration) -> bool {
        self.silent_at(peer_gap).is_none_or(|at| now >= at)
    }

    /// Whether beats are missing.
    pub fn is_late(&self, now: Time) -> bool {
        self.late_at().is_none_or(|at| now > at)
    }

    /// Whether an event should report its state: it differs from the one last reported. `late` is reported at a bounded
    /// rate, `one-way` only if it lasts; a recovery from either is not reported unless they were.
    pub fn is_news(&mut self, now: Time, state: PathState) -> bool {
        if state != self.seen {
            self.seen = state;
            self.seen_since = now;
        }
        let lasts = now.since(self.seen_since);
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

    /// The peer ended: the silence that follows is no fault of the path.
    pub fn close(&mut self) {
        self.heard_at = None;
        self.asked_at = None;
        self.seen = PathState::Silent;
        self.said = PathState::Silent;
        self.storm.forget();
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

/// RFC 6298's smoothing: an eighth of each new sample.
fn smoothed(before: Option<Duration>, sample: Duration) -> Duration {
    before.map_or(sample, |smooth| (smooth * 7 + sample) / 8)
}
