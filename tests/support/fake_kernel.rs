//! A kernel of a few lines that answers as the real one does: what it accepts,
//! what it silently ignores, and with which errors it says no.
//!
//! Source of each answer: Linux 6.1 to 7.2 drivers/base/bus.c, drivers/pci/
//! pci-sysfs.c, drivers/vfio/pci; most were tried in guests.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a test says no by a panic"
)]

mod fake_sriov;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Mutex,
};

#[allow(unused_imports, reason = "each test binary uses a part")]
pub(crate) use self::fake_sriov::{FakePf, vf_of};

use rustix::io::Errno;
use vfio_bindd::{
    kernel::{
        dev_watch::DevWatch,
        host::{Host, Network, Node, Open, OpenNode, OpenVfioDevice, Stat},
        modules::Modules,
        sysfs::Sysfs,
        usage::{Look, Tables},
    },
    pci::function::is_vfio_driver,
    policy::sriov::{Setting, VfSettings},
};

/// The fake's whole state.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    files: BTreeMap<String, String>,
    pub(crate) links: BTreeMap<String, String>,
    /// Address to the driver that has it.
    bound: BTreeMap<String, String>,
    /// Address to its override.
    overrides: BTreeMap<String, String>,
    drivers: BTreeSet<String>,
    /// Drivers that modprobe can bring.
    modules: BTreeSet<String>,
    /// Modules with their PCI drivers that modprobe can bring, beside those.
    variants: BTreeMap<String, Vec<String>>,
    /// Addresses at which vfio-pci's probe says EINVAL.
    pub(crate) bad_probe: BTreeSet<String>,
    /// Drivers whose probe says EIO.
    pub(crate) sick: BTreeSet<String>,
    /// How often bind says EAGAIN before it works.
    pub(crate) not_yet: u32,
    /// Addresses that go when their native driver is unbound.
    pub(crate) gone_after_unbind: BTreeSet<String>,
    /// Drivers whose unbind returns while they stay.
    pub(crate) clinging: BTreeSet<String>,
    /// Directories of sysfs, and files of the host, whose reading says EIO.
    pub(crate) unreadable: BTreeSet<String>,
    busy_disks: BTreeSet<String>,
    /// Disks that were opened exclusively, or were to be.
    pub(crate) opened: Vec<String>,
    /// Class devices that get the next of these names whenever one of their
    /// attributes is read.
    pub(crate) renames: BTreeMap<String, Vec<String>>,
    pub(crate) writes: Vec<(String, String)>,
    /// Attributes that were read.
    pub(crate) reads: Vec<String>,
    /// Inode numbers of functions.
    nodes: BTreeMap<String, u64>,
    /// How often udev is found busy yet.
    pub(crate) udev_busy: u32,
    /// Whoever writes is killed at this write from now on, before it or after.
    pub(crate) killed_at: Option<(u32, Killed)>,
    /// Files of the host beside sysfs, by their absolute path.
    pub(crate) host_files: BTreeMap<String, String>,
    /// Attributes whose reading says EIO.
    pub(crate) broken: BTreeSet<String>,
    /// As `host_files`, what is no text.
    pub(crate) host_bytes: BTreeMap<String, Vec<u8>>,
    /// What processes have open, `None` if that cannot be seen.
    pub(crate) open_nodes: Option<Vec<OpenNode>>,
    /// Stands for `/dev` where it is watched who opens what.
    pub(crate) dev: Option<std::path::PathBuf>,
    /// Vfio devices that processes have open without a node.
    pub(crate) open_vfio: Vec<OpenVfioDevice>,
    /// Its addresses and routes, `None` if the kernel does not tell them.
    pub(crate) network: Option<Network>,
    /// What is in `/dev`, by its path.
    pub(crate) dev_nodes: BTreeMap<String, Node>,
    /// The user, the group and the mode that udev's rules have for nodes of vfio,
    /// `None` if udev does not run.
    pub(crate) udev_gives: Option<(u32, u32, u32)>,
    /// How often a node is looked at before udev is through with its event.
    pub(crate) udev_takes: u32,
    /// Nodes whose events udev has not worked on.
    udev_queue: Vec<String>,
    /// Files and directories of the host that say EACCES.
    pub(crate) forbidden: BTreeSet<String>,
    /// The ways to reset a function that its device has.
    resets: BTreeMap<String, String>,
    /// Functions whose bridges have no room for larger BARs.
    pub(crate) crowded: BTreeSet<String>,
    /// Attributes of functions whose write says EIO.
    pub(crate) read_only: BTreeSet<String>,
    /// Address to what the PF there does.
    pub(crate) pfs: BTreeMap<String, FakePf>,
}

/// When a writer is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killed {
    BeforeIt,
    AfterIt,
}

#[derive(Debug, Default)]
pub(crate) struct Fake(pub(crate) Mutex<Kernel>);

fn errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl Fake {
    pub(crate) fn new(drivers: &[&str]) -> Self {
        let fake = Self::default();
        fake.with(|kernel| {
            kernel.drivers = drivers.iter().map(|name| (*name).to_owned()).collect();
            kernel.open_nodes = Some(Vec::new());
            let boot = "/proc/sys/kernel/random/boot_id".to_owned();
            kernel.host_files.insert(boot, "a-boot\n".to_owned());
            kernel.network = Some(Network::default());
            // udev runs, and knows the null device.
            let null = "/run/udev/data/c1:3".to_owned();
            kernel.host_files.insert(null, "G:systemd\n".to_owned());
        });
        fake
    }

    /// A look with nothing read before.
    pub(crate) fn look<T>(&self, see: impl FnOnce(Look<'_>) -> T) -> T {
        see(Look {
            sysfs: self,
            host: self,
            tables: &Tables::default(),
        })
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Kernel) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// An e1000e at `address` below the root port `port`.
    pub(crate) fn add(&self, port: &str, address: &str, attributes: &[(&str, &str)]) {
        self.with(|kernel| {
            let place = format!("devices/pci0000:00/{port}/{address}");
            kernel.links.insert(
                format!("bus/pci/devices/{address}"),
                format!("../../../{place}"),
            );
            let node = u64::try_from(kernel.nodes.len()).unwrap() + 100;
            kernel.nodes.insert(address.to_owned(), node);
            let defaults = [
                ("vendor", "0x8086"),
                ("device", "0x10d3"),
                ("subsystem_vendor", "0x8086"),
                ("subsystem_device", "0x0000"),
                ("class", "0x020000"),
                ("revision", "0x00"),
                ("numa_node", "-1"),
                ("modalias", "pci:v00008086d000010D3"),
                ("reset_method", "flr bus"),
                ("power_state", "D0"),
                ("d3cold_allowed", "1"),
                ("power/control", "on"),
            ];
            for (name, value) in defaults.iter().chain(attributes) {
                let path = kernel.real(&format!("bus/pci/devices/{address}/{name}"));
                kernel.files.insert(path, format!("{value}\n"));
            }
            let dir = format!("bus/pci/devices/{address}");
            let resets = kernel.attribute(&format!("{dir}/reset_method"));
            kernel.resets.insert(address.to_owned(), resets.unwrap());
            let group = format!("{dir}/iommu_group");
            kernel
                .links
                .insert(group, "../../../../kernel/iommu_groups/7".to_owned());
        });
    }

    /// A BAR of so many MiB, with the bitmap of the sizes that it can have if it can
    /// have others. The ones before it must be there.
    pub(crate) fn bar(&self, address: &str, bar: usize, mib: u64, sizes: Option<&str>) {
        self.with(|kernel| {
            let dir = format!("bus/pci/devices/{address}");
            if let Some(sizes) = sizes {
                let place = kernel.real(&format!("{dir}/resource{bar}_resize"));
                kernel.files.insert(place, format!("{sizes}\n"));
            }
            kernel.set_bar(address, bar, mib << 20);
        });
    }

    /// The attribute of the function, without its line end.
    pub(crate) fn attribute(&self, address: &str, name: &str) -> Option<String> {
        let place = format!("bus/pci/devices/{address}/{name}");
        self.with(|kernel| kernel.attribute(&place))
    }

    /// The attribute of the function is gone.
    pub(crate) fn lacks(&self, address: &str, name: &str) {
        let place = format!("bus/pci/devices/{address}/{name}");
        self.with(|kernel| kernel.files.remove(&kernel.real(&place)));
    }

    pub(crate) fn link(&self, path: &str, to: &str) {
        self.with(|kernel| kernel.links.insert(path.to_owned(), to.to_owned()));
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        self.with(|kernel| kernel.files.insert(kernel.real(path), text.to_owned()));
    }

    /// A file of the host beside sysfs.
    pub(crate) fn host_file(&self, path: &str, text: &str) {
        self.with(|kernel| kernel.host_files.insert(path.to_owned(), text.to_owned()));
    }

    /// The block device `name` with the number `number`, at `place` below
    /// `devices`, of which udev knows nothing.
    pub(crate) fn block(&self, place: &str, name: &str, number: &str) {
        self.link(
            &format!("class/block/{name}"),
            &format!("../../devices/{place}/{name}"),
        );
        self.file(&format!("class/block/{name}/dev"), &format!("{number}\n"));
    }

    pub(crate) fn bind(&self, address: &str, driver: &str) {
        self.with(|kernel| kernel.bound.insert(address.to_owned(), driver.to_owned()));
    }

    pub(crate) fn set_override(&self, address: &str, driver: &str) {
        self.with(|kernel| {
            kernel
                .overrides
                .insert(address.to_owned(), driver.to_owned())
        });
    }

    /// modprobe can bring the module, which has these PCI drivers.
    pub(crate) fn has_variant(&self, module: &str, drivers: &[&str]) {
        let drivers = drivers.iter().map(|name| (*name).to_owned()).collect();
        self.with(|kernel| kernel.variants.insert(module.to_owned(), drivers));
    }

    /// The running kernel's modules have these aliases.
    pub(crate) fn aliases(&self, lines: &str) {
        self.with(|kernel| {
            let files = [
                ("/proc/sys/kernel/osrelease", "6.12\n"),
                ("/lib/modules/6.12/modules.alias", lines),
            ];
            let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
            kernel.host_files.extend(files);
        });
    }

    pub(crate) fn has_module(&self, driver: &str) {
        self.with(|kernel| kernel.modules.insert(driver.to_owned()));
    }

    pub(crate) fn mount(&self, disk: &str) {
        self.with(|kernel| kernel.busy_disks.insert(disk.to_owned()));
    }

    pub(crate) fn driver(&self, address: &str) -> Option<String> {
        self.with(|kernel| kernel.bound.get(address).cloned())
    }

    pub(crate) fn override_of(&self, address: &str) -> Option<String> {
        self.with(|kernel| kernel.overrides.get(address).cloned())
    }

    /// Another device of the same kind sits at `address` from now on.
    pub(crate) fn replug(&self, address: &str) {
        self.with(|kernel| {
            kernel.bound.remove(address);
            kernel.overrides.remove(address);
            *kernel.nodes.get_mut(address).unwrap() += 1000;
        });
    }

    /// The driver's module is unloaded, and is not there any more.
    pub(crate) fn lose_driver(&self, driver: &str) {
        self.with(|kernel| kernel.drivers.remove(driver));
    }

    /// Somebody takes the device out.
    pub(crate) fn unplug(&self, address: &str) {
        self.with(|kernel| kernel.remove(address));
    }

    /// Runs `work`, which may be killed; `None` if it was.
    pub(crate) fn mortal<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        self.with(|kernel| kernel.killed_at = None);
        match done {
            Ok(done) => Some(done),
            Err(reason) if reason.is::<Killed>() => None,
            Err(reason) => std::panic::resume_unwind(reason),
        }
    }

    /// Counts a write; kills the writer if its time has come.
    fn is_the_end(&self, when: Killed) {
        let end = self.with(|kernel| match &mut kernel.killed_at {
            Some((0, at)) => *at == when,
            Some((left, _)) => {
                *left -= u32::from(when == Killed::AfterIt);
                false
            }
            None => false,
        });
        if end {
            std::panic::resume_unwind(Box::new(when));
        }
    }

    pub(crate) fn writes(&self) -> Vec<String> {
        self.with(|kernel| {
            let writes = kernel.writes.iter();
            writes
                .map(|(path, value)| format!("{path}={}", value.trim_end()))
                .collect()
        })
    }
}

impl Kernel {
    /// Where `path` really is, below the root of sysfs: the links above it that
    /// lead to a function or to a class device are followed.
    fn real(&self, path: &str) -> String {
        let parts: Vec<_> = path.split('/').collect();
        let above = match parts.as_slice() {
            ["bus", "pci", "devices", _, _, ..] => 4,
            ["class", _, _, _, ..] => 3,
            _ => return path.to_owned(),
        };
        let (above, rest) = parts.split_at(above);
        match self.links.get(&above.join("/")) {
            Some(link) => format!("{}/{}", link.trim_start_matches("../"), rest.join("/")),
            None => path.to_owned(),
        }
    }

    /// The entry of `all` that is at `path`, by whichever way.
    fn at<'a>(&self, all: &'a BTreeMap<String, String>, path: &str) -> Option<&'a String> {
        let place = self.real(path);
        let mut entries = all.iter();
        entries.find_map(|(path, value)| (self.real(path) == place).then_some(value))
    }

    /// The class devices: where each really is, and its class.
    fn class_devices(&self) -> impl Iterator<Item = (&str, &str)> {
        self.links.iter().filter_map(|(path, link)| {
            let class = path.strip_prefix("class/")?.split('/').next()?;
            Some((link.trim_start_matches("../"), class))
        })
    }

    fn rename_what_is_read(&mut self, path: &str) {
        let Some((above, _)) = path.rsplit_once('/') else {
            return;
        };
        let mut names = self.renames.keys();
        let link_to = |name: &&String| {
            let link = self.links.get(*name);
            link.is_some_and(|link| link.trim_start_matches("../") == self.real(above))
        };
        let Some(old) = names.find(link_to).cloned() else {
            return;
        };
        let old = old.as_str();
        let Some(new) = self.renames.get_mut(old).and_then(Vec::pop) else {
            return;
        };
        let names = self.renames.remove(old).unwrap();
        self.renames.insert(new.clone(), names);
        let link = self.links.remove(old).unwrap();
        let (above, _) = link.rsplit_once('/').unwrap();
        let name = new.rsplit('/').next().unwrap();
        self.links.insert(new.clone(), format!("{above}/{name}"));
        let below = format!("{}/", link.trim_start_matches("../"));
        let moved: Vec<_> = self
            .files
            .iter()
            .filter_map(|(path, text)| {
                let rest = path.strip_prefix(&below)?;
                Some((self.real(&format!("{new}/{rest}")), text.clone()))
            })
            .collect();
        self.files.retain(|path, _| !path.starts_with(&below));
        self.files.extend(moved);
    }

    /// modprobe does not find the driver's module any more.
    /// The driver is registered; what waits for one is not asked.
    pub(crate) fn has_driver(&mut self, driver: &str) {
        self.drivers.insert(driver.to_owned());
    }

    /// The driver has the function, or none has.
    pub(crate) fn bound_to(&mut self, address: &str, driver: Option<&str>) {
        self.bound.remove(address);
        let driver = driver.map(|driver| (address.to_owned(), driver.to_owned()));
        self.bound.extend(driver);
    }

    pub(crate) fn lose_module(&mut self, driver: &str) {
        self.modules.remove(driver);
    }

    /// Registers a driver, which binds all driverless functions that match.
    fn register(&mut self, driver: &str) {
        self.drivers.insert(driver.to_owned());
        let overrides = self.overrides.iter();
        let waiting: Vec<_> = overrides
            .filter(|(_, wanted)| *wanted == driver)
            .map(|(address, _)| address.clone())
            .collect();
        for address in waiting {
            // A probe that fails is the log's matter, not the registration's.
            drop(self.bind_to(driver, &address));
        }
    }

    /// udev goes through its rules for what it was told of.
    fn work_as_udev(&mut self) {
        if self.udev_queue.is_empty() || self.udev_takes > 0 {
            self.udev_takes = self.udev_takes.saturating_sub(1);
            return;
        }
        let told = std::mem::take(&mut self.udev_queue);
        let Some((uid, gid, mode)) = self.udev_gives else {
            return;
        };
        for path in told {
            let node = self.dev_nodes.get_mut(&path).unwrap();
            (node.uid, node.gid, node.mode) = (uid, gid, mode);
        }
    }

    fn attribute(&self, path: &str) -> Option<String> {
        let text = self.at(&self.files, path)?;
        Some(text.trim_end().to_owned())
    }

    fn set_attribute(&mut self, path: &str, value: &str) -> io::Result<()> {
        let place = self.real(path);
        let known = self.files.get_mut(&place);
        *known.ok_or_else(|| errno(Errno::NOENT))? = format!("{value}\n");
        Ok(())
    }

    /// The BAR is of so many bytes, and where that is counts for nobody.
    fn set_bar(&mut self, address: &str, bar: usize, bytes: u64) {
        let dir = format!("bus/pci/devices/{address}");
        let lines = self
            .attribute(&format!("{dir}/resource"))
            .unwrap_or_default();
        let mut lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        lines.resize(
            6.max(bar + 1),
            format!("0x{0:016x} 0x{0:016x} 0x{0:016x}", 0),
        );
        let start = 0x38_0000_0000_u64;
        let last = start + bytes - 1;
        *lines.get_mut(bar).unwrap() = format!("0x{start:016x} 0x{last:016x} 0x{:016x}", 0x14_220c);
        let place = self.real(&format!("{dir}/resource"));
        self.files.insert(place, lines.join("\n") + "\n");
    }

    /// drivers/pci/pci-sysfs.c, `__resource_resize_store`.
    fn resize(&mut self, address: &str, name: &str, value: &str) -> io::Result<()> {
        let sizes = self.attribute(&format!("bus/pci/devices/{address}/{name}"));
        let sizes = sizes.ok_or_else(|| errno(Errno::NOENT))?;
        let sizes = u64::from_str_radix(&sizes, 16).unwrap();
        let size: u32 = value.parse().map_err(|_| errno(Errno::INVAL))?;
        if self.bound.contains_key(address) {
            return Err(errno(Errno::BUSY));
        }
        if sizes >> size & 1 == 0 {
            return Err(errno(Errno::INVAL));
        }
        if self.crowded.contains(address) {
            return Err(errno(Errno::NOSPC));
        }
        let bar = name.strip_prefix("resource").unwrap();
        let bar = bar.strip_suffix("_resize").unwrap().parse().unwrap();
        self.set_bar(address, bar, 1 << (20 + size));
        Ok(())
    }

    /// drivers/pci/pci.c, `reset_method_store`.
    fn set_resets(&mut self, address: &str, value: &str) -> io::Result<()> {
        let all = self.resets.get(address).cloned().unwrap_or_default();
        let has = |word: &str| all.split(' ').any(|one| one == word);
        let words = match value {
            "default" => all.clone(),
            words if words.split_whitespace().all(has) => words.to_owned(),
            _ => return Err(errno(Errno::INVAL)),
        };
        self.set_attribute(&format!("bus/pci/devices/{address}/reset_method"), &words)
    }

    /// A vfio driver lets what it has sleep, and leaves it awake
    /// (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_register_device`).
    fn vfio_lets_sleep(&mut self, address: &str, driver: &str, value: &str) {
        if is_vfio_driver(driver) {
            let place = format!("bus/pci/devices/{address}/power/control");
            // Kernels without runtime power management have none.
            drop(self.set_attribute(&place, value));
        }
    }

    /// Its driver is unloaded.
    pub(crate) fn unbind_for_good(&mut self, address: &str) {
        self.bound.remove(address);
    }

    fn is_there(&self, address: &str) -> bool {
        self.links
            .contains_key(&format!("bus/pci/devices/{address}"))
    }

    fn remove(&mut self, address: &str) {
        let dir = format!("bus/pci/devices/{address}");
        let below = self.real(&format!("{dir}/"));
        self.files.retain(|path, _| !path.starts_with(&below));
        let below = format!("{dir}/");
        self.links
            .retain(|path, _| *path != dir && !path.starts_with(&below));
        self.bound.remove(address);
        self.overrides.remove(address);
    }

    fn bind_to(&mut self, driver: &str, address: &str) -> io::Result<()> {
        if !self.is_there(address) {
            return Err(errno(Errno::NODEV));
        }
        if self.bound.contains_key(address) {
            return Err(errno(Errno::BUSY));
        }
        let wanted = self.overrides.get(address);
        let matches = match wanted {
            Some(wanted) => wanted == driver,
            None => !is_vfio_driver(driver),
        };
        if !matches || (wanted.is_none() && !self.is_probed(address)) {
            return Err(errno(Errno::NODEV));
        }
        if self.not_yet > 0 {
            self.not_yet -= 1;
            return Err(errno(Errno::AGAIN));
        }
        if self.sick.contains(driver) {
            return Err(errno(Errno::IO));
        }
        if driver == "vfio-pci" && self.bad_probe.contains(address) {
            return Err(errno(Errno::INVAL));
        }
        self.bound.insert(address.to_owned(), driver.to_owned());
        self.vfio_lets_sleep(address, driver, "auto");
        Ok(())
    }

    /// Whether native drivers are asked about it, as they are not about VFs of a
    /// PF with `sriov_drivers_autoprobe` at 0.
    fn is_probed(&self, address: &str) -> bool {
        let dir = format!("bus/pci/devices/{address}");
        let pf = self.at(&self.links, &format!("{dir}/physfn"));
        let pf = pf.and_then(|pf| pf.rsplit('/').next());
        let place = |pf| self.real(&format!("bus/pci/devices/{pf}/sriov_drivers_autoprobe"));
        pf.is_none_or(|pf| self.files.get(&place(pf)).is_none_or(|text| text != "0\n"))
    }

    fn unbind_from(&mut self, driver: &str, address: &str) -> io::Result<()> {
        if self.bound.get(address).map(String::as_str) != Some(driver) {
            return Err(errno(Errno::NODEV));
        }
        if self.clinging.contains(driver) {
            return Ok(());
        }
        self.bound.remove(address);
        self.vfio_lets_sleep(address, driver, "on");
        if self.gone_after_unbind.contains(address) {
            self.remove(address);
        }
        Ok(())
    }
}

impl Sysfs for Fake {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.with(|kernel| {
            kernel.reads.push(path.to_owned());
            let parts: Vec<_> = path.split('/').collect();
            let text = match parts.as_slice() {
                ["bus", "pci", "devices", address, "driver_override"]
                    if kernel.is_there(address) =>
                {
                    let name = kernel
                        .overrides
                        .get(*address)
                        .map_or("(null)", String::as_str);
                    format!("{name}\n")
                }
                ["bus", "pci", "devices", address, "uevent"] if kernel.is_there(address) => {
                    let driver = kernel.bound.get(*address);
                    driver.map_or_else(String::new, |name| format!("DRIVER={name}\n"))
                }
                _ if kernel.broken.contains(&kernel.real(path)) => return Err(errno(Errno::IO)),
                _ => {
                    kernel.rename_what_is_read(path);
                    let text = kernel.at(&kernel.files, path).cloned();
                    text.ok_or_else(|| errno(Errno::NOENT))?
                }
            };
            Ok(text.into_bytes())
        })
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        self.with(|kernel| {
            let address = path
                .strip_prefix("bus/pci/devices/")
                .and_then(|rest| rest.strip_suffix("/driver"));
            let driver = address.and_then(|address| kernel.bound.get(address));
            if let Some(device) = path.strip_suffix("/subsystem") {
                let device = kernel.real(device);
                let mut devices = kernel.class_devices();
                let class = devices.find_map(|(place, class)| (place == device).then_some(class));
                return class
                    .map(|class| format!("../../../../../../class/{class}"))
                    .ok_or_else(|| errno(Errno::NOENT));
            }
            match driver {
                Some(driver) => Ok(format!("../../../../bus/pci/drivers/{driver}")),
                None => kernel
                    .at(&kernel.links, path)
                    .cloned()
                    .ok_or_else(|| errno(Errno::NOENT)),
            }
        })
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.with(|kernel| {
            if let Some(driver) = path.strip_prefix("bus/pci/drivers/") {
                let known = kernel.drivers.contains(driver);
                return if known {
                    Ok(Vec::new())
                } else {
                    Err(errno(Errno::NOENT))
                };
            }
            let below = kernel.real(&format!("{path}/"));
            let names: BTreeSet<_> = kernel
                .files
                .keys()
                .chain(kernel.links.keys())
                .filter_map(|entry| {
                    let entry = kernel.real(entry);
                    let name = entry.strip_prefix(&below)?.split('/').next()?;
                    Some(name.to_owned())
                })
                .collect();
            if names.is_empty() {
                Err(errno(Errno::NOENT))
            } else {
                Ok(names.into_iter().collect())
            }
        })
    }

    fn directories(&self, path: &str) -> io::Result<Vec<String>> {
        self.with(|kernel| {
            if kernel.unreadable.contains(path) {
                return Err(errno(Errno::IO));
            }
            let below = kernel.real(&format!("{path}/"));
            let names: BTreeSet<_> = kernel
                .class_devices()
                .filter_map(|(place, _)| place.strip_prefix(&below)?.split('/').next())
                .map(str::to_owned)
                .collect();
            Ok(names.into_iter().collect())
        })
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = Sysfs::read(self, path)?;
        let offset = usize::try_from(offset).unwrap();
        Ok(bytes.into_iter().skip(offset).take(length).collect())
    }

    fn node(&self, path: &str) -> io::Result<u64> {
        self.with(|kernel| {
            let address = path.rsplit('/').next().unwrap_or_default();
            let node = kernel
                .nodes
                .get(address)
                .filter(|_| kernel.is_there(address));
            node.copied().ok_or_else(|| errno(Errno::NOENT))
        })
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.is_the_end(Killed::BeforeIt);
        let written = self.write_whole(path, value);
        self.is_the_end(Killed::AfterIt);
        written
    }
}

impl Fake {
    fn write_whole(&self, path: &str, value: &str) -> io::Result<()> {
        self.with(|kernel| {
            kernel.writes.push((path.to_owned(), value.to_owned()));
            let parts: Vec<_> = path.split('/').collect();
            // One line end at most, and nothing else (sysfs_streq).
            let line = value.strip_suffix('\n').unwrap_or(value);
            match parts.as_slice() {
                // A zero-length write never reaches the attribute.
                _ if value.is_empty() => Ok(()),
                ["bus", "pci", "devices", address, "driver_override"] => {
                    if !kernel.is_there(address) {
                        return Err(errno(Errno::NOENT));
                    }
                    if line.is_empty() {
                        kernel.overrides.remove(*address);
                    } else {
                        kernel
                            .overrides
                            .insert((*address).to_owned(), line.to_owned());
                    }
                    Ok(())
                }
                ["bus", "pci", "devices", _, "sriov_drivers_autoprobe"] => {
                    kernel.set_attribute(path, line)
                }
                _ if kernel.read_only.contains(path) => Err(errno(Errno::IO)),
                ["bus", "pci", "devices", address, "reset_method"] => {
                    kernel.set_resets(address, line)
                }
                ["bus", "pci", "devices", _, "d3cold_allowed"] => match line {
                    "0" | "1" => kernel.set_attribute(path, line),
                    _ => Err(errno(Errno::INVAL)),
                },
                ["bus", "pci", "devices", _, "power", "control"] => match line {
                    "on" | "auto" => kernel.set_attribute(path, line),
                    _ => Err(errno(Errno::INVAL)),
                },
                ["bus", "pci", "devices", address, name] if name.ends_with("_resize") => {
                    kernel.resize(address, name, line)
                }
                ["bus", "pci", "devices", address, "sriov_numvfs"] => {
                    kernel.store_numvfs(address, line)
                }
                // Success says nothing: whoever matches has it then, or nobody.
                ["bus", "pci", "drivers_probe"] => {
                    if !kernel.is_there(line) {
                        return Err(errno(Errno::NODEV));
                    }
                    let drivers: Vec<_> = kernel.drivers.iter().cloned().collect();
                    let _taker = drivers
                        .iter()
                        .find(|driver| kernel.bind_to(driver, line).is_ok());
                    Ok(())
                }
                ["bus", "pci", "devices", address, "uevent"] if kernel.is_there(address) => Ok(()),
                ["class", "vfio", group, "uevent"] => {
                    kernel.udev_queue.push(format!("/dev/vfio/{group}"));
                    Ok(())
                }
                ["bus", "pci", "devices", _, "vfio-dev", name, "uevent"] => {
                    kernel.udev_queue.push(format!("/dev/vfio/devices/{name}"));
                    Ok(())
                }
                ["bus", "pci", "drivers", driver, _] if !kernel.drivers.contains(*driver) => {
                    Err(errno(Errno::NOENT))
                }
                ["bus", "pci", "drivers", driver, "bind"] => kernel.bind_to(driver, line),
                ["bus", "pci", "drivers", driver, "unbind"] => kernel.unbind_from(driver, line),
                _ => Err(errno(Errno::NOENT)),
            }
        })
    }
}

impl Host for Fake {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.with(|kernel| {
            if path == "/run/udev/queue" && kernel.udev_busy > 0 {
                kernel.udev_busy -= 1;
                return Ok(Vec::new());
            }
            if kernel.forbidden.contains(path) {
                return Err(errno(Errno::ACCESS));
            }
            if kernel.unreadable.contains(path) {
                return Err(errno(Errno::IO));
            }
            let text = kernel.host_files.get(path).cloned();
            text.map(String::into_bytes)
                .or_else(|| kernel.host_bytes.get(path).cloned())
                .ok_or_else(|| errno(Errno::NOENT))
        })
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.with(|kernel| {
            if kernel.forbidden.contains(path) {
                return Err(errno(Errno::ACCESS));
            }
            let below = format!("{path}/");
            let names: BTreeSet<_> = kernel
                .host_files
                .keys()
                .filter_map(|file| file.strip_prefix(&below)?.split('/').next())
                .map(str::to_owned)
                .collect();
            if names.is_empty() {
                return Err(errno(Errno::NOENT));
            }
            Ok(names.into_iter().collect())
        })
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        Host::read(self, path).map(|_| Stat::default())
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        self.with(|kernel| {
            kernel.work_as_udev();
            let node = kernel.dev_nodes.get(path).copied();
            node.ok_or_else(|| errno(Errno::NOENT))
        })
    }

    fn open_exclusively(&self, disk: &str) -> io::Result<()> {
        self.with(|kernel| {
            kernel.opened.push(disk.to_owned());
            if kernel.busy_disks.contains(disk) {
                Err(errno(Errno::BUSY))
            } else {
                Ok(())
            }
        })
    }

    fn open_nodes(&self) -> io::Result<Open> {
        self.with(|kernel| {
            let nodes = kernel.open_nodes.clone();
            Ok(Open {
                nodes: nodes.ok_or_else(|| errno(Errno::ACCESS))?,
                vfio_devices: kernel.open_vfio.clone(),
            })
        })
    }

    fn watch_nodes(&self) -> Option<DevWatch> {
        DevWatch::below(&self.with(|kernel| kernel.dev.clone())?).ok()
    }

    fn network(&self) -> io::Result<Network> {
        self.with(|kernel| {
            let network = kernel.network.clone();
            network.ok_or_else(|| errno(Errno::PERM))
        })
    }

    fn vf_settings(&self, interface: u32) -> io::Result<BTreeMap<u16, VfSettings>> {
        self.settings_of(interface)
    }

    fn set_vf(&self, interface: u32, index: u16, setting: Setting) -> io::Result<()> {
        self.set(interface, index, setting)
    }
}

impl Modules for Fake {
    fn load(&self, name: &str) -> Result<(), String> {
        self.with(|kernel| {
            let mut drivers = vec![name.replace('_', "-")];
            if let Some(others) = kernel.variants.get(name) {
                drivers.clone_from(others);
                let place = format!("module/{name}/refcnt");
                kernel.files.insert(place, "0\n".to_owned());
            } else if drivers
                .iter()
                .any(|driver| !kernel.modules.contains(driver))
            {
                return Err(format!("modprobe {name}: FATAL: Module {name} not found"));
            }
            for driver in drivers {
                let link = format!("module/{name}/drivers/pci:{driver}");
                let driver_dir = format!("../../../bus/pci/drivers/{driver}");
                kernel.links.insert(link, driver_dir);
                kernel.register(&driver);
            }
            Ok(())
        })
    }
}
