//! What other places than its own attributes say of a function.

use super::{Survey, words};
use crate::{
    kernel::sysfs::{function_dir, text},
    pci::address::Address,
    policy::doctor::facts::{Asleep, Framebuffer, Kept, Node},
};

/// Files like `/etc/driverctl.d/pci-0000:01:00.0` with a driver's name in them
/// (driverctl 0.111, `save_override`); older ones lack the bus.
pub(super) fn driverctl(survey: Survey<'_>) -> Result<Vec<Kept>, String> {
    let folder = "/etc/driverctl.d";
    let mut kept = Vec::new();
    for name in survey.names(folder)? {
        let address = name.strip_prefix("pci-").unwrap_or(&name).parse();
        let Ok(address) = address else { continue };
        let file = format!("{folder}/{name}");
        let driver = survey.file(&file)?.unwrap_or_default().trim().to_owned();
        kept.push(Kept {
            file,
            address,
            driver,
        });
    }
    Ok(kept)
}

/// Names of the firmware's framebuffer in `/proc/iomem`: the memory's own
/// (drivers/firmware/sysfb_simplefb.c, v6.12), or that of the driver on it.
const FRAMEBUFFERS: [&str; 8] = [
    "BOOTFB",
    "efifb",
    "vesafb",
    "simplefb",
    "simple-framebuffer",
    "simpledrm",
    "efidrm",
    "vesadrm",
];

pub(super) fn framebuffers(survey: Survey<'_>) -> Result<Vec<Framebuffer>, String> {
    let table = survey.file("/proc/iomem")?;
    let table = table.ok_or_else(|| "/proc/iomem: there is none".to_owned())?;
    Ok(framebuffers_in(&table))
}

/// The framebuffers in lines like `  c0000000-cfffffff : 0000:01:00.0`. What is
/// inside of what is told by indentation, which everybody can see; addresses
/// are zeroes without root (kernel/resource.c, `r_show`, v6.12).
fn framebuffers_in(table: &str) -> Vec<Framebuffer> {
    let mut around: Vec<(usize, Address)> = Vec::new();
    let mut found = Vec::new();
    for line in table.lines() {
        let depth = line.len() - line.trim_start().len();
        let Some((_, name)) = line.split_once(" : ") else {
            continue;
        };
        around.retain(|(outer, _)| *outer < depth);
        if let Ok(address) = name.parse() {
            around.push((depth, address));
        } else if FRAMEBUFFERS.contains(&name)
            && let Some((_, address)) = around.last()
        {
            found.push(Framebuffer {
                name: name.to_owned(),
                address: *address,
            });
        }
    }
    found
}

/// Functions whose power is off. `power_state` takes no lock and wakes nothing
/// (drivers/pci/pci-sysfs.c, v6.1).
pub(super) fn asleep(survey: Survey<'_>) -> Vec<Asleep> {
    let functions = survey.inventory.iter();
    functions
        .filter_map(|function| {
            let address = function.address;
            let dir = function_dir(address);
            let state = text(survey.sysfs, &format!("{dir}/power_state"))?;
            let allowed = text(survey.sysfs, &format!("{dir}/d3cold_allowed"));
            (state == "D3cold").then(|| Asleep {
                address,
                allowed: allowed.as_deref() != Some("0"),
            })
        })
        .collect()
}

pub(super) fn nodes(survey: Survey<'_>) -> Result<Vec<Node>, String> {
    let folder = "/dev/vfio";
    let mut nodes = Vec::new();
    for name in survey.names(folder)? {
        let path = format!("{folder}/{name}");
        let found = survey.host.stat(&path);
        let found = found.map_err(|error| format!("{path}: {}", words(&error)))?;
        nodes.push(Node {
            name,
            mode: found.mode,
        });
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framebuffer_is_in_the_memory_around_it() {
        let table = "\
00000000-00000fff : Reserved
000a0000-000bffff : PCI Bus 0000:00
c0000000-dfffffff : PCI Bus 0000:00
  c0000000-d1ffffff : PCI Bus 0000:01
    c0000000-cfffffff : 0000:01:00.0
      c0000000-c07e8fff : BOOTFB
        c0000000-c07e8fff : simpledrm
    d0000000-d1ffffff : 0000:01:00.0
  d2000000-d2ffffff : 0000:02:00.0
    d2000000-d2ffffff : nvme
  d3000000-d3000fff : efifb
";
        // Without root every number is a zero.
        let hidden: String = table
            .lines()
            .map(|line| {
                let (range, name) = line.split_once(" : ").unwrap();
                let zeroes = range.replace(|c: char| c.is_ascii_hexdigit(), "0");
                format!("{zeroes} : {name}\n")
            })
            .collect();
        for table in [table, &hidden] {
            let found = framebuffers_in(table);
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.name.as_str(), one.address.to_string()))
                .collect();
            let gpu = "0000:01:00.0".to_owned();
            assert_eq!(found, [("BOOTFB", gpu.clone()), ("simpledrm", gpu)]);
        }
    }
}
