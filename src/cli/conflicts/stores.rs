//! The conflict stores of a group on both nodes, and who writes its trees.

use std::path::PathBuf;

use crate::cli::Globals;
use crate::config::{Config, Group, NodeIndex, key};
use crate::control::protocol::{Answer, Payload, Request};
use crate::control::socket::{self, AskError};
use crate::limits;
use crate::mirror::conflict::remote::Peer;
use crate::mirror::conflict::{About, Restored, Store};
use crate::mirror::stage::Whose;
use crate::mirror::transport::{Dialler, Secret};

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Here,
    Peer,
}

/// A conflict, and which node keeps it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) side: Side,
    /// Of one on the other node without attributes.
    pub(super) about: About,
}

/// What both stores hold, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct All {
    pub(super) kept: Vec<Kept>,
    /// Ids of what cannot be read.
    pub(super) damaged: Vec<(Side, String)>,
    /// Why nothing is known of the other node's.
    pub(super) silent: Option<String>,
}

/// The stores of one group on both nodes.
pub(super) struct Stores<'a> {
    config: &'a Config,
    me: NodeIndex,
    group: &'a Group,
    globals: &'a Globals,
    here: Vec<Store>,
    peer: Option<Result<Peer, String>>,
}

impl<'a> Stores<'a> {
    /// Finds this node's stores, as far as there are any.
    pub(super) fn new(
        globals: &'a Globals,
        config: &'a Config,
        me: NodeIndex,
        group: &'a Group,
    ) -> Result<Stores<'a>, String> {
        let whose = whose(config, me, group);
        let found =
            group.mirror.iter().filter_map(|tree| Store::find(&whose, &tree.path).transpose());
        let here = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(Stores { config, me, group, globals, here, peer: None })
    }

    /// The name of a node.
    pub(super) fn name(&self, side: Side) -> &str {
        match side {
            Side::Here => &self.config.node(self.me).name,
            Side::Peer => &self.config.node(self.me.other()).name,
        }
    }

    /// The other node's stores; asked once.
    fn peer(&mut self) -> Result<&mut Peer, String> {
        let (config, me, group) = (self.config, self.me, self.group);
        let peer = self.peer.get_or_insert_with(|| reach(config, me, group));
        peer.as_mut().map_err(|why| why.clone())
    }

    /// What this node keeps.
    pub(super) fn here(&self) -> Result<All, String> {
        let mut all = All::default();
        for store in &self.here {
            let listing = store
                .list()
                .map_err(|error| format!("{}: {}", store.path().display(), error.desc()))?;
            all.damaged.extend(listing.damaged.into_iter().map(|id| (Side::Here, id)));
            let side = Side::Here;
            all.kept.extend(listing.kept.into_iter().map(|about| Kept { side, about }));
        }
        Ok(all)
    }

    /// What both nodes keep, the oldest first.
    pub(super) fn both(&mut self) -> Result<All, String> {
        let mut all = self.here()?;
        match self.peer().and_then(Peer::list) {
            Ok((kept, damaged)) => {
                let side = Side::Peer;
                all.kept.extend(kept.into_iter().map(|about| Kept { side, about }));
                all.damaged.extend(damaged.into_iter().map(|id| (side, id)));
            }
            Err(why) => all.silent = Some(why),
        }
        all.kept.sort_by(|one, other| one.about.time.cmp(&other.about.time));
        Ok(all)
    }

    /// One of them, with everything that is known of it; this node's first.
    pub(super) fn find(&mut self, id: &str) -> Result<Kept, String> {
        if let Some(store) = self.store_with(id)? {
            return match store.get(id) {
                Ok(Some(about)) => Ok(Kept { side: Side::Here, about }),
                Ok(None) => Err(unknown(id)),
                Err(_) => {
                    let place = store.path().join(id);
                    Err(format!("the about.json in {} is damaged", place.display()))
                }
            };
        }
        let not_here = |why| format!("{} on this node; on the other one: {why}", unknown(id));
        let about = self.peer().and_then(|peer| peer.show(id)).map_err(not_here)?;
        Ok(Kept { side: Side::Peer, about })
    }

    /// Where the file of one is, for a person to look at.
    pub(super) fn file_of(&self, kept: &Kept) -> Option<PathBuf> {
        let store = self.store_of(&kept.about);
        // On the other node, too, it lies beside the tree.
        store.and_then(|store| store.file_of(&kept.about))
    }

    fn store_with(&self, id: &str) -> Result<Option<&Store>, String> {
        for store in &self.here {
            if store.has(id).map_err(|error| error.desc().to_owned())? {
                return Ok(Some(store));
            }
        }
        Ok(None)
    }

    fn store_of(&self, about: &About) -> Option<&Store> {
        self.here.iter().find(|store| store.tree().display().to_string() == about.tree)
    }

    /// This node's store of the tree, made if there never was one.
    fn own_store(&self, about: &About) -> Result<Store, String> {
        let mut trees = self.group.mirror.iter().map(|tree| &tree.path);
        let tree = trees.find(|tree| tree.display().to_string() == about.tree);
        let tree = tree.ok_or_else(|| format!("{} is not mirrored any more", about.tree))?;
        Store::open(&whose(self.config, self.me, self.group), tree)
            .map_err(|error| error.to_string())
    }

    /// Who writes the group's trees. Without a daemon here an administrator does as he thinks right.
    pub(super) fn owner(&self) -> Result<Side, String> {
        let answer =
            socket::ask(&self.globals.run_dir, &Request::Status {}, limits::CONTROL_WISH_PATIENCE);
        let status = match answer {
            Ok(Answer::Ok(Payload::Status(status))) => status,
            Ok(Answer::Ok(Payload::Text(_))) => {
                return Err("the daemon gave an unexpected answer".into());
            }
            Ok(Answer::Refused(why) | Answer::Unknown(why)) => return Err(why),
            Err(AskError::NoDaemon { .. }) => return Ok(Side::Here),
            Err(error @ AskError::NotUnderstood { .. }) => return Err(error.to_string()),
        };
        let group = status.groups.iter().find(|group| group.name == self.group.name);
        let owner = group.and_then(|group| group.owner.clone());
        match owner {
            Some(owner) if owner == self.name(Side::Here) => Ok(Side::Here),
            Some(_) => Ok(Side::Peer),
            None => Err(format!(
                "no node owns the group {} now, so nobody may write its trees; see `clusterd status`",
                self.group.name
            )),
        }
    }

    /// Restores one into the owner's tree. It leaves its store when it is there.
    pub(super) fn restore(
        &mut self,
        kept: &Kept,
        owner: Side,
        force: bool,
    ) -> Result<Restored, String> {
        let id = &kept.about.id;
        match (kept.side, owner) {
            (Side::Here, Side::Here) => {
                let store = self.store_of(&kept.about).ok_or_else(|| unknown(id))?;
                store.restore(id, force).map_err(|error| error.to_string())
            }
            (Side::Peer, Side::Peer) => self.peer()?.restore(id, force),
            (Side::Here, Side::Peer) => {
                let store = self.own_store(&kept.about)?;
                let peer = self.peer()?;
                let there = peer.send(id, &store)?;
                let restored = peer.restore(&there, force);
                if restored.is_err() {
                    peer.drop_kept(&there)?;
                    return restored;
                }
                store.drop_kept(id).map_err(|error| error.to_string())?;
                restored
            }
            (Side::Peer, Side::Here) => {
                let store = self.own_store(&kept.about)?;
                let peer = self.peer()?;
                let here = peer.fetch(id, &store)?;
                let restored = store.restore(&here, force).map_err(|error| error.to_string());
                if restored.is_err() {
                    store.drop_kept(&here).map_err(|error| error.to_string())?;
                    return restored;
                }
                peer.drop_kept(id)?;
                restored
            }
        }
    }

    /// Removes one for good.
    pub(super) fn drop_kept(&mut self, side: Side, id: &str) -> Result<(), String> {
        match side {
            Side::Peer => self.peer()?.drop_kept(id),
            Side::Here => {
                let store = self.store_with(id)?.ok_or_else(|| unknown(id))?;
                store.drop_kept(id).map_err(|error| error.to_string())
            }
        }
    }

    /// Which node keeps one.
    pub(super) fn side_of(&mut self, id: &str) -> Result<Side, String> {
        match self.store_with(id)? {
            Some(_) => Ok(Side::Here),
            // Also what is damaged there.
            None => self
                .peer()
                .map(|_| Side::Peer)
                .map_err(|why| format!("{} on this node; {why}", unknown(id))),
        }
    }
}

fn unknown(id: &str) -> String {
    format!("there is no conflict {id} in this group")
}

fn whose(config: &Config, me: NodeIndex, group: &Group) -> Whose {
    Whose {
        cluster: config.cluster.clone(),
        group: group.name.clone(),
        node: config.node(me).name.clone(),
    }
}

/// Asks the other node's daemon.
fn reach(config: &Config, me: NodeIndex, group: &Group) -> Result<Peer, String> {
    let (own, peer) = (config.node(me), config.node(me.other()));
    let failed = |why: String| format!("{} does not answer: {why}", peer.name);
    let keys = key::read(&config.key_file).map_err(|error| failed(error.to_string()))?;
    let dialler = Dialler {
        secret: Secret::new(&keys, &config.cluster),
        interface: own.crossover.clone(),
        lan: peer.address,
        own_lan: own.address,
        port: limits::SYNC_PORT,
        patience: limits::DIAL_PATIENCE,
    };
    let link = dialler.over_lan().map_err(failed)?;
    Peer::new(link, &group.name).map_err(failed)
}
