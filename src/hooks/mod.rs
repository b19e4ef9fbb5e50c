//! What those who start VMs read and write: their files, arguments and XML.
//!
//! Text in, text out. Pure: `cli` brings the text and has it written.

pub mod libvirt;
pub mod mapped;
pub mod proxmox;
pub mod terraform;
