//! Disks, kills and concurrent processes (faults 66 to 86).

mod beneath;
mod durable;
mod full;
mod in_the_way;
mod left_behind;
mod machine;
mod order;
mod refused;
mod stopped;
mod writers;
