//! `/etc/pve/mapping/pci.cfg`, for reading only: whoever writes it asks PVE.
//!
//! Source: pve-guest-common, src/PVE/Mapping/PCI.pm; pve-common,
//! src/PVE/SectionConfig.pm.

use std::collections::BTreeMap;

/// The entries of each resource mapping, by its ID, as they are in the file. A
/// line that is of none of the known kinds is left out, as PVE does.
///
/// ```
/// use vfio_bindd::hooks::proxmox::sections::parse;
/// let text = "gpu0\n\tmap node=pve1,path=0000:3b:00,id=10de:2684\n\tmdev 0\n\n";
/// let mappings = parse(text);
/// assert_eq!(mappings["gpu0"], ["node=pve1,path=0000:3b:00,id=10de:2684"]);
/// ```
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut mappings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if line.trim().is_empty() {
            current = None;
        } else if line.starts_with('#') {
        } else if let Some(property) = line.strip_prefix(['\t', ' ']) {
            let entry = property.trim().strip_prefix("map");
            let entry = entry.filter(|rest| rest.starts_with([' ', '\t']));
            let entries = current.as_ref().and_then(|id| mappings.get_mut(id));
            if let Some((entries, entry)) = entries.zip(entry) {
                entries.push(entry.trim().to_owned());
            }
        } else {
            let id = line.trim_end().to_owned();
            mappings.entry(id.clone()).or_default();
            current = Some(id);
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_what_pve_writes() {
        let text = "# by hand\ngpu0\n\tdescription two of them\n\tmap node=a,path=0000:01:00,id=1:2\n\
                    \tmap node=b,path=0000:02:00,id=1:2\n\nnic\n\tmapping no\n\tmap\tnode=a\n\n\
                    \tmap nobody's\nempty\n";
        let mappings = parse(text);
        let of = |id: &str| mappings[id].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(
            of("gpu0"),
            [
                "node=a,path=0000:01:00,id=1:2",
                "node=b,path=0000:02:00,id=1:2"
            ]
        );
        assert_eq!(of("nic"), ["node=a"]);
        assert_eq!(of("empty"), [""; 0]);
        assert_eq!(mappings.len(), 3);
    }
}
