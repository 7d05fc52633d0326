//! `conflicts`: what was written on one node alone and would have been replaced by the owner's changes.
//! This node's stores are read beside its trees, without a daemon; the other node's are asked for.

mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use self::stores::{All, Kept, Side, Stores};
use super::{DONE, FAILED, Globals, WRONG, fail, say};
use crate::mirror::conflict::{About, Why};

#[derive(Debug, clap::Args)]
pub(super) struct ConflictsArgs {
    /// The group
    group: String,
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what both nodes keep and why, the oldest first (the default)
    List {
        /// Only what was at or below this path: absolute, or relative to a tree
        #[arg(long, value_name = "PATH")]
        under: Option<PathBuf>,
    },
    /// Show one conflict, why it was kept and where its file is
    Show {
        /// ID, as `list` shows it
        id: String,
    },
    /// Move what was kept back into the tree of the node that owns the group
    ///
    /// Works on either node. Missing directories are made again as they were. With --under and --all the
    /// newest version of each path is restored; older versions stay in the store, and so does what an
    /// earlier restore replaced.
    Restore {
        #[command(flatten)]
        which: Which,
        /// If a file is there now, move it to the store first
        #[arg(long)]
        force: bool,
    },
    /// Delete from the store for good
    Drop {
        #[command(flatten)]
        which: Which,
    },
}

/// Which of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// IDs, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that was at or below this path: absolute, or relative to a tree
    #[arg(long, value_name = "PATH")]
    under: Option<PathBuf>,
    /// Everything that is kept of the group
    #[arg(long)]
    all: bool,
}

pub(super) fn run(globals: &Globals, args: ConflictsArgs) -> ExitCode {
    let (config, node) = match globals.load_config() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let Some(group) = config.groups.iter().find(|group| group.name == args.group) else {
        let known: Vec<&str> = config.groups.iter().map(|group| group.name.as_str()).collect();
        let reason = format!("there is no group {:?}; expected {}", args.group, known.join(", "));
        return fail(WRONG, &reason);
    };
    let done = Stores::new(globals, &config, node, group).and_then(|mut stores| {
        match args.action.unwrap_or(Action::List { under: None }) {
            Action::List { under } => list(&mut stores, under.as_deref(), args.json),
            Action::Show { id } => show(&mut stores, &id, args.json),
            Action::Restore { which, force } => restore(&mut stores, &which, force),
            Action::Drop { which } => drop_kept(&mut stores, &which),
        }
    });
    match done {
        Ok(status) => ExitCode::from(status),
        Err(reason) => fail(FAILED, &reason),
    }
}

/// A conflict with the words for it.
#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    about: &'a About,
    /// Why it was kept, in a sentence.
    reason: String,
    /// The node that keeps it.
    kept_by: &'a str,
}

fn list(stores: &mut Stores<'_>, under: Option<&Path>, json: bool) -> Result<u8, String> {
    let all = stores.both()?;
    let is_asked = |kept: &&Kept| under.is_none_or(|under| is_under(&kept.about, under));
    let kept: Vec<&Kept> = all.kept.iter().filter(is_asked).collect();
    if json {
        let shown = kept.iter().map(|kept| Shown {
            about: &kept.about,
            reason: kept.about.reason(),
            kept_by: stores.name(kept.side),
        });
        say_json(&shown.collect::<Vec<_>>())?;
    } else {
        for kept in kept {
            let About { id, time, size, .. } = &kept.about;
            let (place, why) = (kept.about.place(), kept.about.reason());
            let by = stores.name(kept.side);
            say(&format!("{id}  {time}  {by}  {size:>12}  {place}  ({why})"));
        }
    }
    for (side, id) in &all.damaged {
        fail(FAILED, &format!("{id} on {}: its about.json is damaged", stores.name(*side)));
    }
    if let Some(why) = &all.silent {
        fail(FAILED, &format!("only what {} keeps is shown: {why}", stores.name(Side::Here)));
    }
    Ok(DONE)
}

fn show(stores: &mut Stores<'_>, id: &str, json: bool) -> Result<u8, String> {
    let kept = stores.find(id)?;
    let about = &kept.about;
    let kept_by = stores.name(kept.side);
    if json {
        say_json(&Shown { about, reason: about.reason(), kept_by })?;
        return Ok(DONE);
    }
    say(&format!("path    {}", about.place()));
    say(&format!("why     {}", about.reason()));
    say(&format!("kept    {} on {kept_by}", about.time));
    say(&format!("kind    {}, {} bytes", about.kind, about.size));
    say(&format!("owner   {}:{}, mode {:04o}", about.uid, about.gid, about.mode));
    say(&format!("mtime   {}.{:09}", about.mtime.s, about.mtime.ns));
    for (name, value) in &about.xattrs {
        say(&format!("xattr   {name} = 0x{value}"));
    }
    match stores.file_of(&kept) {
        Some(file) => say(&format!("file    {} on {kept_by}", file.display())),
        None if about.has_file => say(&format!("file    in the conflict store on {kept_by}")),
        None => say("file    none: the content was the common one"),
    }
    Ok(DONE)
}

/// What is asked for, and what is known to be missing of it.
fn selected(stores: &mut Stores<'_>, which: &Which) -> Result<All, String> {
    let mut all = stores.both()?;
    if let Some(under) = &which.under {
        all.kept.retain(|kept| is_under(&kept.about, under));
        // Nobody knows where they were.
        all.damaged.clear();
        if all.kept.is_empty() && all.silent.is_none() {
            return Err(format!("nothing is kept of {}", under.display()));
        }
    }
    Ok(all)
}

fn restore(stores: &mut Stores<'_>, which: &Which, force: bool) -> Result<u8, String> {
    let owner = stores.owner()?;
    let mut tally = Tally::default();
    let chosen = if which.ids.is_empty() {
        let all = selected(stores, which)?;
        tally.missing(stores, &all);
        for (side, id) in &all.damaged {
            tally.failed(&format!("{id} on {}: its about.json is damaged", stores.name(*side)));
        }
        let (newest, older) = newest(all.kept);
        if older > 0 {
            say(&format!(
                "{older} older versions, or what a restore has replaced, stay in the conflict store"
            ));
        }
        newest
    } else {
        let ids: BTreeSet<&String> = which.ids.iter().collect();
        let mut found = Vec::new();
        for id in ids {
            match stores.find(id) {
                Ok(kept) => found.push(kept),
                Err(why) => tally.failed(&why),
            }
        }
        found
    };
    for kept in &chosen {
        match stores.restore(kept, owner, force) {
            Ok(restored) => {
                let kept = match restored.replaced {
                    true => ", and what was there is in the conflict store",
                    false => "",
                };
                let on = match owner {
                    Side::Here => String::new(),
                    Side::Peer => format!(" on {}", stores.name(owner)),
                };
                tally.done(&format!("{}: restored{on}{kept}", restored.place));
            }
            Err(why) => tally.failed(&format!("{} is not restored: {why}", kept.about.id)),
        }
    }
    Ok(tally.end("restored"))
}

fn drop_kept(stores: &mut Stores<'_>, which: &Which) -> Result<u8, String> {
    let mut tally = Tally::default();
    let mut chosen: Vec<(Side, String)> = Vec::new();
    if which.ids.is_empty() {
        let all = selected(stores, which)?;
        tally.missing(stores, &all);
        chosen.extend(all.kept.into_iter().map(|kept| (kept.side, kept.about.id)));
        chosen.extend(all.damaged);
    } else {
        for id in which.ids.iter().collect::<BTreeSet<_>>() {
            match stores.side_of(id) {
                Ok(side) => chosen.push((side, id.clone())),
                Err(why) => tally.failed(&why),
            }
        }
    }
    for (side, id) in chosen {
        match stores.drop_kept(side, &id) {
            Ok(()) => tally.done(&format!("{id}: dropped")),
            Err(why) => tally.failed(&format!("{id} is not dropped: {why}")),
        }
    }
    Ok(tally.end("dropped"))
}

/// What was done and what was not.
#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
}

impl Tally {
    fn done(&mut self, what: &str) {
        self.done += 1;
        say(what);
    }

    fn failed(&mut self, why: &str) {
        self.failed += 1;
        fail(FAILED, why);
    }

    /// The other node's part is not known.
    fn missing(&mut self, stores: &Stores<'_>, all: &All) {
        if let Some(why) = &all.silent {
            self.failed(&format!(
                "nothing is done with what {} keeps: {why}",
                stores.name(Side::Peer)
            ));
        }
    }

    /// The exit status; of many, how many.
    fn end(&self, what: &str) -> u8 {
        let Tally { done, failed } = *self;
        if done + failed > 1 {
            say(&format!("{done} {what}, {failed} not"));
        }
        if failed == 0 { DONE } else { FAILED }
    }
}

/// The newest version of each path, files before what is only metadata; and how many others there are.
fn newest(kept: Vec<Kept>) -> (Vec<Kept>, usize) {
    let count = kept.len();
    let mut newest: BTreeMap<(bool, String, String), Kept> = BTreeMap::new();
    for kept in kept {
        let About { why, generation, has_file, tree, path_hex, .. } = &kept.about;
        let by_a_restore = *why == Why::Replaced || generation.is_none();
        if !by_a_restore {
            // They come in the order of time.
            newest.insert((!has_file, tree.clone(), path_hex.clone()), kept);
        }
    }
    let others = count - newest.len();
    (newest.into_values().collect(), others)
}

/// Whether it was at a path or below it.
fn is_under(about: &About, under: &Path) -> bool {
    let Some(path) = about.rel_path() else { return false };
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    let under: PathBuf = under.components().filter(|part| *part != Component::CurDir).collect();
    match under.is_absolute() {
        true => Path::new(&about.tree).join(path).starts_with(under),
        false => path.starts_with(under),
    }
}

fn say_json(value: &impl serde::Serialize) -> Result<(), String> {
    say(&serde_json::to_string(value).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Verb};
    use super::Action;

    fn read(line: &str) -> Option<super::ConflictsArgs> {
        match Arguments::try_parse_from(line.split(' ')).ok()?.verb {
            Verb::Conflicts(args) => Some(args),
            verb => panic!("{verb:?}"),
        }
    }

    #[test]
    fn forms_of_the_verb() {
        let list = read("clusterd conflicts web --json").unwrap();
        assert!(list.json && list.action.is_none() && list.group == "web");
        let under = read("clusterd conflicts web list --under /srv/www/a").unwrap().action;
        assert!(
            matches!(under, Some(Action::List { under: Some(path) }) if path.ends_with("www/a"))
        );
        let show = read("clusterd conflicts web show 1 --json").unwrap();
        assert!(show.json && matches!(show.action, Some(Action::Show { id }) if id == "1"));
        let restore = read("clusterd conflicts web restore 1 2 --force").unwrap().action;
        let Some(Action::Restore { which, force: true }) = restore else { panic!("{restore:?}") };
        assert_eq!(which.ids, ["1", "2"]);
        for (line, all) in [("restore --all", true), ("restore --under a", false)] {
            let action = read(&format!("clusterd conflicts web {line}")).unwrap().action;
            let Some(Action::Restore { which, force: false }) = action else {
                panic!("{action:?}")
            };
            assert_eq!((which.all, which.under.is_some()), (all, !all));
        }
        let drop = read("clusterd conflicts web drop 1").unwrap().action;
        assert!(matches!(drop, Some(Action::Drop { which }) if which.ids == ["1"]));
        for wrong in [
            "conflicts",
            "conflicts web show",
            "conflicts web drop 1 --force",
            "conflicts web drop",
            "conflicts web restore",
            "conflicts web restore 1 --all",
            "conflicts web drop --all --under a",
        ] {
            assert!(read(&format!("clusterd {wrong}")).is_none(), "{wrong}");
        }
    }
}
