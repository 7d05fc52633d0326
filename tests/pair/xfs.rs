//! Number 6 on a real XFS, which a power cut leaves as a crash would: what was not durable is gone.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;
use clusterd::sys::path_xattr;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::mirror::{MIRROR, conflicts, no_conflicts, sync, wait_in_sync};
use crate::scene::Scene;
use crate::setback::move_from;

/// Serves at the beginning.
const A: NodeIndex = NodeIndex::Lower;
const B: NodeIndex = NodeIndex::Upper;

/// The smallest that mkfs.xfs makes is 300 MiB.
const DISK_BYTES: u64 = 320 << 20;

/// An XFS of a node, on a loop device that goes with its last mount.
struct Disk {
    device: String,
    place: PathBuf,
    /// Its root, as the node sees it.
    root: Option<File>,
    _image: tempfile::TempDir,
}

impl Disk {
    fn new(scene: &Scene, node: NodeIndex) -> Disk {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        output(Command::new("mkfs.xfs").arg("-q").arg(&image));
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(&image));
        let mut disk = Disk { device, place: scene.bed.seen_srv(), root: None, _image: directory };
        disk.mount(scene, node);
        fs::create_dir(disk.www()).unwrap();
        disk
    }

    fn mount(&mut self, scene: &Scene, node: NodeIndex) {
        let (device, place) = (&self.device, &self.place);
        self.root = within(scene, node, || {
            output(Command::new("mount").args(["-t", "xfs", device]).arg(place));
            Some(File::open(place).unwrap())
        });
    }

    fn www(&self) -> PathBuf {
        let root = self.root.as_ref().unwrap().as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{root}/www", std::process::id()))
    }

    /// The power of its node is gone; what was not on the disk is, too. `log`: but for the file system's log.
    fn crash(&mut self, scene: &Scene, node: NodeIndex, log: bool) {
        let shutdown = if log { "shutdown -f" } else { "shutdown" };
        within(scene, node, || {
            output(Command::new("xfs_io").args(["-x", "-c", shutdown]).arg(&self.place))
        });
        self.root = None;
        within(scene, node, || output(Command::new("umount").arg(&self.place)));
        self.mount(scene, node);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

fn within<T: Send>(scene: &Scene, node: NodeIndex, work: impl FnOnce() -> T + Send) -> T {
    let namespace: &Namespace = &scene.bed.wiring().seat(node).namespace;
    namespace.run(work).unwrap()
}

fn output(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A pair in sync whose trees are on XFS.
fn pair() -> (Scene, [Disk; 2]) {
    let mut scene = Scene::dark(|options| {
        MIRROR.clone_into(&mut options.group);
        "boot_patience = \"600s\"".clone_into(&mut options.heartbeat);
    });
    let disks = NodeIndex::BOTH.map(|node| Disk::new(&scene, node));
    let tree = of(&disks, A).www();
    for name in ["page", "other"] {
        fs::write(tree.join(name), name).unwrap();
    }
    for name in ["sent", "unsent"] {
        fs::create_dir(tree.join(name)).unwrap();
        change(&tree.join(name), 0o755, "before");
    }
    assert_eq!(scene.power_on(), A);
    wait_in_sync(&scene);
    sync(&scene, A);
    (scene, disks)
}

fn of(disks: &[Disk; 2], node: NodeIndex) -> &Disk {
    &disks[usize::from(node == B)]
}

fn change(path: &Path, bits: u32, why: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    path_xattr::set(path, c"user.why", why.as_bytes()).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The power goes, and the machine has another boot behind it.
fn power_cut(scene: &mut Scene, disks: &mut [Disk; 2], node: NodeIndex, log: bool) {
    scene.bed.power_cut(node).unwrap();
    disks[usize::from(node == B)].crash(scene, node, log);
    let mark = scene.bed.node(node).dir().join("state/mirror/web/reign");
    if mark.exists() {
        fs::write(&mark, "another boot").unwrap();
    }
}

fn ends_well(scene: &Scene, owner: NodeIndex) {
    assert_eq!(scene.whole(), owner);
    wait_in_sync(scene);
    sync(scene, owner);
    let [lower, upper] = NodeIndex::BOTH.map(|node| listing(scene, node));
    assert_eq!(lower, upper);
}

/// All that a node has in its tree.
fn listing(scene: &Scene, node: NodeIndex) -> String {
    let place = scene.bed.seen_srv().join("www");
    let script = "find . -printf '%P %y %m %U %G %T@ %l\\n' | sort; \
                  find . -type f -exec sha256sum {} + | sort; getfattr -R -d -m user. . | sort";
    within(scene, node, || output(Command::new("sh").args(["-c", script]).current_dir(place)))
}

/// The machine died as the owner, and the other one serves: what it changed of directories and had not sent is
/// kept.
#[test]
fn p3_an_owners_directories_on_xfs_are_kept_after_its_crash() {
    let (mut scene, mut disks) = pair();
    let here = of(&disks, A).www();
    change(&here.join("sent"), 0o2750, "sent");
    sync(&scene, A);
    // Nobody sends any more.
    scene.bed.signal(A, Target::Worker, Signal::SIGSTOP).unwrap();
    change(&here.join("unsent"), 0o700, "unsent");
    power_cut(&mut scene, &mut disks, A, true);
    scene.wait_served_by(B);
    let here = of(&disks, A).www();
    assert_eq!(mode(&here.join("unsent")), 0o700, "XFS did not leave what this is about");
    scene.bed.power_on(A).unwrap();
    ends_well(&scene, B);
    assert_eq!((mode(&here.join("sent")), mode(&here.join("unsent"))), (0o2750, 0o755));
    let kept = conflicts(&scene, A);
    assert!(kept.iter().any(|one| one["path"] == "unsent"), "{kept:#?}");
    assert!(!kept.iter().any(|one| one["path"] == "sent"), "{kept:#?}");
    no_conflicts(&scene, B);
}

/// The verb has only just returned: what it promised is on the disk of who serves, and nobody is blocked.
fn a_planned_move_and_then_the_power(whose: fn(NodeIndex) -> NodeIndex) {
    let (mut scene, mut disks) = pair();
    let mut owner = A;
    for round in 0..3 {
        let text = format!("{round}");
        fs::write(of(&disks, owner).www().join("page"), &text).unwrap();
        move_from(&scene, owner);
        let cut = whose(owner);
        power_cut(&mut scene, &mut disks, cut, false);
        let serves = cut.other();
        scene.wait_served_by(serves);
        let page = of(&disks, serves).www().join("page");
        assert_eq!(fs::read_to_string(page).unwrap(), text);
        scene.bed.power_on(cut).unwrap();
        ends_well(&scene, serves);
        owner = serves;
    }
}

#[test]
fn p3_a_planned_move_on_xfs_and_then_the_power_of_the_old_owner() {
    a_planned_move_and_then_the_power(|owner| owner);
}

#[test]
fn p3_a_planned_move_on_xfs_and_then_the_power_of_the_new_owner() {
    a_planned_move_and_then_the_power(NodeIndex::other);
}
