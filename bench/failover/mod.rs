//! Failover: the bed's pair under clusterd, then under keepalived at three speeds; the same faults, the
//! same client, the same watcher of both kernels' addresses.

mod keepalived;

use std::time::Duration;

use clusterd::bed::faults::{Fault, try_one};
use clusterd::bed::{Bed, Options};
use clusterd::config::NodeIndex;

use crate::table::{OURS, Table};
use crate::{BenchError, Setting, say};
use keepalived::{Advert, Keepalived};

/// What is done to both.
const FAULTS: [Fault; 10] = [
    Fault::OwnerPower,
    Fault::OwnerLanCut,
    Fault::PlannedMove,
    Fault::OrderlyStop,
    Fault::HeartKilled,
    Fault::HeartFrozen,
    Fault::AllKilled,
    Fault::AllFrozen,
    Fault::CrossoverCut,
    Fault::SerialCut,
];

/// Outages, and moments with two owners.
///
/// # Errors
/// A bed failed, a pair never became whole, or somebody asked to stop.
pub fn run(setting: &Setting) -> Result<Vec<Table>, BenchError> {
    let mut outages = Table::new("Failover: outage at the client, in ms: median (maximum)");
    let mut owners = Table::new("Failover: time with two owners, in ms: median (maximum)");
    let options = || {
        let mut options = Options::new(setting.exe.clone());
        options.stop = setting.stop;
        options
    };
    {
        let mut bed = Bed::new(options())?;
        for node in NodeIndex::BOTH {
            bed.power_on(node)?;
        }
        for round in 1..=setting.rounds {
            for fault in FAULTS {
                say(&format!("failover: {OURS}, round {round}: {}", fault.name()));
                let seen = try_one(&mut bed, fault, 1, &mut |_| {})?;
                outages.put(fault.name(), OURS, ms(seen.outage), false);
                owners.put(fault.name(), OURS, ms(seen.two_owners.total), false);
                for broken in seen.broken {
                    outages.note(&format!("{OURS}, {}, not as promised: {broken}.", fault.name()));
                }
            }
        }
    }
    for advert in Advert::ALL {
        let mut pair = Keepalived::new(Bed::new(options())?, setting.exe.clone(), advert);
        for round in 1..=setting.rounds {
            for fault in FAULTS {
                let name = advert.name();
                say(&format!("failover: {name}, round {round}: {}", fault.name()));
                let seen = pair.try_one(fault)?;
                outages.put(fault.name(), name, ms(seen.outage), !seen.served);
                owners.put(fault.name(), name, ms(seen.two_owners.total), seen.still_two);
            }
        }
    }
    outages.note(
        "Asked once a millisecond. \"Heart\" is the process that holds the addresses: keepalived's is its \
         VRRP process. keepalived speaks VRRPv3 on the LAN with real-time priority; its planned move is \
         a lowered priority and SIGHUP. \"Open\": still without service when the watch ended.",
    );
    owners.note(
        "From the address messages of both kernels. \"Open\": both still had the address when the watch \
         ended, four advertisements and 1.5 s after the fault.",
    );
    Ok(vec![outages, owners])
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
