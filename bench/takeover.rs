//! Takeover: what a power cut of the owner costs a group with one address and one with a hundred, and a
//! client that only waits.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd_bed::faults::Fault;
use clusterd_bed::limits;
use clusterd_bed::{Bed, BedError};

use crate::failover::Contender;
use crate::failover::keepalived::Advert;
use crate::table::{Goal, Table};
use crate::{BenchError, Measured, Setting, say};

/// Who is measured, one after the other: beside the quickest peer.
const CONTENDERS: [Contender; 2] = [Contender::Clusterd, Contender::Keepalived(Advert::Hundredth)];
/// Groups with so many addresses.
const COUNTS: [u8; 2] = [1, 100];
/// "A few ms more" for a hundred addresses than for one.
const MANY_MS: f64 = 5.0;
/// TCP port of a service on both nodes that says nothing, nor is anything said to it.
const PORT: u16 = 7000;
/// A client that has learned nothing after this goes on waiting, here for its own keep-alive.
const WAITS: Duration = Duration::from_secs(5);

/// Times until all addresses are held, and until the client knows.
///
/// # Errors
/// None; how it ended is part of what was measured.
pub fn run(setting: &Setting) -> Measured {
    let mut table = Table::new("Takeover after a power cut, in ms: median (maximum)");
    let mut failed = 0;
    let mut stopped = Ok(());
    for (contender, count) in CONTENDERS.iter().flat_map(|one| COUNTS.map(|count| (*one, count))) {
        let rows = Rows::new(count);
        match measure(setting, contender, count, &rows, &mut table) {
            Ok(()) => {}
            Err(error @ BenchError::Bed(BedError::Stopped)) => {
                stopped = Err(error);
                break;
            }
            Err(error) => {
                table.fail(&rows.all, contender.name());
                table.note(&format!("{}, {}, given up: {error}", contender.name(), rows.all));
                failed += 1;
            }
        }
        let client_ms = limits::CLIENT_KNOWS_MAX.as_secs_f64() * 1000.0;
        table.ask(&rows.client, Some(Goal::AtMost(client_ms)));
        table.ask(&rows.spread, (count > 1).then_some(Goal::AtMost(MANY_MS)));
        table.ask(&rows.two_owners, Some(Goal::Never));
    }
    table.note(
        "Since the cut began, which itself takes the bed about 8 ms, unless a row says otherwise; from the address \
         messages of the other node's kernel. The client has a TCP connection on which nothing is said; \
         \"open\": it still believed in it 5 s later.",
    );
    let end = if failed == 0 { stopped } else { stopped.and(Err(BenchError::Failed(failed))) };
    Measured { tables: vec![table], plot: None, end }
}

/// Names of the rows of a group with so many addresses.
struct Rows {
    all: String,
    spread: String,
    client: String,
    two_owners: String,
}

impl Rows {
    fn new(count: u8) -> Rows {
        let group = if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") };
        Rows {
            all: format!("{group}: all held"),
            spread: format!("{group}: from the first held to the last"),
            client: format!("{group}: a waiting client knows"),
            two_owners: format!("{group}: time with two owners"),
        }
    }
}

/// Addresses of the bed's LAN, the client's first, the others beyond the bed's own hosts.
fn addresses(count: u8) -> Vec<ServiceAddress> {
    let hosts = (0..count).map(|number| if number == 0 { 50 } else { 100 + number });
    hosts
        .map(|host| ServiceAddress { ip: Ipv4Addr::new(203, 0, 113, host).into(), prefix: 24 })
        .collect()
}

fn measure(
    setting: &Setting,
    contender: Contender,
    count: u8,
    rows: &Rows,
    table: &mut Table,
) -> Result<(), BenchError> {
    let name = contender.name();
    let mut pair = contender.pair(setting, |options| options.addresses = addresses(count))?;
    let mut services = Vec::new();
    for node in NodeIndex::BOTH {
        let namespace = &pair.bed().wiring().seat(node).namespace;
        services.push(namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??);
    }
    for round in 1..=setting.rounds {
        say(&format!("takeover: {name}, round {round}, {}", rows.all));
        let owner = pair.make_whole()?;
        let client = connect(pair.bed())?;
        // The owner looks once a second who is connected.
        pair.bed().watch_for(limits::SHARE_EVERY * 3)?;
        let (seen, knew) = std::thread::scope(|scope| {
            let waits = scope.spawn(|| waits(&client));
            let seen = pair.try_one(Fault::OwnerPower);
            (seen, waits.join())
        });
        let seen = seen?;
        let knew = knew.map_err(|_| BedError::Late("the client's thread to end".to_owned()))??;
        let ms = |at: Instant| at.saturating_duration_since(seen.began).as_secs_f64() * 1000.0;
        let mut came = pair.bed().watcher.arrivals_since(owner.other(), seen.began);
        came.truncate(count.into());
        let (Some(first), Some(last)) = (came.first(), came.get(usize::from(count) - 1)) else {
            return Err(BedError::Late(format!("{count} addresses, {} came", came.len())).into());
        };
        table.put(&rows.all, name, ms(*last), false);
        if count > 1 {
            table.put(&rows.spread, name, ms(*last) - ms(*first), false);
        }
        table.put(
            &rows.client,
            name,
            knew.map_or(WAITS.as_secs_f64() * 1000.0, ms),
            knew.is_none(),
        );
        table.put(&rows.two_owners, name, seen.two_owners.as_secs_f64() * 1000.0, seen.still_two);
        for broken in &seen.broken {
            table.note(&format!("{name}, {}, not as promised: {broken}.", rows.all));
        }
    }
    Ok(())
}

/// A client's connection to the silent service.
fn connect(bed: &Bed) -> Result<TcpStream, BenchError> {
    let to = SocketAddr::new(bed.address(), PORT);
    let client = bed.wiring().client.run(|| TcpStream::connect_timeout(&to, WAITS))??;
    client.set_read_timeout(Some(WAITS))?;
    Ok(client)
}

/// When the client learned that its connection has ended; `None`: it did not.
fn waits(mut client: &TcpStream) -> Result<Option<Instant>, BenchError> {
    match client.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(Instant::now())),
        Err(error) => Err(error.into()),
        Ok(_) => Err(BedError::Late("a service that says nothing".to_owned()).into()),
    }
}
