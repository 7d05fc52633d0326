//! The groups' services: orders of the heart to the supervisors, what they tell back to the heart.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::spawn;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::core::ServiceDuty;
use crate::daemon::channel::{ToHeart, WorkerChannel};
use crate::service::{self, Setup, Supervisor, Telling};

/// One supervisor for each group, also for those without services: what is ordered is answered.
pub(super) struct Supervisors(Vec<Supervisor>);

/// Starts them. Nothing is done before the first order.
///
/// # Errors
/// No more threads.
pub(super) fn begin(
    config: &Config,
    me: NodeIndex,
    run_dir: &Path,
    channel: &Arc<WorkerChannel>,
    done: &Sender<()>,
) -> io::Result<Supervisors> {
    let known = config.groups.iter().flat_map(|group| {
        group.services.iter().map(|service| (group.name.as_str(), service.exec.as_path()))
    });
    for stray in service::strays(run_dir, known) {
        log::warn!("{stray}");
    }
    let mut supervisors = Vec::new();
    for (index, group) in config.groups() {
        let (supervisor, end) = Supervisor::new(Setup {
            run_dir: run_dir.to_owned(),
            clusterd: service::own_program().to_owned(),
            cluster: config.cluster.clone(),
            node: config.node(me).name.clone(),
            group: group.name.clone(),
            services: group.services.clone(),
        });
        let channel = Arc::clone(channel);
        let tell = move |telling: &Telling| tell(&channel, index, telling);
        spawn("services", done, move || end.run(tell))?;
        supervisors.push(supervisor);
    }
    Ok(Supervisors(supervisors))
}

fn tell(channel: &WorkerChannel, group: GroupIndex, telling: &Telling) -> bool {
    let message = match telling {
        Telling::Report(report) => ToHeart::Services { group, report: report.clone() },
        Telling::Note(text) => ToHeart::Note { group, kind: Kind::Service, text: text.clone() },
    };
    match channel.send(&message) {
        Ok(()) => true,
        Err(error) => {
            log::warn!("the heart could not be told of its services: {error}");
            false
        }
    }
}

impl Supervisors {
    /// What a group's services shall do from now on. Never waits.
    pub fn order(&self, group: GroupIndex, order: u32, duty: ServiceDuty) {
        match self.0.get(usize::from(group.0)) {
            Some(supervisor) => supervisor.order(order, duty),
            None => log::error!("an order of the heart for a group that is not in the config"),
        }
    }
}
