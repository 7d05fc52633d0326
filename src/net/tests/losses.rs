//! News and answers that are lost (ENOBUFS), at each place where the netlink thread receives anything:
//! whatever it says is true, and it comes to an end with all that it was asked for.

use super::*;
use crate::limits::{CLAIM_AGE_MAX, LEASE};
use crate::net::netlink::{Address, Change};
use crate::net::route_socket::loss::{self, Loss};
use crate::net::thread::{Worker, tests as inside};

/// The heart's part, with a worker that runs in this thread.
struct Heart {
    worker: Worker,
    replies: Receiver<NetReply>,
    /// What the thread said last of the carriers.
    carriers: (Option<bool>, Option<bool>),
    number: u32,
    /// More is lost in a row than is asked again.
    lossy: bool,
}

/// Runs `work` where nothing is lost: the order is for one thread.
fn apart<R: Send>(work: impl FnOnce(&mut RouteSocket) -> R + Send) -> R {
    std::thread::scope(|scope| {
        scope.spawn(|| work(&mut RouteSocket::open().unwrap())).join().unwrap()
    })
}

/// Service addresses as the kernel has them.
fn found(of: &[IpAddr]) -> Vec<Address> {
    let mut found = Vec::new();
    apart(|route| route.addresses(&mut |address| found.push(*address))).unwrap();
    found.retain(|address| of.contains(&address.ip));
    found
}

fn index_of(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

impl Heart {
    fn turn(&mut self) -> Option<NetReply> {
        // As the thread's own loop does, with a look at what was said before it rests.
        if self.replies.is_empty() && !self.worker.read_news() && self.replies.is_empty() {
            self.worker.rest();
        }
        let reply = self.replies.try_recv().ok()?;
        if let NetReply::Carrier { lan, crossover, .. } = reply {
            self.carriers = (lan.or(self.carriers.0), crossover.or(self.carriers.1));
        }
        Some(reply)
    }

    /// Lets the thread work until it says something that `wanted` accepts.
    fn wait(&mut self, what: &str, wanted: impl Fn(&NetReply) -> bool) -> NetReply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.turn() {
                Some(reply) if wanted(&reply) => return reply,
                Some(_) | None => assert!(Instant::now() < deadline, "never: {what}"),
            }
        }
    }

    /// Lets the thread work until `condition` holds.
    fn until(&mut self, what: &str, condition: impl Fn(&Heart) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            self.turn();
            assert!(Instant::now() < deadline, "never: {what}");
        }
    }

    fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn release(&mut self) {
        let release = self.next_number();
        self.worker.serve(NetRequest::Release { group: WEB, release });
        self.wait("released", |reply| *reply == NetReply::Released { group: WEB, release });
        assert_eq!(found(&ips(WEB)), [], "released, and still there");
    }

    fn assert_held(&self, of: &[IpAddr]) {
        let found = found(of);
        let held = |ip: &IpAddr| found.iter().any(|one| one.ip == *ip && !one.permanent);
        assert!(of.iter().all(held), "held, and not there: {found:?}");
    }

    /// Claims until it is held, as the core does; returns the claim.
    fn hold(&mut self) -> u32 {
        loop {
            let claim = self.next_number();
            self.worker.serve(NetRequest::Claim { group: WEB, claim });
            let held = NetReply::Held { group: WEB, claim };
            let answers = |reply: &NetReply| match reply {
                NetReply::HoldFailed { claim: of, .. } => *of == claim,
                other => *other == held,
            };
            let answer = self.wait("claimed", answers);
            if answer == held {
                self.assert_held(&ips(WEB));
                return claim;
            }
            assert!(self.lossy, "one loss, and a claim has failed: {answer:?}");
            self.release();
        }
    }

    /// Renews until it succeeds; a claim whose renewal is refused is made again.
    fn renew(&mut self, mut claim: u32) -> u32 {
        loop {
            self.worker.serve(NetRequest::Renew { group: WEB, claim });
            let renewed = NetReply::Renewed { group: WEB, claim };
            let answers = |reply: &NetReply| match reply {
                NetReply::HoldFailed { claim: of, .. } => *of == claim,
                other => *other == renewed,
            };
            if self.wait("renewed", answers) == renewed {
                self.assert_held(&ips(WEB));
                return claim;
            }
            assert!(self.lossy, "one loss, and a renewal has failed");
            claim = self.hold();
        }
    }

    fn change(&mut self, addresses: &[&str]) {
        let change = self.next_number();
        let addresses = addresses.iter().map(|text| address(text)).collect();
        self.worker.serve(NetRequest::Addresses { group: WEB, addresses, change });
        self.wait("trimmed", |reply| *reply == NetReply::Trimmed { change });
    }

    /// The same until all of them are there: what could not be added is told as a fault, and left out.
    fn change_whole(&mut self, addresses: &[&str]) {
        self.change(addresses);
        if found(&ips(WEB)).len() < addresses.len() {
            assert!(self.lossy, "one loss, and an address is left out");
            self.change(addresses);
        }
    }

    /// All that may happen to a group, once.
    fn story(&mut self, holder: &str) {
        self.worker.serve(NetRequest::Sweep);
        self.wait("swept", |reply| *reply == NetReply::Swept);
        assert_eq!(found(&[ips(WEB), ips(MAIL)].concat()), [], "swept, and still there");
        self.worker.serve(NetRequest::LookAtCarriers);
        self.wait("looked", |reply| matches!(reply, NetReply::Carrier { .. }));

        let claim = self.hold();
        let claim = self.renew(claim);

        // One of each family is taken away.
        for ip in ips(WEB) {
            let index = index_of(holder);
            apart(|route| route.change(&[Change::Remove { index, ip }])).unwrap();
            self.wait("lost", |reply| *reply == NetReply::AddressLost { group: WEB });
            self.renew(claim);
        }
        // ... and one added that has no end.
        let cross = index_of("cross0");
        run("ip address add 192.0.2.50/24 dev cross0");
        self.until("the copy is gone", |_| found(&ips(WEB)).iter().all(|one| one.index != cross));

        let claim = self.renew(claim);
        self.change(&["192.0.2.50/24"]);
        assert_eq!(found(&ips(WEB)[1..]), [], "trimmed, and still there");
        self.change_whole(&["192.0.2.50/24", "2001:db8::50/64"]);
        self.renew(claim);
        self.release();

        run("ip address add 192.0.2.60/24 dev cross0");
        self.wait("found", |reply| *reply == NetReply::AddressFound { group: MAIL });
        let release = self.next_number();
        self.worker.serve(NetRequest::Release { group: MAIL, release });
        self.wait("released", |reply| *reply == NetReply::Released { group: MAIL, release });
        assert_eq!(found(&ips(MAIL)), []);

        for (word, up) in [("down", false), ("up", true)] {
            run(&format!("ip link set cross1 {word}"));
            self.until(word, |heart| heart.carriers.1 == Some(up));
        }
    }
}

fn heart(groups: Vec<GroupSetup>, lossy: bool) -> Heart {
    let (sender, replies) = bounded(1000);
    let worker = inside::worker(NetSetup { groups, ..setup() }, sender);
    Heart { worker, replies, carriers: (None, None), number: 0, lossy }
}

/// Tells the story again and again, each time with a loss at a later place, until none is left.
fn at_each_place(mac: Option<[u8; 6]>, holder: &str, times: u32, eats: bool) {
    in_namespace(|| {
        cables();
        let groups = vec![
            group(&["192.0.2.50/24", "2001:db8::50/64"], mac),
            group(&["192.0.2.60/24"], None),
        ];
        let mut heart = heart(groups, times > 1);
        heart.story(holder);
        let mut places = 0;
        loop {
            loss::order(Some(Loss { after: places, times, eats }));
            heart.story(holder);
            let left = loss::order(None).unwrap();
            // What was said late belongs to this story.
            while heart.worker.read_news() {}
            while heart.replies.try_recv().is_ok() {}
            inside::assert_idle(&heart.worker);
            if left.after > 0 {
                break;
            }
            places += 1;
        }
        println!("{places} places, {times} times");
        assert!(places > 50, "{places} places");
    });
}

#[test]
fn p1_an_answer_or_news_that_comes_late_after_a_loss_anywhere() {
    at_each_place(None, "lan0", 1, false);
}

#[test]
fn p1_an_answer_or_news_that_is_lost_anywhere() {
    at_each_place(None, "lan0", 1, true);
}

#[test]
fn p1_some_answers_in_a_row_that_are_lost_anywhere() {
    at_each_place(None, "lan0", 7, true);
}

#[test]
fn p1_an_answer_or_news_of_an_own_interface_that_is_lost_anywhere() {
    at_each_place(Some([2, 0, 0, 0, 0, 0x50]), "clusterd0", 1, true);
}

/// Repeats `ask`, each time with a little more time left before it is too late, until the kernel was at it when that
/// was over: when it begins is not known to a microsecond. The answer then has that word.
fn until_too_late(heart: &mut Heart, word: &str, mut ask: impl FnMut(&mut Heart, Duration)) {
    heart.worker.serve(NetRequest::LookAtCarriers);
    heart.wait("looked", |reply| matches!(reply, NetReply::Carrier { .. }));
    let came_late = (1..1000).any(|left_us| {
        heart.release();
        ask(heart, Duration::from_micros(left_us));
        let ends = |reply: &NetReply| {
            matches!(
                reply,
                NetReply::HoldFailed { .. } | NetReply::Held { .. } | NetReply::Renewed { .. }
            )
        };
        match heart.wait("an answer", ends) {
            NetReply::HoldFailed { error, .. } => error.contains(word),
            _ => false,
        }
    });
    assert!(came_late, "it was never over while the kernel was at it");
}

#[test]
fn p1_a_claim_that_is_acknowledged_too_late_is_taken_back() {
    in_namespace(|| {
        cables();
        let mut heart = heart(setup().groups, false);
        // The kernel shall have added it when it is too old.
        until_too_late(&mut heart, "add the address", |heart, left| {
            let claim = heart.next_number();
            let at = Instant::now().checked_sub(CLAIM_AGE_MAX - left).unwrap();
            let request = NetRequest::Claim { group: WEB, claim };
            inside::serve_since(&mut heart.worker, request, at);
        });
        heart.until("taken back", |_| found(&ips(WEB)).is_empty());
    });
}

#[test]
fn p1_a_renewal_that_is_acknowledged_too_late_is_taken_back() {
    in_namespace(|| {
        cables();
        let mut heart = heart(setup().groups, false);
        // The lease shall end while the kernel renews it.
        until_too_late(&mut heart, "acknowledged", |heart, left| {
            let claim = heart.hold();
            let began = Instant::now().checked_sub(LEASE - left).unwrap();
            inside::lease_began(&mut heart.worker, WEB, began);
            heart.worker.serve(NetRequest::Renew { group: WEB, claim });
        });
        assert_eq!(found(&ips(WEB)), [], "the peer may have it by now");
    });
}
