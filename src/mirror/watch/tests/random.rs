//! Random writes and renames: everything that a look would show was told.

use super::*;

/// A small generator: tests must do the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

#[test]
fn ten_thousand_writes_that_returned_are_all_told() {
    let fill = |root: &Path| {
        for number in 0..300 {
            fs::create_dir_all(root.join(format!("d{}", number % 17))).unwrap();
            fs::write(root.join(format!("d{}/f{number}", number % 17)), "").unwrap();
        }
    };
    for_both(&fill, |bed| {
        let mut random = Random(7);
        let mut open: BTreeMap<usize, File> = BTreeMap::new();
        for number in 0..300 {
            let path = bed.at(format!("d{}/f{number}", number % 17));
            open.insert(number, OpenOptions::new().append(true).open(path).unwrap());
        }
        let mut written = 0;
        while written < 10_000 {
            let mut expected = Vec::new();
            for _ in 0..=random.below(50) {
                let number = random.below(300);
                open.get_mut(&number).unwrap().write_all(b"x").unwrap();
                expected.push(key(&format!("d{}/f{number}", number % 17)));
                written += 1;
            }
            expected.sort();
            expected.dedup();
            assert_eq!(bed.drain().all(), expected);
        }
    });
}

/// What a look at every name shows.
fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, (u64, u64, i64, i64, u32)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(below) = ahead.pop() {
        let path = root.join(&below);
        let data = fs::symlink_metadata(&path).unwrap();
        let shown = (data.ino(), data.size(), data.mtime(), data.mtime_nsec(), data.mode());
        if data.is_dir() {
            ahead.extend(
                fs::read_dir(&path).unwrap().map(|name| below.join(name.unwrap().file_name())),
            );
        }
        found.insert(below.into_os_string().into_vec(), shown);
    }
    found
}

#[test]
fn no_dance_of_renames_hides_a_change() {
    for seed in 0..24 {
        for_both(&nothing, |bed| {
            let mut random = Random(seed);
            let mut before = snapshot(&bed.root);
            for _ in 0..40 {
                for _ in 0..=random.below(12) {
                    dance(&bed.root, &bed.outside, &mut random);
                }
                let drained = bed.drain();
                assert!(!drained.lost);
                let now = snapshot(&bed.root);
                for path in before.keys().chain(now.keys()) {
                    if before.get(path) != now.get(path) {
                        let is_there = |key: &Key| now.contains_key(key.path.as_bytes());
                        let changed = key_of(path).path;
                        // By name; by a walk; or by the absence of itself or of what it was in.
                        let told = drained.all().iter().any(|key| key.path == changed)
                            || drained.subtrees.iter().any(|top| changed.is_within(&top.path))
                            || drained
                                .all()
                                .iter()
                                .any(|key| changed.is_within(&key.path) && !is_there(key));
                        let shown = |keys: &[Key]| {
                            keys.iter().map(|key| key.path.to_string()).collect::<Vec<_>>()
                        };
                        assert!(
                            told,
                            "{} seed {seed}: {changed} is not in {:?} nor below {:?}",
                            bed.watch.kind(),
                            shown(&drained.all()),
                            shown(&drained.subtrees)
                        );
                    }
                }
                before = now;
            }
        });
    }
}

/// One random change; many are refused by the kernel, which is as well.
fn dance(root: &Path, outside: &Path, random: &mut Random) {
    let mut path = || {
        let mut path = if random.below(10) == 0 { outside.to_owned() } else { root.to_owned() };
        for _ in 0..=random.below(3) {
            path.push(["a", "b", "c"][random.below(3)]);
        }
        path
    };
    let (one, other) = (path(), path());
    let _ = match random.below(6) {
        0 => fs::create_dir_all(&one),
        1 | 2 => fs::rename(&one, &other),
        3 => fs::write(&one, random.below(1000).to_string()),
        4 => {
            fs::OpenOptions::new().append(true).open(&one).and_then(|mut file| file.write_all(b"+"))
        }
        _ if one == *root || random.below(3) > 0 => Ok(()),
        _ => fs::remove_dir(&one).or_else(|_| fs::remove_file(&one)),
    };
}
