//! Volumes and verdicts: other runs and other users in the same directories, and what `verify` and `status` say of them
//! (faults 88, 89, 118 to 125).

mod linked_folders;
mod links;
mod nested;
mod planted;
mod verdicts;
