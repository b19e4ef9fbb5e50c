//! Topology: what a function is behind, read out of its path.
//!
//! Pure. A path has a hop for each bridge and one for the function
//! ([`Function::path`](super::function::Function::path)); a hop with a domain and
//! a bus begins at a host bridge. There is more than one such hop where a
//! function has a domain of its own behind it, as Intel's VMD does (Linux
//! drivers/pci/controller/vmd.c, `vmd_enable_domain`, v6.12).

/// The domain and bus of the host bridge that the path begins at, that of its
/// own domain where there are several: `0000:40` of `0000:40:01.0/00.0`.
///
/// ```
/// use vfio_bindd::pci::topology::root_bus;
/// assert_eq!(root_bus("0000:40:01.0/00.0"), "0000:40");
/// assert_eq!(root_bus("0000:64:00.5/10000:00:02.0/00.0"), "10000:00");
/// ```
#[must_use]
pub fn root_bus(path: &str) -> &str {
    let hop = path.rsplit('/').find(|hop| hop.contains(':'));
    hop.and_then(|hop| hop.rsplit_once(':'))
        .map_or("", |(bus, _)| bus)
}

/// The path of what a function with this path is behind, `None` on a host bridge.
#[must_use]
pub fn behind(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(before, _)| before)
}

/// The paths of the bridges above a function in its own domain, the root port
/// first.
///
/// ```
/// use vfio_bindd::pci::topology::bridges;
/// let path = "0000:00:01.1/00.0/04.0";
/// assert_eq!(bridges(path), ["0000:00:01.1", "0000:00:01.1/00.0"]);
/// // The function that has the domain is no bridge.
/// assert_eq!(bridges("0000:64:00.5/10000:00:02.0"), [""; 0]);
/// ```
#[must_use]
pub fn bridges(path: &str) -> Vec<&str> {
    let mut above = Vec::new();
    let mut at = path;
    while let Some((before, hop)) = at.rsplit_once('/') {
        if hop.contains(':') {
            break;
        }
        above.push(before);
        at = before;
    }
    above.reverse();
    above
}

/// The address of the root port above a function, as far as its path has it:
/// `None` on a host bridge.
#[must_use]
pub fn root_port(path: &str) -> Option<&str> {
    let first = bridges(path).first().copied()?;
    first.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_host_bridge_on() {
        for (path, bus, above, port) in [
            ("", "", None, None),
            ("0000:00:1f.0", "0000:00", None, None),
            (
                "0000:c0:01.1/00.0",
                "0000:c0",
                Some("0000:c0:01.1"),
                Some("0000:c0:01.1"),
            ),
            (
                "0000:00:0e.0/10000:e0:06.0/00.0",
                "10000:e0",
                Some("0000:00:0e.0/10000:e0:06.0"),
                Some("10000:e0:06.0"),
            ),
        ] {
            assert_eq!((root_bus(path), behind(path)), (bus, above), "{path}");
            assert_eq!(root_port(path), port, "{path}");
        }
    }
}
