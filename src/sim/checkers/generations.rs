//! Every generation of a node over a group has a number above all before it, in its whole
//! life, crashes included; nobody claims with a number that is behind before its patience is over.
//!
//! Who claims when its patience is over may not know of a later generation of one who is alone; and two who
//! are cut off from each other may both be alone. So such a generation, and those that follow from it until
//! the peer is heard, does not count as one that others must know of.

use super::super::pair::Pair;
use super::super::setup::Times;
use super::place;
use crate::beat::{Beat, Stance};
use crate::config::{GroupIndex, NodeIndex};

/// What is known of one node and group.
#[derive(Clone, Debug, Default)]
struct Record {
    /// The generation seen last: number, id, and the incarnation that claimed it.
    last: Option<(u32, u32, u64)>,
    /// A claim whose generation was not seen yet.
    claimed: Option<Claim>,
}

/// A claim as it was commanded.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// The highest number served by anybody at that time.
    highest: u32,
    /// Within the patience of one who had heard nobody.
    early: bool,
    /// Rests on patience or a partition, not on what the peer said.
    patient: bool,
    /// The core knows that it has the address: from now on its beats name the new generation.
    held: bool,
}

/// A node's present life, and what it goes by.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    started_us: u64,
    /// What the peer said last of whether this node may claim; `None`: not heard in this life.
    may_claim: Option<bool>,
    /// It claimed cut off or when its patience was over, and has heard nobody since, not in later lives
    /// either.
    patient: bool,
}

/// The checker.
pub struct Generations {
    boot_patience_us: u64,
    records: Pair<Vec<Record>>,
    lives: Pair<Life>,
    /// Highest number ever served, by group.
    highest: Vec<u32>,
    /// An administrator has accepted a loss: a claim may be behind.
    loss_accepted: Vec<bool>,
}

impl Generations {
    /// A checker of that pair.
    pub fn new(groups: usize, times: Times) -> Generations {
        Generations {
            boot_patience_us: times.boot_patience.as_micros() as u64,
            records: Pair::of(|_| vec![Record::default(); groups]),
            lives: Pair::default(),
            highest: vec![0; groups],
            loss_accepted: vec![false; groups],
        }
    }

    /// A heart starts.
    pub fn heart_started(&mut self, node: NodeIndex, now_us: u64) {
        self.lives[node] =
            Life { started_us: now_us, may_claim: None, patient: self.lives[node].patient };
        for record in &mut self.records[node] {
            record.claimed = None;
        }
    }

    /// A node's disk was lost or set back: it knows of no later generation until it hears of it.
    pub fn disk_replaced(&mut self, node: NodeIndex) {
        self.records[node].fill(Record::default());
        self.lives[node].patient = true;
    }

    /// An administrator wishes a move and accepts a loss.
    pub fn loss_accepted(&mut self, group: GroupIndex) {
        self.loss_accepted[place(group)] = true;
    }

    /// A node hears its peer, who knows it.
    pub fn heard(&mut self, node: NodeIndex, may_claim: bool) {
        let life = &mut self.lives[node];
        life.may_claim = Some(may_claim);
        life.patient = false;
    }

    /// A core commands a claim; `cut_off`: neither beats nor ARP come through from a peer that has
    /// power.
    pub fn claimed(&mut self, node: NodeIndex, group: GroupIndex, now_us: u64, cut_off: bool) {
        let life = &mut self.lives[node];
        let early = life.may_claim.is_none() && now_us < life.started_us + self.boot_patience_us;
        life.patient |= cut_off || (!early && life.may_claim != Some(true));
        let (highest, patient) = (self.highest[place(group)], life.patient);
        let claim = Claim { highest, early, patient, held: false };
        self.records[node][place(group)].claimed = Some(claim);
    }

    /// A core hears that its claim was carried out.
    pub fn held(&mut self, node: NodeIndex, group: GroupIndex) {
        if let Some(claim) = &mut self.records[node][place(group)].claimed {
            claim.held = true;
        }
    }

    /// A core commands a release.
    pub fn released(&mut self, node: NodeIndex, group: GroupIndex) {
        self.records[node][place(group)].claimed = None;
    }

    /// A core sends a beat.
    pub fn sent(&mut self, node: NodeIndex, beat: &Beat) -> Result<(), String> {
        for said in &beat.groups {
            let at = place(said.group);
            let serves = match said.stance {
                Stance::Active | Stance::Offering => said.owner == node && said.generation > 0,
                Stance::Unable
                | Stance::Passive
                | Stance::Wanting(_)
                | Stance::Granting(_)
                | Stance::Claiming => false,
            };
            if !serves {
                continue;
            }
            let record = &mut self.records[node][at];
            let generation = (said.generation, said.id, beat.incarnation);
            let claim = record.claimed.filter(|claim| claim.held);
            let Some(Claim { highest, early, patient, .. }) = claim else { continue };
            if record.last == Some(generation) {
                continue;
            }
            if let Some((number, id, incarnation)) = record.last
                && said.generation <= number
            {
                return Err(format!(
                    "generations: {node:?} serves group {} with number {} id {:x} in life \
                     {:x}, after number {number} id {id:x} in life {incarnation:x}",
                    said.group.0, said.generation, said.id, beat.incarnation
                ));
            }
            if early && said.generation <= highest && !self.loss_accepted[at] {
                return Err(format!(
                    "stale claim: {node:?} serves group {} with number {}, {highest} was \
                     served, and it has heard nobody and lost its patience early",
                    said.group.0, said.generation
                ));
            }
            record.last = Some(generation);
            if !patient {
                self.highest[at] = self.highest[at].max(said.generation);
            }
        }
        Ok(())
    }
}
