//! libvirt: domain XML, hostdev elements and the arguments of the qemu hook.
//!
//! Text is read with byte ranges and spliced, never written anew, so that what
//! is not ours stays byte for byte. Source: libvirt formatdomain and hooks.

pub mod alias;
pub mod choice;
pub mod domain;
pub mod hook;
pub mod hostdev;
pub mod request;
pub mod update;
pub mod verdict;
pub mod xml;
