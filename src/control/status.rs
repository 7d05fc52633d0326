//! What `status --json` prints: the contract's fields (DESIGN section 10) and a few more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ring::KeyState;

/// How a node is, as it says itself. Names as in `status --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Started, has not yet heard the peer nor lost patience.
    Joining,
    /// On duty.
    Online,
    /// Told by the administrator to own nothing.
    Standby,
    /// Found a gap in its own time and is finding out what it missed.
    Stalled,
}

/// The whole state of one node, as it sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the pair.
    pub cluster: String,
    /// Name of this node.
    pub node: String,
    /// How this node is.
    pub state: NodeState,
    /// Version of the program.
    pub version: String,
    /// This node's incarnation, hexadecimal.
    pub incarnation: String,
    /// Whether the guard watches over this heart.
    pub guarded: bool,
    /// Longest gap between two rounds of the loop since the start, in ms.
    pub worst_gap_ms: u64,
    /// How late the loop was with what was due, since the start.
    pub r#loop: Loop,
    /// The other node.
    pub peer: Peer,
    /// Who reaches how many reach hosts.
    pub reach: Reach,
    /// How far a change of the pair's key is.
    #[serde(default)]
    pub key: KeyState,
    /// What is wrong though it may be in service, a sentence each.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// The groups, sorted by name.
    pub groups: Vec<Group>,
}

/// How late the loop was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loop {
    /// How often it was so late, from the least to the worst.
    pub lateness: Vec<LoopBucket>,
    /// The worst, in µs.
    pub worst_us: u64,
}

impl Loop {
    /// From how late, below which limit if there is one (both in ms), and how often.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, Option<u64>, u64)> {
        let limits = self.lateness.iter().filter_map(|bucket| bucket.below_ms);
        let from = std::iter::once(0).chain(limits);
        from.zip(&self.lateness).map(|(from_ms, bucket)| (from_ms, bucket.below_ms, bucket.count))
    }
}

/// How often the loop was late by less than a limit, and not by less than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopBucket {
    /// The limit, in ms; `null`: none.
    pub below_ms: Option<u64>,
    /// How often.
    pub count: u64,
}

/// How well the groups are served, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every group is in service, and the other node could take it over now.
    Redundant,
    /// Every group is in service, but a failure of its owner would end that.
    Single,
    /// Some group is not in service.
    Out,
}

impl Standing {
    /// The exit status of `clusterd status` (DESIGN section 10).
    pub fn exit_status(self) -> u8 {
        match self {
            Standing::Redundant => 0,
            Standing::Single => 4,
            Standing::Out => 5,
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Standing::Redundant => "in service with redundancy",
            Standing::Single => "in service WITHOUT redundancy",
            Standing::Out => "NOT in service",
        }
    }
}

impl Status {
    /// How well the groups are served.
    pub fn standing(&self) -> Standing {
        if !self.groups.iter().all(|group| group.in_service) {
            return Standing::Out;
        }
        let pair = self.peer.state == PeerState::Alive && self.state == NodeState::Online;
        if pair && self.groups.iter().all(|group| group.redundant) {
            Standing::Redundant
        } else {
            Standing::Single
        }
    }
}

/// The other node as this one sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub state: PeerState,
    /// It said goodbye: it was stopped in order.
    #[serde(default)]
    pub ended: bool,
    /// Its incarnation, hexadecimal; empty if never heard.
    pub incarnation: String,
    /// Whether its config digest equals ours; `null` if never heard.
    pub same_config: Option<bool>,
    /// The paths, in the order crossover, serial, lan.
    pub paths: Vec<PathStatus>,
}

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Heard, and on duty.
    Alive,
    /// Late on every path.
    Suspect,
    /// Silent on every path, or said goodbye.
    Dead,
    /// Heard, in standby mode.
    Standby,
    /// Never heard since this node started.
    Unknown,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// `crossover`, `serial` or `lan`.
    pub name: String,
    /// How it is.
    pub state: PathState,
    /// Carrier of its interface; `null` for serial.
    pub carrier: Option<bool>,
    /// Time since the last counted beat, in ms; `null` if none since the start.
    pub heard_ms: Option<u64>,
    /// Smoothed round trip in µs; `null` if not measured.
    pub rtt_us: Option<u64>,
    /// Beats that did not come when they were due.
    pub lost: u64,
    /// Frames refused, all reasons together.
    pub refused: u64,
    /// Frames refused, by reason; only those that happened.
    pub refused_by: BTreeMap<String, u64>,
}

/// How a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Both nodes hear each other on it.
    Up,
    /// This node hears the peer, but not the other way round.
    OneWay,
    /// Two beats or more are missing.
    Late,
    /// Nothing came for `dead_after`.
    Silent,
    /// Not configured.
    Off,
}

/// Who reaches how many reach hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// This node.
    pub local: u8,
    /// The peer, as it said last.
    pub peer: u8,
    /// Of how many.
    pub of: u8,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How it is on this node.
    pub state: GroupState,
    /// Whether its owner serves it, addresses and services and all, as far as this node knows.
    pub in_service: bool,
    /// Name of the node that serves it, as far as this node knows; `null`: nobody known.
    pub owner: Option<String>,
    /// Whether the node that does not serve it could take it over now, as far as this node knows.
    pub redundant: bool,
    /// Newest generation known to have been served; 0: none.
    pub generation: u32,
    /// Why it is so, in words.
    pub why: String,
    /// The service addresses.
    pub addresses: Vec<Address>,
    /// The services.
    pub services: Vec<Service>,
    /// The mirror.
    pub mirror: Mirror,
}

/// How a group is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// Served here.
    Active,
    /// Not served here.
    Passive,
    /// Being taken over here.
    Starting,
    /// Being given up here.
    Stopping,
    /// Should be served here but is not, by a fault of this node.
    Failed,
    /// May not be served here, see `why`.
    Blocked,
}

/// A service address on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// As in the config, with the prefix.
    pub address: String,
    /// Whether this node's kernel holds it.
    pub held: bool,
    /// What is left of the kernel's lease, in ms; 0 if not held.
    pub lease_ms: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: String,
    /// What its check says.
    pub check: String,
}

/// A mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// How it is.
    pub state: MirrorState,
    /// Why it is so, in words; empty if `in-sync` or `off`.
    pub why: String,
    /// Which way changes go.
    pub direction: Direction,
    /// Newest commit that both nodes have.
    pub commit: u64,
    /// Names known to differ from the last commit.
    pub pending_files: u64,
    /// Their bytes, as far as known.
    pub pending_bytes: u64,
    /// Bytes a second that travel now.
    pub rate: u64,
    /// Files in this node's conflict store.
    pub conflicts: u64,
    /// What an administrator must know of the store's size, in words; mostly empty.
    #[serde(default)]
    pub conflicts_crowded: String,
    /// Commits since the daemon's start whose names changed while they were read, round after round.
    pub fuzzy: u64,
    /// Paths of kinds that are not mirrored, the first few.
    pub skipped: Vec<String>,
}

impl Mirror {
    /// No mirror configured.
    pub fn off() -> Mirror {
        Mirror {
            state: MirrorState::Off,
            why: String::new(),
            direction: Direction::None,
            commit: 0,
            pending_files: 0,
            pending_bytes: 0,
            rate: 0,
            conflicts: 0,
            conflicts_crowded: String::new(),
            fuzzy: 0,
            skipped: Vec::new(),
        }
    }
}

/// Which way a mirror goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From here to the peer.
    Out,
    /// From the peer to here.
    In,
    /// Neither.
    None,
}

/// How a mirror is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorState {
    /// None configured.
    Off,
    /// Both nodes have the same, but for what changed a moment ago.
    InSync,
    /// Changes travel.
    Syncing,
    /// The peer is not reached or cannot take more: changes wait.
    Behind,
    /// No settled owner: nothing travels.
    Paused,
    /// Waits for the administrator.
    Conflict,
    /// A root is missing or foreign, or the disk refuses.
    Blocked,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node serv1 sees its one group and its peer like this.
    fn seen(state: NodeState, peer: PeerState, group: GroupState, owner: &str) -> Status {
        let heard = matches!(peer, PeerState::Alive | PeerState::Suspect | PeerState::Standby);
        Status {
            cluster: "office".into(),
            node: "serv1".into(),
            state,
            version: "0".into(),
            incarnation: "1".into(),
            guarded: true,
            worst_gap_ms: 0,
            r#loop: Loop::default(),
            peer: Peer {
                name: "serv2".into(),
                state: peer,
                ended: false,
                incarnation: String::new(),
                same_config: None,
                paths: Vec::new(),
            },
            reach: Reach { local: 0, peer: 0, of: 0 },
            key: KeyState::default(),
            troubles: Vec::new(),
            groups: vec![Group {
                name: "web".into(),
                state: group,
                in_service: group == GroupState::Active || (owner == "serv2" && heard),
                owner: Some(owner.into()).filter(|owner: &String| !owner.is_empty()),
                redundant: group != GroupState::Blocked,
                generation: 1,
                why: String::new(),
                addresses: Vec::new(),
                services: Vec::new(),
                mirror: Mirror::off(),
            }],
        }
    }

    #[test]
    fn redundant_only_if_both_could_serve() {
        use {GroupState as G, NodeState as N, PeerState as P, Standing::*};
        for (state, peer, group, owner, expected) in [
            (N::Online, P::Alive, G::Active, "serv1", Redundant),
            (N::Online, P::Alive, G::Passive, "serv2", Redundant),
            (N::Online, P::Suspect, G::Active, "serv1", Single),
            (N::Online, P::Standby, G::Active, "serv1", Single),
            (N::Online, P::Dead, G::Active, "serv1", Single),
            (N::Online, P::Unknown, G::Active, "serv1", Single),
            (N::Standby, P::Alive, G::Passive, "serv2", Single),
            (N::Stalled, P::Alive, G::Active, "serv1", Single),
            (N::Online, P::Alive, G::Blocked, "serv2", Single),
            (N::Online, P::Suspect, G::Passive, "serv2", Single),
            (N::Online, P::Dead, G::Passive, "serv2", Out),
            (N::Joining, P::Unknown, G::Passive, "", Out),
            (N::Online, P::Alive, G::Passive, "", Out),
            (N::Online, P::Alive, G::Starting, "serv1", Out),
            (N::Online, P::Alive, G::Stopping, "serv1", Out),
            (N::Online, P::Alive, G::Failed, "serv1", Out),
        ] {
            let found = seen(state, peer, group, owner).standing();
            assert_eq!(found, expected, "{state:?} {peer:?} {group:?} {owner:?}");
        }
    }

    #[test]
    fn a_peer_that_lives_but_may_not_serve_is_no_redundancy() {
        let mut status = seen(NodeState::Online, PeerState::Alive, GroupState::Active, "serv1");
        assert_eq!(status.standing(), Standing::Redundant);
        status.groups[0].redundant = false;
        assert_eq!(status.standing(), Standing::Single);
    }

    #[test]
    fn exit_statuses_are_those_of_the_contract() {
        let all = [Standing::Redundant, Standing::Single, Standing::Out];
        assert_eq!(all.map(Standing::exit_status), [0, 4, 5]);
    }
}
