//! The early stage: what it may take, who is vouched for, and that it holds
//! nobody up.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "../support/ctl.rs"]
mod ctl;
#[path = "../support/drive.rs"]
mod drive;
#[path = "../support/fake_kernel.rs"]
mod fake_kernel;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tree.rs"]
mod tree;

mod boot;
mod handed;
mod image;
mod knobs;
mod program;
mod rules;
mod variant;
mod vfs;
mod vouch;
