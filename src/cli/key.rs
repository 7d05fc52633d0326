//! `key rotate`: another key for a running pair.
//!
//! The file is written, then read by this node's daemon; a person brings it to the other node. Power that goes in
//! between leaves a file with which both nodes understand each other, and the verb again goes on from there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{DONE, FAILED, Globals, fail, say, status, wish};
use crate::config::key;
use crate::config::ring::{KeyRing, KeyState};
use crate::control::protocol::Request;
use crate::control::socket;

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Begin to change the key, or show what is left to do
    Rotate {
        /// Drop the old key on this node; refused until the other node uses the new one
        #[arg(long)]
        finish: bool,
    },
}

/// Does it; both daemons serve on.
pub(super) fn run(globals: &Globals, args: &KeyArgs) -> ExitCode {
    let KeyVerb::Rotate { finish } = args.verb;
    let (config, me) = match globals.load_config() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let peer = &config.node(me.other()).name;
    let change = Change { globals, file: &config.key_file, peer };
    match if finish { change.finish() } else { change.begin() } {
        Ok(text) => {
            say(&text);
            ExitCode::from(DONE)
        }
        Err((status, why)) => fail(status, &why),
    }
}

/// What ends it.
const FINISH: &str = "  clusterd key rotate --finish";

struct Change<'a> {
    globals: &'a Globals,
    file: &'a Path,
    /// Name of the other node.
    peer: &'a str,
}

/// What to say, or the exit status and why.
type Outcome = Result<String, (u8, String)>;

impl Change<'_> {
    fn begin(&self) -> Outcome {
        let _alone = self.alone()?;
        let ring = self.read()?;
        match (ring.before, self.state()?) {
            (Some(_), KeyState::Agreed) => Ok(format!(
                "{} uses the new key, too; now drop the old one on each node:\n{}",
                self.peer, FINISH
            )),
            // It was begun before, perhaps up to here.
            (Some(_), KeyState::Waiting | KeyState::Switched | KeyState::Settled) => {
                self.reload().map(|_| self.steps())
            }
            (None, KeyState::Settled) => {
                let next = key::next(&ring).map_err(|error| (FAILED, error.to_string()))?;
                self.put(&ring, &next)?;
                Ok(self.steps())
            }
            (None, KeyState::Waiting | KeyState::Switched | KeyState::Agreed) => {
                Err((FAILED, self.other_file()))
            }
        }
    }

    fn finish(&self) -> Outcome {
        let _alone = self.alone()?;
        let ring = self.read()?;
        let dropped =
            || format!("this node accepts the old key no longer; do the same on {}", self.peer);
        match (ring.before, self.state()?) {
            (Some(_), KeyState::Agreed) => {
                self.put(&ring, &KeyRing { before: None, ..ring })?;
                Ok(dropped())
            }
            (Some(_), KeyState::Waiting | KeyState::Switched | KeyState::Settled) => Err((
                FAILED,
                format!(
                    "{} is not known to use the new key, and this node could not read its frames without the old one; \
                     `clusterd key rotate` says what to do first",
                    self.peer
                ),
            )),
            (None, KeyState::Settled) => {
                Ok(format!("{} holds one key: no change is under way", self.file.display()))
            }
            // The file was written before, and the daemon did not read it.
            (None, KeyState::Agreed) => self.reload().map(|_| dropped()),
            (None, KeyState::Waiting | KeyState::Switched) => Err((FAILED, self.other_file())),
        }
    }

    /// Who changes the file has it alone.
    fn alone(&self) -> Result<File, (u8, String)> {
        let parent = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let locked = || -> io::Result<File> {
            let directory = File::open(parent.unwrap_or(Path::new(".")))?;
            directory.lock()?;
            Ok(directory)
        };
        locked().map_err(|error| (FAILED, format!("{}: {error}", self.file.display())))
    }

    fn read(&self) -> Result<KeyRing, (u8, String)> {
        key::read(self.file).map_err(|error| (FAILED, error.to_string()))
    }

    /// What the daemon says.
    fn state(&self) -> Result<KeyState, (u8, String)> {
        status::ask(self.globals).map(|status| status.key)
    }

    /// Writes other keys and has the daemon read them; what it refuses is undone.
    fn put(&self, old: &KeyRing, new: &KeyRing) -> Result<(), (u8, String)> {
        let write = |ring| key::replace(self.file, ring);
        write(new).map_err(|error| (FAILED, error.to_string()))?;
        self.reload().map(|_| ()).map_err(|(status, why)| match write(old) {
            Ok(()) => (status, why),
            Err(error) => {
                (status, format!("{why}; and the key file could not be put back: {error}"))
            }
        })
    }

    fn reload(&self) -> Outcome {
        let request = Request::Reload {};
        let answer = socket::ask(&self.globals.run_dir, &request, wish::patience(&request));
        match wish::outcome(answer) {
            (DONE, text) => Ok(text),
            (status, why) => Err((status, why)),
        }
    }

    fn steps(&self) -> String {
        let (file, peer) = (self.file.display(), self.peer);
        format!(
            "{file} holds a new key and the one in use; both are accepted now. Copy the file to {peer} and reload it \
             there:\n  scp -p {file} {peer}:{file}\n  ssh {peer} clusterd reload\nEach node uses the new key as soon as it \
             has heard it from the other: `clusterd status` says so. Then drop the old one on each node:\n{}",
            FINISH
        )
    }

    fn other_file(&self) -> String {
        format!(
            "{} holds one key, and the daemon is about to change another; copy the key file of {} here, or restart \
             clusterd on this node if this file is meant",
            self.file.display(),
            self.peer
        )
    }
}
