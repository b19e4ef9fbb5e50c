//! VFs that no native driver is to have: which those are, how the engine goes
//! about it, and what is written to a kernel that answers like the real one.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/drive.rs"]
mod drive;
#[path = "support/fake_kernel.rs"]
mod fake_kernel;
mod support;

use std::{collections::BTreeSet, fs, path::PathBuf};

use drive::{Drive, Engine, seen};
use fake_kernel::{Fake, Killed};
use support::{FunctionExt as _, at, inventory, nic};
use vfio_bindd::{
    engine::{
        event::{Effect, Event, Noted, Standing},
        report::Report,
        state::State,
    },
    kernel::{
        apply::apply,
        autoprobe::{give_back, withhold},
        order::{Order, Outcome, Return, Returned},
        restore::restore,
        undo::Journal,
    },
    pci::{
        address::Address,
        function::{Function, Inspection, Role},
        inventory::Inventory,
    },
    policy::{
        config::{Source, parse},
        knobs::Knobs,
        model::Policy,
        resolve::Held,
        vfs::all_wanted,
    },
};

const PF: &str = "0000:3b:00.0";
const VF: &str = "0000:3b:00.1";

/// A PF of Intel's that can have four VFs and has none, with an interface.
fn pf() -> Function {
    nic(PF).driver("e1000e").with(|function| {
        function.netdevs = vec!["enp59s0f0".to_owned()];
        function.role = Role::Pf {
            total_vfs: 4,
            vfs: Vec::new(),
        };
    })
}

fn vf() -> Function {
    let (pf, index) = (at(PF), Some(0));
    nic(VF).with(|function| function.role = Role::Vf { pf, index })
}

fn config(text: &str) -> Policy {
    let source = Source {
        name: "config.toml".to_owned(),
        text: text.to_owned(),
    };
    parse(&[source]).map(|config| config.policy).unwrap()
}

const ALL: &str = "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\" }\n";

#[test]
fn drivers_are_kept_away_where_every_vf_is_wanted_for_certain() {
    for (text, wanted) in [
        (ALL, true),
        (
            "[mapping.vfs]\nmatch = { vf_of = \"enp59s0f*\", kind = \"vf\" }\n",
            true,
        ),
        // How many there are and whether they are bound is another matter.
        (
            "[mapping.vfs]\nmatch = { vf_of = \"*\" }\nexpect = 2\npartial = true\n",
            true,
        ),
        (
            "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\", vf = \"0-3\" }\n",
            true,
        ),
        (
            "[mapping.aa]\nmatch = { vf_of = \"3b:00.0\", vf = \"0,2-9\" }\n\
          [mapping.bb]\nmatch = [{ id = \"10de:*\" }, { vf_of = \"3b:00.0\", vf = 1 }]\n",
            true,
        ),
        // One is left to the host.
        (
            "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\", vf = \"1-3\" }\n",
            false,
        ),
        (
            "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\" }\ntake = 3\n",
            false,
        ),
        // Or may be.
        (
            "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\", numa = 1 }\n",
            false,
        ),
        (
            "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\", kind = [\"pf\", \"plain\"] }\n",
            false,
        ),
        ("[mapping.vfs]\nmatch = { vf_of = \"3c:00.0\" }\n", false),
        ("[mapping.vfs]\nmatch = { kind = \"vf\" }\n", false),
        ("[mapping.vfs]\nmatch = { id = \"8086:10d3\" }\n", false),
        ("", false),
    ] {
        let found = all_wanted(&inventory([pf(), nic("0000:01:00.0")]), &config(text));
        let wanted: BTreeSet<_> = wanted.then(|| at(PF)).into_iter().collect();
        assert_eq!(found, wanted, "{text}");
    }
    let none = pf().with(|function| {
        function.role = Role::Pf {
            total_vfs: 0,
            vfs: Vec::new(),
        };
    });
    assert_eq!(
        all_wanted(&inventory([none]), &config(ALL)),
        BTreeSet::new()
    );
}

#[test]
fn what_may_be_protected_or_excluded_may_need_its_driver() {
    for (selector, wanted) in [
        ("{ kind = \"pf\" }", true),
        ("{ vf_of = \"3c:00.0\" }", true),
        ("{ vf_of = \"enp59s0f1\" }", true),
        ("{ id = \"10de:*\" }", true),
        ("{ address = \"0000:00:1f.*\" }", true),
        ("{ address = \"0001:3b:00.1\" }", true),
        ("{ address = [\"0000:00:1f.*\", \"3b:00.1\"] }", false),
        ("{ address = \"3c:*\" }", false),
        ("{ vf_of = \"3b:00.0\", vf = 0 }", false),
        ("{ id = \"8086:*\" }", false),
        ("{ id = \"*:10ca\" }", false),
        ("{ class = \"nvme\" }", false),
        ("{ class = \"nvme\", kind = \"plain\" }", true),
        ("{ serial = \"00-*\" }", false),
    ] {
        let protect = format!("{ALL}[protect]\nmatch = {selector}\n");
        let exclude = format!("{ALL}exclude = {selector}\n");
        for text in [protect, exclude] {
            let found = all_wanted(&inventory([pf()]), &config(&text));
            assert_eq!(found.contains(&at(PF)), wanted, "{text}");
        }
    }
}

/// A host that does what it is asked, and keeps of each PF whether drivers are
/// kept from its VFs.
struct Host {
    engine: Engine,
    inventory: Inventory,
    fails: bool,
    done: Vec<String>,
    reports: Vec<Report>,
}

impl Host {
    fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        Self {
            engine: Engine::new(State::new(Held::new(), false).awaiting_journal()),
            inventory: functions.into_iter().collect(),
            fails: false,
            done: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn start(&mut self, entries: Vec<Noted>, text: &str) {
        self.event(Event::Config(Ok(config(text))));
        assert_eq!(self.done(), "");
        self.event(Event::Journal {
            entries,
            trouble: Vec::new(),
        });
    }

    fn done(&mut self) -> String {
        std::mem::take(&mut self.done).join(", ")
    }
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Scan | Effect::Observe(_) => seen(&self.inventory, &effect),
            Effect::Inspect { address, .. } => {
                let inspection = Some(Inspection::default());
                Some(Event::Inspected(address, Ok(inspection)))
            }
            Effect::Withhold { pf, withhold } => {
                let what = if withhold { "withhold" } else { "give back" };
                self.done.push(format!("{what} {pf}"));
                let result = if self.fails {
                    Err("input/output error".to_owned())
                } else {
                    Ok(true)
                };
                Some(Event::Withholding(pf, result))
            }
            Effect::Report(report) => {
                self.reports.push(report);
                None
            }
            _ => None,
        }
    }
}

#[test]
fn drivers_are_kept_from_vfs_before_there_are_any_and_until_nobody_wants_them() {
    let mut host = Host::new([pf(), nic("0000:01:00.0")]);
    host.start(Vec::new(), ALL);
    assert_eq!(host.done(), format!("withhold {PF}"));
    assert!(host.reports.contains(&Report::Withholding {
        pf: at(PF),
        withhold: true,
    }));
    // Once is enough, until something is new there.
    host.event(Event::Changed(at("0000:01:00.0")));
    host.event(Event::Audit);
    assert_eq!(host.done(), "");
    host.event(Event::Changed(at(PF)));
    assert_eq!(host.done(), format!("withhold {PF}"));
    host.event(Event::Overrun);
    assert_eq!(host.done(), format!("withhold {PF}"));
    host.event(Event::Config(Ok(Policy::default())));
    assert_eq!(host.done(), format!("give back {PF}"));
    host.event(Event::Audit);
    assert_eq!(host.done(), "");
    // Another card has a setting of its own.
    host.event(Event::Config(Ok(config(ALL))));
    assert_eq!(host.done(), format!("withhold {PF}"));
    host.inventory.remove(at(PF));
    host.event(Event::Removed(at(PF)));
    assert_eq!(host.done(), "");
    host.inventory.insert(pf());
    host.event(Event::Changed(at(PF)));
    assert_eq!(host.done(), format!("withhold {PF}"));
}

#[test]
fn what_an_earlier_daemon_kept_away_and_nobody_wants_comes_back() {
    let mut host = Host::new([pf()]);
    host.event(Event::Withheld(vec![at(PF)]));
    host.start(Vec::new(), "");
    assert_eq!(host.done(), format!("give back {PF}"));
}

#[test]
fn a_pf_whose_interface_is_away_while_its_driver_is_loaded_again_is_not_let_go() {
    let mut host = Host::new([pf()]);
    host.start(
        Vec::new(),
        "[mapping.vfs]\nmatch = { vf_of = \"enp59s0f0\" }\n",
    );
    assert_eq!(host.done(), format!("withhold {PF}"));
    let names = |host: &mut Host, names: &[&str]| {
        let function = host.inventory.get_mut(at(PF)).unwrap();
        function.netdevs = names.iter().map(|&name| name.to_owned()).collect();
        host.event(Event::Interface(at(PF)));
    };
    for interfaces in [&[][..], &["eth0"], &["enp59s0f0"], &["uplink"]] {
        names(&mut host, interfaces);
        assert_eq!(host.done(), "", "{interfaces:?}");
    }
    // It has another name for good.
    host.event(Event::Audit);
    assert_eq!(host.done(), format!("give back {PF}"));
    names(&mut host, &["enp59s0f0"]);
    assert_eq!(host.done(), format!("withhold {PF}"));
}

#[test]
fn the_host_gets_drivers_for_vfs_that_it_has_back() {
    let mut host = Host::new([pf(), vf()]);
    let released = Noted {
        address: at(VF),
        mappings: vec!["vfs".to_owned()],
        standing: Standing::Released,
        tuned: false,
    };
    host.event(Event::Withheld(vec![at(PF)]));
    host.start(vec![released], ALL);
    assert_eq!(host.done(), format!("give back {PF}"));
}

#[test]
fn what_cannot_be_written_is_told_and_tried_again_at_audits() {
    let mut host = Host::new([pf()]);
    host.fails = true;
    host.start(Vec::new(), ALL);
    assert_eq!(host.done(), format!("withhold {PF}"));
    assert!(
        host.reports
            .iter()
            .any(|report| matches!(report, Report::NotWithholding { .. }))
    );
    host.event(Event::Rescan);
    assert_eq!(host.done(), format!("withhold {PF}"));
    host.fails = false;
    host.event(Event::Audit);
    assert_eq!(host.done(), format!("withhold {PF}"));
    host.event(Event::Audit);
    assert_eq!(host.done(), "");
}

#[test]
fn a_dry_run_leaves_vfs_to_their_drivers() {
    let mut host = Host::new([pf()]);
    host.engine = Engine::new(State::new(Held::new(), true).awaiting_journal());
    host.start(Vec::new(), ALL);
    assert_eq!(host.done(), "");
}

/// A kernel with a PF that has one VF.
struct Card {
    fake: Fake,
    folder: tempfile::TempDir,
}

impl Card {
    fn new(probe: &str) -> Self {
        let fake = Fake::new(&["vfio-pci", "e1000e"]);
        fake.add("0000:00:01.0", PF, &[("sriov_drivers_autoprobe", probe)]);
        fake.add("0000:00:01.0", VF, &[]);
        fake.link(&format!("bus/pci/devices/{VF}/physfn"), &format!("../{PF}"));
        let folder = tempfile::tempdir().unwrap();
        Self { fake, folder }
    }

    fn undo(&self) -> PathBuf {
        self.folder.path().join("undo")
    }

    fn withhold(&self) -> bool {
        let undo = self.undo();
        self.fake
            .look(|look| withhold(look, at(PF), &undo))
            .unwrap()
    }

    fn give_back(&self) -> bool {
        let undo = self.undo();
        self.fake
            .look(|look| give_back(look, at(PF), &undo))
            .unwrap()
    }

    fn write(&self, value: &str) {
        let place = format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe");
        self.fake.file(&place, &format!("{value}\n"));
    }

    fn value(&self) -> String {
        let place = format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe");
        let bytes = vfio_bindd::kernel::sysfs::Sysfs::read(&self.fake, &place).unwrap();
        String::from_utf8(bytes).unwrap().trim().to_owned()
    }

    fn kept(&self) -> Vec<Address> {
        let journal = Journal::new(&self.undo());
        journal.withheld(&self.fake, false).unwrap()
    }
}

#[test]
fn the_value_is_put_back_and_only_ours() {
    let card = Card::new("1");
    assert_eq!(card.kept(), []);
    assert!(card.withhold());
    assert_eq!((card.value().as_str(), card.kept()), ("0", vec![at(PF)]));
    assert!(!card.withhold(), "it is 0 already");
    assert!(card.give_back());
    assert_eq!((card.value().as_str(), card.kept()), ("1", vec![]));
    assert!(!card.give_back());
    // Somebody else let drivers come again.
    assert!(card.withhold());
    card.write("1");
    assert!(!card.withhold());
    assert_eq!(card.value(), "1");
    assert!(!card.give_back());
    assert_eq!(card.kept(), []);
    // Somebody else kept them away before.
    let card = Card::new("0");
    assert!(!card.withhold());
    assert_eq!(card.kept(), []);
    assert!(!card.give_back());
    assert_eq!(card.value(), "0");
}

#[test]
fn one_without_sr_iov_is_left_alone_and_so_is_another_card() {
    let fake = Fake::new(&[]);
    fake.add("0000:00:01.0", PF, &[]);
    let folder = tempfile::tempdir().unwrap();
    assert!(
        !fake
            .look(|look| withhold(look, at(PF), folder.path()))
            .unwrap()
    );
    assert_eq!(fake.writes(), [""; 0]);
    // A card of the same kind that came since, and which somebody keeps drivers
    // from.
    let card = Card::new("1");
    assert!(card.withhold());
    card.fake.replug(PF);
    card.write("0");
    assert!(!card.give_back());
    assert_eq!((card.value().as_str(), card.kept()), ("0", vec![]));
}

#[test]
fn it_can_be_broken_off_anywhere_and_begun_again() {
    for killed in [Killed::BeforeIt, Killed::AfterIt] {
        let card = Card::new("1");
        card.fake
            .with(|kernel| kernel.killed_at = Some((0, killed)));
        assert_eq!(card.fake.mortal(|| card.withhold()), None);
        assert_eq!(card.kept(), [at(PF)]);
        card.withhold();
        assert_eq!(card.value(), "0", "{killed:?}");
        card.fake
            .with(|kernel| kernel.killed_at = Some((0, killed)));
        assert_eq!(card.fake.mortal(|| card.give_back()), None);
        // Wanted again, or not.
        card.withhold();
        assert_eq!(card.value(), "0", "{killed:?}");
        assert!(card.give_back());
        assert_eq!((card.value().as_str(), card.kept()), ("1", vec![]));
    }
}

#[test]
fn another_boots_files_are_not_counted_and_are_tidied_up() {
    let card = Card::new("1");
    assert!(card.withhold());
    let boot = "/proc/sys/kernel/random/boot_id";
    card.fake.host_file(boot, "another-boot\n");
    assert_eq!(card.kept(), []);
    let journal = Journal::new(&card.undo());
    let entries = journal.contents(&card.fake, &card.fake, true).entries;
    assert_eq!(entries, [], "it is no function that was taken");
    assert_eq!(fs::read_dir(card.undo()).unwrap().count(), 1);
    assert_eq!(journal.withheld(&card.fake, true).unwrap(), []);
    assert_eq!(fs::read_dir(card.undo()).unwrap().count(), 0);
}

#[test]
fn a_vf_that_the_host_gets_back_gets_its_native_driver() {
    let card = Card::new("1");
    card.fake.bind(VF, "e1000e");
    let place = format!("../../devices/pci0000:00/0000:00:01.0/{VF}/net/enp59s0f0v0");
    card.fake.link("class/net/enp59s0f0v0", &place);
    card.fake.file("class/net/enp59s0f0v0/flags", "0x1002\n");
    card.fake.file("class/net/enp59s0f0v0/ifindex", "2\n");
    card.fake.file("class/vfio/7/dev", "240:0\n");
    assert!(card.withhold());
    let order = Order {
        address: at(VF),
        id: "8086:10d3".parse().unwrap(),
        driver: "vfio-pci".to_owned(),
        module: None,
        detach: Some("e1000e".to_owned()),
        allow: BTreeSet::new(),
        knobs: Knobs::default(),
        mappings: vec!["vfs".to_owned()],
        undo: Some(card.undo()),
    };
    // vfio-pci does not want it: the native driver has it again.
    card.fake
        .with(|kernel| kernel.bad_probe = BTreeSet::from([VF.to_owned()]));
    let failed = card.fake.look(|look| apply(look, &card.fake, &order));
    assert!(matches!(failed, Outcome::Failed { .. }), "{failed:?}");
    assert_eq!(card.fake.driver(VF).as_deref(), Some("e1000e"));
    assert_eq!((card.value().as_str(), card.kept()), ("1", vec![]));
    // It does, and is to let it go.
    card.fake.with(|kernel| kernel.bad_probe.clear());
    assert!(card.withhold());
    let bound = card.fake.look(|look| apply(look, &card.fake, &order));
    assert!(matches!(bound, Outcome::Bound { .. }), "{bound:?}");
    let back = Return {
        address: at(VF),
        together: vec![at(VF)],
        undo: card.undo(),
    };
    let back = card.fake.look(|look| restore(look, &card.fake, &back));
    let native = Some("e1000e".to_owned());
    assert_eq!(back, Returned::Given { driver: native });
    assert_eq!((card.value().as_str(), card.kept()), ("1", vec![]));
}
