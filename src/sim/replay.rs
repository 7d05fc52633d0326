//! A recorded run of a core: the lines that `run --record` and the simulator write, and their replay.
//!
//! A recording is JSON, one object a line: first a [`Header`], then one [`Line`] for each event that
//! was handled. A core is a pure function of them, so a replay gives the same commands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::NodeIndex;
use crate::core::{Command, Core, DiskState, Event, Time};

/// First line of a recording: everything that the core was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Text of the config file.
    pub config: String,
    /// Which of the two nodes.
    pub me: NodeIndex,
    /// The incarnation.
    pub incarnation: u64,
    /// Seed of the core's random numbers.
    pub seed: u64,
    /// What the disk said at the start.
    pub disk: DiskState,
    /// The time at the start.
    pub now: Time,
}

/// Each further line: one call of [`Core::handle`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The time given to the core.
    pub now: Time,
    /// What it was told.
    pub event: Event,
}

/// Why a recording could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no first line.
    #[error("the recording is empty")]
    Empty,
    /// A line is not what it should be.
    #[error("line {line} of the recording cannot be read: {error}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What the reader said.
        error: serde_json::Error,
    },
    /// The config in the header is refused.
    #[error("the recording's config is refused: {0}")]
    Config(String),
}

/// Runs a recording through a core; gives every command with the time at which it was given.
///
/// # Errors
/// A line that cannot be read, or a config that is refused.
pub fn replay<'a>(
    lines: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<(Time, Command)>, ReplayError> {
    let mut lines = lines.into_iter().enumerate();
    let (_, first) = lines.next().ok_or(ReplayError::Empty)?;
    let header: Header =
        serde_json::from_str(first).map_err(|error| ReplayError::Line { line: 1, error })?;
    let config = crate::config::parse(&header.config, "recording")
        .map_err(|errors| ReplayError::Config(errors.to_string()))?;
    let Header { me, incarnation, seed, disk, now, .. } = header;
    let mut core = Core::new(Arc::new(config), me, incarnation, seed, disk, now);
    let mut commands = Vec::new();
    let mut drain = |core: &mut Core, now| {
        while let Some(command) = core.poll() {
            commands.push((now, command));
        }
    };
    drain(&mut core, now);
    for (place, text) in lines {
        let Line { now, event } = serde_json::from_str(text)
            .map_err(|error| ReplayError::Line { line: place + 1, error })?;
        core.handle(now, event);
        drain(&mut core, now);
    }
    Ok(commands)
}
