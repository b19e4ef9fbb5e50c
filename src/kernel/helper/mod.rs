//! Helpers: processes that do what may never come back.
//!
//! A write to sysfs can block inside the kernel for ever, and no signal ends
//! it. So it happens in a process of its own: if that is late it is left
//! behind, and the next one is started.

pub mod listen;
mod origin;
pub mod pool;
pub mod process;
pub mod protocol;
pub mod serve;
