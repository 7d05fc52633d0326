//! The redundancy checker (promise P6): whenever the pair said that the other node could take a group over,
//! a power cut of its owner must be survived.
//!
//! It asks both daemons several times a second and remembers what each said. When the bed cuts the power of
//! a node that both, or one of them all of the last second, called the owner of a redundant group, the other node
//! must have that group in service within [`limits::BED_EFFECT_WITHIN`]. If it has not, the pair has lied.
//!
//! A word counts only if nothing was done to the pair shortly before it was said: to hear of a fault takes
//! time. For the same reason a cut is not judged if something is done to the pair before it is decided.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::node::{Node, name};
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::control::protocol::{Answer, Payload, Request};
use clusterd::control::socket;
use clusterd::control::status::{Group, GroupState, Status};

#[cfg(test)]
mod tests;

/// What a daemon said.
#[derive(Clone, Debug)]
struct Word {
    node: NodeIndex,
    /// It was asked then, and what it said is not older.
    asked: Instant,
    /// `None`: it did not answer.
    said: Option<Status>,
}

/// An owner was cut, and the other node must serve.
#[derive(Debug)]
struct Trial {
    group: String,
    dead: NodeIndex,
    at: Instant,
    /// The last words of both before that.
    before: String,
}

/// What was found at the cut of a node: it is judged from [`Redundancy::was_cut`] on.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Trial>);

/// A checker that checks as long as this value lives.
#[derive(Debug)]
pub struct Redundancy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    nodes: [Place; 2],
    stop: AtomicBool,
    book: Mutex<Book>,
}

/// Where a node's daemon is asked, and where it tells its events.
#[derive(Debug)]
struct Place {
    run_dir: PathBuf,
    events: PathBuf,
}

#[derive(Debug)]
struct Book {
    words: VecDeque<Word>,
    /// When something was done to the pair last.
    disturbed: Instant,
    trials: Vec<Trial>,
    survived: u64,
    lies: Vec<String>,
}

impl Redundancy {
    /// Starts to ask.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(nodes: [&Node; 2]) -> std::io::Result<Redundancy> {
        let place = |node: &Node| Place { run_dir: node.run_dir(), events: node.events() };
        let book = Book {
            words: VecDeque::new(),
            disturbed: Instant::now(),
            trials: Vec::new(),
            survived: 0,
            lies: Vec::new(),
        };
        let shared = Arc::new(Shared {
            nodes: nodes.map(place),
            stop: AtomicBool::new(false),
            book: Mutex::new(book),
        });
        let mut checker = Redundancy { shared: Arc::clone(&shared), threads: Vec::new() };
        // One for each: a node that does not answer must not hide what the other says.
        for node in NodeIndex::BOTH {
            let shared = Arc::clone(&shared);
            let ask = move || shared.ask(node);
            let thread = std::thread::Builder::new().name("bed-redundancy".into()).spawn(ask)?;
            checker.threads.push(thread);
        }
        Ok(checker)
    }

    /// Something is done to the pair: what was said before may be true no longer, and a cut that is not
    /// decided proves nothing.
    pub(super) fn disturbed(&self) {
        let mut book = self.shared.book();
        book.disturbed = Instant::now();
        book.trials.clear();
    }

    /// The power of `node` is about to be cut: what was said of its groups.
    pub(super) fn claims(&self, node: NodeIndex) -> Claims {
        let now = Instant::now();
        let book = self.shared.book();
        let before = || book.last_words(now);
        let groups = redundant_groups(book.words.iter(), node, now, book.disturbed);
        let trial = |group| Trial { group, dead: node, at: now, before: before() };
        Claims(groups.into_iter().map(trial).collect())
    }

    /// The power was cut: from now on it shows whether the pair has lied.
    pub(super) fn was_cut(&self, claims: Claims) {
        self.shared.book().trials.extend(claims.0);
    }

    /// What a node said when it was asked last.
    pub(super) fn newest(&self, node: NodeIndex) -> Option<Status> {
        let book = self.shared.book();
        book.words.iter().rev().find(|word| word.node == node)?.said.clone()
    }

    /// How many cuts of an owner whose group was said to be redundant were survived.
    pub fn survived(&self) -> u64 {
        self.shared.book().survived
    }

    /// Takes the lies that were found since the last time, each with its story; waits until every cut is
    /// decided.
    pub fn take_lies(&self) -> Vec<String> {
        loop {
            let mut book = self.shared.book();
            if book.trials.is_empty() {
                return std::mem::take(&mut book.lies);
            }
            drop(book);
            std::thread::sleep(limits::BED_LOOK_EVERY);
        }
    }
}

impl Drop for Redundancy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, node: NodeIndex) -> &Place {
        let [lower, upper] = &self.nodes;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    fn ask(&self, node: NodeIndex) {
        while !self.stop.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let run_dir = &self.place(node).run_dir;
            let answer = socket::ask(run_dir, &Request::Status {}, limits::BED_POLL_WITHIN);
            let said = match answer {
                Ok(Answer::Ok(Payload::Status(status))) => Some(*status),
                Ok(_) | Err(_) => None,
            };
            let mut book = self.book();
            for lie in book.hear(Word { node, asked, said }) {
                book.lies.push(lie + &self.newest_events());
            }
            drop(book);
            std::thread::sleep(limits::BED_POLL_EVERY);
        }
    }

    /// The newest events of both nodes.
    fn newest_events(&self) -> String {
        /// Enough for what led to a lie.
        const EVENTS: usize = 25;
        let mut text = String::new();
        for node in NodeIndex::BOTH {
            let all = std::fs::read_to_string(&self.place(node).events).unwrap_or_default();
            let lines: Vec<&str> = all.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(EVENTS)) {
                let _ = write!(text, "\n  {}: {line}", name(node));
            }
        }
        text
    }
}

impl Book {
    /// Takes a word in; the lies that are found by it, without the events.
    fn hear(&mut self, word: Word) -> Vec<String> {
        if self.words.len() >= limits::BED_WORDS_MAX {
            self.words.pop_front();
        }
        let mut lies = Vec::new();
        self.words.push_back(word.clone());
        for trial in std::mem::take(&mut self.trials) {
            let group = word.said.as_ref().and_then(|said| group(said, &trial.group));
            let is_about = word.node != trial.dead && word.asked > trial.at;
            if is_about && group.is_some_and(is_in_service) {
                self.survived += 1;
            } else if trial.at.elapsed() > limits::BED_EFFECT_WITHIN {
                let now = Instant::now();
                lies.push(format!(
                    "redundancy lie: {} lost its power after this was said:{}\n{:?} later {} does \
                     not have the group {} in service:{}",
                    name(trial.dead),
                    trial.before,
                    trial.at.elapsed(),
                    name(trial.dead.other()),
                    trial.group,
                    self.last_words(now),
                ));
            } else {
                self.trials.push(trial);
            }
        }
        lies
    }

    /// What each node said last, one line each.
    fn last_words(&self, now: Instant) -> String {
        let last = |node| self.words.iter().rev().find(|word| word.node == node);
        let mut text = String::new();
        for word in NodeIndex::BOTH.into_iter().filter_map(last) {
            let (node, ago) = (name(word.node), now.saturating_duration_since(word.asked));
            let _ = write!(text, "\n  {node}, {} ms before: ", ago.as_millis());
            let Some(status) = &word.said else {
                text += "no answer";
                continue;
            };
            let _ = write!(text, "{}, peer {:?}", status.standing().text(), status.peer.state);
            for group in &status.groups {
                let Group { name, state, owner, redundant, why, mirror, .. } = group;
                let _ = write!(
                    text,
                    "; {name} {state:?}, owner {owner:?}, redundant {redundant} ({why}), mirror \
                     {:?} commit {} ({})",
                    mirror.state, mirror.commit, mirror.why
                );
            }
        }
        text
    }
}

fn group<'a>(status: &'a Status, name: &str) -> Option<&'a Group> {
    status.groups.iter().find(|group| group.name == name)
}

fn is_in_service(group: &Group) -> bool {
    group.state == GroupState::Active
        && group.addresses.iter().all(|address| address.held)
        && group.services.iter().all(|service| service.state == "running")
}

/// The groups of `owner` that the pair called redundant: both nodes with their newest word, or one of them
/// with each of its words of the last second.
fn redundant_groups<'a>(
    words: impl DoubleEndedIterator<Item = &'a Word>,
    owner: NodeIndex,
    now: Instant,
    disturbed: Instant,
) -> Vec<String> {
    let counts = |word: &&Word| {
        now.saturating_duration_since(word.asked) < limits::BED_SAID_WITHIN
            && word.asked >= disturbed + limits::BED_SETTLES_WITHIN
    };
    // Newest first.
    let words: Vec<&Word> = words.rev().filter(counts).collect();
    let of = |node| words.iter().filter(move |word| word.node == node);
    let says = |word: &Word, wanted: &str| {
        let group = word.said.as_ref().and_then(|said| group(said, wanted));
        group.is_some_and(|group| group.redundant && group.owner.as_deref() == Some(name(owner)))
    };
    let newest = |node| of(node).next();
    let said = NodeIndex::BOTH.into_iter().filter_map(newest).filter_map(|word| word.said.as_ref());
    let mut names: Vec<&str> =
        said.flat_map(|said| said.groups.iter()).map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|group| {
        let both = NodeIndex::BOTH
            .into_iter()
            .all(|node| newest(node).is_some_and(|word| says(word, group)));
        let one = NodeIndex::BOTH.into_iter().any(|node| {
            let oldest = of(node).next_back().map(|word| now.saturating_duration_since(word.asked));
            oldest > Some(limits::BED_SAID_WITHIN / 2) && of(node).all(|word| says(word, group))
        });
        both || one
    });
    names.into_iter().map(str::to_owned).collect()
}
