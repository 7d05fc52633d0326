//! The link of a group's session: what is said goes out at once, what is heard comes from a thread of
//! its own into the engine's inbox.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;
use serde::Serialize;

use super::Input;
use crate::mirror::progress;
use crate::mirror::proto::{self, Envelope, ToReceiver, ToSender};
use crate::mirror::transport::{Closer, Incoming, Link, LinkPath, LinkWriter};

/// The link, if there is one.
#[derive(Default)]
pub struct Connection {
    /// Number of the newest link: what an older one says counts no more.
    number: u64,
    open: Option<Open>,
}

struct Open {
    writer: LinkWriter,
    closer: Arc<Closer>,
    path: LinkPath,
    detour: Option<String>,
}

impl Connection {
    /// Takes over a link, and closes the one before. Every message comes as [`Input::Heard`], its end as
    /// [`Input::Ended`].
    ///
    /// # Errors
    /// No thread could be started; in words.
    pub fn take(&mut self, link: Link, inbox: &Sender<Input>) -> Result<(), String> {
        self.close();
        self.number += 1;
        let (number, path) = (self.number, link.path());
        let detour = link.detour().map(str::to_owned);
        let closer = Arc::new(link.closer().map_err(|error| error.to_string())?);
        let (writer, mut reader) = link.split();
        let inbox = inbox.clone();
        let read = move || loop {
            let input = match reader.receive() {
                Ok(bytes) => Input::Heard { link: number, bytes },
                Err(error) => {
                    // Nobody listens if the engine has ended.
                    let _ = inbox.send(Input::Ended { link: number, why: error.to_string() });
                    return;
                }
            };
            if inbox.send(input).is_err() {
                return;
            }
        };
        thread::Builder::new()
            .name("mirror-link".to_owned())
            .spawn(read)
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        self.open = Some(Open { writer, closer, path, detour });
        Ok(())
    }

    /// Whether this is the link that counts.
    pub fn is(&self, link: u64) -> bool {
        self.open.is_some() && self.number == link
    }

    /// Whether there is a link.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// By which way it goes.
    pub fn path(&self) -> Option<LinkPath> {
        self.open.as_ref().map(|open| open.path)
    }

    /// Why it does not go over the crossover, if that was tried.
    pub fn detour(&self) -> Option<&str> {
        self.open.as_ref().and_then(|open| open.detour.as_deref())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The link is broken, and closed now; in words.
    pub fn say<M: Serialize>(&mut self, envelope: &Envelope<M>) -> Result<(), String> {
        let Some(open) = &mut self.open else { return Err("there is no link".to_owned()) };
        let bytes = proto::encode(envelope).map_err(|error| error.to_string())?;
        // The peer may take long to read.
        progress::elsewhere(|| open.writer.send(&bytes)).map_err(|error| {
            self.close();
            error.to_string()
        })
    }

    /// Ends the link.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.closer.close();
        }
    }
}

/// Closes a link that the owner made, and says why: the owner must not have to guess.
pub fn decline(link: Incoming, why: &str) {
    log::info!("a mirror link of the owner was closed: {why}");
    let Incoming { hello, link } = link;
    let Ok(Envelope { generation, .. }) = proto::decode::<ToReceiver>(&hello) else { return };
    let message = ToSender::NotNow { why: why.to_owned() };
    let Ok(bytes) = proto::encode(&Envelope { generation, message }) else { return };
    let (mut writer, _reader) = link.split();
    // If it is not heard, the owner asks again.
    let _ = writer.send(&bytes);
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}
