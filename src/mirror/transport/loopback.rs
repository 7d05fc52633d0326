//! For tests: links over loopback streams, and a cable between two of them that is cut after any frame.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use snow::StatelessTransportState;

use super::{Incoming, Link, LinkPath, Secret, socket};

/// Far longer than anything here takes, so that a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Two ends of a connection.
pub fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        socket::prepare(stream).unwrap();
    }
    (near, far)
}

/// What both sides have after a handshake.
pub fn noises(secret: &Secret) -> (StatelessTransportState, StatelessTransportState) {
    let (near, far) = streams();
    let deadline = Instant::now() + PATIENCE;
    thread::scope(|scope| {
        let responder = scope.spawn(|| secret.respond(&far, deadline).unwrap());
        let psk = secret.offers()[0];
        (secret.initiate(&psk, &near, deadline).unwrap(), responder.join().unwrap())
    })
}

/// A cable that lets so many frames through, of both directions together.
#[derive(Debug)]
pub struct Cable {
    ends: [TcpStream; 2],
    left: Arc<AtomicU64>,
}

impl Cable {
    /// A link through a new cable: the end that dialled, and the other one.
    pub fn new(frames: u64) -> (Cable, Link, Link) {
        let (ours, theirs) = noises(&Secret::new(&[7; 32], "pair"));
        let ((near, near_end), (far_end, far)) = (streams(), streams());
        let link =
            |stream, noise| Link::new(Arc::new(stream), noise, LinkPath::Crossover, PATIENCE);
        let left = Arc::new(AtomicU64::new(frames));
        let ends = [near_end, far_end];
        for (from, to) in [(0, 1), (1, 0)] {
            let [from, to] = [from, to].map(|end: usize| ends[end].try_clone().unwrap());
            from.set_nonblocking(false).unwrap();
            let left = left.clone();
            thread::spawn(move || {
                // It ends when either side hangs up, or the cable is cut.
                let _ = forward(&from, &to, &left);
                shut(&from);
                shut(&to);
            });
        }
        (Cable { ends, left }, link(near, ours), link(far, theirs))
    }

    /// Whether all frames that were let through have passed.
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Cuts it now.
    pub fn cut(&self) {
        self.ends.iter().for_each(shut);
    }
}

fn shut(stream: &TcpStream) {
    // It may have ended already.
    let _ = stream.shutdown(Shutdown::Both);
}

fn forward(mut from: &TcpStream, mut to: &TcpStream, left: &AtomicU64) -> io::Result<()> {
    loop {
        let mut prefix = [0; 2];
        from.read_exact(&mut prefix)?;
        let mut frame = vec![0; usize::from(u16::from_be_bytes(prefix))];
        from.read_exact(&mut frame)?;
        let take = |left: u64| left.checked_sub(1);
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            return Ok(());
        }
        to.write_all(&[prefix.as_slice(), &frame].concat())?;
    }
}

/// The far end, when its first message has come.
pub fn arrive(mut link: Link) -> Option<Incoming> {
    let hello = link.reader.receive().ok()?;
    Some(Incoming { hello, link })
}
