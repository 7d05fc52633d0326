//! The standby side of a group: doing what the session's receiver says.

use std::cell::RefCell;
use std::time::Instant;

use super::connection::Connection;
use super::own::Judge;
use super::replica::{self, Replica};
use super::report::Skipped;
use super::settle::{Settler, trouble};
use super::trees::Trees;
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::index::Index;
use crate::mirror::proto::{Past, Refused, Trouble, Wanted};
use crate::mirror::session::receiver::{Command, Event, Receiver};
use crate::mirror::stage::{Head, Series};

/// How the standby side is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The whole of a series was applied over this link: this node has what the owner had then.
    pub whole: bool,
    /// A series is coming in.
    pub busy: bool,
    /// What stands against it, in words.
    pub trouble: Option<Trouble>,
    /// Why the last session ended, until another one stands.
    pub ended: Option<String>,
    /// The owner does not replace the trees here by itself: why.
    pub disputed: Option<String>,
    /// Bytes of content that came.
    pub bytes: u64,
}

/// The standby side of a group in one generation.
pub struct Incoming {
    generation: Generation,
    receiver: Receiver,
    series: Option<Series>,
    /// What is reported.
    pub taken: Taken,
}

/// What the standby side works with.
pub struct Around<'a> {
    /// The trees.
    pub trees: &'a Trees,
    /// The last common commit.
    pub index: &'a Index,
    /// What was acknowledged, and the places beside the trees.
    pub settler: &'a mut Settler,
    /// The link, if there is one.
    pub connection: &'a mut Connection,
    /// What is not mirrored.
    pub skipped: &'a mut Skipped,
    /// The copy, watched.
    pub replica: &'a mut Replica,
    /// Whether an order waits that ends this.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Incoming {
    /// Begins; the owner links.
    pub fn new(generation: Generation, group: &str, trees: &Trees) -> Incoming {
        let receiver = Receiver::new(generation, group.to_owned(), trees.names());
        Incoming { generation, receiver, series: None, taken: Taken::default() }
    }

    /// The generation that it belongs to.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.receiver.next_deadline()
    }

    /// Takes in one event, and does what comes of it.
    pub fn handle(&mut self, now: Time, event: Event, mut around: Around<'_>) {
        let begun = Instant::now();
        if matches!(event, Event::Linked | Event::Cut) {
            // What stood against it, and why the last session ended, is told until it is over.
            (self.taken.whole, self.taken.busy) = (false, false);
        }
        self.receiver.handle(now, event);
        while let Some(command) = self.receiver.poll() {
            if let Some(answer) = self.perform(command, &mut around) {
                self.taken.trouble = match &answer {
                    Event::Failed(trouble) => Some(trouble.clone()),
                    _ => None,
                };
                if matches!(answer, Event::Opened { .. }) {
                    self.taken.ended = None;
                }
                self.receiver.handle(now + begun.elapsed(), answer);
            }
        }
    }

    fn perform(&mut self, command: Command, around: &mut Around<'_>) -> Option<Event> {
        let done = match command {
            Command::Say(envelope) => {
                return around.connection.say(&envelope).err().map(|why| {
                    self.taken.ended.get_or_insert(why);
                    Event::Cut
                });
            }
            Command::Open => self.open(around),
            Command::Adopt { lineage, disown } => {
                self.taken.disputed = None;
                around.settler.lineage = Some(lineage);
                if !disown {
                    return None;
                }
                self.disown(around)
            }
            Command::Disputed(why) => {
                self.taken.disputed = Some(why);
                return None;
            }
            Command::ReadBuckets => {
                around.replica.compares();
                read(around.index.bucket_digests().map(Event::BucketsRead))
            }
            Command::ReadListing { bucket, after } => {
                let max = limits::LISTING_ENTRIES_MAX;
                let listing = around.index.bucket_listing(bucket, after.as_ref(), max);
                read(listing.map(|(entries, more)| Event::ListingRead { entries, more }))
            }
            Command::Stage { series, batch, last: _, fuzzy, ops } => {
                self.taken.busy = true;
                self.stage(series, batch, around, |staged, pass, index| {
                    staged.add_batch(pass, index, fuzzy, ops)
                })
            }
            Command::Write { op, chunk, bytes } => {
                self.taken.bytes += bytes.len() as u64;
                match &mut self.series {
                    Some(series) => series.write_chunk(op, chunk, &bytes).map(|()| Event::Written),
                    None => Err(Trouble::Failed("no series was begun".to_owned())),
                }
            }
            Command::Drop { op } => match &mut self.series {
                Some(series) => series.drop_op(op).map(|()| Event::Written),
                None => Err(Trouble::Failed("no series was begun".to_owned())),
            },
            Command::KeepAhead { key, chunk_bytes, chunk, bytes } => {
                self.taken.bytes += bytes.len() as u64;
                let kept = around.settler.stage.keep_ahead(&key, chunk_bytes, chunk, &bytes);
                if let Err(trouble) = kept {
                    log::debug!("a chunk that was sent ahead is not kept: {trouble}");
                }
                return None;
            }
            Command::MakeDurable { last } => self.make_durable(last),
            Command::Apply => self.apply(around),
            Command::Verify => {
                let looked = around.replica.look(&replica::Around {
                    trees: around.trees,
                    index: around.index,
                    interrupted: around.interrupted,
                });
                let differ = around.replica.differ();
                looked.map(|_| Event::Verified(differ.clone())).map_err(trouble)
            }
            Command::Discard => {
                self.taken.busy = false;
                if let Some(series) = self.series.take()
                    && let Err(trouble) = series.discard()
                {
                    log::warn!("the staged files of a discarded series stay for now: {trouble}");
                }
                return None;
            }
            Command::Disconnect(why) => {
                log::warn!("a mirror session was ended: {why}");
                self.taken.ended.get_or_insert(why);
                around.connection.close();
                return None;
            }
        };
        Some(done.unwrap_or_else(Event::Failed))
    }

    fn open(&mut self, around: &mut Around<'_>) -> Result<Event, Trouble> {
        self.series = None;
        around.settler.settle(around.trees, around.index, false)?;
        around.settler.lineage = None;
        around.settler.stage.forget_ahead()?;
        let pass = around.trees.open(around.index).map_err(trouble)?;
        let walked = around
            .replica
            .walk(
                &pass,
                Judge::thorough(),
                &replica::Around {
                    trees: around.trees,
                    index: around.index,
                    interrupted: around.interrupted,
                },
            )
            .map_err(trouble)?;
        let names = around.replica.open();
        if names > 0 {
            log::info!(
                "{names} names of the trees here are in no commit; what the owner's trees replace is kept in the \
                 conflict store"
            );
        }
        around.skipped.set(walked.skipped);
        let failed = |error: crate::mirror::index::IndexError| Trouble::Failed(error.to_string());
        let position = around.index.position().map_err(failed)?;
        Ok(Event::Opened {
            digest: around.index.digest().map_err(failed)?,
            commit: around.index.newest_commit().map_err(failed)?,
            past: Past { position, empty: pass.is_empty().map_err(trouble)? },
        })
    }

    /// Nothing in the trees here counts as common any more: whatever is replaced is kept first.
    fn disown(&mut self, around: &mut Around<'_>) -> Result<Event, Trouble> {
        let failed = |error: crate::mirror::index::IndexError| Trouble::Failed(error.to_string());
        around.index.disown().map_err(failed)?;
        self.open(around)
    }

    fn stage(
        &mut self,
        number: u64,
        batch: u32,
        around: &Around<'_>,
        add: impl FnOnce(
            &mut Series,
            &[crate::mirror::tree::Root],
            &Index,
        ) -> Result<(Vec<Wanted>, Vec<Refused>), Trouble>,
    ) -> Result<Event, Trouble> {
        if batch == 0 {
            let head = Head { generation: self.generation, series: number, commit: number };
            self.series = Some(around.settler.stage.begin(head)?);
        }
        let pass = around.trees.open(around.index).map_err(trouble)?;
        let Some(series) = &mut self.series else {
            return Err(Trouble::Failed("no series was begun".to_owned()));
        };
        let (wanted, refused) = add(series, pass.roots(), around.index)?;
        Ok(Event::Staged { wanted, refused })
    }

    fn make_durable(&mut self, last: bool) -> Result<Event, Trouble> {
        let Some(mut series) = self.series.take() else {
            return Err(Trouble::Failed("no series was begun".to_owned()));
        };
        series.close_batch()?;
        if last {
            series.ready()?;
        } else {
            self.series = Some(series);
        }
        Ok(Event::Durable)
    }

    fn apply(&mut self, around: &mut Around<'_>) -> Result<Event, Trouble> {
        let replica = RefCell::new(&mut *around.replica);
        let look_up = || {
            replica.borrow_mut().sip();
            (around.interrupted)()
        };
        around.settler.bring(around.trees, around.index, false, &look_up)?;
        let finished = around.settler.finish(around.trees, around.index, &look_up)?;
        self.taken.busy = false;
        // This node may have to serve: the rest is done when it does.
        let Some(settled) = finished else {
            around.connection.close();
            return Ok(Event::Cut);
        };
        if settled.unfinished.len() > limits::BATCH_OPS_MAX {
            // Too many to be told one by one: a new session finds what differs.
            around.connection.close();
            return Ok(Event::Cut);
        }
        if settled.unfinished.is_empty() {
            around.settler.stage.mend()?;
        }
        self.taken.whole = true;
        around.replica.applied();
        Ok(Event::Applied { conflicts: settled.conflicts, unfinished: settled.unfinished })
    }
}

fn read(done: Result<Event, crate::mirror::index::IndexError>) -> Result<Event, Trouble> {
    done.map_err(|error| Trouble::Failed(error.to_string()))
}
