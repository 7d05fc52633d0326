//! The verbs as a person sees them.

pub mod events;
pub mod print;
pub mod status;
pub mod wish;
pub struct Globals {
    pub config: std::path::PathBuf,
    pub node: Option<String>,
    pub run_dir: std::path::PathBuf,
    pub state_dir: std::path::PathBuf,
}
