//! Troubles that need not stop the service: a path on which nothing comes, and why; a key that does not match; a heart
//! that died. Each is one event once it has lasted for a while, and a line under the headline of `status` while it
//! lasts.

use std::time::Duration;

use crate::beat::{DropReason, Path};
use crate::control::event::Kind;
use crate::control::status::PathState;
use crate::core::Core;
use crate::core::evidence::path::PathWatch;
use crate::core::evidence::peer::Life;
use crate::core::io::time::Time;
use crate::limits;

/// What is wrong, and what was seen of it.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Troubles {
    lasting: Vec<Lasting>,
    looked_at: Time,
    /// For each path, how many frames were refused until then, and the most frequent reason since the last look.
    refused: [Refusals; 3],
    /// What became of the heart before this one, and when that was told.
    heart: Option<(Time, String)>,
}

#[derive(Clone, Debug)]
struct Lasting {
    text: String,
    since: Time,
    told: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    counts: [u64; DropReason::ALL.len()],
    lately: Option<DropReason>,
}

impl Refusals {
    fn look(&mut self, watch: &PathWatch) {
        let grown = DropReason::ALL.map(|reason| watch.refused_for(reason));
        let more = grown.iter().zip(self.counts).map(|(now, before)| now.saturating_sub(before));
        let many = DropReason::ALL.into_iter().zip(more);
        let many = many.filter(|(_, more)| *more >= limits::TROUBLE_REFUSALS_MIN);
        // A node that hears its own frames hears noise, too: they collide with others.
        let most = many.max_by_key(|(reason, more)| (*reason == DropReason::NotPeer, *more));
        self.lately = most.map(|(reason, _)| reason);
        self.counts = grown;
    }
}

impl Core {
    /// Its lines in `status`.
    pub(in crate::core) fn troubles(&self, now: Time) -> Vec<String> {
        let fresh = |at: Time| now.since(at) < limits::HEART_DEATH_SHOWN;
        let heart = self.troubles.heart.iter().filter(|(at, _)| fresh(*at)).map(|(_, text)| text);
        let lasting = self.troubles.lasting.iter().filter(|one| one.told).map(|one| &one.text);
        lasting.chain(heart).cloned().collect()
    }

    /// The heart before this one died, and how.
    pub(in crate::core) fn heart_died(&mut self, now: Time, how: &str) {
        let text = format!(
            "the previous heart {how}; its guard removed the addresses and started this one"
        );
        self.troubles.heart = Some((now, text.clone()));
        self.tell(Kind::Fault, None, text);
    }

    /// Looks for troubles now and then, and reports those that have lasted.
    pub(in crate::core) fn note_troubles(&mut self, now: Time) {
        if now.since(self.troubles.looked_at) < limits::TROUBLE_LOOK_EVERY {
            return;
        }
        self.troubles.looked_at = now;
        for (refusals, watch) in self.troubles.refused.iter_mut().zip(&self.evidence.paths) {
            refusals.look(watch);
        }
        let mut found: Vec<(Kind, String, Duration)> = Vec::new();
        for (watch, refusals) in self.evidence.paths.iter().zip(self.troubles.refused) {
            if watch.configured
                && let Some(trouble) = self.trouble_on(now, watch, refusals.lately)
                && !found.contains(&trouble)
            {
                found.push(trouble);
            }
        }
        let before = std::mem::take(&mut self.troubles.lasting);
        for (kind, text, lasts) in found {
            let known = before.iter().find(|one| one.text == text).cloned();
            let mut one = known.unwrap_or(Lasting { text, since: now, told: false });
            if !one.told && now.since(one.since) >= lasts {
                one.told = true;
                self.tell(kind, None, one.text.clone());
            }
            self.troubles.lasting.push(one);
        }
    }

    /// What is wrong with a path, and how long it must last to be reported. A dead peer is silent on all paths, which
    /// is no trouble of a path.
    fn trouble_on(
        &self,
        now: Time,
        watch: &PathWatch,
        lately: Option<DropReason>,
    ) -> Option<(Kind, String, Duration)> {
        let node = self.config.node(self.me);
        let (name, device) = match watch.path {
            Path::Crossover => ("crossover", node.crossover.clone()),
            Path::Lan => ("lan", node.lan.clone()),
            Path::Serial => ("serial", node.serial.as_ref()?.device.display().to_string()),
        };
        let alive = self.evidence.peer.is_alive();
        let on_line = watch.path == Path::Serial;
        let lasts = limits::TROUBLE_TOLD_AFTER;
        if watch.path == Path::Crossover && self.evidence.crossover.is_set_down() {
            let text = format!("{name}: {device} is down on this node, or is not there");
            return Some((Kind::Path, text, Duration::ZERO));
        }
        let said = match lately {
            Some(DropReason::NotPeer) => {
                let text = format!(
                    "{name} ({device}) hears itself: this node's own frames come back; look for a loop, or \
                     for a terminal server or a modem that echoes"
                );
                // No passing condition looks like this.
                return Some((Kind::Path, text, Duration::ZERO));
            }
            Some(DropReason::BadTag) if !alive => {
                let text = "frames arrive that fail authentication with this node's key; the two nodes need the \
                            same key file";
                return Some((Kind::Config, text.to_string(), lasts));
            }
            Some(
                DropReason::LineNoise
                | DropReason::Malformed
                | DropReason::Truncated
                | DropReason::Oversized
                | DropReason::BadTag,
            ) if on_line => format!(
                "something else writes to {name} ({device}); look for a getty or a console on that line, at both ends"
            ),
            Some(_) | None => self.silence_of(now, watch, name, &device)?,
        };
        Some((Kind::Path, said, lasts))
    }

    fn silence_of(&self, now: Time, watch: &PathWatch, name: &str, device: &str) -> Option<String> {
        let carrier = match watch.path {
            Path::Crossover => self.evidence.crossover.up(),
            Path::Lan => Some(self.evidence.reach.carrier()),
            Path::Serial => self.evidence.modem.up(),
        };
        let heard = match self.evidence.peer.life {
            Life::Alive { .. } => true,
            Life::NeverHeard => false,
            Life::Dead { .. } => return None,
        };
        let ever =
            if watch.counted_at.is_some() { "nothing is heard" } else { "nothing was ever heard" };
        match watch.state(
            now,
            self.evidence.peer.worst_gap(),
            self.evidence.peer.hears().has(watch.path),
        ) {
            PathState::Silent => match (carrier, watch.path) {
                (Some(false), Path::Crossover | Path::Lan) => Some(format!(
                    "{name}: {device} has no carrier: it is down, or its cable is out"
                )),
                (Some(false), Path::Serial) if heard => Some(format!(
                    "{ever} on {name} ({device}), and its far end is off; check the line and its cable"
                )),
                (Some(true) | None, _) if heard => Some(format!("{ever} on {name} ({device})")),
                (Some(_) | None, _) => None,
            },
            PathState::OneWay => Some(format!(
                "{name} ({device}) is one-way: the peer does not hear this node on it"
            )),
            PathState::Up | PathState::Late | PathState::Off => None,
        }
    }
}
