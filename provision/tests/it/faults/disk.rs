//! What disks, kills and other processes do (faults 66 to 86).

mod beneath;
mod durable;
mod in_the_way;
mod order;
