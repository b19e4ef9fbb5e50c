//! A host with one function of which the tests ask.

use vfio_bindd::{
    kernel::{host::OpenNode, usage::usage},
    policy::guard::judge,
};

use crate::fake_kernel::Fake;

pub(crate) const ADDRESS: &str = "0000:01:00.0";
const PORT: &str = "0000:00:01.0";

/// The function and its host.
pub(crate) struct One(pub(crate) Fake);

impl One {
    /// A function of this class, held by `driver`.
    pub(crate) fn new(class: &str, driver: &str) -> Self {
        let one = Self::without_driver(class);
        one.0.bind(ADDRESS, driver);
        one
    }

    pub(crate) fn without_driver(class: &str) -> Self {
        let fake = Fake::new(&["vfio-pci"]);
        fake.add(PORT, ADDRESS, &[("class", &format!("0x{class}"))]);
        Self(fake)
    }

    fn place(path: &str) -> String {
        format!("devices/pci0000:00/{PORT}/{ADDRESS}/{path}")
    }

    /// A device of `subsystem` at `path` below the function, with attributes.
    pub(crate) fn device(&self, subsystem: &str, path: &str, attributes: &[(&str, &str)]) {
        let name = path.rsplit('/').next().unwrap();
        let place = Self::place(path);
        let link = format!("class/{subsystem}/{name}");
        self.0.link(&link, &format!("../../{place}"));
        for (attribute, value) in attributes {
            self.set(&format!("{path}/{attribute}"), value);
        }
    }

    /// An attribute below the function.
    pub(crate) fn set(&self, path: &str, value: &str) {
        self.0.file(&Self::place(path), &format!("{value}\n"));
    }

    /// Reading the attribute below the function says EIO.
    pub(crate) fn breaks(&self, path: &str) {
        let path = Self::place(path);
        self.0.with(|kernel| kernel.broken.insert(path));
    }

    /// A file of the host.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let (path, text) = (path.to_owned(), text.to_owned());
        self.0.with(|kernel| kernel.host_files.insert(path, text));
    }

    /// A file or directory of the host that must not be read.
    pub(crate) fn forbid(&self, path: &str) {
        let path = path.to_owned();
        self.0.with(|kernel| kernel.forbidden.insert(path));
    }

    /// A process has a character device open.
    pub(crate) fn opens(&self, process: &str, device: (u32, u32), writing: bool) {
        let node = OpenNode {
            block: false,
            device,
            writing,
            process: process.to_owned(),
        };
        let add = |nodes: &mut Vec<_>| nodes.push(node);
        self.0.with(|kernel| kernel.open_nodes.as_mut().map(add));
    }

    /// What the host does with it: the guard, and the evidence.
    pub(crate) fn uses(&self) -> Vec<String> {
        let facts = self.0.look(|look| usage(look, ADDRESS.parse().unwrap()));
        facts
            .iter()
            .map(|fact| {
                let (guard, text) = judge(fact);
                format!("{}: {text}", guard.map_or("-", |guard| guard.name()))
            })
            .collect()
    }
}

/// A case of a table: what it is, how the host comes to it, and what is found.
pub(crate) type Case = (&'static str, fn(&One), &'static [&'static str]);

/// Each case on a host of its own.
pub(crate) fn check(host: fn() -> One, cases: &[Case]) {
    for (what, change, wanted) in cases {
        let host = host();
        change(&host);
        assert_eq!(host.uses(), *wanted, "{what}");
    }
}
