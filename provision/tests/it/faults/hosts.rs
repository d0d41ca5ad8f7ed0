//! The words of hosts and of lists: what is asked, which file an address chooses, and what a refusal means.

mod addresses;
mod keys;
mod lists;
mod logins;
mod refusals;
