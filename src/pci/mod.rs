//! PCI facts as pure values: addresses, IDs, functions, the inventory.
//!
//! Reads nothing and decides nothing; `kernel::scan` fills these in.

pub mod address;
pub mod function;
pub mod id;
pub mod inventory;
pub mod settings;
pub mod topology;
pub mod usage;
