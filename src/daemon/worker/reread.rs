//! Reading the config file and the key file anew: they may be on a disk that hangs, so this has a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::{self, key};
use crate::daemon::channel::{ToHeart, WorkerChannel};
use crate::daemon::config_slots::{ConfigSlot, ConfigSlots};

/// Where the thread's questions are put.
pub(super) struct Rereader(Sender<u64>);

/// What the thread works with.
pub(super) struct Source {
    /// The config file.
    pub(super) file: PathBuf,
    /// Where both are offered to the heart.
    pub(super) config_slots: Arc<ConfigSlots>,
}

impl Rereader {
    /// The desk and what its thread reads from.
    pub(super) fn new() -> (Rereader, Receiver<u64>) {
        let (sender, receiver) = bounded(1);
        (Rereader(sender), receiver)
    }

    /// Read it, and offer it under this number. Never waits: the heart asks again if no answer comes.
    pub(super) fn ask(&self, nonce: u64) {
        if self.0.try_send(nonce).is_err() {
            log::warn!("the config file is still being read: is its disk stuck?");
        }
    }
}

/// The thread.
pub(super) fn run(source: &Source, asked: &Receiver<u64>, channel: &WorkerChannel) {
    for nonce in asked {
        let error = offer(source).err();
        if let Err(error) = channel.send(&ToHeart::Offered { nonce, error }) {
            log::warn!("the heart could not be told of the config file: {error}");
        }
    }
}

fn offer(source: &Source) -> Result<(), String> {
    let Source { file, config_slots } = source;
    let config = config::load(file).map_err(|errors| errors.to_string())?;
    let keys = key::read(&config.key_file).map_err(|error| error.to_string())?;
    let refused = |error| format!("{}: {error}", file.display());
    config_slots.offer(&ConfigSlot { config, keys }).map_err(refused)
}
