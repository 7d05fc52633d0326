//! A list of connections as frames on the crossover.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | [`HEAD`]: version 2 |
//! | 1 | 8 | cluster: which pair this is for, by a hash of its name |
//! | 9 | 1, 2 | who sends: 0 lower, 1 upper; the group's tag |
//! | 12 | 8, 8 | the sender's epoch (random at its start); number of the list, rising within it |
//! | 28 | 2, 2 | which part of how many |
//! | 32 | 2 | connections in this part |
//! | 34 | 13 or 37 each | 4 or 6; service address, port, client address, port |
//! | end | 32 | tag: keyed BLAKE3 over all before it |
//!
//! The key is derived from the pair's for this alone, so no heartbeat can pass as a list or the other
//! way round. The tag is 32 bytes because there is room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Connection;
use crate::config::key::Key;
use crate::config::ring::SharedRing;
use crate::config::{Config, Group, GroupIndex, GroupTags, NodeIndex};
use crate::limits::{CONNECTIONS_MAX, SHARE_BYTES_MAX};

/// First byte: version 2 in the upper half.
const HEAD: u8 = 0x28;
const HEADER_BYTES: usize = 34;
const TAG_BYTES: usize = 32;
/// Bytes of the longest connection.
const CONNECTION_BYTES_MAX: usize = 37;
/// Connections of IPv6 in one frame: fewer than of IPv4.
const LEAST_A_FRAME: usize = (SHARE_BYTES_MAX - HEADER_BYTES - TAG_BYTES) / CONNECTION_BYTES_MAX;
/// Parts of the longest list.
const PARTS_MAX: usize = CONNECTIONS_MAX.div_ceil(LEAST_A_FRAME);

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Shorter than it says.
    Truncated,
    /// Longer than any frame of ours.
    Oversized,
    /// Not of this version, or fields that make no sense.
    Malformed,
    /// For another pair.
    ForeignCluster,
    /// Of a group that this node does not have.
    UnknownGroup,
    /// Not from the peer: this node's own, reflected.
    NotPeer,
    /// Not signed with the pair's key.
    BadTag,
    /// A connection to an address that is not the group's here.
    OtherAddress,
    /// Of an epoch other than the one that is heard.
    OtherEpoch,
    /// A list that came before.
    Replay,
    /// A part without the one before it.
    Gap,
}

impl Refusal {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Truncated => "truncated",
            Refusal::Oversized => "oversized",
            Refusal::Malformed => "malformed",
            Refusal::ForeignCluster => "foreign-cluster",
            Refusal::UnknownGroup => "unknown-group",
            Refusal::NotPeer => "not-peer",
            Refusal::BadTag => "bad-tag",
            Refusal::OtherAddress => "other-address",
            Refusal::OtherEpoch => "other-epoch",
            Refusal::Replay => "replay",
            Refusal::Gap => "gap",
        }
    }
}

/// One frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which group.
    pub group: GroupIndex,
    /// The sender's epoch.
    pub epoch: u64,
    /// Number of the list.
    pub number: u64,
    /// Which part, from 0.
    pub index: u16,
    /// Of how many, at least one.
    pub of: u16,
    /// Its connections.
    pub connections: Vec<Connection>,
}

/// Writes and reads the frames of one node of one pair.
pub struct Codec {
    me: NodeIndex,
    ring: SharedRing,
    cluster_name: String,
    cluster: [u8; 8],
    tags: GroupTags,
    /// The service addresses of each group.
    groups: Vec<Vec<IpAddr>>,
}

impl Codec {
    /// For node `me`, with the pair's keys.
    pub fn new(ring: impl Into<SharedRing>, config: &Config, me: NodeIndex) -> Codec {
        let name = config.cluster.as_bytes();
        let cluster = blake3::derive_key("clusterd 1 cluster name in shared connections", name);
        Codec {
            me,
            ring: ring.into(),
            cluster_name: config.cluster.clone(),
            cluster: cluster.first_chunk().copied().unwrap_or_default(),
            tags: config.group_tags(),
            groups: config.groups.iter().map(Group::ips).collect(),
        }
    }

    /// The tag of these bytes with what is derived from `key`.
    fn tag(&self, key: &Key, signed: &[u8]) -> blake3::Hash {
        let secret = [key.as_slice(), self.cluster_name.as_bytes()].concat();
        let key = blake3::derive_key("clusterd 1 shared connections", &secret);
        blake3::keyed_hash(&key, signed)
    }

    /// The groups have these addresses from now on.
    pub fn set_addresses(&mut self, groups: &[Vec<IpAddr>]) {
        self.groups = groups.to_vec();
    }

    /// A list as frames, at least one. What is beyond [`CONNECTIONS_MAX`] is left out.
    pub fn encode(
        &self,
        group: GroupIndex,
        epoch: u64,
        number: u64,
        connections: &[Connection],
    ) -> Vec<Vec<u8>> {
        let connections = connections.get(..CONNECTIONS_MAX).unwrap_or(connections);
        let mut parts: Vec<(u16, Vec<u8>)> = vec![(0, Vec::new())];
        for connection in connections {
            let bytes = written(connection);
            let room = SHARE_BYTES_MAX - HEADER_BYTES - TAG_BYTES;
            match parts.last_mut().filter(|(_, part)| part.len() + bytes.len() <= room) {
                Some((count, part)) => {
                    *count += 1;
                    part.extend(bytes);
                }
                None => parts.push((1, bytes)),
            }
        }
        let of = parts.len() as u16;
        let key = self.ring.sending();
        let frame = |(index, (count, body)): (u16, (u16, Vec<u8>))| {
            let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + TAG_BYTES);
            out.push(HEAD);
            out.extend(self.cluster);
            out.push(sender_byte(self.me));
            out.extend(self.tags.tag(group).to_be_bytes());
            out.extend(epoch.to_be_bytes());
            out.extend(number.to_be_bytes());
            out.extend([index, of, count].map(u16::to_be_bytes).concat());
            out.extend(body);
            let tag = self.tag(&key, &out);
            out.extend(tag.as_bytes());
            out
        };
        (0..).zip(parts).map(frame).collect()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// The first reason not to take it, in this order: size, version, cluster, sender, tag, fields.
    pub fn decode(&self, bytes: &[u8]) -> Result<Part, Refusal> {
        if bytes.len() > SHARE_BYTES_MAX {
            return Err(Refusal::Oversized);
        }
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(Refusal::Truncated)?;
        let mut reader = Reader(signed);
        if reader.take::<1>()? != [HEAD] {
            return Err(Refusal::Malformed);
        }
        if reader.take()? != self.cluster {
            return Err(Refusal::ForeignCluster);
        }
        let [sender] = reader.take()?;
        let tag_of_group = u16::from_be_bytes(reader.take()?);
        if sender != sender_byte(self.me.other()) {
            return Err(Refusal::NotPeer);
        }
        // Comparing two hashes takes the same time wherever they differ.
        let tag = blake3::Hash::from_bytes(*tag);
        if !self.ring.ring().all().any(|key| self.tag(key, signed) == tag) {
            return Err(Refusal::BadTag);
        }
        let epoch = u64::from_be_bytes(reader.take()?);
        let number = u64::from_be_bytes(reader.take()?);
        let [index, of, count] =
            [reader.take()?, reader.take()?, reader.take()?].map(u16::from_be_bytes);
        let group = self.tags.group(tag_of_group).ok_or(Refusal::UnknownGroup)?;
        let addresses = self.groups.get(usize::from(group.0)).ok_or(Refusal::Malformed)?;
        if index >= of || usize::from(of) > PARTS_MAX {
            return Err(Refusal::Malformed);
        }
        let mut connections = Vec::new();
        for _ in 0..count {
            let connection = reader.connection()?;
            if !addresses.contains(&connection.service.ip()) {
                return Err(Refusal::OtherAddress);
            }
            connections.push(connection);
        }
        if !reader.0.is_empty() {
            return Err(Refusal::Malformed);
        }
        Ok(Part { group, epoch, number, index, of, connections })
    }
}

fn sender_byte(node: NodeIndex) -> u8 {
    match node {
        NodeIndex::Lower => 0,
        NodeIndex::Upper => 1,
    }
}

fn written(connection: &Connection) -> Vec<u8> {
    let mut out = Vec::with_capacity(CONNECTION_BYTES_MAX);
    out.push(if connection.service.is_ipv4() { 4 } else { 6 });
    for end in [connection.service, connection.client] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
        out.extend(end.port().to_be_bytes());
    }
    out
}

/// Reads from front to back, never too far.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Refusal::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn connection(&mut self) -> Result<Connection, Refusal> {
        let mut end: fn(&mut Self) -> Result<IpAddr, Refusal> = |_| Err(Refusal::Malformed);
        match self.take()? {
            [4] => end = |reader| Ok(Ipv4Addr::from(reader.take::<4>()?).into()),
            [6] => end = |reader| Ok(Ipv6Addr::from(reader.take::<16>()?).into()),
            [_] => {}
        }
        let mut socket = || {
            let ip = end(self)?;
            Ok(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
        };
        let (service, client) = (socket()?, socket()?);
        Connection::new(service, client).ok_or(Refusal::Malformed)
    }
}
