//! What goes over the Varlink socket, for both of its ends.
//!
//! A message is a JSON object and a NUL byte (varlink.org, Message format). Owns
//! the names of `org.vfiobindd1.varlink` and the types of its parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::pci::address::Address;

/// The interface, and the socket's name in the runtime directory.
pub const INTERFACE: &str = "org.vfiobindd1";
/// The longest call that is read, in bytes. Seven names and the addresses of a
/// hundred functions are well below.
pub const LONGEST_CALL: u64 = 64 * 1024;
/// What ends a message.
pub const END: u8 = 0;

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// The method with its interface.
    pub method: String,
    /// What it is called with.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// Whether nobody waits for an answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The error's name with its interface, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The result, or what belongs to the error.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// A mapping that is meant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub mapping: String,
}

/// Functions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// Where they are.
    pub addresses: Vec<Address>,
}

/// What the daemon has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's state.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Grows with each change of what is published.
    pub generation: u64,
    /// Mappings by name.
    pub mappings: BTreeMap<String, Mapping>,
}

/// A mapping as it is now. `map.json`, which is read as this too, has less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mapping {
    /// `bound`, or why it cannot be used.
    pub state: String,
    /// One clause why.
    pub reason: String,
    /// Its functions.
    pub addresses: Vec<Address>,
    /// Functions that it means, or needs, and does not hand out.
    pub beside: Vec<Address>,
    /// Who has which of them.
    pub claims: BTreeMap<Address, String>,
    /// The ID of the resource mapping of Proxmox VE that is kept in step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxmox: Option<String>,
}

/// Functions that somebody wants to have for themselves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Of this mapping.
    pub mapping: String,
    /// For whom.
    pub owner: String,
    /// Which of it, all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<Address>>,
    /// As long as this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// For so many microseconds.
    #[serde(default, rename = "ttlUsec", skip_serializing_if = "Option::is_none")]
    pub ttl_usec: Option<u64>,
}

/// An owner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its name.
    pub owner: String,
}

/// Why not, of any error of [`INTERFACE`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Reason {
    /// A sentence.
    pub reason: String,
}
