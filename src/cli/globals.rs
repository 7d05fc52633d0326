//! What every verb takes: which config, which node, which directories.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;

use crate::config::{self, Config, NodeIndex};

#[derive(Debug, clap::Args)]
pub(super) struct GlobalArgs {
    /// The config file; the same on both nodes
    #[arg(long, global = true, env = "CLUSTERD_CONFIG", value_name = "FILE")]
    #[arg(default_value = "/etc/clusterd/clusterd.toml", hide_env_values = true)]
    config: PathBuf,
    /// Which node of the config this host is [default: the host name]
    #[arg(long, global = true, env = "CLUSTERD_NODE", value_name = "NAME", hide_env_values = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    node: Option<String>,
    /// The directory of the control socket
    #[arg(long, global = true, env = "CLUSTERD_RUN_DIR", value_name = "DIR")]
    #[arg(default_value = "/run/clusterd", hide_env_values = true)]
    run_dir: PathBuf,
    /// The directory where the daemon keeps what must survive a reboot
    #[arg(long, global = true, env = "CLUSTERD_STATE_DIR", value_name = "DIR")]
    #[arg(default_value = "/var/lib/clusterd", hide_env_values = true)]
    state_dir: PathBuf,
}

/// What every verb takes, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// The config file.
    pub config: PathBuf,
    /// Name of this node; from `--node`, else the host name.
    pub node: String,
    /// Whether `node` was asked for by name.
    pub node_is_given: bool,
    /// Where the control socket is.
    pub run_dir: PathBuf,
    /// Where the daemon keeps what must survive a reboot.
    pub state_dir: PathBuf,
}

impl TryFrom<GlobalArgs> for Globals {
    type Error = String;

    fn try_from(arguments: GlobalArgs) -> Result<Globals, String> {
        let GlobalArgs { config, node, run_dir, state_dir } = arguments;
        let node_is_given = node.is_some();
        let node = match node {
            Some(node) => node,
            None => nix::unistd::gethostname()
                .map_err(|error| format!("cannot read the host name: {error}; use --node"))?
                .to_string_lossy()
                .into_owned(),
        };
        Ok(Globals { config, node, node_is_given, run_dir, state_dir })
    }
}

impl Globals {
    /// The config and which of its nodes this is. Prints why not, and gives the exit status.
    pub fn load_config(&self) -> Result<(Config, NodeIndex), ExitCode> {
        let config = self.load_for_any_node()?;
        match config.node_index(&self.node) {
            Some(index) => Ok((config, index)),
            None => Err(super::fail(super::WRONG, &self.no_such_node(&config))),
        }
    }

    /// The config, whichever node this is. Prints why not, and gives the exit status.
    pub(super) fn load_for_any_node(&self) -> Result<Config, ExitCode> {
        config::load(&self.config).map_err(|errors| super::fail_as_is(super::WRONG, &errors))
    }

    /// The sentence for a node that is not in the config.
    pub(super) fn no_such_node(&self, config: &Config) -> String {
        let [lower, upper] = config.nodes.each_ref().map(|node| node.name.as_str());
        let named = if self.node_is_given { "--node" } else { "this host's name" };
        format!(
            "{named} {:?} is not a node of {}; expected {lower:?} or {upper:?}; name it with --node",
            self.node,
            self.config.display()
        )
    }
}
