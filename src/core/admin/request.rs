//! Requests of operators: standby, online, move, sync. A request for the other node travels in the beats until it is
//! answered.

use crate::beat::{Ask, Beat, Stance};
use crate::config::{GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::control::status::NodeState;
use crate::core::group::role::{GroupState, Offer, Role};
use crate::core::group::step::Side;
use crate::core::io::event::Wish;
use crate::core::io::time::Time;
use crate::core::{Command, Core};
use crate::limits;

/// Requests that wait, and those between the two nodes.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    waiting: Vec<Waiting>,
    /// Requests that the worker answers.
    syncs: Vec<u64>,
    /// The request under way to the peer; one at a time.
    outgoing: Option<(u8, Ask)>,
    token: u8,
    /// The answer to the peer's newest request, repeated in every beat.
    answer: Option<(u8, bool)>,
}

/// A request that is answered when its effect is seen.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: u64,
    until: Time,
    effect: Effect,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// This node's standby lock is on disk and nothing is held, or it is off the disk.
    Standby(bool),
    /// The peer says that it is in standby mode, or no longer.
    PeerStandby(bool),
    /// This node serves the group.
    ServedHere(GroupIndex),
    /// The peer serves the group.
    ServedByPeer(GroupIndex),
}

impl Wishes {
    /// For the beats: the request to the peer.
    pub fn outgoing(&self) -> Option<(u8, Ask)> {
        self.outgoing
    }

    /// For the beats: the answer to the peer.
    pub fn answer(&self) -> Option<(u8, bool)> {
        self.answer
    }

    /// The peer has a new incarnation: it numbers its requests from 1 and knows none of ours.
    pub fn peer_restarted(&mut self) {
        self.answer = None;
    }
}

impl Core {
    /// Takes a request of an operator.
    pub(in crate::core) fn wished(&mut self, now: Time, request: u64, wish: Wish) {
        let outcome = match wish {
            Wish::Standby(node) => self.wish_standby(node, true),
            Wish::Online(node) => self.wish_standby(node, false),
            Wish::Sync { group, wait, from } => {
                let begun =
                    self.wish_from(group, from).and_then(|()| self.wish_sync(request, group));
                let outcome = match (begun, wait) {
                    (Ok(()), true) => {
                        self.wishes.syncs.push(request);
                        return;
                    }
                    (Ok(()), false) => Ok("mirroring now".to_string()),
                    (Err(why), _) => Err(why),
                };
                self.out.push_back(Command::Answer { request, outcome });
                return;
            }
            Wish::Move { group, to, accept_loss } => self.wish_move(now, group, to, accept_loss),
        };
        let effect = match outcome {
            Ok(effect) if self.wishes.waiting.len() < limits::REQUESTS_MAX => effect,
            Ok(_) => {
                let busy = "too many requests are waiting; try again later".to_string();
                self.out.push_back(Command::Answer { request, outcome: Err(busy) });
                return;
            }
            Err(why) => {
                self.out.push_back(Command::Answer { request, outcome: Err(why) });
                return;
            }
        };
        let until = now + limits::REQUEST_PATIENCE + self.service_patience();
        self.wishes.waiting.push(Waiting { request, until, effect });
    }

    fn wish_standby(&mut self, node: NodeIndex, standby: bool) -> Result<Effect, String> {
        if node == self.me {
            self.set_standby(standby)?;
            return Ok(Effect::Standby(standby));
        }
        self.send_wish(if standby { Ask::Standby } else { Ask::Online })?;
        Ok(Effect::PeerStandby(standby))
    }

    /// Sets this node's standby lock, unless that would leave a group without a node.
    fn set_standby(&mut self, standby: bool) -> Result<(), String> {
        let peer_can = self.evidence.peer.is_alive() && !self.evidence.peer.is_standby();
        let serves = self.groups.iter().any(GroupState::may_hold);
        if standby && serves && !peer_can {
            let peer = &self.config.node(self.me.other()).name;
            return Err(format!(
                "{peer} cannot take over, so nobody would serve; bring {peer} back first, or stop \
                 clusterd here if that is what you want"
            ));
        }
        if self.disk.standby_wanted() != standby {
            self.disk.set_standby(standby);
            let text = if standby { "entered standby mode" } else { "left standby mode" };
            self.tell(Kind::Standby, None, text.to_string());
            self.beat_now = true;
        }
        Ok(())
    }

    fn send_wish(&mut self, ask: Ask) -> Result<(), String> {
        let peer = &self.config.node(self.me.other()).name;
        if !self.evidence.peer.is_alive() {
            return Err(format!("{peer} is not heard; repeat the request there when it is back"));
        }
        if self.wishes.outgoing.is_some_and(|(_, under_way)| under_way != ask) {
            return Err(format!("another request to {peer} is under way; try again"));
        }
        self.wishes.token = self.wishes.token % Ask::NUMBER_MAX + 1;
        self.wishes.outgoing = Some((self.wishes.token, ask));
        self.beat_now = true;
        Ok(())
    }

    /// The administrator chose the trees of this node.
    fn wish_from(&mut self, index: GroupIndex, from: Option<NodeIndex>) -> Result<(), String> {
        let Some(from) = from else { return Ok(()) };
        let (me, peer) = (self.config.node(self.me), self.config.node(self.me.other()));
        let Some(group) = self.groups.get_mut(usize::from(index.0)) else {
            return Err("no such group".to_string());
        };
        let name = group.name.clone();
        let Role::Active(active) = &mut group.role else {
            return Err(format!("{name} is not served by {}; ask it where it is served", me.name));
        };
        if from != self.me {
            return Err(format!(
                "{name} is served by {}, and what is served is mirrored to the other; to serve what {} \
                 has instead: `clusterd move {name} {} --accept-loss`",
                me.name, peer.name, peer.name
            ));
        }
        active.approved = true;
        if std::mem::take(&mut active.forked) {
            // The group stays in service in a generation above the other one.
            active.known_to_peer = true;
        }
        self.out.push_back(Command::Approve { group: index });
        let text = format!("told that the trees of {} are the ones to keep", me.name);
        self.tell(Kind::Mirror, Some(&name), text);
        Ok(())
    }

    /// Passes it on to the worker, which reports when it is done.
    fn wish_sync(&mut self, request: u64, index: GroupIndex) -> Result<(), String> {
        let Some(group) = self.groups.get(usize::from(index.0)) else {
            return Err("no such group".to_string());
        };
        if !group.duties.has_mirror() {
            return Err(format!("{} has no mirror", group.name));
        }
        if !matches!(group.role, Role::Active(_)) {
            let peer = &self.config.node(self.me.other()).name;
            return match self.side(group) {
                Side::Says(stance) if stance.may_hold() => {
                    Err(format!("{} is served by {peer}; ask it there", group.name))
                }
                Side::Says(_) | Side::Dead | Side::Unknown => {
                    Err(format!("nobody serves {} now ({})", group.name, group.why))
                }
            };
        }
        if self.wishes.syncs.len() >= limits::REQUESTS_MAX {
            return Err("too many requests are waiting; try again later".to_string());
        }
        self.out.push_back(Command::Sync { request, group: index });
        Ok(())
    }

    /// The worker is done with a `sync`.
    pub(in crate::core) fn synced(&mut self, request: u64, outcome: Result<String, String>) {
        let waiting = self.wishes.syncs.len();
        self.wishes.syncs.retain(|&one| one != request);
        if self.wishes.syncs.len() < waiting {
            self.out.push_back(Command::Answer { request, outcome });
        }
    }

    /// Nobody will answer them any more.
    pub(in crate::core) fn forget_syncs(&mut self, why: &str) {
        for request in std::mem::take(&mut self.wishes.syncs) {
            self.out.push_back(Command::Answer { request, outcome: Err(why.to_string()) });
        }
    }

    fn wish_move(
        &mut self,
        now: Time,
        index: GroupIndex,
        to: Option<NodeIndex>,
        accept_loss: bool,
    ) -> Result<Effect, String> {
        let Some(group) = self.groups.get(usize::from(index.0)) else {
            return Err("no such group".to_string());
        };
        let here = group.may_hold();
        let peer_serves = self.side(group).may_hold();
        let to = to.unwrap_or(if here { self.me.other() } else { self.me });
        if to == self.me {
            if here {
                return Ok(Effect::ServedHere(index));
            }
            if self.disk.standby_wanted() {
                return Err("this node is in standby mode; `clusterd online` first".to_string());
            }
            let waits = !group.able || group.unsure_told_at.is_some();
            let hopeless = (!peer_serves && waits && !self.evidence.peer.is_alive())
                .then(|| group.why.clone());
            if let Some(group) = self.groups.get_mut(usize::from(index.0)) {
                // Whoever asks has mended what failed here.
                (group.unfit_until, group.unfit_times) = (None, 0);
            }
            if accept_loss {
                self.accept_loss(now, index);
            } else if let Some(why) = hopeless {
                return Err(format!("not served here: {why}"));
            }
            if peer_serves {
                let ask = if accept_loss { Ask::AcceptLoss } else { Ask::HandOver };
                self.send_wish(ask(index))?;
            }
            return Ok(Effect::ServedHere(index));
        }
        if peer_serves {
            return Ok(Effect::ServedByPeer(index));
        }
        let peer = &self.config.node(self.me.other()).name;
        if !here {
            return Err(format!("nobody serves it now ({}); ask on {peer}", group.why));
        }
        if !self.evidence.peer.is_alive() {
            return Err(format!("{peer} is not heard"));
        }
        if self.evidence.peer.is_standby() {
            return Err(format!("{peer} is in standby mode; `clusterd online {peer}` first"));
        }
        if accept_loss {
            // The peer's copy may be one that it would not serve on its own.
            self.send_wish(Ask::AcceptLoss(index))?;
            self.hand_over_at_a_loss(now, index);
        }
        self.offer_to_peer(now, index);
        Ok(Effect::ServedByPeer(index))
    }

    /// This node serves its copy on the administrator's order, if it may serve at all.
    fn accept_loss(&mut self, now: Time, index: GroupIndex) {
        let until = now + limits::REQUEST_PATIENCE + self.service_patience();
        let Some(group) = self.groups.get_mut(usize::from(index.0)) else { return };
        group.accept_loss_until = Some(until);
        group.blocked = None;
        let name = group.name.clone();
        let text = "told to serve with what is here, though something newer may exist on the peer";
        self.tell(Kind::Takeover, Some(&name), text.to_string());
    }

    /// This node hands over though the peer lacks something.
    fn hand_over_at_a_loss(&mut self, now: Time, index: GroupIndex) {
        if let Some(group) = self.groups.get_mut(usize::from(index.0)) {
            group.accept_loss_until = Some(now + limits::OFFER_PATIENCE);
        }
    }

    fn offer_to_peer(&mut self, now: Time, index: GroupIndex) {
        if let Some(GroupState { role: Role::Active(active), .. }) =
            self.groups.get_mut(usize::from(index.0))
        {
            active.offer = Some(Offer::Moved { until: now + limits::OFFER_PATIENCE });
            self.beat_now = true;
        }
    }

    /// Takes in the request and the answer that a beat of the peer carries.
    pub(in crate::core) fn hear_wish(&mut self, now: Time, beat: &Beat) {
        if let Some((token, ask)) = beat.wish {
            let known = self.wishes.answer.is_some_and(|(answered, _)| answered == token);
            if !known {
                let accepted = self.do_for_peer(now, ask);
                self.wishes.answer = Some((token, accepted));
                self.beat_now = true;
            }
        }
        let answered = self.wishes.outgoing.zip(beat.answer);
        if let Some(((token, ask), (answered, accepted))) = answered
            && token == answered
        {
            self.wishes.outgoing = None;
            if !accepted {
                self.refuse_waiting(ask);
            }
        }
    }

    fn do_for_peer(&mut self, now: Time, ask: Ask) -> bool {
        match ask {
            Ask::Standby => self.set_standby(true).is_ok(),
            Ask::Online => self.set_standby(false).is_ok(),
            Ask::HandOver(group) => {
                let serves = self
                    .groups
                    .get(usize::from(group.0))
                    .is_some_and(|state| matches!(state.role, Role::Active(_)));
                if serves {
                    self.offer_to_peer(now, group);
                }
                serves
            }
            Ask::AcceptLoss(group) => {
                if self.do_for_peer(now, Ask::HandOver(group)) {
                    self.hand_over_at_a_loss(now, group);
                    return true;
                }
                let on_duty = !self.disk.standby_wanted();
                if on_duty {
                    self.accept_loss(now, group);
                }
                on_duty
            }
        }
    }

    fn refuse_waiting(&mut self, ask: Ask) {
        let peer = &self.config.node(self.me.other()).name;
        let why = format!("{peer} refused: run `clusterd status` there to see why");
        let (refused, waiting) =
            self.wishes.waiting.iter().partition(|waiting| is_for(ask, waiting.effect));
        let refused: Vec<Waiting> = refused;
        self.wishes.waiting = waiting;
        for waiting in refused {
            self.out
                .push_back(Command::Answer { request: waiting.request, outcome: Err(why.clone()) });
        }
    }

    /// Answers the requests whose effect is seen, and those that have waited too long.
    pub(in crate::core) fn answer_wishes(&mut self, now: Time) {
        let waiting = std::mem::take(&mut self.wishes.waiting);
        for request in waiting {
            let outcome = match self.effect(request.effect) {
                Some(text) => Ok(text),
                None if now >= request.until => {
                    if self.wishes.outgoing.is_some_and(|(_, ask)| is_for(ask, request.effect)) {
                        self.wishes.outgoing = None;
                    }
                    Err(self.why_not(request.effect))
                }
                None => {
                    self.wishes.waiting.push(request);
                    continue;
                }
            };
            self.out.push_back(Command::Answer { request: request.request, outcome });
        }
    }

    fn effect(&self, effect: Effect) -> Option<String> {
        let name = |node: NodeIndex| &self.config.node(node).name;
        match effect {
            Effect::Standby(standby) => {
                let held = self.groups.iter().any(GroupState::may_hold);
                let done = self.disk.standby_wanted() == standby && self.disk.standby_durable();
                (done && !(standby && held)).then(|| standby_text(name(self.me), standby))
            }
            Effect::PeerStandby(standby) => {
                let state =
                    self.evidence.peer.last().filter(|_| self.evidence.peer.is_alive())?.state;
                let done = (state == NodeState::Standby) == standby;
                let held = self.groups.iter().any(|group| self.side(group).may_hold());
                (done && !(standby && held)).then(|| standby_text(name(self.me.other()), standby))
            }
            Effect::ServedHere(group) => {
                let state = self.groups.get(usize::from(group.0))?;
                self.serves(state).then(|| format!("{} is served by {}", state.name, name(self.me)))
            }
            Effect::ServedByPeer(group) => {
                let state = self.groups.get(usize::from(group.0))?;
                let serves = self.evidence.peer.group(group).is_some_and(|part| part.serving);
                let side = self.side(state);
                (matches!(side, Side::Says(Stance::Active | Stance::Claiming)) && serves)
                    .then(|| format!("{} is served by {}", state.name, name(self.me.other())))
            }
        }
    }

    fn why_not(&self, effect: Effect) -> String {
        let group_why = |group: GroupIndex| {
            let state = self.groups.get(usize::from(group.0));
            state.map_or_else(String::new, |state| state.why.clone())
        };
        match effect {
            Effect::Standby(_) => {
                "not yet done: the disk has not confirmed it, or the peer has not taken over"
                    .to_string()
            }
            Effect::PeerStandby(_) => "the peer has not confirmed it".to_string(),
            Effect::ServedHere(group) => format!("not served here: {}", group_why(group)),
            Effect::ServedByPeer(group) => {
                let unable = self
                    .groups
                    .get(usize::from(group.0))
                    .is_some_and(|state| self.side(state) == Side::Says(Stance::Unable));
                if unable {
                    "the peer says that it may not serve it; see `clusterd status` there"
                        .to_string()
                } else {
                    format!("the peer did not take it; here: {}", group_why(group))
                }
            }
        }
    }
}

/// Whether a request that waits for this has sent this one to the peer.
fn is_for(ask: Ask, effect: Effect) -> bool {
    match ask {
        Ask::Standby => effect == Effect::PeerStandby(true),
        Ask::Online => effect == Effect::PeerStandby(false),
        Ask::HandOver(group) => effect == Effect::ServedHere(group),
        Ask::AcceptLoss(group) => {
            effect == Effect::ServedHere(group) || effect == Effect::ServedByPeer(group)
        }
    }
}

fn standby_text(node: &str, standby: bool) -> String {
    if standby {
        format!("{node} is in standby mode until `clusterd online {node}`")
    } else {
        format!("{node} is on duty")
    }
}
