use super::*;

const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const THIRD: Mac = Mac([2, 0, 0, 0, 0, 3]);

fn config(heartbeat: &str) -> Config {
    let text = format!(
        r#"
        [cluster]
        name = "office"
        key = "/etc/clusterd/cluster.key"
        [node.serv1]
        address = "203.0.113.11"
        lan = "eth0"
        crossover = "eth1"
        [node.serv2]
        address = "203.0.113.12"
        lan = "eth0"
        crossover = "eth1"
        [heartbeat]
        {heartbeat}
        [group.web]
        prefer = "serv1"
        address = ["203.0.113.50/24"]
    "#
    );
    crate::config::parse(&text, "test.toml").unwrap()
}

fn asked(group: Option<&str>, ip: &str) -> Asked {
    Asked { group: group.map(str::to_owned), ip: ip.parse().unwrap(), ..Asked::default() }
}

/// Answered in these forms, each time after this long.
fn answered(mut asked: Asked, by: Mac, forms: &[AskAs], ms: u64) -> Asked {
    for form in forms {
        (0..limits::CHECK_ASKS).for_each(|_| asked.answered(*form, by, Duration::from_millis(ms)));
    }
    asked
}

const BOTH: [AskAs; 2] = [AskAs::Nobody, AskAs::ThisNode];

fn said(heartbeat: &str, asked: &[Asked]) -> (String, String) {
    let found = Found { asked: asked.to_vec(), ..Found::default() };
    let Findings { well, warnings } = findings(&config(heartbeat), NodeIndex::Lower, &found);
    (well.join("\n"), warnings.join("\n"))
}

fn peer() -> Asked {
    asked(None, "203.0.113.12")
}

fn served() -> Asked {
    asked(Some("web"), "203.0.113.50")
}

#[test]
fn where_all_is_answered_silence_proves_something() {
    let all = [answered(peer(), PEER, &BOTH, 1), answered(served(), PEER, &BOTH, 1)];
    let (well, warnings) = said("", &all);
    assert!(well.contains("silence of the LAN proves that nobody has an address"), "{well}");
    assert!(well.contains("group web: 203.0.113.50 is answered for within 1.0 ms"), "{well}");
    assert_eq!(warnings, "");
    let idle = [answered(peer(), PEER, &BOTH, 1), served()];
    let (well, warnings) = said("", &idle);
    assert!(well.contains("nobody has 203.0.113.50 now"), "{well}");
    assert_eq!(warnings, "");
}

#[test]
fn a_switch_that_drops_probes_is_named_and_no_harm() {
    let (well, warnings) = said("", &[answered(peer(), PEER, &[AskAs::ThisNode], 1)]);
    assert!(well.contains("only ARP requests that name a sender"), "{well}");
    assert!(well.contains("drops probes without one"), "{well}");
    assert_eq!(warnings, "");
}

#[test]
fn where_nothing_is_answered_silence_proves_nothing_and_the_remedy_is_said() {
    let (well, warnings) = said("", &[peer(), served()]);
    assert_eq!(well, "");
    assert!(warnings.contains("silence of the LAN proves nothing"), "{warnings}");
    assert!(warnings.contains("waits for its lease (3 s)"), "{warnings}");
    assert!(warnings.contains("port isolation"), "{warnings}");
    // One answer in so many is to the daemon's own question.
    let mut now_and_then = peer();
    now_and_then.answered(AskAs::Nobody, PEER, Duration::from_millis(1));
    assert!(said("", &[now_and_then]).1.contains("proves nothing"));
}

#[test]
fn a_third_machine_with_the_address_is_a_warning() {
    let all = [answered(peer(), PEER, &BOTH, 1), answered(served(), THIRD, &BOTH, 1)];
    let (_, warnings) = said("", &all);
    assert!(warnings.contains("203.0.113.50 is at 02:00:00:00:00:03"), "{warnings}");
    // A group's own MAC is the group's.
    let own = Asked { mac: Some(THIRD), ..served() };
    let all = [answered(peer(), PEER, &BOTH, 1), answered(own, THIRD, &BOTH, 1)];
    assert_eq!(said("", &all).1, "");
}

#[test]
fn a_mac_that_somebody_else_has_and_an_interface_that_is_missing_are_warnings() {
    let found = Found {
        missing: vec!["eth7".to_owned()],
        doubled: vec![("eth0".to_owned(), PEER)],
        ..Found::default()
    };
    let warnings = findings(&config(""), NodeIndex::Lower, &found).warnings.join("\n");
    assert!(warnings.contains("no Ethernet interface \"eth7\""), "{warnings}");
    assert!(warnings.contains("02:00:00:00:00:02") && warnings.contains("cloned"), "{warnings}");
}

#[test]
fn settings_that_are_faster_than_the_lan_are_warnings() {
    let warnings = |heartbeat: &str, ms: u64| {
        let lines = said(heartbeat, &[answered(peer(), PEER, &BOTH, ms)]).1;
        (lines.contains("is too short"), lines.contains("a shorter one gains nothing"))
    };
    assert_eq!(warnings("", 1), (false, false));
    assert_eq!(warnings("interval = \"10ms\"", 1), (false, false));
    // 10/30 ms: a beat may be 10 ms late on its way beside the 10 of a loaded machine.
    assert_eq!(warnings("interval = \"10ms\"", 11), (true, true));
    // 20/60 ms: three round trips are more than the 30 ms that would be asked for.
    assert_eq!(warnings("", 11), (false, true));
    assert_eq!(warnings("", 31), (true, true));
    assert_eq!(warnings("interval = \"100ms\"", 40), (false, false));
    // What the daemon measured on the crossover counts as well.
    let path = Path { name: "crossover".to_owned(), round_trip: Duration::from_millis(50) };
    let found = Found { paths: vec![path], ..Found::default() };
    let warnings = findings(&config(""), NodeIndex::Lower, &found).warnings.join("\n");
    assert!(
        warnings.contains("too short for crossover, whose round trip is 50.0 ms"),
        "{warnings}"
    );
    assert!(warnings.contains("at least \"81ms\""), "{warnings}");
}
