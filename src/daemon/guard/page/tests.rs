use super::*;

fn page_with(deletions: &[&[u8]], addresses: &[&str]) -> Page {
    let mut page = Page::create().unwrap();
    seal(&mut page, deletions, addresses);
    page
}

fn seal(page: &mut Page, deletions: &[&[u8]], addresses: &[&str]) {
    let deletions: Vec<_> = deletions.iter().map(|bytes| bytes.to_vec()).collect();
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    page.seal(&deletions, &addresses, &[]).unwrap();
}

fn farewell(path: Path, to: usize, frame: usize) -> Farewell {
    Farewell { path, to: vec![path.index() as u8; to], frame: vec![9; frame] }
}

fn will(page: &Page) -> Vec<Farewell> {
    let mut sealed = Sealed::new();
    let Some(sealed) = page.sealed(&mut sealed) else { return Vec::new() };
    let owned = |(path, to, frame): (Path, &[u8], &[u8])| Farewell {
        path,
        to: to.to_vec(),
        frame: frame.to_vec(),
    };
    sealed.will().map(owned).collect()
}

fn deletions(page: &Page) -> Option<Vec<Vec<u8>>> {
    let mut sealed = Sealed::new();
    Some(page.sealed(&mut sealed)?.deletions().map(<[u8]>::to_vec).collect())
}

#[test]
fn an_empty_page_has_nothing_sealed() {
    assert_eq!(deletions(&Page::create().unwrap()), None);
}

#[test]
fn what_is_sealed_is_read_by_another_mapping() {
    let page = page_with(&[b"one", b"", b"three"], &["192.0.2.1", "2001:db8::1"]);
    let other = Page::open(page.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut sealed = Sealed::new();
    let seen = other.sealed(&mut sealed).unwrap();
    assert_eq!(seen.deletions().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    let expected: Vec<_> = ["192.0.2.1", "2001:db8::1"]
        .map(|ip| address_bytes(ip.parse().unwrap()))
        .into_iter()
        .collect();
    assert_eq!(seen.addresses(), expected);
}

#[test]
fn a_torn_slot_leaves_the_one_before() {
    let tears: [fn(&SlotWords); 5] = [
        |slot| slot.sequence.store(0, Ordering::SeqCst),
        |slot| _ = slot.size.fetch_xor(1 << 3, Ordering::SeqCst),
        |slot| _ = slot.heart.fetch_xor(1, Ordering::SeqCst),
        |slot| _ = slot.checksum.fetch_xor(1, Ordering::SeqCst),
        |slot| _ = slot.payload[0].fetch_xor(1 << 40, Ordering::SeqCst),
    ];
    for tear in tears {
        let mut page = page_with(&[b"first"], &[]);
        seal(&mut page, &[b"second"], &[]);
        assert_eq!(deletions(&page).unwrap(), [b"second"]);
        tear(&page.words().slots[1]);
        assert_eq!(deletions(&page).unwrap(), [b"first"]);
        // The next seal must not overwrite the only whole slot.
        seal(&mut page, &[b"third"], &[]);
        assert_eq!(deletions(&page).unwrap(), [b"third"]);
        tear(&page.words().slots[1]);
        assert_eq!(deletions(&page).unwrap(), [b"first"]);
    }
}

#[test]
fn the_limits_of_the_config_fit() {
    let mut page = Page::create().unwrap();
    let addresses = [IpAddr::from([0xffu16; 8]); crate::limits::ADDRESSES_MAX];
    let deletions = vec![vec![7; 96]; crate::limits::ADDRESSES_MAX];
    let will = Path::ALL.map(|path| farewell(path, 28, 272));
    page.seal(&deletions, &addresses, &will).unwrap();
    page.seal(&[vec![0; SEALED_BYTES_MAX]], &[], &[]).unwrap_err();
    assert_eq!(self::deletions(&page).unwrap(), deletions);
}

#[test]
fn readers_never_see_a_mixture() {
    let mut page = page_with(&[&[0; 2000]], &[]);
    let reader = Page::open(page.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut sealed, mut newest) = (Sealed::new(), 0);
                while !done.load(Ordering::Relaxed) {
                    // Both slots can be overtaken during one slow read: the guard, which reads
                    // only when the heart is dead or looks again, would read once more.
                    let Some(seen) = reader.sealed(&mut sealed) else { continue };
                    let message = seen.deletions().next().unwrap().to_vec();
                    assert!(message.iter().all(|byte| Some(byte) == message.first()));
                    newest = newest.max(seen.sequence);
                }
                assert!(newest > 0);
            });
        }
        for round in 0..2000u32 {
            page.seal(&[vec![round as u8; 2000]], &[], &[]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ticks_count_from_each_heart_anew() {
    let page = Page::create().unwrap();
    page.begin_heart();
    page.tick();
    page.tick();
    assert_eq!((page.ticks(), page.heart()), (2, 1));
    assert!(page.since_tick() < Duration::from_secs(60));
    page.begin_heart();
    assert_eq!((page.ticks(), page.heart()), (0, 2));
}

#[test]
fn a_will_comes_back_as_it_was_sealed_and_ends_with_its_heart() {
    let mut page = Page::create().unwrap();
    page.begin_heart();
    let sealed = [farewell(Path::Crossover, 20, 130), farewell(Path::Serial, 0, 131)];
    page.seal(&[b"deletion".to_vec()], &[[192, 0, 2, 1].into()], &sealed).unwrap();
    assert_eq!(will(&page), sealed);
    assert_eq!(deletions(&page).unwrap(), [b"deletion"]);
    // The next heart dies before it has sealed anything: its deletions are those of the one before.
    page.begin_heart();
    assert_eq!(will(&page), []);
    assert_eq!(deletions(&page).unwrap(), [b"deletion"]);
    page.seal(&[], &[], &sealed[1..]).unwrap();
    assert_eq!(will(&page), sealed[1..]);
    page.seal(&[], &[], &[]).unwrap();
    assert_eq!(will(&page), []);
}

#[test]
fn a_foreign_file_is_no_page() {
    let file = std::fs::File::open("/dev/null").unwrap();
    Page::open(file.into()).unwrap_err();
}
