//! Storms of kernel news: what is decided is not less, what is told is bounded.

use super::*;

fn carrier_lines(story: &Story, node: usize) -> Vec<&str> {
    let told = story.nodes[node].told.iter();
    told.filter(|(kind, _)| *kind == Kind::Carrier).map(|(_, text)| text.as_str()).collect()
}

/// What looks find from now on.
fn shows(story: &mut Story, link: Link, up: bool) {
    match link {
        Link::Lan => story.lan[B] = up,
        Link::Crossover if up => story.cut = PathSet::default(),
        Link::Crossover => story.cut = PathSet::default().with(Path::Crossover),
        Link::Serial => {}
    }
}

/// Reports so many changes of a link's carrier, one each millisecond.
fn flaps(story: &mut Story, node: usize, link: Link, changes: usize, up: bool) {
    // The last one is `up`.
    for left in (0..changes).rev() {
        story.give(node, Event::Carrier { link, up: up == left.is_multiple_of(2) });
        story.run(MS);
    }
}

#[test]
fn ten_thousand_flaps_are_told_in_some_lines_and_the_last_is_true() {
    let cases = [
        (Link::Lan, true, "the LAN interface has a carrier, after "),
        (Link::Lan, false, "the LAN interface lost its carrier, after "),
        (Link::Crossover, true, "the crossover interface has a carrier, after "),
        (Link::Serial, true, "the serial line's far end is on (DSR or DCD), after "),
    ];
    for (link, up, last) in cases {
        let mut story = Story::settled();
        let before = carrier_lines(&story, B).len();
        let began = story.now;
        shows(&mut story, link, up);
        flaps(&mut story, B, link, 20_000, up);
        let windows = story.now.since(began).as_millis() / limits::CHANGES_TOLD_EVERY.as_millis();
        story.run(limits::CHANGES_TOLD_EVERY + MS * 100);
        let lines = carrier_lines(&story, B);
        let told = (lines.len() - before) as u128;
        let most = (windows + 2) * u128::from(limits::CHANGES_TOLD_MAX);
        assert!(told <= most, "{told} lines, at most {most}");
        let newest = lines.last().expect("it is told");
        assert!(newest.starts_with(last), "{newest}");
        // Nothing more comes of it.
        story.run(limits::CHANGES_TOLD_EVERY * 3);
        assert_eq!(carrier_lines(&story, B).len(), before + told as usize);
        // And it is over: the next change is told at once.
        shows(&mut story, link, !up);
        story.give(B, Event::Carrier { link, up: !up });
        story.run(limits::CARRIER_SECOND_LOOK);
        story.give(B, Event::Carrier { link, up: !up });
        assert_eq!(carrier_lines(&story, B).len(), before + told as usize + 1);
        assert!(story.nodes[A].holds && !story.nodes[B].holds);
    }
}

#[test]
fn the_first_changes_of_a_carrier_are_told_at_once_and_each_untold_one_is_counted() {
    let mut story = Story::new();
    story.run(limits::CHANGES_TOLD_EVERY * 2);
    let before = carrier_lines(&story, B).len();
    let changes = limits::CHANGES_TOLD_MAX as usize + 7;
    story.blind = Some(B);
    for change in 0..changes {
        story.give(B, Event::Carrier { link: Link::Lan, up: change % 2 == 1 });
        let told = carrier_lines(&story, B).len() - before;
        assert_eq!(told, (change + 1).min(limits::CHANGES_TOLD_MAX as usize));
    }
    story.blind = None;
    story.lan[B] = false;
    story.run(limits::CHANGES_TOLD_EVERY + MS * 100);
    let lines = carrier_lines(&story, B);
    let last = "the LAN interface lost its carrier, after 6 changes that were not reported";
    assert_eq!(lines[before + limits::CHANGES_TOLD_MAX as usize..], [last]);
}

fn path_lines(story: &Story, node: usize) -> Vec<&str> {
    let told = story.nodes[node].told.iter();
    let path =
        |(kind, text): &&(Kind, String)| *kind == Kind::Path && text.starts_with("crossover");
    told.filter(path).map(|(_, text)| text.as_str()).collect()
}

#[test]
fn a_path_that_flaps_slowly_is_told_in_some_lines_and_how_it_ends() {
    let mut story = Story::settled();
    story.crossover_keeps_carrier = true;
    story.run(limits::CHANGES_TOLD_EVERY);
    let before = path_lines(&story, B).len();
    let began = story.now;
    for round in 0..200 {
        story.cut = PathSet::default().with(Path::Crossover);
        story.run(MS * 250);
        if round == 0 {
            assert_eq!(path_lines(&story, B).len(), before + 1, "the first change is told at once");
        }
        story.cut = PathSet::default();
        story.run(MS * 250);
    }
    story.run(limits::CHANGES_TOLD_EVERY + MS * 100);
    let windows = story.now.since(began).as_millis() / limits::CHANGES_TOLD_EVERY.as_millis();
    let lines = path_lines(&story, B);
    let most = (windows + 1) * u128::from(limits::CHANGES_TOLD_MAX);
    assert!((lines.len() - before) as u128 <= most, "{} lines, at most {most}", lines.len());
    let newest = lines.last().expect("it is told");
    assert!(newest.starts_with("crossover is up both ways"), "{newest}");
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
}

#[test]
fn what_was_not_told_of_a_path_ends_with_the_peers_goodbye() {
    let mut story = Story::settled();
    story.crossover_keeps_carrier = true;
    story.run(limits::CHANGES_TOLD_EVERY);
    for _ in 0..4 {
        story.cut = PathSet::default().with(Path::Crossover);
        story.run(MS * 250);
        story.cut = PathSet::default();
        story.run(MS * 250);
    }
    story.give(A, Event::Shutdown);
    story.run(limits::CHANGES_TOLD_EVERY * 2);
    assert!(!story.nodes[A].powered, "it has said goodbye");
    let newest = path_lines(&story, B).pop().expect("it was told");
    assert!(!newest.contains(", after "), "{newest}");
}

#[test]
fn whoever_served_clients_by_another_mac_says_so_at_once() {
    let mut story = Story::settled();
    let mut announced = story.announced;
    for (mac, again) in [([2, 0, 0, 0, 0, 1], false), ([2, 0, 0, 0, 0, 2], true)] {
        for _ in 0..3 {
            story.give(A, Event::LanMac { mac });
        }
        assert_eq!(story.announced > announced, again, "{mac:?}");
        announced = story.announced;
    }
    let told = |(kind, text): &(Kind, String)| {
        *kind == Kind::Address && text.ends_with("another MAC now, 02:00:00:00:00:02")
    };
    assert_eq!(story.nodes[A].told.iter().filter(|one| told(one)).count(), 1);
    assert!(story.nodes[A].holds);
}
