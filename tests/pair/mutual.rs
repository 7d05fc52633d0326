//! Mutual takeover, as in 1999: two groups, each at home on a node of its own, neither node idle. Either
//! carries both when it must, and each group goes home by its own rule.

use std::net::IpAddr;
use std::time::Instant;

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd_bed::client::Client;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::{GROUP, NAMES, SECOND_GROUP, node};

use crate::scene::Scene;

const MAIL: &str = "203.0.113.60";
const LOWER: NodeIndex = NodeIndex::Lower;
const UPPER: NodeIndex = NodeIndex::Upper;

/// Two groups and a client of each.
struct Mutual {
    scene: Scene,
    mail: Client,
    began: Instant,
}

impl Mutual {
    /// Both at home. The group `mail` goes home by itself, `web` stays where it is.
    fn at_home() -> Mutual {
        let ip: IpAddr = MAIL.parse().expect("an address");
        let mut scene = Scene::dark(|options| {
            options.second_addresses = vec![ServiceAddress { ip, prefix: 24 }];
            options.second_group = "failback = \"auto\"\nstable_for = \"1s\"".to_owned();
        });
        let client = &scene.bed.wiring().client;
        let mail = Client::start(client, ip, NAMES.map(str::to_owned), limits::BED_ASK_EVERY)
            .expect("a client");
        scene.power_on();
        let mutual = Mutual { scene, mail, began: Instant::now() };
        mutual.wait_owners(LOWER, UPPER);
        mutual
    }

    fn wait_owners(&self, web: NodeIndex, mail: NodeIndex) {
        let bed = &self.scene.bed;
        self.scene.wait("both groups where they belong", || {
            let owners = (bed.owner_of(GROUP), bed.owner_of(SECOND_GROUP));
            let fresh = Instant::now().checked_sub(limits::BED_LOOK_EVERY).expect("a past");
            let from = |client: &Client| client.answer_since(fresh).map(|answer| answer.from);
            let served = (from(&bed.client), from(&self.mail));
            let wanted = (Some(web), Some(mail));
            if owners == wanted && served == wanted {
                Ok(())
            } else {
                Err(format!("owners {owners:?}, clients are served by {served:?}"))
            }
        });
    }

    /// Cuts a node's power; how long the clients of both groups had to wait.
    fn outages_of_a_power_cut(
        &mut self,
        node: NodeIndex,
    ) -> (std::time::Duration, std::time::Duration) {
        self.scene.whole();
        let mark = Instant::now();
        self.scene.bed.power_cut(node).expect("a cut");
        self.wait_owners(node.other(), node.other());
        let bed = &self.scene.bed;
        (bed.outage_since(mark), self.mail.outage_beyond(&bed.stalls, mark))
    }

    fn never_two_owners(&self) {
        self.scene.bed.cross_check().expect("a watcher that sees");
        assert_eq!(self.scene.bed.watcher.two_owners_since(self.began), TwoOwners::default());
        assert_eq!(self.scene.bed.watcher.missed(), 0);
    }
}

#[test]
fn p2_either_node_carries_both_groups_and_each_goes_home_by_its_own_rule() {
    let mut mutual = Mutual::at_home();
    let most = limits::OUTAGE_MAX;

    let (web, mail) = mutual.outages_of_a_power_cut(UPPER);
    println!("serv2's power cut: web {web:?}, mail {mail:?}");
    assert!(mail <= most, "mail was away for {mail:?}");
    assert!(web <= limits::OUTAGE_MAX, "web, which nobody touched, was away for {web:?}");
    mutual.scene.bed.power_on(UPPER).expect("power");
    mutual.wait_owners(LOWER, UPPER);

    let (web, mail) = mutual.outages_of_a_power_cut(LOWER);
    println!("serv1's power cut: web {web:?}, mail {mail:?}");
    assert!(web <= most, "web was away for {web:?}");
    assert!(mail <= limits::OUTAGE_MAX, "mail, which nobody touched, was away for {mail:?}");
    let back = Instant::now();
    mutual.scene.bed.power_on(LOWER).expect("power");
    assert_eq!(mutual.scene.whole(), UPPER, "web waits for a person");
    assert_eq!(mutual.scene.bed.watcher.moves_since(back), 0);

    mutual.scene.tell(UPPER, &["move", GROUP, node::name(LOWER)]);
    mutual.wait_owners(LOWER, UPPER);
    mutual.scene.whole();
    mutual.never_two_owners();
}
