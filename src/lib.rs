//! vfio-bindd binds PCI functions that a config describes to vfio-pci and tells
//! VM start hooks where they are.
//!
//! A folder is a layer; an import goes down only (`tests/layers.rs` holds it):
//!
//! ```text
//! bin  >  daemon | cli  >  bus  >  engine  >  policy  >  pci
//!         daemon | cli  >  kernel  >  policy  >  pci
//!                  cli  >  hooks  >  pci
//! ```
//!
//! One event's way: `kernel::uevent` hears it, [`daemon::run`] turns it into an
//! [`engine::event::Event`], [`engine::state::State`] asks for an observation,
//! resolves, plans ([`policy::plan`]) and answers with effects; `daemon::work`
//! has a helper process apply them, and the function is observed again: what
//! the kernel says then is what `bus` publishes.

pub mod bus;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod hooks;
pub mod kernel;
pub mod pci;
pub mod policy;
