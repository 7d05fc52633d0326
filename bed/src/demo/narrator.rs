//! The narrator: shows the events of both daemons as they come.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::limits;
use crate::{Bed, BedError};
use clusterd::cli::events::Tail;
use clusterd::cli::print::{self, Tone, paint};
use clusterd::config::NodeIndex;
use clusterd::control::event::Record;

/// Shows the events of both daemons as they come.
pub(super) struct Narrator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Narrator {
    pub(super) fn start(bed: &Bed, colours: bool) -> Result<Narrator, BedError> {
        let paths = NodeIndex::BOTH.map(|node| bed.node(node).events());
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("demo-events".into())
            .spawn(move || narrate(paths, &flag, colours))?;
        Ok(Narrator { stop, thread: Some(thread) })
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn narrate(paths: [PathBuf; 2], stop: &AtomicBool, colours: bool) {
    let mut tails = paths.map(|path| (path, None::<Tail>));
    while !stop.load(Ordering::SeqCst) {
        for (path, tail) in &mut tails {
            if tail.is_none() {
                *tail = Tail::open(path).unwrap_or_default();
            }
            if let Some(open) = tail {
                // What can't be read now is told by the daemon's own log.
                let _ = open.drain(|line| {
                    if let Ok(Record { node, told, .. }) = serde_json::from_str(line) {
                        let text = format!("             {node}: {}", told.text);
                        print::line(&paint(&text, Tone::Dim, colours));
                    }
                    true
                });
            }
        }
        std::thread::sleep(limits::BED_LOOK_EVERY);
    }
}
