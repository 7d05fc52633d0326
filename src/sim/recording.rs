//! Writes down what one node's first heart is told, in the format of `replay`.

use super::replay::{Header, Line};
use super::setup::Setup;
use crate::config::NodeIndex;
use crate::core::{Command, DiskState, Event, Time};

/// The recording.
#[derive(Debug)]
pub struct Recording {
    of: NodeIndex,
    hearts: u32,
    /// The lines so far.
    pub lines: Vec<String>,
    /// What the core commanded.
    pub commands: Vec<(Time, Command)>,
}

impl Recording {
    /// A recording of that node.
    pub fn new(of: NodeIndex) -> Recording {
        Recording { of, hearts: 0, lines: Vec::new(), commands: Vec::new() }
    }

    /// A heart starts.
    pub fn start(
        &mut self,
        node: NodeIndex,
        setup: &Setup,
        incarnation: u64,
        seed: u64,
        disk: &DiskState,
        now: Time,
    ) {
        if node != self.of {
            return;
        }
        self.hearts += 1;
        if self.hearts == 1 {
            let disk = disk.clone();
            let header = Header { config: setup.text(), me: node, incarnation, seed, disk, now };
            self.lines.push(serde_json::to_string(&header).unwrap());
        }
    }

    /// A heart is told something.
    pub fn event(&mut self, node: NodeIndex, now: Time, event: &Event) {
        if node == self.of && self.hearts == 1 {
            let line = Line { now, event: event.clone() };
            self.lines.push(serde_json::to_string(&line).unwrap());
        }
    }

    /// A core commands something.
    pub fn command(&mut self, node: NodeIndex, now: Time, command: &Command) {
        if node == self.of && self.hearts == 1 {
            self.commands.push((now, command.clone()));
        }
    }
}
