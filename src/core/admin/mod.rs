//! Requests of operators, reloads of the config, and the rules that tests break on purpose.

pub(super) mod mutations;
pub(super) mod reload;
pub(super) mod request;
