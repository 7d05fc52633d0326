//! The other node's stores, over a link of their own.
//!
//! ```text
//! an administrator's command                 the other node's daemon
//!   | MAGIC, name of the group                  |
//!   |------------------------------------------>|
//!   | Ask                                       |
//!   |------------------------------------------>|
//!   |                                  Answer   |   List: pages, then Done
//!   |<------------------------------------------|   Give: a parcel, then the pieces of its file
//!   | ...                                       |   Take: the pieces go the other way first
//! ```
//! Words are JSON; pieces are bytes. It is one question after the other, and the link's end at any point
//! leaves both stores as they were.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::carry::{Parcel, pieces};
use super::{About, ConflictError, Restored, Store};
use crate::limits;
use crate::mirror::stage::Whose;
use crate::mirror::transport::{Incoming, Link, LinkReader, LinkWriter};

/// How a link begins that is for the stores: no mirror session begins so.
const MAGIC: &[u8] = b"clusterd conflict stores 1\n";

/// A question.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Everything that is kept, without attributes.
    List,
    /// All that is known of one.
    Show { id: String },
    /// Back into the tree there.
    Restore { id: String, force: bool },
    /// Removed for good.
    Drop { id: String },
    /// Sent here.
    Give { id: String },
    /// Taken there.
    Take { parcel: Box<Parcel> },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Page { kept: Vec<About>, damaged: Vec<String> },
    About(Box<About>),
    Restored { place: String, replaced: bool },
    Parcel(Box<Parcel>),
    Taken { id: String },
    Done,
    Refused(String),
}

/// Both directions of a link, in words.
struct Talk {
    writer: LinkWriter,
    reader: LinkReader,
}

impl Talk {
    fn say(&mut self, words: &impl Serialize) -> Result<(), String> {
        let bytes = serde_json::to_vec(words).map_err(|error| error.to_string())?;
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.writer.send(bytes).map_err(|error| error.to_string())
    }

    fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, String> {
        let bytes = self.receive(patience)?;
        serde_json::from_slice(&bytes)
            .map_err(|_| "the other node says something else; run the same release".to_owned())
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + patience;
        self.reader.receive_before(deadline).map_err(|error| error.to_string())
    }

    fn send_file(&mut self, file: Option<&File>, bytes: u64) -> Result<(), String> {
        for piece in file.into_iter().flat_map(|file| pieces(file, bytes)) {
            self.send(&piece?)?;
        }
        Ok(())
    }

    fn unpack(&mut self, store: &Store, parcel: &Parcel) -> Result<String, ConflictError> {
        store.unpack(parcel, &mut || self.receive(limits::STORE_ANSWER_PATIENCE))
    }
}

/// The other node's stores of one group.
pub struct Peer {
    talk: Talk,
}

impl Peer {
    /// Begins to ask over a new link.
    ///
    /// # Errors
    /// The link has ended.
    pub fn new(link: Link, group: &str) -> Result<Peer, String> {
        let (writer, reader) = link.split();
        let mut talk = Talk { writer, reader };
        talk.send(&[MAGIC, group.as_bytes()].concat())?;
        Ok(Peer { talk })
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        self.talk.say(ask)?;
        match self.talk.hear(limits::STORE_ANSWER_PATIENCE)? {
            Answer::Refused(why) => Err(why),
            answer => Ok(answer),
        }
    }

    /// What is kept there, without attributes; and the ids of what is damaged.
    ///
    /// # Errors
    /// The other node refused it, or the link has ended.
    pub fn list(&mut self) -> Result<(Vec<About>, Vec<String>), String> {
        let mut all = (Vec::new(), Vec::new());
        let mut answer = self.ask(&Ask::List)?;
        while let Answer::Page { kept, damaged } = answer {
            all.0.extend(kept);
            all.1.extend(damaged);
            answer = self.talk.hear(limits::STORE_ANSWER_PATIENCE)?;
        }
        match answer {
            Answer::Done => Ok(all),
            Answer::Refused(why) => Err(why),
            other => Err(unexpected(&other)),
        }
    }

    /// All that is known of one.
    ///
    /// # Errors
    /// As [`Peer::list`].
    pub fn show(&mut self, id: &str) -> Result<About, String> {
        match self.ask(&Ask::Show { id: id.to_owned() })? {
            Answer::About(about) => Ok(*about),
            other => Err(unexpected(&other)),
        }
    }

    /// Restores one into the tree there.
    ///
    /// # Errors
    /// As [`Peer::list`].
    pub fn restore(&mut self, id: &str, force: bool) -> Result<Restored, String> {
        match self.ask(&Ask::Restore { id: id.to_owned(), force })? {
            Answer::Restored { place, replaced } => Ok(Restored { place, replaced }),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes one for good.
    ///
    /// # Errors
    /// As [`Peer::list`].
    pub fn drop_kept(&mut self, id: &str) -> Result<(), String> {
        match self.ask(&Ask::Drop { id: id.to_owned() })? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Copies one from there into a store here. Returns its id here.
    ///
    /// # Errors
    /// As [`Peer::list`], or it cannot be kept here.
    pub fn fetch(&mut self, id: &str, store: &Store) -> Result<String, String> {
        match self.ask(&Ask::Give { id: id.to_owned() })? {
            Answer::Parcel(parcel) => {
                self.talk.unpack(store, &parcel).map_err(|error| error.to_string())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Copies one from a store here to the other node. Returns its id there.
    ///
    /// # Errors
    /// As [`Peer::list`], or it cannot be read here.
    pub fn send(&mut self, id: &str, store: &Store) -> Result<String, String> {
        let (parcel, file) = store.pack(id).map_err(|error| error.to_string())?;
        let bytes = parcel.bytes;
        // It says whether it has room for it, before the bytes go.
        match self.ask(&Ask::Take { parcel: Box::new(parcel) })? {
            Answer::Done => {}
            other => return Err(unexpected(&other)),
        }
        self.talk.send_file(file.as_ref(), bytes)?;
        match self.talk.hear(limits::STORE_ANSWER_PATIENCE)? {
            Answer::Taken { id } => Ok(id),
            Answer::Refused(why) => Err(why),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> String {
    let text = format!("{answer:?}");
    let shown: String = text.chars().take(80).collect();
    format!("the other node answers something else: {shown}")
}

/// The group whose stores a new link asks for; `None`: it is for a mirror session.
pub fn group_of(hello: &[u8]) -> Option<String> {
    String::from_utf8(hello.strip_prefix(MAGIC)?.to_vec()).ok()
}

/// Answers the other node's questions until the link ends.
pub fn serve(incoming: Incoming, whose: &Whose, trees: &[PathBuf]) {
    let (writer, reader) = incoming.link.split();
    let mut talk = Talk { writer, reader };
    let done = loop {
        let ask = match talk.hear(limits::STORE_IDLE_MAX) {
            Ok(ask) => ask,
            Err(why) => break why,
        };
        if let Err(why) = answer(&mut talk, ask, whose, trees) {
            break why;
        }
    };
    log::debug!("a link for the conflict stores of {} has ended: {done}", whose.group);
}

/// An error ends the link.
fn answer(talk: &mut Talk, ask: Ask, whose: &Whose, trees: &[PathBuf]) -> Result<(), String> {
    let answer = match ask {
        Ask::List => list(talk, whose, trees),
        Ask::Show { id } => find(whose, trees, &id)
            .and_then(|store| match store.get(&id) {
                Ok(Some(about)) => Ok(Answer::About(Box::new(about))),
                Ok(None) => Err(ConflictError::Unknown(id).to_string()),
                Err(error) => Err(error.desc().to_owned()),
            })
            .map_err(Rest::Refused),
        Ask::Restore { id, force } => find(whose, trees, &id)
            .and_then(|store| store.restore(&id, force).map_err(|error| error.to_string()))
            .map(|Restored { place, replaced }| Answer::Restored { place, replaced })
            .map_err(Rest::Refused),
        Ask::Drop { id } => find(whose, trees, &id)
            .and_then(|store| store.drop_kept(&id).map_err(|error| error.to_string()))
            .map(|()| Answer::Done)
            .map_err(Rest::Refused),
        Ask::Give { id } => give(talk, whose, trees, &id),
        Ask::Take { parcel } => take(talk, whose, trees, &parcel),
    };
    match answer {
        Ok(answer) => talk.say(&answer),
        Err(Rest::Refused(why)) => talk.say(&Answer::Refused(why)),
        Err(Rest::Said) => Ok(()),
        Err(Rest::Ended(why)) => Err(why),
    }
}

/// What is not one answer.
enum Rest {
    Refused(String),
    /// Everything is said.
    Said,
    /// The link is of no more use.
    Ended(String),
}

fn list(talk: &mut Talk, whose: &Whose, trees: &[PathBuf]) -> Result<Answer, Rest> {
    for tree in trees {
        let store = Store::find(whose, tree).map_err(|error| Rest::Refused(error.to_string()))?;
        let Some(store) = store else { continue };
        let listing = store.list().map_err(|error| Rest::Refused(error.desc().to_owned()))?;
        let damaged = listing.damaged;
        talk.say(&Answer::Page { kept: Vec::new(), damaged }).map_err(Rest::Ended)?;
        let mut kept = listing.kept;
        for about in &mut kept {
            about.xattrs.clear();
            about.parents.clear();
        }
        for some in kept.chunks(limits::STORE_PAGE) {
            let page = Answer::Page { kept: some.to_vec(), damaged: Vec::new() };
            talk.say(&page).map_err(Rest::Ended)?;
        }
    }
    Ok(Answer::Done)
}

fn give(talk: &mut Talk, whose: &Whose, trees: &[PathBuf], id: &str) -> Result<Answer, Rest> {
    let store = find(whose, trees, id).map_err(Rest::Refused)?;
    let (parcel, file) = store.pack(id).map_err(|error| Rest::Refused(error.to_string()))?;
    let bytes = parcel.bytes;
    talk.say(&Answer::Parcel(Box::new(parcel))).map_err(Rest::Ended)?;
    talk.send_file(file.as_ref(), bytes).map_err(Rest::Ended)?;
    Err(Rest::Said)
}

fn take(
    talk: &mut Talk,
    whose: &Whose,
    trees: &[PathBuf],
    parcel: &Parcel,
) -> Result<Answer, Rest> {
    let tree = trees.iter().find(|tree| tree.display().to_string() == parcel.about.tree);
    let tree = tree.ok_or_else(|| {
        Rest::Refused(format!("{} is not mirrored in the config there", parcel.about.tree))
    })?;
    let store = Store::open(whose, tree).map_err(|error| Rest::Refused(error.to_string()))?;
    store.has_room(parcel.bytes).map_err(|error| Rest::Refused(error.to_string()))?;
    talk.say(&Answer::Done).map_err(Rest::Ended)?;
    match talk.unpack(&store, parcel) {
        Ok(id) => Ok(Answer::Taken { id }),
        // Its bytes may still be on their way.
        Err(error) => {
            talk.say(&Answer::Refused(error.to_string())).map_err(Rest::Ended)?;
            Err(Rest::Ended(error.to_string()))
        }
    }
}

/// The store that has this one.
fn find(whose: &Whose, trees: &[PathBuf], id: &str) -> Result<Store, String> {
    for tree in trees {
        let store = Store::find(whose, tree).map_err(|error| error.to_string())?;
        let Some(store) = store else { continue };
        if store.has(id).map_err(|error| error.desc().to_owned())? {
            return Ok(store);
        }
    }
    Err(ConflictError::Unknown(id.to_owned()).to_string())
}
