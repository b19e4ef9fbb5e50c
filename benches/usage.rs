//! How long it takes to find out what a large host uses: 64 functions, 20 disks
//! of four partitions, 200 mounts, in a directory that looks like the host.
//!
//! Prints the median of many runs; nothing is asserted, machines are noisy.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and may fail loudly"
)]

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use vfio_bindd::{
    kernel::{
        host::{Host, Network, Open, OpenNode, Stat},
        sysfs::HostSysfs,
        usage::{Look, Tables, usage},
    },
    pci::address::Address,
};

const FUNCTIONS: u32 = 64;
const DISKS: u32 = 20;
const PARTITIONS: u32 = 4;
const MOUNTS: u32 = 200;
const RUNS: u32 = 101;
/// Nodes that processes have open.
const OPEN: u32 = 1000;

/// Attributes of a function that a kernel shows and a scan passes by.
const ATTRIBUTES: &[&str] = &[
    "vendor",
    "device",
    "config",
    "resource",
    "irq",
    "enable",
    "rom",
    "uevent",
    "remove",
    "rescan",
    "modalias",
    "msi_bus",
    "numa_node",
    "power_state",
    "revision",
    "local_cpus",
];

/// A host below a directory.
struct Below(PathBuf);

impl Below {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }
}

impl Host for Below {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.at(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(path))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        fs::metadata(self.at(path)).map(|_| Stat::default())
    }

    fn open_exclusively(&self, disk: &str) -> io::Result<()> {
        fs::File::open(self.at(&format!("dev/{disk}"))).map(drop)
    }

    fn open_nodes(&self) -> io::Result<Open> {
        let node = |minor| OpenNode {
            block: minor % 10 == 0,
            device: (1, minor),
            writing: true,
            process: format!("process (pid {minor})"),
        };
        Ok(Open {
            nodes: (0..OPEN).map(node).collect(),
            vfio_devices: Vec::new(),
        })
    }

    fn network(&self) -> io::Result<Network> {
        Ok(Network::default())
    }
}

impl Below {
    fn file(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn folder(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// The function number `index` with its attributes; its place.
    fn function(&self, index: u32, class: &str, driver: &str) -> String {
        let address = address(index);
        let place = format!("devices/pci0000:00/{address}");
        for name in ATTRIBUTES {
            self.file(&format!("sys/{place}/{name}"), "0x0000\n");
        }
        self.file(&format!("sys/{place}/class"), &format!("{class}\n"));
        self.folder(&format!("sys/{place}/power"));
        self.folder(&format!("sys/{place}/msi_irqs"));
        self.folder(&format!("sys/{place}/link"));
        self.link(
            &format!("sys/{place}/driver"),
            &format!("../../../bus/pci/drivers/{driver}"),
        );
        self.link(&format!("sys/{place}/subsystem"), "../../../bus/pci");
        self.link(
            &format!("sys/bus/pci/devices/{address}"),
            &format!("../../../{place}"),
        );
        place
    }

    /// A device of `class` at `place`, as all have it.
    fn device(&self, place: &str, class: &str, number: Option<(u32, u32)>) {
        let name = place.rsplit('/').next().unwrap();
        let up = "../".repeat(place.split('/').count());
        self.link(
            &format!("sys/{place}/subsystem"),
            &format!("{up}class/{class}"),
        );
        self.link(
            &format!("sys/class/{class}/{name}"),
            &format!("../../{place}"),
        );
        self.folder(&format!("sys/{place}/power"));
        self.file(&format!("sys/{place}/uevent"), "\n");
        if let Some((major, minor)) = number {
            self.file(&format!("sys/{place}/dev"), &format!("{major}:{minor}\n"));
        }
    }

    /// A disk or partition, and what udev knows of it.
    fn block(&self, place: &str, minor: u32, carries: &str) {
        self.device(place, "block", Some((259, minor)));
        for folder in ["holders", "trace", "integrity"] {
            self.folder(&format!("sys/{place}/{folder}"));
        }
        let mut record = String::from("I:1234567\n");
        for link in [
            "by-id/nvme-eui",
            "by-id/nvme-Model_Serial",
            "by-path/pci",
            "by-uuid/u",
        ] {
            writeln!(record, "S:disk/{link}-{minor}").unwrap();
        }
        for value in 0..20 {
            writeln!(record, "E:ID_VALUE_{value}=something of the disk").unwrap();
        }
        writeln!(
            record,
            "E:ID_FS_TYPE={carries}\nE:ID_FS_UUID=0a1b-{minor:04x}"
        )
        .unwrap();
        self.file(&format!("run/udev/data/b259:{minor}"), &record);
    }

    /// An NVMe controller with its disk; every second one is mounted somewhere.
    fn disk(&self, index: u32) {
        let controller = self.function(index, "0x010802", "nvme");
        let controller = format!("{controller}/nvme/nvme{index}");
        self.device(&controller, "nvme", Some((240, index)));
        self.device(
            &format!("{controller}/ng{index}n1"),
            "nvme-generic",
            Some((241, index)),
        );
        self.device(&format!("{controller}/hwmon{index}"), "hwmon", None);
        let name = format!("nvme{index}n1");
        let disk = format!("{controller}/{name}");
        let minor = index * 8;
        self.block(&disk, minor, "");
        self.folder(&format!("sys/{disk}/slaves"));
        self.folder(&format!("sys/{disk}/queue"));
        for queue in 0..32 {
            self.folder(&format!("sys/{disk}/mq/{queue}"));
        }
        self.file(&format!("dev/{name}"), "");
        for part in 1..=PARTITIONS {
            let part_place = format!("{disk}/{name}p{part}");
            self.block(&part_place, minor + part, "ext4");
            self.file(&format!("sys/{part_place}/partition"), "1\n");
        }
        if index.is_multiple_of(2) {
            let mapped = format!("devices/virtual/block/dm-{index}");
            self.device(&mapped, "block", Some((254, index)));
            self.folder(&format!("sys/{mapped}/holders"));
            self.file(&format!("sys/{mapped}/dm/name"), &format!("vg-lv{index}\n"));
            self.file(&format!("sys/{mapped}/dm/uuid"), "LVM-x\n");
            let holder = format!("sys/{disk}/{name}p4/holders/dm-{index}");
            self.link(&holder, &format!("../../../../{mapped}"));
        }
    }

    /// A network card with an interface.
    fn nic(&self, index: u32) {
        let place = self.function(index, "0x020000", "ice");
        let place = format!("{place}/net/eth{index}");
        self.device(&place, "net", None);
        self.file(&format!("sys/{place}/flags"), "0x1002\n");
        for queue in 0..32 {
            self.folder(&format!("sys/{place}/queues/rx-{queue}"));
            self.folder(&format!("sys/{place}/queues/tx-{queue}"));
        }
        self.folder(&format!("sys/{place}/statistics"));
    }

    /// What is beside sysfs.
    fn tables(&self) {
        let mut mounts = String::new();
        let mut fstab = String::from("# device on type options\n");
        for index in 0..MOUNTS {
            let (disk, part) = (index % DISKS, 1 + index % PARTITIONS);
            let minor = disk * 8 + part;
            writeln!(
                mounts,
                "{index} 1 259:{minor} /{index} /srv/volumes/{index} rw,relatime shared:{index} - \
                 ext4 /dev/nvme{disk}n1p{part} rw,errors=remount-ro"
            )
            .unwrap();
            writeln!(
                fstab,
                "UUID=0a1b-{minor:04x} /srv/{index} ext4 defaults 0 2"
            )
            .unwrap();
        }
        self.file("proc/1/mountinfo", &mounts);
        self.file("etc/fstab", &fstab);
        self.file("proc/swaps", "Filename Type\n/dev/dm-0 partition 1 0 -2\n");
        self.file("proc/cmdline", "root=/dev/mapper/vg-lv0 ro quiet\n");
        self.file("etc/crypttab", "crypt UUID=0a1b-0002 none luks\n");
        self.file("etc/mdadm/mdadm.conf", "ARRAY /dev/md0 UUID=1:2:3:4\n");
        self.file("etc/systemd/system/srv.mount", "[Mount]\nWhat=LABEL=x\n");
    }
}

fn address(index: u32) -> Address {
    format!("0000:{:02x}:{:02x}.0", index / 8, index % 8)
        .parse()
        .unwrap()
}

/// A host in `folder`: disks, then cards.
fn host(folder: &Path) -> Below {
    let host = Below(folder.to_owned());
    (0..DISKS).for_each(|index| host.disk(index));
    (DISKS..FUNCTIONS).for_each(|index| host.nic(index));
    host.tables();
    host
}

/// The time that this thread was on a processor
/// (Documentation/scheduler/sched-stats.rst), which the kernel counts at ticks:
/// only that of many runs says something.
fn processor_time() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let time = times.split_whitespace().next().unwrap();
    Duration::from_nanos(time.parse().unwrap())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let sysfs = HostSysfs::new(&folder.path().join("sys"));
    let mut facts = 0;
    let mut passed = Vec::new();
    let before = processor_time();
    for _ in 0..RUNS {
        let start = Instant::now();
        let tables = Tables::default();
        let look = Look {
            sysfs: &sysfs,
            host: &host,
            tables: &tables,
        };
        let all = (0..FUNCTIONS).map(|index| black_box(usage(look, address(index))).len());
        facts = all.sum();
        passed.push(start.elapsed());
    }
    let busy = (processor_time() - before) / RUNS;
    println!(
        "figure: usage of {FUNCTIONS} functions, {DISKS} disks, {MOUNTS} mounts: {busy:.1?} of \
         processor time, {:.1?} passed, {facts} facts",
        median(passed)
    );
}
