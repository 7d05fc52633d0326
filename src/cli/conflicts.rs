//! `conflicts`: what was written on this node and would have been replaced by the owner's changes. Read
//! from the stores beside the trees; no daemon is needed.

use std::process::ExitCode;

use clap::Subcommand;

use super::{DONE, FAILED, Globals, WRONG, fail, say};
use crate::config::{Config, Group, NodeIndex};
use crate::mirror::conflict::{About, Store};
use crate::mirror::stage::Whose;

#[derive(Debug, clap::Args)]
pub(super) struct ConflictsArgs {
    /// The group
    group: String,
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all of them, the oldest first (the default)
    List,
    /// Show one, and where its file is kept
    Show {
        /// As `list` shows it
        id: String,
    },
    /// Move a kept file back into the tree, and out of the store
    ///
    /// Do it on the node that owns the group: there it is mirrored like any change. On the other node
    /// the owner's next change of that file moves it to the store again.
    Restore {
        /// As `list` shows it
        id: String,
        /// What is there now goes to the store first
        #[arg(long)]
        force: bool,
    },
    /// Remove one for good
    Drop {
        /// As `list` shows it
        id: String,
    },
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
    let done =
        stores(&config, node, group).and_then(|stores| match args.action.unwrap_or(Action::List) {
            Action::List => list(&stores, args.json),
            Action::Show { id } => show(&stores, &id, args.json),
            Action::Restore { id, force } => restore(&stores, &id, force),
            Action::Drop { id } => drop_kept(&stores, &id),
        });
    match done {
        Ok(()) => ExitCode::from(DONE),
        Err(reason) => fail(FAILED, &reason),
    }
}

/// The stores of the group's trees, as far as there are any.
fn stores(config: &Config, node: NodeIndex, group: &Group) -> Result<Vec<Store>, String> {
    let whose = Whose {
        cluster: config.cluster.clone(),
        group: group.name.clone(),
        node: config.node(node).name.clone(),
    };
    let found = group.mirror.iter().filter_map(|tree| Store::find(&whose, &tree.path).transpose());
    found.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn list(stores: &[Store], json: bool) -> Result<(), String> {
    let mut kept = Vec::new();
    for store in stores {
        let listing = store
            .list()
            .map_err(|error| format!("{}: {}", store.path().display(), error.desc()))?;
        for id in listing.damaged {
            fail(FAILED, &format!("{}/{id}: about.json is damaged", store.path().display()));
        }
        kept.extend(listing.kept);
    }
    kept.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    if json {
        return say_json(&kept);
    }
    for about in &kept {
        let About { id, time, node, size, tree, path, why, .. } = about;
        say(&format!("{id}  {time}  {node}  {size:>12}  {tree}/{path}  ({why})"));
    }
    Ok(())
}

fn show(stores: &[Store], id: &str, json: bool) -> Result<(), String> {
    let (store, about) = find(stores, id)?;
    if json {
        return say_json(&about);
    }
    say(&format!("path    {}/{}", about.tree, about.path));
    say(&format!("why     {}", about.why));
    say(&format!("kept    {} on {}", about.time, about.node));
    say(&format!("kind    {}, {} bytes", about.kind, about.size));
    say(&format!("owner   {}:{}, mode {:04o}", about.uid, about.gid, about.mode));
    say(&format!("mtime   {}.{:09}", about.mtime.s, about.mtime.ns));
    for (name, value) in &about.xattrs {
        say(&format!("xattr   {name} = 0x{value}"));
    }
    match store.file_of(&about) {
        Some(file) => say(&format!("file    {}", file.display())),
        None => say("file    none: the content was the common one"),
    }
    Ok(())
}

fn restore(stores: &[Store], id: &str, force: bool) -> Result<(), String> {
    let (store, _) = find(stores, id)?;
    let place = store.restore(id, force).map_err(|error| error.to_string())?;
    say(&format!("{place}: restored"));
    Ok(())
}

fn drop_kept(stores: &[Store], id: &str) -> Result<(), String> {
    let mut reason = format!("there is no conflict {id} in this group on this node");
    for store in stores {
        match store.drop_kept(id) {
            Ok(()) => {
                say(&format!("{id}: dropped"));
                return Ok(());
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

fn find<'a>(stores: &'a [Store], id: &str) -> Result<(&'a Store, About), String> {
    for store in stores {
        let place = || store.path().join(id);
        match store.get(id) {
            Ok(Some(about)) => return Ok((store, about)),
            Ok(None) => (),
            Err(error) => return Err(format!("{}: {}", place().display(), error.desc())),
        }
    }
    Err(format!("there is no conflict {id} in this group on this node; `list` shows them"))
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
        assert!(matches!(read("clusterd conflicts web list").unwrap().action, Some(Action::List)));
        let show = read("clusterd conflicts web show 1 --json").unwrap();
        assert!(show.json && matches!(show.action, Some(Action::Show { id }) if id == "1"));
        let restore = read("clusterd conflicts web restore 1 --force").unwrap().action;
        assert!(matches!(restore, Some(Action::Restore { id, force: true }) if id == "1"));
        let drop = read("clusterd conflicts web drop 1").unwrap().action;
        assert!(matches!(drop, Some(Action::Drop { id }) if id == "1"));
        for wrong in ["conflicts", "conflicts web show", "conflicts web drop 1 --force"] {
            assert!(read(&format!("clusterd {wrong}")).is_none(), "{wrong}");
        }
    }
}
