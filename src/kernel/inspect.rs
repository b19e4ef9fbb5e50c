//! Inspect: what only a helper process may read, since it can block for ever
//! behind a stuck driver.
//!
//! Source: Linux 6.1 drivers/pci/pci-sysfs.c (`driver_override_show` takes the
//! device lock), drivers/base/core.c (`uevent_show`).

use serde::{Deserialize, Serialize};

use super::{
    knobs,
    sysfs::{Sysfs, function_dir, link_name, text},
    usage::{Look, usage},
    variant::variant,
};
use crate::pci::{address::Address, function::Inspection, settings::Settings};

/// What of a function is looked at only where somebody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its serial number: reading it wakes a sleeping device up.
    pub serial: bool,
    /// Its variant driver: the list that has it is long.
    pub variant: bool,
    /// Its settings: some are read of the device.
    pub settings: bool,
}

impl Wanted {
    /// Everything.
    pub const ALL: Self = Self {
        serial: true,
        variant: true,
        settings: true,
    };
}

/// Inspects the function at `address`; `None` if it is not there.
#[must_use]
pub fn inspect(look: Look<'_>, address: Address, wanted: Wanted) -> Option<Inspection> {
    let sysfs = look.sysfs;
    let dir = function_dir(address);
    text(sysfs, &format!("{dir}/vendor"))?;
    let group = link_name(sysfs, &format!("{dir}/iommu_group"));
    let of_group = |what: &str| {
        let group = group.as_ref()?;
        text(sysfs, &format!("kernel/iommu_groups/{group}/{what}"))
    };
    Some(Inspection {
        driver_override: driver_override(sysfs, address),
        serial: wanted.serial.then(|| serial(sysfs, &dir)).flatten(),
        usage: usage(look, address),
        direct_regions: direct(&of_group("reserved_regions").unwrap_or_default()),
        no_iommu: of_group("name").as_deref() == Some("vfio-noiommu"),
        variant: wanted.variant.then(|| variant(look, address)).flatten(),
        settings: if wanted.settings {
            knobs::found(sysfs, address)
        } else {
            Settings::default()
        },
    })
}

/// The regions of type `direct` among lines like `0x00.. 0x00.. direct`; a
/// `direct-relaxable` one does not keep a group from userspace
/// (drivers/iommu/iommu.c, `iommu_group_show_resv_regions`, v6.12).
fn direct(regions: &str) -> Vec<String> {
    regions
        .lines()
        .filter_map(|line| {
            let (range, kind) = line.rsplit_once(' ')?;
            (kind == "direct").then(|| range.replace(' ', "-"))
        })
        .collect()
}

/// The driver override, `None` where it is not set.
pub(super) fn driver_override(sysfs: &(impl Sysfs + ?Sized), address: Address) -> Option<String> {
    let dir = function_dir(address);
    // Not set reads as `(null)` (drivers/pci/pci-sysfs.c, v6.1 and v6.12).
    text(sysfs, &format!("{dir}/driver_override"))
        .filter(|name| name != "(null)" && !name.is_empty())
}

/// The driver that the driver core still counts as the function's, also while
/// its remove is under way and the link is gone already.
pub(super) fn driver_in_uevent(sysfs: &(impl Sysfs + ?Sized), address: Address) -> Option<String> {
    let uevent = text(sysfs, &format!("{}/uevent", function_dir(address)))?;
    let driver = uevent.lines().find_map(|line| line.strip_prefix("DRIVER="));
    driver.map(str::to_owned)
}

/// The PCIe Device Serial Number. Never wakes a device from D3cold, which a
/// function is not in as long as no driver puts it there: `unknown` is what one
/// is before its first driver came and after one went
/// (drivers/pci/pci-driver.c, `pci_device_remove`, v6.12), and reading wakes
/// none but a D3cold one (drivers/pci/pci.c, `pci_config_pm_runtime_get`).
fn serial(sysfs: &(impl Sysfs + ?Sized), dir: &str) -> Option<String> {
    if text(sysfs, &format!("{dir}/power_state")).as_deref() == Some("D3cold") {
        return None;
    }
    let config = format!("{dir}/config");
    // Word by word: each byte costs an access to the device.
    serial_of(|at| {
        let bytes = sysfs.read_at(&config, at, 4).ok()?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    })
}

/// Walks the extended capabilities of a config space for capability 3
/// (PCI Express Base Specification, Device Serial Number); printed as lspci
/// does, high double word first. `word` reads at an offset.
fn serial_of(word: impl Fn(u64) -> Option<u32>) -> Option<String> {
    if word(0)? == u32::MAX {
        return None;
    }
    let mut at = 0x100;
    // Each capability has at least 8 bytes: more steps than that is a loop.
    for _ in 0..480 {
        let head = word(at)?;
        if head == 0 || head == u32::MAX {
            return None;
        }
        if head & 0xffff == 3 {
            let (low, high) = (word(at + 4)?, word(at + 8)?);
            let bytes = [high.to_be_bytes(), low.to_be_bytes()].concat();
            let parts: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            return Some(parts.join("-"));
        }
        at = u64::from(head >> 20);
        if at < 0x100 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial_in(config: &[u8]) -> Option<String> {
        serial_of(|at| {
            let at = usize::try_from(at).unwrap();
            let bytes = config.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().unwrap()))
        })
    }

    fn config(capabilities: &[(usize, u32, &[u32])]) -> Vec<u8> {
        let mut config = vec![0_u8; 4096];
        for (at, head, body) in capabilities {
            for (index, word) in std::iter::once(head).chain(*body).enumerate() {
                let at = at + index * 4;
                config[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
        config
    }

    #[test]
    fn the_serial_number_is_found_behind_other_capabilities() {
        let with = config(&[
            (0x100, 0x1401_0001, &[]),
            (0x140, 0x0001_0003, &[0xff12_3456, 0x48b0_2dff]),
        ]);
        assert_eq!(serial_in(&with).unwrap(), "48-b0-2d-ff-ff-12-34-56");
        assert_eq!(serial_in(&with[..256]), None);
        assert_eq!(serial_in(&config(&[(0x100, 0x1001_0001, &[])])), None);
        assert_eq!(serial_in(&[0xff; 4096]), None);
        assert_eq!(serial_in(&[]), None);
    }

    #[test]
    fn relaxable_regions_do_not_count() {
        let regions = "0x00000000fee00000 0x00000000feefffff msi\n\
                       0x00000000bdf6f000 0x00000000bdf8dfff direct\n\
                       0x00000000e0000000 0x00000000e0ffffff direct-relaxable";
        assert_eq!(direct(regions), ["0x00000000bdf6f000-0x00000000bdf8dfff"]);
    }
}
