//! What the serial line carries in a round. A beat takes 4 ms, and each few bytes wake the peer. While another path
//! carries the same content, a sign of life is enough, with a whole beat now and then.

use crate::beat::Beat;
use crate::limits;

/// What was sent on the line lately.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Line {
    /// The newest beat, without what differs in every beat.
    said: Option<Beat>,
    /// So many more beats repeat it.
    beats_left: usize,
    /// Rounds since the newest beat.
    rounds: u32,
}

impl Line {
    /// Whether this round needs a whole beat. `alone`: no other path carries it to the peer.
    pub(in crate::core) fn needs_beat(&mut self, beat: Beat, alone: bool) -> bool {
        let gist = gist(beat);
        if self.said.as_ref() != Some(&gist) {
            // One group at a time travels on serial, and a beat may get lost.
            self.beats_left = gist.groups.len().max(1) * 2;
            self.said = Some(gist);
        }
        self.rounds += 1;
        let due = alone || self.beats_left > 0 || self.rounds >= limits::LINE_BEAT_EVERY_ROUNDS;
        if due {
            self.rounds = 0;
            self.beats_left = self.beats_left.saturating_sub(1);
        }
        due
    }
}

/// The content of a beat without its times and the state of the sender's loop.
fn gist(beat: Beat) -> Beat {
    let mut gist =
        Beat { sequence: 0, sent_us: 0, echo_us: 0, echo_held_us: 0, worst_gap_ms: 0, ..beat };
    // Plain frames have no room for it.
    gist.groups.iter_mut().for_each(|group| group.copy.detail = None);
    gist
}
