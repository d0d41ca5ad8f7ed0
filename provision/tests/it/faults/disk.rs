//! Disks, kills and concurrent processes (faults 66 to 86).

mod confined;
mod durability;
mod full;
mod kills;
mod leftovers;
pub(super) mod machine;
mod obstacles;
mod order;
mod refused;
mod writers;
