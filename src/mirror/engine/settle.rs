//! Applying what was acknowledged, in two halves: a claim waits for the first alone.
//!
//! ```text
//!   acknowledged ── bring ──▶ the trees are at the commit ── finish ──▶ judged, durable, in the index
//!                                └─ let_serve: on record, before something else writes to the trees
//! ```

use std::sync::Arc;

use super::trees::{Fault, Trees};
use crate::mirror::apply::{self, Applied, Brought};
use crate::mirror::crash_points::CrashPoints;
use crate::mirror::index::{Index, Position};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{Refused, Trouble};
use crate::mirror::stage::Stage;

/// What finishing has come to.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Files in the conflict stores of these trees.
    pub conflicts: u64,
    /// Names that could not become what they should, and why: they are in no commit.
    pub unfinished: Vec<Refused>,
}

/// What is to be settled.
pub struct Settler {
    /// The places beside the trees.
    pub stage: Arc<Stage>,
    /// What the trees contain when the next series is in the index.
    pub lineage: Option<Lineage>,
    brought: Option<Brought>,
    /// Others may write to the trees.
    serves: bool,
}

impl Settler {
    /// Nothing was looked at yet.
    pub fn new(stage: Arc<Stage>) -> Settler {
        Settler { stage, lineage: None, brought: None, serves: false }
    }

    /// The commit that the trees are at, though the index does not say so yet.
    pub fn position(&self) -> Option<Position> {
        self.brought.as_ref().map(Brought::position)
    }

    /// Whether something is left to [`Settler::finish`].
    pub fn is_open(&self) -> bool {
        self.brought.is_some()
    }

    /// Whether something is left, and others may write to the trees meanwhile.
    pub fn lets_serve(&self) -> bool {
        self.is_open() && self.serves
    }

    /// Brings the trees to what was acknowledged, if anything was: they are the state of one commit then, but
    /// for single names. `to_the_end`: what cannot be applied is left, so that nothing waits for it any
    /// longer; the copy is then not whole. `look_up` is called now and then.
    ///
    /// # Errors
    /// It cannot be done now, and is to be tried again.
    pub fn bring(
        &mut self,
        trees: &Trees,
        index: &Index,
        to_the_end: bool,
        look_up: &dyn Fn() -> bool,
    ) -> Result<(), Trouble> {
        if self.brought.is_some() {
            return Ok(());
        }
        let brought = self.stage.acknowledged().and_then(|ready| {
            let Some(ready) = ready else { return Ok(None) };
            let pass = trees.open(index).map_err(trouble)?;
            let crash_points = &mut CrashPoints::all();
            apply::bring(&ready, pass.roots(), index, crash_points, to_the_end, look_up).map(Some)
        });
        self.brought = self.unless_damaged(brought)?.flatten();
        self.serves = false;
        Ok(())
    }

    /// Others may write to the trees from now on.
    ///
    /// # Errors
    /// That could not be put on record: they must not.
    pub fn let_serve(&mut self) -> Result<(), Trouble> {
        if let Some(brought) = self.brought.as_ref().filter(|_| !self.serves) {
            brought.set_brought()?;
            self.serves = true;
        }
        Ok(())
    }

    /// Does the rest, and removes what was staged and not acknowledged. `look_up` is called now and then, and
    /// says whether to pause. `None`: it was interrupted so, and is to be called again.
    ///
    /// # Errors
    /// It cannot be done now; [`Settler::bring`] and this are to be tried again.
    pub fn finish(
        &mut self,
        trees: &Trees,
        index: &Index,
        look_up: &dyn Fn() -> bool,
    ) -> Result<Option<Settled>, Trouble> {
        let Some(mut brought) = self.brought.take() else {
            self.unless_damaged(self.stage.recover())?;
            let conflicts = self.stage.conflicts()?;
            return Ok(Some(Settled { conflicts, unfinished: Vec::new() }));
        };
        let done = trees.open(index).map_err(trouble).and_then(|pass| {
            apply::finish(&mut brought, pass.roots(), index, &mut CrashPoints::all(), look_up)
        });
        let applied = match self.unless_damaged(done)? {
            Some(Some(applied)) => applied,
            Some(None) => {
                self.brought = Some(brought);
                return Ok(None);
            }
            None => Applied::default(),
        };
        if let Some(lineage) = self.lineage.take() {
            let failed =
                |error: crate::mirror::index::IndexError| Trouble::Failed(error.to_string());
            index.set_lineage(lineage).map_err(failed)?;
        }
        if let Some(why) = &applied.broken {
            self.stage.set_broken(why)?;
        }
        for Refused { key, why, .. } in &applied.unfinished {
            log::warn!("{} is not as the owner had it: {why}", trees.place(key));
        }
        Ok(Some(Settled { conflicts: self.stage.conflicts()?, unfinished: applied.unfinished }))
    }

    /// Both halves, to their end.
    ///
    /// # Errors
    /// It cannot be done now, and is to be tried again.
    pub fn settle(
        &mut self,
        trees: &Trees,
        index: &Index,
        to_the_end: bool,
    ) -> Result<(), Trouble> {
        self.bring(trees, index, to_the_end, &|| false)?;
        self.finish(trees, index, &|| false).map(drop)
    }

    /// What is damaged is put aside: to try again does not help. `None`: it was.
    fn unless_damaged<T>(&self, done: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Trouble::Damaged(why)) => {
                log::error!("{why}");
                self.stage.set_aside(&why)?;
                Ok(None)
            }
            Err(trouble) => Err(trouble),
        }
    }
}

/// In the words of the protocol.
pub fn trouble(fault: Fault) -> Trouble {
    match fault {
        Fault::Root(why) => Trouble::Root(why),
        Fault::Tree(_)
        | Fault::Index(_)
        | Fault::Disk(_)
        | Fault::Brake(_)
        | Fault::Interrupted => Trouble::Failed(fault.to_string()),
    }
}
