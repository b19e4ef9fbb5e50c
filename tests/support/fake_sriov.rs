//! SR-IOV of the fake kernel: PFs that make VFs and set them.
//!
//! Source of each answer: drivers/pci/iov.c, `sriov_numvfs_store`, and
//! net/core/rtnetlink.c, `do_setvfinfo` and `rtnl_fill_vfinfo`, v6.12.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use rustix::io::Errno;
use vfio_bindd::policy::sriov::{LinkState, Mac, Rate, Setting, VfSettings, Vlan, VlanProtocol};

use super::{Fake, Kernel, Killed, errno};

/// A PF, and what its driver does.
#[derive(Debug)]
pub(crate) struct FakePf {
    pub(crate) total: u16,
    /// Whether the driver can make VFs at all.
    pub(crate) configures: bool,
    /// How many it makes at most.
    pub(crate) grants: u16,
    /// What it says instead.
    pub(crate) error: Option<Errno>,
    /// Whether it says that VFs are gone while they stay.
    pub(crate) keeps: bool,
    /// How many VFs somebody else has it make right after those that there were went.
    pub(crate) raced: Option<u16>,
    /// Whether it goes when it is written to.
    pub(crate) goes: bool,
    vfs: u16,
    /// The number of its network interface.
    pub(crate) interface: u32,
    pub(crate) settings: BTreeMap<u16, VfSettings>,
    /// Settings that its driver has not, that it takes without doing anything, and
    /// that it does not tell.
    pub(crate) unsupported: BTreeSet<&'static str>,
    pub(crate) ignored: BTreeSet<&'static str>,
    pub(crate) untold: BTreeSet<&'static str>,
    /// How often its VFs are not ready to be set, and what it says then.
    pub(crate) not_ready: Option<(u32, Errno)>,
    /// Whether whoever sets VFs may do so.
    pub(crate) permitted: bool,
}

/// How a driver begins with a VF.
const NEW: VfSettings = VfSettings {
    mac: Some(Mac([0; 6])),
    vlan: Some(Vlan::new(0, 0, VlanProtocol::Customer)),
    rate: Some(Rate { min: 0, max: 0 }),
    spoof_check: Some(true),
    link_state: Some(LinkState::Auto),
    trust: Some(false),
};

/// The VF of a fake PF with this index.
pub(crate) fn vf_of(pf: &str, index: u16) -> String {
    let (bus, _) = pf.rsplit_once(':').unwrap();
    format!("{bus}:{:02x}.{}", 2 + index / 8, index % 8)
}

impl Fake {
    /// The function at `address` is a PF from now on, under a driver that makes VFs.
    pub(crate) fn is_pf(&self, address: &str, autoprobe: &str) {
        let attributes = [
            ("sriov_totalvfs", "8"),
            ("sriov_numvfs", "0"),
            ("sriov_drivers_autoprobe", autoprobe),
        ];
        for (name, value) in attributes {
            let path = format!("bus/pci/devices/{address}/{name}");
            self.file(&path, &format!("{value}\n"));
        }
        self.with(|kernel| {
            let pf = FakePf {
                total: 8,
                configures: true,
                grants: 8,
                error: None,
                keeps: false,
                raced: None,
                goes: false,
                vfs: 0,
                interface: 7,
                settings: BTreeMap::new(),
                unsupported: BTreeSet::new(),
                ignored: BTreeSet::new(),
                untold: BTreeSet::new(),
                not_ready: None,
                permitted: true,
            };
            kernel.pfs.insert(address.to_owned(), pf);
        });
    }

    /// Changes what the PF at `address` does.
    pub(crate) fn pf<T>(&self, address: &str, change: impl FnOnce(&mut FakePf) -> T) -> T {
        self.with(|kernel| change(kernel.pfs.get_mut(address).unwrap()))
    }

    pub(super) fn settings_of(&self, interface: u32) -> io::Result<BTreeMap<u16, VfSettings>> {
        self.with(|kernel| {
            let pf = kernel.by_interface(interface)?;
            let told = pf.settings.iter().map(|(index, settings)| {
                let mut told = VfSettings::default();
                let each = settings.each();
                each.filter(|one| !pf.untold.contains(one.name()))
                    .for_each(|one| told.set(one));
                (*index, told)
            });
            Ok(told.collect())
        })
    }

    pub(super) fn set(&self, interface: u32, index: u16, setting: Setting) -> io::Result<()> {
        self.is_the_end(Killed::BeforeIt);
        let set = self.with(|kernel| {
            kernel
                .writes
                .push((format!("vf {index} of {interface}"), setting.to_string()));
            let pf = kernel.by_interface(interface)?;
            if !pf.permitted {
                return Err(errno(Errno::PERM));
            }
            if let Some((left, error)) = &mut pf.not_ready
                && *left > 0
            {
                *left -= 1;
                return Err(errno(*error));
            }
            if pf.unsupported.contains(setting.name()) {
                return Err(errno(Errno::OPNOTSUPP));
            }
            let ignored = pf.ignored.contains(setting.name());
            let vf = pf.settings.get_mut(&index);
            let vf = vf.ok_or_else(|| errno(Errno::INVAL))?;
            if !ignored {
                vf.set(setting);
            }
            Ok(())
        });
        self.is_the_end(Killed::AfterIt);
        set
    }
}

impl Kernel {
    fn by_interface(&mut self, interface: u32) -> io::Result<&mut FakePf> {
        let mut pfs = self.pfs.values_mut();
        pfs.find(|pf| pf.interface == interface)
            .ok_or_else(|| errno(Errno::NODEV))
    }

    /// `sriov_numvfs_store`.
    pub(super) fn store_numvfs(&mut self, address: &str, value: &str) -> io::Result<()> {
        if !self.is_there(address) {
            return Err(errno(Errno::NOENT));
        }
        let driven = self.bound.contains_key(address);
        let pf = self.pfs.get_mut(address);
        let pf = pf.ok_or_else(|| errno(Errno::NOENT))?;
        let count: u16 = value.parse().map_err(|_| errno(Errno::INVAL))?;
        if pf.goes {
            self.remove(address);
            return Err(errno(Errno::NODEV));
        }
        let now = pf.vfs;
        match count {
            _ if count > pf.total => Err(errno(Errno::RANGE)),
            _ if count == now => Ok(()),
            _ if !driven || !pf.configures => Err(errno(Errno::NOENT)),
            0 if pf.keeps => Ok(()),
            0 => {
                let others = pf.raced.take();
                self.have_vfs(address, 0);
                if let Some(others) = others {
                    self.have_vfs(address, others);
                }
                Ok(())
            }
            _ if now > 0 => Err(errno(Errno::BUSY)),
            _ => match pf.error {
                Some(error) => Err(errno(error)),
                None => {
                    let count = count.min(pf.grants);
                    self.have_vfs(address, count);
                    Ok(())
                }
            },
        }
    }

    /// Takes all VFs away, and adds so many.
    pub(crate) fn have_vfs(&mut self, address: &str, count: u16) {
        let pf = self.pfs.get_mut(address).unwrap();
        let before = std::mem::replace(&mut pf.vfs, count);
        pf.settings = (0..count).map(|index| (index, NEW)).collect();
        let dir = format!("bus/pci/devices/{address}");
        for index in 0..before {
            self.links.remove(&format!("{dir}/virtfn{index}"));
            self.remove(&vf_of(address, index));
        }
        let place = self.real(&format!("{dir}/sriov_numvfs"));
        self.files.insert(place, format!("{count}\n"));
        let (above, _) = self.links.get(&dir).unwrap().rsplit_once('/').unwrap();
        let above = above.to_owned();
        for index in 0..count {
            let vf = vf_of(address, index);
            let own = format!("bus/pci/devices/{vf}");
            self.links.insert(own.clone(), format!("{above}/{vf}"));
            self.nodes.insert(vf.clone(), 500 + u64::from(index));
            for (name, value) in [
                ("vendor", "0x8086"),
                ("device", "0x10ca"),
                ("class", "0x020000"),
            ] {
                let path = self.real(&format!("{own}/{name}"));
                self.files.insert(path, format!("{value}\n"));
            }
            for (name, to) in [
                (
                    "iommu_group",
                    format!("../../../../kernel/iommu_groups/{}", 20 + index),
                ),
                ("physfn", format!("../{address}")),
            ] {
                self.links.insert(format!("{own}/{name}"), to);
            }
            let virtfn = format!("{dir}/virtfn{index}");
            self.links.insert(virtfn, format!("../{vf}"));
            let native = self.drivers.iter().find(|one| one.ends_with("vf")).cloned();
            if let Some(native) = native {
                // Nobody has it where native drivers are kept away.
                drop(self.bind_to(&native, &vf));
            }
        }
    }
}
