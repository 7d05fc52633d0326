//! Two model nodes, joined by a link that breaks wherever it is told to.

mod cuts;
mod histories;
mod noise;
mod states;
mod world;
