//! What happened in a world, line by line. Written only when a failed seed is run again.

use std::cell::RefCell;
use std::rc::Rc;

/// A list of lines that outlives a world that panics; off unless asked for.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Rc<RefCell<Vec<String>>>>);

impl Trace {
    /// A trace that keeps its lines.
    pub fn kept() -> Trace {
        Trace(Some(Rc::default()))
    }

    /// Adds a line; the text is only made if it is kept.
    pub fn note(&self, now_us: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let text = format!("{:>12.6} {}", now_us as f64 / 1e6, line());
            lines.borrow_mut().push(text);
        }
    }

    /// The last lines, oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |lines| {
            let lines = lines.borrow();
            lines[lines.len().saturating_sub(count)..].to_vec()
        })
    }
}
