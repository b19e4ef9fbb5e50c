//! What a survey reads out of a host: a whole one, an empty one, one that it
//! may not read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use vfio_bindd::{
    kernel::{
        host::{Host, Network, Open, Stat, ThisHost},
        image::{carried, put_stamp},
        scan::scan_all,
        survey::{Survey, proxmox, survey},
        sysfs::HostSysfs,
    },
    policy::doctor::{
        facts::{
            Asleep, Cpu, Directive, Framebuffer, HostFacts, Image, Kept, Listed, Loader, MapEntry,
            MemoryLock, Module, Node, Order, Proxmox, RawDevice, Seen, Unit,
        },
        image::{Carried, Holding},
    },
};

use crate::{known, support::at, tree::Tree};

const KERNEL: &str = "6.12.9";

/// A directory that looks like `/`.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
        self
    }

    fn aged(&self, path: &str, seconds: u64) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = File::options().write(true).open(self.place(path)).unwrap();
        file.set_modified(then).unwrap();
    }
}

impl Host for Root {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.place(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.place(path))?;
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let found = fs::metadata(self.place(path))?;
        Ok(Stat {
            mode: found.mode() & 0o7777,
            modified: found.mtime(),
        })
    }

    fn open_exclusively(&self, _disk: &str) -> io::Result<()> {
        Err(io::Error::other("a survey opens no disk"))
    }

    fn open_nodes(&self) -> io::Result<Open> {
        Err(io::Error::other("a survey asks for no processes"))
    }

    fn network(&self) -> io::Result<Network> {
        Err(io::Error::other("a survey asks for no network"))
    }
}

fn surveyed(sys: &Path, root: &Root) -> HostFacts {
    let sysfs = HostSysfs::new(sys);
    let inventory = scan_all(&sysfs).unwrap();
    survey(Survey {
        sysfs: &sysfs,
        host: root,
        inventory: &inventory,
        kernel: KERNEL,
    })
}

fn put(tree: &Tree, path: &str, text: &str) {
    let place = tree.root().join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, text).unwrap();
}

/// A host of Proxmox VE with a setting of each kind.
fn whole() -> (Tree, Root) {
    let tree = Tree::new();
    tree.add("0000:01:00.0", 1);
    tree.add("0000:02:00.0", 2);
    for address in ["0000:01:00.0", "0000:02:00.0"] {
        let modalias = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n";
        fs::write(tree.attribute(address, "modalias"), modalias).unwrap();
    }
    let asleep = tree.attribute("0000:02:00.0", "power_state");
    fs::write(asleep, "D3cold\n").unwrap();
    fs::write(tree.attribute("0000:02:00.0", "d3cold_allowed"), "0\n").unwrap();
    for (path, text) in [
        ("class/iommu/dmar0", ""),
        ("firmware/acpi/tables/DMAR", ""),
        ("firmware/acpi/tables/FACP", ""),
        ("module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n"),
        (
            "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
            "Y\n",
        ),
        (
            "kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        ),
    ] {
        put(&tree, path, text);
    }
    // UTF-16 after the variable's attributes.
    let info = "systemd-boot 252".chars();
    let info: String = info.map(|c| format!("{c}\0")).collect();
    let info = format!("\u{6}\0\0\0{info}\0\0");
    let place = "firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    put(&tree, place, &info);
    let root = Root::new();
    for (path, text) in [
        (
            "/proc/cpuinfo",
            "processor\t: 0\nvendor_id\t: GenuineIntel\n",
        ),
        (
            "/proc/cmdline",
            "root=UUID=1 quiet intel_iommu=on vfio-pci.ids=8086:10d3 module_blacklist=igb,vfio\n",
        ),
        ("/proc/interrupts", " CPU0\n 24: 0 IR-PCI-MSI 0-edge eth0\n"),
        (
            "/proc/iomem",
            "00000000-00000000 : 0000:01:00.0\n  00000000-00000000 : BOOTFB\n",
        ),
        ("/proc/sys/kernel/hung_task_panic", "1\n"),
        ("/proc/sys/kernel/hostname", "pve1.example.org\n"),
        ("/etc/kernel/proxmox-boot-uuids", "AAAA-BBBB\n"),
        (
            "/lib/modules/6.12.9/modules.builtin",
            "kernel/drivers/vfio/vfio.ko\n",
        ),
        (
            "/lib/modules/6.12.9/modules.dep",
            "kernel/drivers/vfio/vfio_iommu_type1.ko.xz: x\nkernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
        ),
        (
            "/lib/modules/6.12.9/modules.alias",
            "alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\nalias pci:v00001234d*sv*sd*bc*sc*i* igb\n",
        ),
        ("/etc/modules", "# /etc/modules\nloop\nvfio_virqfd # gone\n"),
        ("/etc/modules-load.d/modules.conf", "vfio_virqfd\n"),
        ("/usr/lib/modules-load.d/vfio-bindd.conf", "vfio_pci\n"),
        ("/etc/initramfs-tools/modules", "vfio-pci ids=1234:5678\n"),
        (
            "/etc/modprobe.d/vfio.conf",
            "# IDs\noptions vfio-pci \\\n  ids=10de:2684\nblacklist e1000e\nblacklist igb\n",
        ),
        ("/usr/lib/modprobe.d/vfio.conf", "blacklist vfio\n"),
        (
            "/usr/lib/modprobe.d/other.conf",
            "install vfio-pci /bin/true\n",
        ),
        (
            "/usr/lib/modprobe.d/other.conf.dpkg-old",
            "blacklist vfio\n",
        ),
        ("/etc/driverctl.d/pci-0000:01:00.0", "vfio-pci\n"),
        ("/etc/driverctl.d/vmbus-x", "uio\n"),
        ("/dev/vfio/vfio", ""),
        (
            "/etc/security/limits.conf",
            "#* - memlock 1\n* soft nofile 9\n",
        ),
        (
            "/etc/security/limits.d/kvm.conf",
            "@kvm hard memlock 1024\n",
        ),
        (
            "/etc/systemd/system.conf",
            "[Manager]\n#DefaultLimitMEMLOCK=8M\n",
        ),
        (
            "/etc/systemd/system.conf.d/x.conf",
            "[Manager]\nDefaultLimitMEMLOCK = 8M:16M\n",
        ),
        ("/usr/lib/systemd/system/vfio-bindd.service", ""),
        ("/usr/bin/pveversion", ""),
        (
            "/etc/pve/mapping/pci.cfg",
            "nic\n\tmap node=pve1,path=0000:01:00,id=8086:10d3\n",
        ),
        ("/etc/pve/qemu-server/100.conf", "hostpci0: 02:00\n"),
        ("/boot/initrd.img-6.12.9", ""),
    ] {
        root.put(path, text);
    }
    for path in ["/etc/modprobe.d/vfio.conf", "/boot/initrd.img-6.12.9"] {
        root.aged(path, 2000);
    }
    root.aged("/etc/initramfs-tools/modules", 3000);
    let node = root.place("/dev/vfio/vfio");
    fs::set_permissions(node, fs::Permissions::from_mode(0o666)).unwrap();
    (tree, root)
}

fn directive(place: &str, module: &str, order: Order) -> Directive {
    Directive {
        place: place.to_owned(),
        parameter: !place.starts_with('/'),
        module: module.to_owned(),
        order,
        serves: Vec::new(),
    }
}

#[test]
fn a_survey_finds_what_a_host_has() {
    let (tree, root) = whole();
    let vfio_conf = "/etc/modprobe.d/vfio.conf";
    let ids = |ids: &str| Order::Ids(ids.to_owned());
    let listed = |place: &str, module: &str| Listed {
        place: place.to_owned(),
        module: module.to_owned(),
    };
    let lock = |place: &str, whom: &str, limit: &str| MemoryLock {
        place: place.to_owned(),
        whom: whom.to_owned(),
        limit: limit.to_owned(),
    };
    let modules = [
        ("vfio", Module::BuiltIn),
        ("vfio_iommu_type1", Module::Loaded),
        ("vfio_pci", Module::Available),
        ("vfio_virqfd", Module::Missing),
    ];
    let expected = HostFacts {
        kernel: KERNEL.to_owned(),
        cpu: Cpu::Intel,
        loader: Loader::ProxmoxBoot,
        parameters: known([
            "intel_iommu=on",
            "vfio-pci.ids=8086:10d3",
            "module_blacklist=igb,vfio",
        ]),
        iommus: known(["dmar0"]),
        tables: known(["DMAR"]),
        remapping: Seen::Known(true),
        unsafe_interrupts: true,
        no_iommu_mode: true,
        modules: modules
            .map(|(name, state)| (name.to_owned(), state))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        listed: Seen::Known(vec![
            listed("/etc/modules:3", "vfio_virqfd"),
            listed("/usr/lib/modules-load.d/vfio-bindd.conf:1", "vfio_pci"),
            listed("/etc/initramfs-tools/modules:1", "vfio_pci"),
        ]),
        directives: Seen::Known(vec![
            directive(
                "/usr/lib/modprobe.d/other.conf:1",
                "vfio_pci",
                Order::Install("/bin/true".to_owned()),
            ),
            directive(&format!("{vfio_conf}:2"), "vfio_pci", ids("10de:2684")),
            Directive {
                serves: vec![at("0000:01:00.0"), at("0000:02:00.0")],
                ..directive(&format!("{vfio_conf}:4"), "e1000e", Order::Blacklist)
            },
            directive("vfio-pci.ids=8086:10d3", "vfio_pci", ids("8086:10d3")),
            directive("module_blacklist=igb,vfio", "vfio", Order::Forbid),
        ]),
        driverctl: Seen::Known(vec![Kept {
            file: "/etc/driverctl.d/pci-0000:01:00.0".to_owned(),
            address: at("0000:01:00.0"),
            driver: "vfio-pci".to_owned(),
        }]),
        framebuffers: Seen::Known(vec![Framebuffer {
            name: "BOOTFB".to_owned(),
            address: at("0000:01:00.0"),
        }]),
        asleep: vec![Asleep {
            address: at("0000:02:00.0"),
            allowed: false,
        }],
        nodes: Seen::Known(vec![Node {
            name: "vfio".to_owned(),
            mode: 0o666,
        }]),
        proxmox: Seen::default(),
        initramfs: Seen::Known(Some(Image {
            file: "/boot/initrd.img-6.12.9".to_owned(),
            older_than: vec!["/etc/initramfs-tools/modules".to_owned()],
            early: None,
        })),
        hung_task_panic: Seen::Known(true),
        memory_locks: Seen::Known(vec![
            lock("/etc/security/limits.d/kvm.conf:1", "@kvm", "1024 KiB"),
            lock("/etc/systemd/system.conf.d/x.conf:2", "services", "8M"),
        ]),
        lockdown: Seen::Known(Some("integrity".to_owned())),
        unit: Seen::Known(Unit::Disabled),
    };
    assert_eq!(surveyed(tree.root(), &root), expected);
    assert_eq!(
        proxmox(&root),
        Ok(Some(Proxmox {
            entries: vec![MapEntry {
                place: "/etc/pve/mapping/pci.cfg:2".to_owned(),
                mapping: "nic".to_owned(),
                path: "0000:01:00".to_owned(),
                id: "8086:10d3".to_owned(),
                subsystem: None,
                group: None,
            }],
            raw: vec![RawDevice {
                place: "/etc/pve/qemu-server/100.conf:1".to_owned(),
                path: "02:00".to_owned(),
            }],
        }))
    );
}

#[test]
fn what_is_not_there_is_known_not_to_be_there() {
    let facts = surveyed(Tree::new().root(), &Root::new());
    let missing = |what: &str| Seen::Unseen(format!("{what}: there is none"));
    assert_eq!(
        facts,
        HostFacts {
            kernel: KERNEL.to_owned(),
            parameters: known([]),
            iommus: known([]),
            tables: known([]),
            remapping: missing("/proc/interrupts"),
            modules: ["vfio", "vfio_iommu_type1", "vfio_pci", "vfio_virqfd"]
                .map(|name| (name.to_owned(), Module::Unknown))
                .into_iter()
                .collect(),
            listed: Seen::Known(Vec::new()),
            directives: Seen::Known(Vec::new()),
            driverctl: Seen::Known(Vec::new()),
            framebuffers: Seen::Unseen("/proc/iomem: there is none".to_owned()),
            nodes: Seen::Known(Vec::new()),
            initramfs: Seen::Known(None),
            hung_task_panic: Seen::Known(false),
            memory_locks: Seen::Known(Vec::new()),
            lockdown: Seen::Known(None),
            unit: Seen::Known(Unit::Missing),
            ..HostFacts::default()
        }
    );
    assert_eq!(proxmox(&Root::new()), Ok(None));
}

/// Reading a directory as a file fails also for root.
#[test]
fn what_cannot_be_read_is_told_with_the_file() {
    let root = Root::new();
    for path in [
        "/proc/cmdline",
        "/proc/interrupts",
        "/proc/iomem",
        "/proc/sys/kernel/hung_task_panic",
        "/etc/modules",
        "/etc/driverctl.d/0000:01:00.0",
        "/etc/security/limits.conf",
        "/etc/pve/mapping/pci.cfg",
    ] {
        root.put(&format!("{path}/inside"), "");
    }
    root.put("/usr/bin/pveversion", "");
    let facts = surveyed(Tree::new().root(), &root);
    let why = |path: &str| format!("{path}: is a directory");
    let unseen = |path: &str| Seen::Unseen(why(path));
    assert_eq!(facts.parameters, unseen("/proc/cmdline"));
    assert_eq!(facts.directives, Seen::Unseen(why("/proc/cmdline")));
    assert_eq!(facts.remapping, Seen::Unseen(why("/proc/interrupts")));
    assert_eq!(facts.framebuffers, Seen::Unseen(why("/proc/iomem")));
    assert_eq!(
        facts.hung_task_panic,
        Seen::Unseen(why("/proc/sys/kernel/hung_task_panic"))
    );
    assert_eq!(facts.listed, Seen::Unseen(why("/etc/modules")));
    assert_eq!(
        facts.driverctl,
        Seen::Unseen(why("/etc/driverctl.d/0000:01:00.0"))
    );
    assert_eq!(
        facts.memory_locks,
        Seen::Unseen(why("/etc/security/limits.conf"))
    );
    assert_eq!(proxmox(&root), Err(why("/etc/pve/mapping/pci.cfg")));
}

#[test]
fn the_boot_loader_is_the_one_that_the_command_line_is_written_in() {
    for (files, loader) in [
        (&["/etc/NIXOS", "/etc/default/grub"][..], Loader::Nixos),
        (&["/etc/default/grub"], Loader::Grub),
        (&["/etc/default/grub", "/etc/kernel/cmdline"], Loader::Grub),
        (&["/etc/kernel/cmdline"], Loader::SystemdBoot),
        (
            &["/etc/kernel/cmdline", "/etc/kernel/proxmox-boot-uuids"],
            Loader::ProxmoxBoot,
        ),
        // Started by a legacy BIOS: proxmox-boot-tool fills GRUB's files.
        (
            &[
                "/etc/kernel/cmdline",
                "/etc/kernel/proxmox-boot-uuids",
                "/etc/default/grub",
            ],
            Loader::Grub,
        ),
        (&[], Loader::Other),
    ] {
        let root = Root::new();
        for file in files {
            root.put(file, "");
        }
        let facts = surveyed(Tree::new().root(), &root);
        assert_eq!(facts.loader, loader, "{files:?}");
    }
    for (vendor, cpu) in [
        ("AuthenticAMD", Cpu::Amd),
        ("HygonGenuine", Cpu::Amd),
        ("CentaurHauls", Cpu::Other),
    ] {
        let root = Root::new();
        root.put("/proc/cpuinfo", &format!("vendor_id\t: {vendor}\n"));
        assert_eq!(surveyed(Tree::new().root(), &root).cpu, cpu);
    }
}

/// What the image of [`KERNEL`] holds.
fn held(root: &Root) -> Option<Holding> {
    let held = carried(root, KERNEL, "/boot/initrd.img-6.12.9").unwrap();
    held.map(|Carried { renew, holding }| {
        assert_eq!(renew, "update-initramfs -u -k 6.12.9");
        holding
    })
}

#[test]
fn an_image_is_compared_with_the_config_and_the_verdicts_of_now() {
    const STAMP: &str = "/var/lib/vfio-bindd/images/6.12.9";
    const HOOK: &str = "/usr/share/initramfs-tools/hooks/vfio-bindd";
    let root = Root::new();
    root.put("/boot/initrd.img-6.12.9", "");
    assert_eq!(held(&root), None);
    // The hook alone does nothing.
    root.put(HOOK, "");
    assert_eq!(held(&root), None);
    root.put("/usr/sbin/mkinitramfs", "");
    assert_eq!(held(&root), Some(Holding::Nothing));

    // The tree that an image is made of.
    let image = Root::new();
    let config = "/etc/vfio-bindd/config.toml";
    let drop_in = "/etc/vfio-bindd/config.d/10.toml";
    for part in [&root, &image] {
        part.put(config, "[protect]\n").put(drop_in, "");
    }
    let tree = image.place("/").to_str().unwrap().to_owned();
    let state = root.place("/var/lib/vfio-bindd");
    put_stamp(&ThisHost, &tree, &state, KERNEL).unwrap();
    let mode = fs::metadata(root.place(STAMP)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(held(&root), Some(Holding::Same));
    root.put(
        "/var/lib/vfio-bindd/verdicts.json",
        "{\"vfio-bindd-verdicts\": 1, \"boot_id\": \"a\", \"ready\": true, \"functions\": []}",
    );
    assert_eq!(held(&root), Some(Holding::OtherVerdicts));
    root.put(drop_in, "# more\n");
    assert_eq!(held(&root), Some(Holding::OtherConfig));
    root.put(drop_in, "");
    fs::remove_file(root.place(config)).unwrap();
    assert_eq!(held(&root), Some(Holding::OtherConfig));
    root.put(config, "[protect]\n");
    assert_eq!(held(&root), Some(Holding::OtherVerdicts));

    // One that was never finished, and one that nobody of this version wrote.
    root.aged("/boot/initrd.img-6.12.9", 1000);
    assert_eq!(held(&root), Some(Holding::Nothing));
    root.aged(STAMP, 1000);
    assert_eq!(held(&root), Some(Holding::OtherVerdicts));
    root.put(STAMP, "{}").aged(STAMP, 1000);
    assert_eq!(held(&root), Some(Holding::Nothing));
    // What cannot be read is not said to be well.
    fs::remove_file(root.place(config)).unwrap();
    fs::create_dir(root.place(config)).unwrap();
    put_stamp(&ThisHost, &tree, &state, KERNEL).unwrap();
    root.aged(STAMP, 1000);
    let error = carried(&root, KERNEL, "/boot/initrd.img-6.12.9").unwrap_err();
    assert!(
        error.starts_with("/etc/vfio-bindd/config.toml: "),
        "{error}"
    );

    // dracut's images have another command.
    fs::remove_file(root.place(HOOK)).unwrap();
    root.put("/usr/lib/dracut/modules.d/90vfio-bindd/module-setup.sh", "")
        .put("/usr/bin/dracut", "")
        .put(STAMP, "");
    let held = carried(&root, KERNEL, "/boot/initrd.img-6.12.9").unwrap();
    assert_eq!(held.unwrap().renew, "dracut --force --kver 6.12.9");
}
