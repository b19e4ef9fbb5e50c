//! What the host is found to use, on a kernel and a host that are made up.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "../support/fake_kernel.rs"]
mod fake_kernel;
mod storage;
