//! What the peer says to a sender.

use super::{Command, Sender, SenderState, State, Verdict};
use crate::core::Time;
use crate::limits;
use crate::mirror::entry::{Digest, Key};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{
    Differ, Envelope, Past, Refused, ToReceiver, ToSender, Trouble, Wanted,
};
use crate::mirror::session::offer;

impl Sender {
    pub(super) fn heard(&mut self, now: Time, envelope: Envelope<ToSender>) {
        if matches!(self.state, State::Down) {
            return;
        }
        let Envelope { generation, message } = envelope;
        // A refusal changes nothing, and mostly speaks of another generation.
        let refusal = matches!(message, ToSender::Refuse { .. } | ToSender::NotNow { .. });
        if generation != self.generation && !refusal {
            return self.disconnect("the peer speaks of another generation of the group".into());
        }
        match message {
            ToSender::Welcome { digest, commit, past } => {
                self.welcomed(now, digest, commit, past);
            }
            ToSender::Refuse { why } => {
                let state = SenderState::Blocked(format!("the peer refuses: {why}"));
                self.disconnect_with(why, state);
            }
            ToSender::NotNow { why } => {
                self.disconnect(format!("the peer cannot take it now: {why}"))
            }
            ToSender::Buckets { digests } => self.told_buckets(digests),
            ToSender::Listing { bucket, entries, more } => {
                self.listed(now, bucket, entries, more);
            }
            ToSender::Need { series, batch, wanted, refused } => {
                self.needed(now, series, batch, wanted, refused);
            }
            ToSender::Acked { series, batch } => self.acked(now, series, batch),
            ToSender::Applied { series, conflicts, unfinished } => {
                self.applied(series, conflicts, unfinished);
            }
            ToSender::Trouble(trouble) => self.troubled(now, trouble),
            ToSender::Pong => {
                if self.pong_by.take().is_none() {
                    self.out_of_turn("Pong");
                }
            }
            ToSender::Differs(differ) => self.differs(now, differ),
            ToSender::Verified { barrier } => self.verified(now, barrier),
        }
    }

    fn out_of_turn(&mut self, what: &str) {
        self.disconnect(format!("the peer said {what} out of turn"));
    }

    /// What the peer says of a series that was given up crossed our own word on the way.
    fn unless_stale(&mut self, series: u64, what: &str) {
        if series >= self.series {
            self.out_of_turn(what);
        }
    }

    fn welcomed(&mut self, now: Time, digest: Digest, commit: u64, past: Past) {
        if let State::Greeting { peer: peer @ None, judged, .. } = &mut self.state {
            *peer = Some(digest);
            if !*judged {
                self.out.push_back(Command::Judge { past, commit });
            }
            // A number that the peer has applied already would be taken for that one.
            self.series = self.series.max(commit.saturating_add(1));
            self.compare_digests(now);
        } else {
            self.out_of_turn("Welcome");
        }
    }

    /// It is known whether the peer's trees may be replaced.
    pub(super) fn judged(&mut self, now: Time, verdict: Verdict, lineage: Lineage) {
        let State::Greeting { peer: peer @ Some(_), judged: judged @ false, .. } = &mut self.state
        else {
            return;
        };
        match verdict {
            Verdict::Follows => {
                *judged = true;
                self.say(ToReceiver::Lineage { lineage, disown: false });
                self.compare_digests(now);
            }
            Verdict::Approved => {
                *judged = true;
                // What it has is another thing when nothing of it counts as common.
                *peer = None;
                self.say(ToReceiver::Lineage { lineage, disown: true });
            }
            Verdict::Conflict(why) => {
                self.say(ToReceiver::Conflict { why: why.clone() });
                self.disconnect_with(why.clone(), SenderState::Conflict(why));
            }
        }
    }

    pub(super) fn compare_digests(&mut self, now: Time) {
        let State::Greeting { own: Some(own), peer: Some(peer), judged: true, .. } = &self.state
        else {
            return;
        };
        if own == peer {
            self.tell(SenderState::Syncing);
            return self.ready(now);
        }
        self.tell(SenderState::Syncing);
        self.ask_buckets(now);
    }

    pub(super) fn ask_buckets(&mut self, now: Time) {
        self.state = State::AwaitingBuckets { until: now + limits::MIRROR_ANSWER_PATIENCE };
        self.say(ToReceiver::AskBuckets);
    }

    /// Somebody changed the copy on the peer.
    fn differs(&mut self, now: Time, mut differ: Differ) {
        if matches!(self.state, State::Greeting { peer: None, .. }) {
            return self.out_of_turn("Differs");
        }
        differ.first.truncate(limits::DIFFER_SHOWN);
        self.restore.told(now);
        match self.told {
            Some(SenderState::Behind(_) | SenderState::Blocked(_) | SenderState::Conflict(_)) => {}
            Some(SenderState::InSync | SenderState::Syncing | SenderState::Restoring(_)) | None => {
                self.tell(SenderState::Restoring(differ.names));
            }
        }
        self.out.push_back(Command::Tell(differ));
        self.advance(now);
    }

    /// The peer looked at its copy, after everything up to this barrier was applied.
    fn verified(&mut self, now: Time, barrier: u64) {
        if matches!(self.state, State::Verifying { barrier: mine, .. } if mine == barrier) {
            self.verified = barrier;
            self.over(now);
        } else {
            self.out_of_turn("Verified");
        }
    }

    fn told_buckets(&mut self, digests: Vec<Digest>) {
        if matches!(self.state, State::AwaitingBuckets { .. }) && digests.len() == limits::BUCKETS {
            self.state = State::ComparingBuckets;
            self.out.push_back(Command::CompareBuckets(digests));
        } else {
            self.out_of_turn("Buckets");
        }
    }

    /// Asks for the last of these buckets.
    pub(super) fn ask_listing(&mut self, now: Time, mut todo: Vec<u16>) {
        let Some(bucket) = todo.pop() else { return self.ready(now) };
        let until = now + limits::MIRROR_ANSWER_PATIENCE;
        self.state = State::AwaitingListing { bucket, todo, entries: Vec::new(), until };
        self.say(ToReceiver::AskListing { bucket });
    }

    fn listed(&mut self, now: Time, which: u16, mut new: Vec<(Key, Digest)>, more: bool) {
        let State::AwaitingListing { bucket, todo, entries, until } = &mut self.state else {
            return self.out_of_turn("Listing");
        };
        let endless = more && new.is_empty();
        if which != *bucket || endless || entries.len() + new.len() > limits::LISTED_NAMES_MAX {
            return self.out_of_turn("a Listing of another bucket, or without an end,");
        }
        entries.append(&mut new);
        if more {
            *until = now + limits::MIRROR_ANSWER_PATIENCE;
            return;
        }
        let (entries, todo) = (std::mem::take(entries), std::mem::take(todo));
        self.state = State::ComparingListing { todo };
        self.out.push_back(Command::CompareListing { bucket: which, entries });
    }

    fn needed(
        &mut self,
        now: Time,
        series: u64,
        batch: u32,
        wanted: Vec<Wanted>,
        refused: Vec<Refused>,
    ) {
        let State::Offered { batch: mine, last, measures, .. } = &self.state else {
            return self.unless_stale(series, "Need");
        };
        if (series, batch) != (self.series, *mine) {
            return self.unless_stale(series, "Need");
        }
        let last = *last;
        if let Err(why) = offer::check_need(&wanted, measures) {
            return self.disconnect(format!("the peer sent {why}"));
        }
        if !refused.is_empty() {
            self.dropped |= refused.iter().any(|one| one.soon);
            self.out.push_back(Command::LeaveOut(refused));
        }
        if wanted.is_empty() {
            self.close(now, batch, last);
        } else {
            self.state = State::Streaming { batch, last };
            self.out.push_back(Command::Stream { wanted });
        }
    }

    fn acked(&mut self, now: Time, series: u64, acked: u32) {
        let State::Closed { batch, last, .. } = self.state else {
            return self.unless_stale(series, "Acked");
        };
        if (series, acked) != (self.series, batch) {
            return self.unless_stale(series, "Acked");
        }
        if last {
            self.state = State::Applying { until: now + limits::MIRROR_WORK_PATIENCE };
            return;
        }
        // A backlog of several batches moves: whatever was wrong before is not any more.
        self.tell(SenderState::Syncing);
        match batch.checked_add(1) {
            Some(next) => self.gather(next),
            None => self.disconnect("a series without an end".into()),
        }
    }

    fn applied(&mut self, series: u64, conflicts: u64, unfinished: Vec<Refused>) {
        if matches!(self.state, State::Applying { .. }) && series == self.series {
            self.state = State::Recording;
            if !unfinished.is_empty() {
                self.out.push_back(Command::LeaveOut(unfinished));
            }
            self.out.push_back(Command::Record { series, conflicts });
        } else {
            self.out_of_turn("Applied");
        }
    }

    /// The peer could not do what it was asked for.
    fn troubled(&mut self, now: Time, trouble: Trouble) {
        let state = match &trouble {
            Trouble::NoRoom { .. } | Trouble::NoInodes { .. } => {
                SenderState::Behind(format!("the peer has {trouble}"))
            }
            Trouble::Root(_) | Trouble::Failed(_) | Trouble::Damaged(_) => {
                SenderState::Blocked(format!("on the peer: {trouble}"))
            }
        };
        match self.state {
            // In `Applying` the peer has a series that it will apply when it can: what is offered next
            // must rest on a new comparison, not on this node's index.
            State::Greeting { peer: None, .. }
            | State::AwaitingBuckets { .. }
            | State::AwaitingListing { .. }
            | State::Verifying { .. }
            | State::Applying { .. } => self.disconnect_with(trouble.to_string(), state),
            State::Offered { .. } | State::Streaming { .. } | State::Closed { .. } => {
                self.void();
                self.pause(now);
                self.tell(state);
            }
            State::Greeting { .. } | State::ComparingBuckets | State::ComparingListing { .. } => {
                self.out_of_turn("Trouble");
            }
            // It crossed a withdrawal: what it speaks of is given up already.
            State::Down
            | State::Ready { .. }
            | State::Walking { .. }
            | State::Gathering { .. }
            | State::Recording
            | State::Troubled { .. } => {}
        }
    }
}
