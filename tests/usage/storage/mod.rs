//! Disks: each way in which a host can use one, and none.

mod listed;
mod live;
mod paths;
mod pools;
mod stacks;

use vfio_bindd::{
    kernel::usage::{Look, Tables, usage},
    policy::guard::judge,
};

use crate::fake_kernel::Fake;

const DISK: &str = "0000:01:00.0";
const TWIN: &str = "0000:02:00.0";

/// Two NVMe controllers with a disk each, of two partitions.
struct Host(Fake);

impl Host {
    fn new() -> Self {
        let host = Self(Fake::new(&["nvme"]));
        for (address, disk, minor) in [(DISK, "nvme0n1", 0), (TWIN, "nvme1n1", 8)] {
            let place = host.controller(address);
            host.0.block(&place, disk, &format!("259:{minor}"));
            host.udev(&format!("259:{minor}"), "E:ID_PART_TABLE_TYPE=gpt\n");
            for part in [1, 2] {
                let (place, name) = (format!("{place}/{disk}"), format!("{disk}p{part}"));
                let number = format!("259:{}", minor + part);
                host.0.block(&place, &name, &number);
                host.udev(&number, "I:1\n");
            }
        }
        host
    }

    /// Adds a controller; the place of its disks.
    fn controller(&self, address: &str) -> String {
        self.0
            .add("0000:00:01.0", address, &[("class", "0x010802")]);
        self.0.bind(address, "nvme");
        let number = address.get(6..7).unwrap();
        format!("pci0000:00/0000:00:01.0/{address}/nvme/nvme{number}")
    }

    /// Makes `name` of `of`.
    fn made_of(&self, name: &str, number: &str, of: &[&str]) {
        self.0.block("virtual/block", name, number);
        for below in of {
            self.0.link(
                &format!("class/block/{below}/holders/{name}"),
                &format!("../../../../{name}"),
            );
        }
    }

    /// Makes the device mapper's `name` of `of`; LVM's UUIDs begin with `LVM-`.
    fn mapped(&self, name: &str, number: &str, called: &str, uuid: &str, of: &[&str]) {
        self.made_of(name, number, of);
        self.0.file(
            &format!("class/block/{name}/dm/name"),
            &format!("{called}\n"),
        );
        self.0
            .file(&format!("class/block/{name}/dm/uuid"), &format!("{uuid}\n"));
    }

    fn file(&self, path: &str, text: &str) {
        self.0.host_file(path, text);
    }

    /// What udev knows of the block device with the number.
    fn udev(&self, number: &str, record: &str) {
        self.file(&format!("/run/udev/data/b{number}"), record);
    }

    fn evidence(&self, address: &str) -> Vec<String> {
        let facts = usage(
            Look {
                sysfs: &self.0,
                host: &self.0,
                tables: &Tables::default(),
            },
            address.parse().unwrap(),
        );
        let told = facts.iter().map(|fact| {
            let (guard, text) = judge(fact);
            format!("{}: {text}", guard.unwrap().name())
        });
        told.collect()
    }

    /// The disk has exactly this evidence, and its twin has none.
    #[track_caller]
    fn says(&self, wanted: &[&str]) {
        assert_eq!(self.evidence(DISK), wanted);
        assert_eq!(self.evidence(TWIN), Vec::<String>::new(), "the twin");
    }
}
