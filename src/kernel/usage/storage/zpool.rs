//! The ZFS pools that the host imports at boot.
//!
//! Reads the cache file, which is a list of names and values; never asks the
//! ZFS tools, which hang on a suspended pool. Source: OpenZFS 2.1
//! module/nvpair/nvpair.c (`nvs_xdr_nvpair`, `nvs_xdr_nvlist`),
//! module/zfs/spa_config.c (`spa_write_cachefile`): the outermost names are the
//! pools'.

use super::{
    key::{Key, path_keys},
    listed::add,
    references::References,
};
use crate::kernel::usage::{Look, files::bytes};

const CACHE: &str = "/etc/zfs/zpool.cache";

/// Pools are made of virtual devices of virtual devices, a few floors deep.
const DEEPEST: u32 = 32;

/// `DATA_TYPE_*` of include/sys/nvpair.h.
mod kind {
    pub(super) const UINT64: u32 = 8;
    pub(super) const STRING: u32 = 9;
    pub(super) const NVLIST: u32 = 19;
    pub(super) const NVLIST_ARRAY: u32 = 20;
}

/// Adds the pools of the cache file.
pub(super) fn cache(look: Look<'_>, all: &mut References) {
    let cache = bytes(look, CACHE, &mut all.unchecked);
    if cache.is_empty() {
        return;
    }
    match pools(&cache) {
        Some(pools) => {
            for (name, keys) in pools {
                add(all, CACHE, &format!("the pool {name}"), keys);
            }
        }
        None => all
            .unchecked
            .push(format!("{CACHE} is no list of pools that can be read")),
    }
}

/// The pools in a cache file, and what each names; `None` if it is none.
fn pools(bytes: &[u8]) -> Option<Vec<(String, Vec<Key>)>> {
    // The encoding, XDR, the byte order of whoever wrote it, two spare bytes.
    let (1, rest) = (bytes.first()?, bytes.get(4..)?) else {
        return None;
    };
    let mut pools = Vec::new();
    list(
        &mut Reader(rest),
        0,
        &mut |depth, name, value| match (depth, value) {
            (0, _) => pools.push((name.to_owned(), vec![Key::Pool(name.to_owned())])),
            (_, value) => {
                let keys = pools.last_mut().map(|(_, keys): &mut (_, Vec<Key>)| keys);
                if let Some(keys) = keys {
                    keys.extend(named(name, value));
                }
            }
        },
    )?;
    Some(pools)
}

/// What a value inside a pool's description names.
fn named(name: &str, value: &Value<'_>) -> Vec<Key> {
    match (name, value) {
        ("pool_guid" | "guid", Value::Number(guid)) => vec![Key::Uuid(guid.to_string())],
        ("path", Value::Text(path)) => path_keys(path),
        ("devid", Value::Text(id)) => path_keys(&format!("/dev/disk/by-id/{id}")),
        _ => Vec::new(),
    }
}

enum Value<'a> {
    Number(u64),
    Text(&'a str),
    Other,
}

/// Reads one list and those in it; `see` gets each name and value, and how many
/// lists are round it.
fn list(
    reader: &mut Reader<'_>,
    depth: u32,
    see: &mut impl FnMut(u32, &str, &Value<'_>),
) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let _version_and_flags = (reader.word()?, reader.word()?);
    loop {
        let size = reader.word()?;
        let _size_in_memory = reader.word()?;
        if size == 0 {
            return Some(());
        }
        // The size counts from its own beginning.
        let body = usize::try_from(size).ok()?.checked_sub(8)?;
        let mut pair = Reader(reader.take(body)?);
        let name = pair.text()?;
        let (kind, count) = (pair.word()?, pair.word()?);
        let value = match kind {
            kind::UINT64 => Value::Number(pair.long()?),
            kind::STRING => Value::Text(pair.text()?),
            _ => Value::Other,
        };
        see(depth, name, &value);
        let lists = match kind {
            kind::NVLIST => 1,
            kind::NVLIST_ARRAY => count,
            _ => 0,
        };
        for _ in 0..lists {
            list(&mut pair, depth + 1, see)?;
        }
    }
}

/// What is left to read, big-endian.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A text, filled up to four bytes.
    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.word()?).ok()?;
        let text = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        std::str::from_utf8(text).ok()
    }
}
