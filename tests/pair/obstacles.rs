//! What cannot be mirrored at one name stops nothing else, between two real daemons.

use std::fs;
use std::path::Path;
use std::process::Command;

use clusterd::control::event::Kind;

use crate::mirror::{assert_equal, conflicts, in_sync, no_conflicts, sync, wait_in_sync, www};

/// A flag of chattr(1), taken off at the end.
struct Flag<'a>(&'a Path, &'static str);

impl<'a> Flag<'a> {
    fn set(path: &'a Path, flag: &'static str) -> Flag<'a> {
        chattr(path, &format!("+{flag}"));
        Flag(path, flag)
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        chattr(self.0, &format!("-{}", self.1));
    }
}

fn chattr(path: &Path, flag: &str) {
    assert!(Command::new("chattr").arg(flag).arg(path).status().unwrap().success());
}

/// Number 10: an immutable file on the standby, changed by the owner.
#[test]
fn a_file_that_is_immutable_on_the_standby_stops_nothing_else() {
    let (mut scene, owner) = in_sync();
    let (here, there) = (www(&scene, owner), www(&scene, owner.other()));
    for name in ["locked", "free"] {
        fs::write(here.join(name), "1").unwrap();
    }
    sync(&scene, owner);
    let locked = there.join("locked");
    let flag = Flag::set(&locked, "i");
    fs::write(here.join("new"), "2").unwrap();
    fs::rename(here.join("new"), here.join("locked")).unwrap();
    fs::write(here.join("free"), "2").unwrap();
    let is = |path: &Path, text: &str| fs::read_to_string(path).is_ok_and(|found| found == text);
    scene.wait_until("the other file of the commit", || is(&there.join("free"), "2"));
    fs::write(here.join("later"), "3").unwrap();
    scene.wait_until("a later file", || is(&there.join("later"), "3"));
    assert!(is(&locked, "1"));
    let told = scene.wait_event(owner, 0, Kind::Mirror, "/locked: ");
    assert!(told.told.text.contains("lsattr"), "{told:?}");
    let mirror = scene.group(owner).mirror;
    assert!(mirror.skipped.iter().any(|path| path.contains("/locked: ")), "{mirror:?}");
    let (code, _, why) = scene.ask(owner, &["sync", "web", "--wait"]);
    assert!(code == 1 && why.contains("/locked: "), "{code} {why}");
    drop(flag);
    scene.wait_until("it heals by itself", || is(&locked, "2"));
    sync(&scene, owner);
    assert_equal(&scene);
    no_conflicts(&scene, owner.other());

    // Once more, and the owner loses its power meanwhile: the other one serves.
    let flag = Flag::set(&locked, "i");
    fs::write(here.join("locked"), "3").unwrap();
    fs::write(here.join("free"), "3").unwrap();
    scene.wait_until("the other file of the commit", || is(&there.join("free"), "3"));
    scene.bed.power_cut(owner).unwrap();
    scene.wait_served_by(owner.other());
    drop(flag);
}

/// Number 10: deep below a directory that the owner removes, on the standby alone, longer than any path.
#[test]
fn a_deep_tree_below_a_removed_directory_stops_nothing() {
    let (scene, owner) = in_sync();
    let (here, there) = (www(&scene, owner), www(&scene, owner.other()));
    for path in [&here, &there] {
        fs::create_dir_all(path.join("old")).unwrap();
    }
    fs::write(here.join("old/one"), "1").unwrap();
    sync(&scene, owner);
    // From the bottom up, as no path of it can be named, beside the tree, and moved there whole.
    let script = "n=$(printf 'x%.0s' $(seq 200)) && mkdir top && echo deep > top/deep && \
                  for i in $(seq 25); do \
                  mkdir next && mv top next/$n && mv next top || exit 1; done; mv top \"$0/old/\"";
    let beside = there.parent().unwrap();
    let mut sh = Command::new("sh");
    let made = sh.args(["-c", script]).arg(&there).current_dir(beside).status().unwrap();
    assert!(made.success());
    fs::remove_dir_all(here.join("old")).unwrap();
    fs::write(here.join("later"), "2").unwrap();
    scene.wait_until("the removal", || !there.join("old").exists());
    sync(&scene, owner);
    assert_equal(&scene);
    // What somebody made there is kept.
    assert_eq!(conflicts(&scene, owner.other()).len(), 1);
    wait_in_sync(&scene);
}
