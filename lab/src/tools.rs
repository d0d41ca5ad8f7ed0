//! Programs and servers that several commands use: web server, certificates, build of the program under test.

pub(crate) mod certificates;
pub(crate) mod nginx;
pub(crate) mod program;
pub(crate) mod programs;
pub(crate) mod steps;
pub(crate) mod wait;
