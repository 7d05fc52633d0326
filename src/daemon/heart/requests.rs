//! What administrators ask, in the core's words.

use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::protocol::Request;
use crate::core::Wish;

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Show the state.
    Status,
    /// Read the config file and the key file again.
    Reload,
    /// Hand this to the core; it answers.
    Wish(Wish),
    /// It names what does not exist: say so.
    Unknown(String),
}

/// Resolves the names in a request.
pub fn read(request: Request, config: &Config, me: NodeIndex) -> Asked {
    match request {
        Request::Status {} => Asked::Status,
        Request::Reload {} => Asked::Reload,
        Request::Standby { node } => node_or_me(node, config, me, Wish::Standby),
        Request::Online { node } => node_or_me(node, config, me, Wish::Online),
        Request::Sync { group, wait, from } => {
            let group = match group_index(&group, config) {
                Ok(group) => group,
                Err(unknown) => return Asked::Unknown(unknown),
            };
            match from {
                None => Asked::Wish(Wish::Sync { group, wait, from: None }),
                Some(name) => node_or_me(Some(name), config, me, |node| Wish::Sync {
                    group,
                    wait,
                    from: Some(node),
                }),
            }
        }
        Request::Move { group, node, accept_loss } => {
            let group = match group_index(&group, config) {
                Ok(group) => group,
                Err(unknown) => return Asked::Unknown(unknown),
            };
            match node {
                None => Asked::Wish(Wish::Move { group, to: None, accept_loss }),
                Some(name) => node_or_me(Some(name), config, me, |node| Wish::Move {
                    group,
                    to: Some(node),
                    accept_loss,
                }),
            }
        }
    }
}

fn group_index(name: &str, config: &Config) -> Result<GroupIndex, String> {
    let found = config.groups().find(|(_, one)| one.name == name);
    found
        .map(|(index, _)| index)
        .ok_or_else(|| no_such("group", name, config.groups.iter().map(|one| one.name.as_str())))
}

fn node_or_me(
    name: Option<String>,
    config: &Config,
    me: NodeIndex,
    wish: impl FnOnce(NodeIndex) -> Wish,
) -> Asked {
    let Some(name) = name else { return Asked::Wish(wish(me)) };
    match config.node_index(&name) {
        Some(node) => Asked::Wish(wish(node)),
        None => {
            let names = config.nodes.iter().map(|node| node.name.as_str());
            Asked::Unknown(no_such("node", &name, names))
        }
    }
}

fn no_such<'a>(kind: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    format!("no {kind} \"{name}\"; configured: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GroupIndex;

    const CONFIG: &str = r#"
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
        [group.web]
        prefer = "serv1"
        address = ["203.0.113.50/24"]
    "#;

    fn asked(request: Request) -> Asked {
        let config = crate::config::parse(CONFIG, "test.toml").unwrap();
        read(request, &config, NodeIndex::Upper)
    }

    #[test]
    fn names_become_indexes_and_no_name_means_this_node() {
        assert_eq!(asked(Request::Status {}), Asked::Status);
        assert_eq!(
            asked(Request::Standby { node: None }),
            Asked::Wish(Wish::Standby(NodeIndex::Upper))
        );
        let node = Some("serv1".to_owned());
        assert_eq!(
            asked(Request::Online { node: node.clone() }),
            Asked::Wish(Wish::Online(NodeIndex::Lower))
        );
        assert_eq!(
            asked(Request::Move { group: "web".into(), node, accept_loss: true }),
            Asked::Wish(Wish::Move {
                group: GroupIndex(0),
                to: Some(NodeIndex::Lower),
                accept_loss: true
            })
        );
    }

    #[test]
    fn unknown_names_are_answered_with_those_that_exist() {
        let node = Some("serv3".to_owned());
        assert_eq!(
            asked(Request::Standby { node: node.clone() }),
            Asked::Unknown("no node \"serv3\"; configured: serv1, serv2".into())
        );
        assert_eq!(
            asked(Request::Move { group: "mail".into(), node, accept_loss: false }),
            Asked::Unknown("no group \"mail\"; configured: web".into())
        );
    }
}
