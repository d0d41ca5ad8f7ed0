//! What disks, kills and other processes do (faults 66 to 86).

mod in_the_way;
mod order;
