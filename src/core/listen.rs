//! Listening: what comes in about the peer and the LAN, and what follows from silence.

use std::time::Duration;

use super::carrier::{CarrierNews, CarrierWatch};
use super::copy;
use super::event::Link;
use super::path::PathWatch;
use super::peer::{Death, Life, Verdict};
use super::reach::Proof;
use super::role::Role;
use super::tell::mac_text;
use super::time::Time;
use super::{Command, Core, Phase};
use crate::beat::{Beat, DropReason, GroupBeat, Path, Pulse, PulseKind, Stance};
use crate::control::event::Kind;
use crate::control::status::NodeState;
use crate::control::status::PathState;
use crate::limits;

impl Core {
    /// A frame was refused before it could be read.
    pub(super) fn refused(&mut self, path: Path, reason: DropReason) {
        self.watch_mut(path, |watch| watch.refuse(reason));
        let refused = |reason: DropReason| -> u64 {
            self.paths.iter().map(|watch| watch.refused_for(reason)).sum()
        };
        let [newer, older] = [DropReason::UnknownVersion, DropReason::OldVersion].map(refused);
        let unheard = !self.peer.is_alive();
        if unheard && !self.newer_told && newer >= limits::MISFITS_TOLD_AFTER {
            self.newer_told = true;
            let text = "the peer speaks a newer version of the heartbeat; upgrade this node";
            self.tell(Kind::Config, None, text.to_string());
        }
        if unheard && !self.newer_told && older >= limits::MISFITS_TOLD_AFTER {
            self.newer_told = true;
            let text = "the peer speaks an older version of the heartbeat; upgrade it";
            self.tell(Kind::Config, None, text.to_string());
        }
    }

    /// An authentic frame came in.
    pub(super) fn heard(&mut self, now: Time, path: Path, beat: Beat) {
        if beat.node == self.me {
            self.watch_mut(path, |watch| watch.refuse(DropReason::NotPeer));
            return;
        }
        let was = self.peer.life;
        let was_state = self.peer.last().map(|last| last.state);
        let prove = self.obeys_two_way_proof();
        let verdict = self.peer.receive(now, self.incarnation, &mut self.paths, path, &beat, prove);
        match verdict {
            Verdict::Refused(reason) => self.watch_mut(path, |watch| watch.refuse(reason)),
            Verdict::Introduction => {
                // A greeting names nobody; a frame for another incarnation of this node is a replay,
                // or the peer does not know yet that this node restarted.
                if beat.peer_incarnation != 0 && beat.peer_incarnation != self.incarnation {
                    self.watch_mut(path, |watch| watch.refuse(DropReason::Introduction));
                }
                self.answer(now, path, &beat);
            }
            Verdict::Past => {
                self.watch_mut(path, |watch| watch.refuse(DropReason::Replay));
                self.learn_generations(&beat);
                self.served_until_now(now, &beat);
            }
            Verdict::Counted { new_incarnation, newest } => {
                self.end_asks(now);
                if beat.farewell {
                    let text = "the peer said goodbye and holds nothing";
                    return self.ended(now, Death::Goodbye, text);
                }
                if beat.will && !self.has_just_woken(now) {
                    // Its beats may have lacked the newest reign; it decides who claims with what.
                    self.learn_generations(&beat);
                    let text = format!(
                        "the peer's last will, from its guard, came on {}: its heart is dead and every \
                         service address was taken away there; its services may still run",
                        path.name()
                    );
                    return self.ended(now, Death::Will, &text);
                }
                if new_incarnation {
                    self.met();
                } else if !matches!(was, Life::Alive { .. }) {
                    self.tell(
                        Kind::PeerAlive,
                        None,
                        format!("the peer is heard again on {}", path.name()),
                    );
                }
                if newest {
                    self.compare_configs(beat.digest);
                    self.compare_macs();
                    self.news_of_state(was_state, beat.state);
                    self.learn_generations(&beat);
                    self.hear_wish(now, &beat);
                }
                if beat.ask_answer {
                    self.answer(now, path, &beat);
                }
                self.join_round(now);
            }
        }
    }

    /// A beat that was held back says that the peer serves: perhaps its machine stood still and has just woken. Until
    /// it let go its kernel answered whoever asked.
    fn served_until_now(&mut self, now: Time, beat: &Beat) {
        let serves = |part: &&GroupBeat| matches!(part.stance, Stance::Active | Stance::Offering);
        for part in beat.groups.iter().filter(serves) {
            self.with_group(part.group, |core, group| {
                let Role::Active(active) = &mut group.role else { return };
                // Not at once for each frame.
                active.announced = 0;
                active.announce_at = active.announce_at.min(now + limits::ANNOUNCE_GAP);
                let text = "a late heartbeat of the peer says that it serves; announcing again";
                core.tell_meddling(now, group, text.to_string());
            });
        }
    }

    /// A round that is nearly due goes out with what was just heard: one waking of each node serves both.
    fn join_round(&mut self, now: Time) {
        if self.round_at.since(now) <= self.pace.sends / limits::ROUND_JOINS_SHARE {
            self.round_at = now;
        }
    }

    /// Something was heard: what is silent for long is not asked any more in every beat.
    fn end_asks(&mut self, now: Time) {
        if !self.is_urgent(now) {
            self.stop_asking();
        }
    }

    fn stop_asking(&mut self) {
        for watch in &mut self.paths {
            watch.asked_at = None;
        }
    }

    /// The far end of a cable was lost a moment ago: each path is asked until that moment is over.
    pub(super) fn is_urgent(&self, now: Time) -> bool {
        let span = self.pace.dead_after;
        self.peer.is_alive()
            && (self.crossover.is_in_doubt(now, span) || self.modem.is_in_doubt(now, span))
    }

    /// Whether the core waits for an answer to an urgent ask, so that each sign of life matters.
    pub fn is_asking(&self) -> bool {
        self.is_urgent(self.now)
    }

    /// A pulse came in on the serial line.
    pub(super) fn pulsed(&mut self, now: Time, pulse: Pulse) {
        let ours = pulse.peer_incarnation == self.incarnation
            && self.peer.incarnation() == Some(pulse.incarnation);
        let past = self.peer.is_past(now, pulse.number);
        let mut newer = false;
        self.watch_mut(Path::Serial, |watch| {
            newer = ours
                && match pulse.kind {
                    PulseKind::Ask | PulseKind::Life => {
                        !past && watch.was_pulsed(now, pulse.number)
                    }
                    PulseKind::Answer => watch.was_answered(now, pulse.number),
                };
            match (ours, newer) {
                (false, _) => watch.refuse(DropReason::EndedIncarnation),
                (true, false) => watch.refuse(DropReason::Replay),
                (true, true) => {}
            }
        });
        if newer && pulse.kind != PulseKind::Answer {
            self.peer.pulsed(now, pulse.number);
        }
        if newer && pulse.kind == PulseKind::Ask && self.phase == Phase::Running {
            let answer = Pulse {
                kind: PulseKind::Answer,
                incarnation: self.incarnation,
                peer_incarnation: pulse.incarnation,
                number: pulse.number,
            };
            self.out.push_back(Command::Pulse(answer));
        }
    }

    /// How late the peer's loop was lately: its asks may be answered as late.
    pub(super) fn peer_late(&self) -> Duration {
        let gap = self.peer.worst_gap().min(limits::GAP_HEEDED_MAX);
        gap.saturating_sub(self.pace.sends)
    }

    /// A new incarnation of the peer was proven.
    fn met(&mut self) {
        self.wishes.peer_restarted();
        self.tell(
            Kind::PeerAlive,
            None,
            "the peer is heard, a new incarnation: it swept its addresses before its first beat"
                .to_string(),
        );
        // A new incarnation: what was told of the one before says nothing of this one.
        self.configs_differ = false;
    }

    fn news_of_state(&mut self, was: Option<NodeState>, is: NodeState) {
        let text = match (was == Some(NodeState::Standby), is == NodeState::Standby) {
            (false, true) => "the peer is in standby mode: it owns nothing",
            (true, false) => "the peer left standby mode",
            (true, true) | (false, false) => return,
        };
        self.tell(Kind::PeerState, None, text.to_string());
    }

    fn learn_generations(&mut self, beat: &Beat) {
        for part in beat.groups.iter().filter(|part| part.generation > 0) {
            let served =
                super::Generation { number: part.generation, owner: part.owner, id: part.id };
            if let Some(group) = self.groups.get(usize::from(part.group.0)) {
                let trees = group.duties.has_mirror();
                // What is served here stands beside what was served there, under its own name, until a person
                // decides. If both serve, one of them gives way, and follows.
                let serves = matches!(part.stance, Stance::Active | Stance::Offering);
                let forked = matches!(&group.role, Role::Active(active)
                    if active.forked || (trees && !serves && copy::is_fork(active, part)));
                if !forked && serves && part.owner == beat.node {
                    self.disk.learn_from_owner(&group.name, served, trees);
                } else if !forked {
                    self.disk.learn(&group.name, served, trees);
                }
            }
        }
    }

    /// What is read now may have waited while this node stood still: a will may be older than the heart
    /// that followed, which begins soon after. Then silence has to tell.
    fn has_just_woken(&self, now: Time) -> bool {
        self.woke_at.is_some_and(|at| now.since(at) < self.pace.expects)
    }

    /// The peer's incarnation has ended, and it holds nothing.
    fn ended(&mut self, now: Time, death: Death, text: &str) {
        self.peer.end(now);
        self.peer.life = Life::Dead { death, at: now };
        for watch in &mut self.paths {
            watch.close();
        }
        for group in &mut self.groups {
            // What its kernel answered before says nothing now: who asks, asks anew.
            group.lan.forget();
            if let Role::Probing { .. } = group.role {
                group.role = Role::Passive { granted: None };
            }
        }
        self.tell(Kind::PeerDead, None, text.to_string());
    }

    /// A carrier was looked at or reported.
    pub(super) fn carrier(&mut self, now: Time, link: Link, up: bool) {
        match link {
            Link::Lan => {
                if self.reach.set_carrier(now, up) {
                    self.reach.suspect(now);
                    self.tell_carrier(now, link, up);
                    if up {
                        self.announce_all_again(now);
                        // Before the first beat nobody was told that there was none.
                        if self.phase != Phase::Sweeping {
                            self.reach.carrier_is_back(now);
                        }
                    } else {
                        // The kernel tells of one lost carrier a second, and of another one later.
                        self.look_at_carriers(now);
                    }
                }
            }
            Link::Crossover => {
                let news = self.crossover.report(now, up);
                self.far_end(now, link, news);
            }
            Link::Serial => {
                let news = self.modem.report(now, up);
                self.far_end(now, link, news);
            }
        }
    }

    /// An interface is set down on this node. The peer, which sees its own carrier lost, may give this node up; it is
    /// no sign that the peer is dead.
    pub(super) fn set_down(&mut self, now: Time, link: Link) {
        match link {
            // Told as a trouble, with its name.
            Link::Crossover => self.crossover.set_down(now),
            Link::Lan | Link::Serial => self.carrier(now, link, false),
        }
    }

    /// News of the far end of the crossover or of the serial line.
    fn far_end(&mut self, now: Time, link: Link, news: CarrierNews) {
        match news {
            CarrierNews::None => {}
            CarrierNews::Lost => {
                // Asks and probes are on their way while the second look is awaited; the LAN's loss may be told late.
                self.look_at_carriers(now);
                self.stop_asking();
                self.reach.suspect(now);
                self.ask(now);
            }
            CarrierNews::Up => {
                // An interface gets its link-local address some time after its carrier.
                self.sync_missing_since = self.sync_missing_since.map(|_| now);
                self.tell_carrier(now, link, true);
            }
            CarrierNews::Confirmed(lost_at) => {
                self.tell_carrier(now, link, false);
                self.suspected_at.get_or_insert(lost_at);
            }
        }
    }

    /// The LAN interface's own MAC is this. If it was another one, whoever was served still writes to that.
    pub(super) fn lan_mac_is(&mut self, now: Time, mac: [u8; 6]) {
        let before = self.lan_mac.replace(mac);
        if before.is_some_and(|before| before != mac) {
            self.announce_all_again(now);
            let text = format!("the LAN interface has another MAC now, {}", mac_text(mac));
            self.tell(Kind::Address, None, text);
        }
        self.compare_macs();
    }

    /// Cloned machines may have one MAC: neither ever hears the other's ARP, and switches send what is for the one to
    /// the other.
    fn compare_macs(&mut self) {
        let (Some(mac), Some(theirs)) = (self.lan_mac, self.peer_mac()) else { return };
        if std::mem::replace(&mut self.same_mac_told, mac == theirs) || mac != theirs {
            return;
        }
        let text = format!(
            "both nodes' LAN interfaces have the MAC {}: give one of them another; until then a takeover by \
             silence waits for the peer's lease",
            mac_text(mac)
        );
        self.tell(Kind::Fault, None, text);
    }

    /// A reach host answered.
    pub(super) fn reach_answered(&mut self, now: Time, host: u8, round: u32) {
        let reached = self.reach.count(now) > 0;
        self.reach.answered(now, host, round);
        if !reached && self.reach.count(now) > 0 {
            self.announce_all_again(now);
        }
    }

    /// What was announced while the LAN was dead reached nobody: a dead switch takes no carrier away.
    fn announce_all_again(&mut self, now: Time) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            if let Role::Active(active) = &mut group.role {
                self.announce_again(now, active);
            }
        }
        self.groups = groups;
    }

    pub(super) fn look_at_carriers(&mut self, now: Time) {
        self.looked_at = now;
        self.out.push_back(Command::LookAtCarriers);
    }

    /// When a beat on one of the fast paths is overdue, and the carriers have not been looked at since.
    pub(super) fn overdue_at(&self) -> Option<Time> {
        let overdue = self.fast_paths().filter_map(PathWatch::overdue_at);
        overdue.filter(|at| self.looked_at < *at).min()
    }

    /// Looks at every path's silence: tells changes, sends asks, starts reach bursts.
    pub(super) fn watch_paths(&mut self, now: Time) {
        let overdue = self.overdue_at().is_some_and(|at| now >= at);
        let second =
            self.crossover.take_look(now) | self.modem.take_look(now) | self.reach.take_look(now);
        if second || overdue {
            self.look_at_carriers(now);
        }
        let gap = self.peer.worst_gap();
        let hears = self.peer.hears();
        let mut newly_late = false;
        for path in Path::ALL {
            let Some(watch) = self.paths.iter_mut().find(|watch| watch.path == path) else {
                continue;
            };
            let state = watch.state(now, gap, hears.has(path));
            newly_late |= state == PathState::Late && watch.seen != PathState::Late;
            let news = watch.is_news(now, state);
            let late = news && state == PathState::Late;
            let told = (news && !late && watch.storm.changed(now, state)).then_some((state, 0));
            let told = told.or_else(|| watch.storm.take_due(now));
            let silence = watch.heard_at.map_or(Duration::ZERO, |at| now.since(at));
            let left = watch.silent_at(gap).map_or(Duration::ZERO, |at| at.since(now));
            if news && path == Path::Lan && state == PathState::Up {
                self.announce_all_again(now);
            }
            if late {
                self.tell_late(path, silence, left);
            }
            if let Some((state, untold)) = told {
                self.tell_path(path, state, untold);
            }
        }
        if self.asks_line_first(now) {
            self.ask_line(now);
        }
        if newly_late && self.fast_paths().all(|watch| watch.asked_at.is_none()) {
            self.ask(now);
            self.reach.suspect(now);
        }
        if self.ask_again_at.is_some_and(|at| now >= at) {
            self.ask_again_at = None;
            // Also after an answer: a node that loses its power may answer once more.
            if self.is_urgent(now) {
                self.ask(now);
            }
        }
        self.pulse_at_rest(now);
        let all_late = self.configured().all(|watch| watch.is_late(now));
        if all_late && self.peer.is_alive() {
            if self.suspected_at.is_none() {
                self.suspected_at = Some(now);
                self.reach.suspect(now);
                self.look_at_carriers(now);
            }
        } else if self.peer.is_alive() && !self.is_urgent(now) {
            self.suspected_at = None;
        }
    }

    /// Asks the reach hosts if a round is due: after everything that may have raised a suspicion.
    pub(super) fn ask_reach(&mut self, now: Time) {
        if let Some(round) = self.reach.due(now) {
            self.out.push_back(Command::AskReach { round });
        }
    }

    pub(super) fn configured(&self) -> impl Iterator<Item = &PathWatch> {
        self.paths.iter().filter(|watch| watch.configured)
    }

    /// Whether the peer is silent: on every path for so long that it is dead; or it vanished with the far end of a
    /// cable, at once. That cable alone proves nothing, nor does a LAN that may just be slow besides: a second,
    /// independent path must leave an ask unanswered, too (P1). Without one only time counts.
    fn is_peer_silent(&self, now: Time) -> bool {
        let gap = self.peer.worst_gap();
        let silent =
            |watch: &PathWatch| watch.is_silent(now, gap) || self.line_is_silent(now, watch);
        self.configured().all(silent)
            || (self.lost_far_end(now)
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

    fn fast_paths(&self) -> impl Iterator<Item = &PathWatch> {
        self.configured().filter(|watch| watch.path != Path::Serial)
    }

    /// Whether heartbeats are overdue on both fast paths, and were not a moment ago. Then the serial line is asked, and
    /// nothing holds its asks up.
    pub(super) fn asks_line_first(&self, now: Time) -> bool {
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
            Path::Crossover => self.crossover.is_fresh_loss(now, span) || over,
            Path::Serial => self.modem.is_fresh_loss(now, span) || over,
            Path::Lan => {
                let on_lan = self.peer.last().is_some_and(|beat| beat.lan_carrier);
                on_lan && over && !watch.asked_at.is_some_and(|at| self.lived_beyond(at))
            }
        }
    }

    /// Whether the far end of a cable vanished just now, and the peer perhaps with it.
    pub(super) fn lost_far_end(&self, now: Time) -> bool {
        self.vanished(|cable| cable.is_fresh_loss(now, self.pace.dead_after))
    }

    /// The same, if the second look is still to come.
    pub(super) fn may_have_lost_far_end(&self, now: Time) -> bool {
        self.vanished(|cable| cable.is_in_doubt(now, self.pace.dead_after))
    }

    /// Whether a cable is `lost`, and the peer did not outlive that. A crossover that was pulled before counts
    /// for the serial line, too: an owner that loses the rest then cannot let go in time.
    fn vanished(&self, lost: impl Fn(&CarrierWatch) -> bool) -> bool {
        !self.lived_on(&self.crossover)
            && (lost(&self.crossover) || (lost(&self.modem) && !self.lived_on(&self.modem)))
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
    pub(super) fn unheard_at(&self) -> Option<Time> {
        self.fast_paths().filter_map(PathWatch::overdue_at).max()
    }

    /// Whether a beat is overdue on both fast paths; where both have been silent for long, on the serial line, too.
    pub(super) fn is_unheard(&self, now: Time) -> bool {
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
    pub(super) fn has_no_cable(&self, now: Time) -> bool {
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
    pub(super) fn line_gone_at(&self, watch: &PathWatch) -> Option<Time> {
        let lost_at = self.crossover.lost_at()?;
        (watch.lived_after() < lost_at).then(|| lost_at + watch.let_go_patience())
    }

    /// Finds the peer dead when every path is silent, and whether it is gone or this node cut off.
    pub(super) fn judge_peer(&mut self, now: Time) {
        match self.peer.life {
            Life::NeverHeard => {}
            Life::Alive { .. } => {
                if self.is_peer_silent(now) {
                    let death = Death::Silent { gone: None };
                    self.peer.life = Life::Dead { death, at: now };
                    self.reach.suspect(now);
                    self.judge_gone(now, now);
                }
            }
            Life::Dead { death, at } => match death {
                Death::Silent { gone: None } => self.judge_gone(now, at),
                Death::Silent { gone: Some(_) } | Death::Goodbye | Death::Will => {}
            },
        }
    }

    /// Only reach hosts that answer show that this node is not the one that is cut off. Frames of other hosts on
    /// the LAN do not: in a LAN that fell apart an owner would keep what the peer, in the part with the
    /// reach hosts, takes over (P1 before P2).
    fn judge_gone(&mut self, now: Time, at: Time) {
        let since = self.suspected_at.unwrap_or(at);
        let gone = match self.reach.proof(now, since) {
            Proof::Reached => true,
            Proof::NotReached => false,
            Proof::Unknown => return self.reach.suspect(now),
        };
        self.peer.life = Life::Dead { death: Death::Silent { gone: Some(gone) }, at };
        let text = if gone {
            "the peer is silent on every path and this node reaches the LAN: it is gone"
        } else {
            "the peer is silent on every path and this node does not reach the LAN: \
             this node is cut off"
        };
        self.tell(Kind::PeerDead, None, text.to_string());
    }

    /// Reach that a claim may rest on now. `asked_for_at`: the peer offered the group then, perhaps
    /// because the LAN is dead for both: only an answer to a later question counts.
    pub(super) fn fresh_reach(&mut self, now: Time, asked_for_at: Option<Time>) -> Proof {
        let fresh = Time(now.0.saturating_sub(limits::REACH_FRESH.as_micros() as u64));
        let causes = [self.suspected_at, asked_for_at].into_iter().flatten();
        let since = causes.fold(fresh, Time::max);
        // Whoever asks a node to serve must not meet a kernel that answers nothing: the look at the carriers that
        // the offer began with is its answer.
        let answers = asked_for_at.is_none_or(|at| self.reach.carrier_seen_at() >= at);
        let proof = match self.reach.proof(now, since) {
            Proof::Reached if !answers => Proof::Unknown,
            proof @ (Proof::Reached | Proof::NotReached | Proof::Unknown) => proof,
        };
        if proof == Proof::Unknown && self.phase == Phase::Running {
            self.reach.suspect(now);
        }
        proof
    }
}
