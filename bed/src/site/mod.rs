//! A web site on the pair: a real tree of thousands of files, mirrored; nginx, which runs warm on both
//! nodes and serves it; a writer, which runs where the group is in service and changes it all the
//! while; and clients that fetch its pages.
//!
//! | file | subject |
//! | --- | --- |
//! | here | what is installed on the nodes, and what is found there afterwards |
//! | `tree` | the files |
//! | `page` | a page that can tell whether it is whole, and which version it is |
//! | `writer` | the program that writes pages |
//! | `ledger` | what it did, and what must be left of it |
//! | `fetcher` | the clients |

pub mod fetcher;
pub mod ledger;
pub mod page;
mod tree;
pub mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{Bed, BedError, GROUP, judge, node, processes};
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::mirror::conflict::Store;
use clusterd::mirror::stage::Whose;
use ledger::{Ledger, Versions};
use page::Page;

/// Where the writer's own pages are, below the root of the site.
pub const PAGES: &str = "pages/";
/// Root of the site, in the directory that each node sees its own content of.
const ROOT: &str = "www";
/// The writer's directory beside it, and what is there.
const WRITER: &str = "writer";
const NAMES: &str = "names";
const JOURNAL: &str = "journal";
const PID: &str = "pid";

/// Where the daemon's services find their programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lines of the group's config ([`super::Options::group`]); `warm`: nginx runs on both nodes.
pub fn group(warm: bool) -> String {
    format!(
        r#"mirror = ["{{srv}}/{ROOT}"]

[[group.{GROUP}.service]]
exec = "{{srv}}/nginx"
check = {{ http = "http://127.0.0.1:{port}/alive" }}
warm = {warm}

[[group.{GROUP}.service]]
exec = "{{srv}}/{WRITER}/service"
"#,
        port = limits::BED_WEB_PORT,
    )
}

/// Whether the programs are there that the site takes.
///
/// # Errors
/// One is not: which, and what to do.
pub fn check_programs() -> Result<(), BedError> {
    for (program, package) in [("nginx", "nginx-light"), ("rsync", "rsync")] {
        let mut command = Command::new(program);
        command.arg("-V").env("PATH", PATH).stdin(Stdio::null());
        match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BedError::Missing(format!(
                    "{program} is missing; `apt-get install {package}` brings it, and so does \
                     `make demo`"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a fetcher must get: the pages that may change, and the documents as they were at first.
#[derive(Clone, Debug, Default)]
pub struct Known {
    names: Vec<String>,
    documents: BTreeMap<String, blake3::Hash>,
}

impl Known {
    /// Everything that can be asked for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether these bytes are all of some version of that name.
    pub fn is_whole(&self, name: &str, bytes: &[u8]) -> bool {
        self.version(name, bytes).is_some()
    }

    /// The version of that name that these bytes are; 0: the document.
    fn version(&self, name: &str, bytes: &[u8]) -> Option<u64> {
        if let Some(page) = Page::read(bytes) {
            return (page.name == name).then_some(page.number);
        }
        (self.documents.get(name) == Some(&blake3::hash(bytes))).then_some(0)
    }
}

/// The site, as it was installed.
#[derive(Debug)]
pub struct Site {
    known: Known,
    /// Regular files at first.
    files: usize,
    /// What the writer writes.
    written: Vec<String>,
}

impl Site {
    /// Installs the site on the nodes of a dark bed, all files on the one that serves first.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn install(bed: &Bed) -> Result<Site, BedError> {
        let root = bed.srv(NodeIndex::Lower).join(ROOT);
        fs::create_dir(&root)?;
        fs::create_dir(bed.srv(NodeIndex::Upper).join(ROOT))?;
        let tree::Filled { files, documents } = tree::fill(&root)?;
        // Spread over all of them.
        let step = (documents.len() / limits::BED_REWRITTEN).max(1);
        let rewritten = documents.keys().step_by(step).take(limits::BED_REWRITTEN).cloned();
        let pages = (0..limits::BED_PAGES).map(|n| format!("{PAGES}{:02}/page-{n}.txt", n % 16));
        let written: Vec<String> = pages.chain(rewritten).collect();
        let pages = written.iter().filter(|name| name.starts_with(PAGES)).cloned();
        let names = pages.chain(documents.keys().cloned()).collect();
        for node in NodeIndex::BOTH {
            let srv = bed.srv(node);
            let seen = bed.seen_srv();
            fs::create_dir(srv.join("tmp"))?;
            fs::write(srv.join("nginx.conf"), nginx_conf(&seen))?;
            put_script(&srv.join("nginx"), &nginx_script(&seen))?;
            fs::create_dir(srv.join(WRITER))?;
            fs::write(srv.join(WRITER).join(NAMES), written.join("\n"))?;
            let places = Places { dir: seen.join(WRITER), tree: seen.join(ROOT) };
            let script = writer_script(&places, &bed.options.demo, &bed.node(node).run_dir());
            put_script(&srv.join(WRITER).join("service"), &script)?;
        }
        Ok(Site { known: Known { names, documents }, files, written })
    }

    /// What a fetcher must get.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Regular files at first.
    pub fn files(&self) -> usize {
        self.files
    }

    /// The version of each page, and of each document that the writer rewrites, in a node's tree.
    ///
    /// # Errors
    /// One can't be read, or is not whole.
    pub fn versions(&self, bed: &Bed, node: NodeIndex) -> Result<Versions, BedError> {
        let root = bed.srv(node).join(ROOT);
        let mut versions = Versions::new();
        for name in &self.written {
            let bytes = match fs::read(root.join(name)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let version = self.known.version(name, &bytes).ok_or_else(|| {
                let node = node::name(node);
                BedError::Refused(format!("{name} is no whole version of itself on {node}"))
            })?;
            versions.insert(name.clone(), version);
        }
        Ok(versions)
    }

    /// How the trees of both nodes differ, as rsync says it; empty: they are equal.
    ///
    /// # Errors
    /// As [`judge::differences`].
    pub fn differences(&self, bed: &Bed) -> Result<Vec<String>, BedError> {
        let [lower, upper] = NodeIndex::BOTH.map(|node| bed.srv(node).join(ROOT));
        Ok(judge::differences(&lower, &upper)?)
    }
}

/// Takes in what is new in the writers' journals.
///
/// # Errors
/// One can't be read, or makes no sense.
pub fn take_journals(bed: &Bed, ledger: &mut Ledger) -> Result<(), BedError> {
    take_journals_in(ledger, |node| bed.srv(node).join(WRITER))
}

/// The same for writers whose directories are elsewhere.
///
/// # Errors
/// As [`take_journals`].
pub fn take_journals_in(
    ledger: &mut Ledger,
    dir: impl Fn(NodeIndex) -> PathBuf,
) -> Result<(), BedError> {
    for node in NodeIndex::BOTH {
        let text = match fs::read(dir(node).join(JOURNAL)) {
            Ok(text) => text,
            // The writer has not run there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        ledger.take(node, &text).map_err(|line| {
            BedError::Refused(format!("the writer's journal says {line:?}, which is no change"))
        })?;
    }
    Ok(())
}

/// What the conflict stores of both nodes hold.
#[derive(Debug, Default)]
pub struct Kept {
    /// How many conflicts.
    pub count: usize,
    /// The pages among them.
    pub pages: BTreeSet<Page>,
}

/// Looks at the conflict stores of both nodes.
///
/// # Errors
/// One can't be read.
pub fn kept(bed: &Bed) -> Result<Kept, BedError> {
    let tree = bed.seen_srv().join(ROOT);
    let mut kept = Kept::default();
    for node in NodeIndex::BOTH {
        let whose = Whose {
            cluster: super::CLUSTER.to_owned(),
            group: GROUP.to_owned(),
            node: node::name(node).to_owned(),
        };
        let namespace = &bed.wiring().seat(node).namespace;
        namespace.run(|| look(&whose, &tree, &mut kept))??;
    }
    Ok(kept)
}

/// In a node's view of the file system.
fn look(whose: &Whose, tree: &Path, kept: &mut Kept) -> io::Result<()> {
    let Some(store) = Store::find(whose, tree).map_err(io::Error::other)? else { return Ok(()) };
    let listing = store.list()?;
    kept.count += listing.kept.len() + listing.damaged.len();
    for about in listing.kept {
        if let Some(file) = store.file_of(&about)
            && about.kind == "file"
            && let Some(page) = Page::read(&fs::read(file)?)
            && page.name == about.path
        {
            kept.pages.insert(page);
        }
    }
    Ok(())
}

/// Stops the writer of a node, which must run, between two of its steps; it goes on with
/// [`resume_writer`].
///
/// # Errors
/// There is none, or it would not stop.
pub fn pause_writer(bed: &Bed, node: NodeIndex) -> Result<(), BedError> {
    bed.wait("the writer to pause", limits::BED_SOON, || {
        signal_writer(bed, node, Signal::SIGSTOP)?;
        match writer_process(bed, node)? {
            process if process.state == 'T' => Ok(()),
            process => Err(format!("it is {process:?}")),
        }
    })
}

/// Lets the writer go on.
///
/// # Errors
/// There is none.
pub fn resume_writer(bed: &Bed, node: NodeIndex) -> Result<(), BedError> {
    signal_writer(bed, node, Signal::SIGCONT).map_err(BedError::Refused)
}

fn signal_writer(bed: &Bed, node: NodeIndex, signal: Signal) -> Result<(), String> {
    let pid = nix::unistd::Pid::from_raw(writer_process(bed, node)?.pid);
    nix::sys::signal::kill(pid, signal).map_err(|errno| errno.desc().to_owned())
}

fn writer_process(bed: &Bed, node: NodeIndex) -> Result<processes::Process, String> {
    let all = bed.processes(node).map_err(|error| error.to_string())?;
    all.into_iter()
        .find(|process| process.comm == writer::COMM)
        .ok_or_else(|| format!("no writer runs on {}", node::name(node)))
}

/// On every address, so that it can run before the node holds the service address. Its workers are
/// root's: the directory above is.
fn nginx_conf(srv: &Path) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("    {what}_temp_path \"{}/tmp/{what}\";\n", srv.display()))
        .collect();
    format!(
        r#"user root;
worker_processes 1;
daemon on;
pid "{srv}/nginx.pid";
error_log "{srv}/nginx.log";
events {{}}
http {{
    access_log off;
{temporary}    server {{
        listen {port};
        root "{srv}/{ROOT}";
        location = /alive {{ return 204; }}
    }}
}}
"#,
        srv = srv.display(),
        port = limits::BED_WEB_PORT,
    )
}

/// A file of a dead machine names a process that is not there, or is not nginx.
fn nginx_script(srv: &Path) -> String {
    format!(
        r#"#!/bin/sh
cd {srv} || exit 1
runs() {{
    read -r pid 2>/dev/null <nginx.pid && read -r comm 2>/dev/null <"/proc/$pid/comm" && test "$comm" = nginx
}}
case "$1" in
start) exec nginx -e nginx.log -c "$PWD/nginx.conf" ;;
stop) while runs; do kill "$pid"; sleep 0.01; done ;;
status) runs ;;
esac
"#,
        srv = quoted(srv),
    )
}

/// Where a writer finds its names and has its journal, and the tree that it writes to, as its node sees them.
#[derive(Clone, Debug)]
pub struct Places {
    /// For names and journal.
    pub dir: PathBuf,
    /// The root of the tree.
    pub tree: PathBuf,
}

/// Installs a writer alone, without the rest of the site. `script`: where the service's program is made.
///
/// # Errors
/// What the file system answers.
pub fn install_writer(
    places: &Places,
    names: &[String],
    script: &Path,
    demo: &Path,
    run_dir: &Path,
) -> io::Result<()> {
    fs::create_dir(&places.dir)?;
    fs::write(places.dir.join(NAMES), names.join("\n"))?;
    put_script(script, &writer_script(places, demo, run_dir))
}

fn writer_script(places: &Places, demo: &Path, run_dir: &Path) -> String {
    format!(
        r#"#!/bin/sh
cd {dir} || exit 1
runs() {{
    read -r pid 2>/dev/null <{PID} && read -r comm 2>/dev/null <"/proc/$pid/comm" && test "$comm" = {comm} &&
        test -e "/proc/$pid/exe"  # It is no zombie.
}}
case "$1" in
start)
    rm -f {PID}
    {demo} bed-writer --run-dir {run_dir} --tree {tree} --dir . </dev/null >/dev/null &
    until test -s {PID}; do kill -0 $! || exit 1; sleep 0.01; done ;;
stop) while runs; do kill "$pid"; sleep 0.01; done ;;
status) runs ;;
esac
"#,
        dir = quoted(&places.dir),
        tree = quoted(&places.tree),
        comm = writer::COMM,
        demo = quoted(demo),
        run_dir = quoted(run_dir),
    )
}

/// As a word for sh(1).
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn put_script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_be_a_whole_version_of_what_was_asked_for() {
        let mut known = Known::default();
        known.documents.insert("doc/a".into(), blake3::hash(b"a document"));
        let page = Page { name: "doc/a".into(), number: 4 };
        let bytes = page.bytes(9000);
        assert_eq!(known.version("doc/a", b"a document"), Some(0));
        assert_eq!(known.version("doc/a", &bytes), Some(4));
        assert!(!known.is_whole("doc/a", b"a documen"));
        assert!(!known.is_whole("doc/a", &bytes[..8192]));
        assert!(!known.is_whole("doc/b", &bytes), "another page");
        assert!(!known.is_whole("doc/b", b"a document"), "another document");
    }

    #[test]
    fn words_for_the_shell() {
        assert_eq!(quoted(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
    }
}
