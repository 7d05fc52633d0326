//! The mirrored trees of a group, between two real daemons.

use std::fs;
use std::path::PathBuf;

use clusterd::config::NodeIndex;
use clusterd::control::status::MirrorState;

use crate::scene::Scene;

const MIRROR: &str = "mirror = [\"{srv}/www\"]";

fn www(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("www")
}

/// A dark bed with a mirrored tree on both nodes, filled on the lower one.
fn mirrored() -> Scene {
    let scene = Scene::dark(|options| options.group = MIRROR.to_owned());
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    let tree = www(&scene, NodeIndex::Lower);
    fs::write(tree.join("index.html"), "hello").unwrap();
    fs::create_dir(tree.join("a")).unwrap();
    fs::write(tree.join("a/b"), vec![7; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("../index.html", tree.join("a/link")).unwrap();
    scene
}

fn wait_in_sync(scene: &Scene) {
    scene.wait("the mirror to be in sync", || {
        let both = NodeIndex::BOTH.map(|node| scene.group(node).mirror);
        if both.iter().all(|mirror| mirror.state == MirrorState::InSync) {
            Ok(())
        } else {
            Err(format!("{both:?}"))
        }
    });
}

#[test]
fn a_new_pair_mirrors_its_tree() {
    let mut scene = mirrored();
    let owner = scene.power_on();
    assert_eq!(owner, NodeIndex::Lower);
    wait_in_sync(&scene);
    let replica = www(&scene, NodeIndex::Upper);
    assert_eq!(fs::read(replica.join("index.html")).unwrap(), b"hello");
    assert_eq!(fs::read(replica.join("a/b")).unwrap(), vec![7; 3_000_000]);
    fs::write(www(&scene, owner).join("new"), "fresh").unwrap();
    let (code, out, err) = scene.ask(owner, &["sync", "web", "--wait"]);
    assert_eq!(code, 0, "{out} {err}");
    assert_eq!(fs::read(replica.join("new")).unwrap(), b"fresh");
}
