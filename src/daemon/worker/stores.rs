//! The other node's administrator asks about the conflict stores here.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::limits;
use crate::mirror::conflict::remote;
use crate::mirror::stage::Whose;
use crate::mirror::transport::{Closer, Incoming};

/// Whose stores, and which trees.
type Places = Arc<(Whose, Vec<PathBuf>)>;

/// Answers on a thread for each link; of too many the oldest ends.
pub(super) struct StoreDesk {
    groups: Vec<Places>,
    open: Mutex<VecDeque<Closer>>,
}

impl StoreDesk {
    /// For the groups that have a mirror; `node`: this one's name.
    pub(super) fn new(config: &Config, node: &str) -> StoreDesk {
        let mirrored = config.groups.iter().filter(|group| !group.mirror.is_empty());
        let places = mirrored.map(|group| {
            let whose = Whose {
                cluster: config.cluster.clone(),
                group: group.name.clone(),
                node: node.to_owned(),
            };
            Arc::new((whose, group.mirror.iter().map(|tree| tree.path.clone()).collect()))
        });
        StoreDesk { groups: places.collect(), open: Mutex::default() }
    }

    /// A link that asks for this group's. Never waits; what is not answered sees the link's end.
    pub(super) fn take(&self, group: &str, incoming: Incoming) {
        let Some(places) = self.groups.iter().find(|places| places.0.group == group) else {
            log::warn!(
                "the peer asks for the conflict stores of {group}, which has no mirror here"
            );
            return;
        };
        let closer = match incoming.link.closer() {
            Ok(closer) => closer,
            Err(error) => return log::warn!("a link for conflict stores: {error}"),
        };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push_back(closer);
            if open.len() > limits::STORE_LINKS_MAX
                && let Some(oldest) = open.pop_front()
            {
                // Mostly it has ended long ago.
                oldest.close();
            }
        }
        let places = Arc::clone(places);
        let body = move || remote::serve(incoming, &places.0, &places.1);
        if let Err(error) = std::thread::Builder::new().name("stores".to_owned()).spawn(body) {
            log::warn!("the peer's question about conflict stores: {error}");
        }
    }
}
