//! The fault catalogue, in its groups: a test of a case begins with its number.

mod disk;
mod hosts;
mod lockfile;
mod process;
mod ranges;
mod redirects;
mod transport;
mod volumes;
