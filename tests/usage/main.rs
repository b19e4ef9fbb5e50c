//! What counts as a use of a function by the host, and what does not.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

mod display;
#[path = "../support/fake_kernel.rs"]
mod fake_kernel;
mod network;
mod network_files;
mod nodes;
mod one;
mod storage;
mod system;
mod usb;
