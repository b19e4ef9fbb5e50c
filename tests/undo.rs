//! The undo journal and the way back, against a kernel that answers like the
//! real one and real files; also where either is killed half-way.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/fake_kernel.rs"]
mod fake_kernel;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use fake_kernel::{Fake, Killed};
use tempfile::TempDir;
use vfio_bindd::{
    kernel::{
        apply::apply,
        host::OpenNode,
        order::{Order, Outcome, Return, Returned, Step},
        restore::restore,
        undo::{Entry, Journal, Phase},
    },
    pci::address::Address,
    policy::knobs::Knobs,
};

const NIC: &str = "0000:01:00.0";
const TWIN: &str = "0000:02:00.0";
const OTHER_BOOT: &str = "another-boot";

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// What a function may be before it is taken: its driver and its override.
type Before = (Option<&'static str>, Option<&'static str>);

const BEFORE: [Before; 4] = [
    (None, None),
    (Some("e1000e"), None),
    // Somebody else wanted it there, too, and goes on wanting it.
    (None, Some("vfio-pci")),
    (Some("e1000e"), Some("vfio-pci")),
];

struct Host {
    fake: Fake,
    folder: TempDir,
}

impl Host {
    fn new((driver, driver_override): Before) -> Self {
        let fake = Fake::new(&["vfio-pci", "e1000e"]);
        fake.add("0000:00:01.0", NIC, &[]);
        fake.add("0000:00:02.0", TWIN, &[]);
        if let Some(driver) = driver {
            fake.bind(NIC, driver);
        }
        if let Some(driver) = driver_override {
            fake.set_override(NIC, driver);
        }
        // Without an interface it could be anywhere.
        let place = format!("../../devices/pci0000:00/0000:00:01.0/{NIC}/net/enp1s0");
        fake.link("class/net/enp1s0", &place);
        fake.file("class/net/enp1s0/flags", "0x1002\n");
        fake.file("class/net/enp1s0/ifindex", "2\n");
        fake.file("class/vfio/7/dev", "240:0\n");
        let folder = tempfile::tempdir().unwrap();
        Self { fake, folder }
    }

    fn undo(&self) -> PathBuf {
        self.folder.path().join("undo")
    }

    fn file(&self) -> PathBuf {
        self.undo().join(format!("{NIC}.json"))
    }

    fn entry(&self) -> Entry {
        let journal = Journal::new(&self.undo());
        journal.read(at(NIC)).unwrap().unwrap()
    }

    /// Applies as it would be planned now.
    fn apply(&self) -> Outcome {
        self.apply_into(&self.undo())
    }

    fn apply_into(&self, undo: &Path) -> Outcome {
        let native = self.fake.driver(NIC).filter(|driver| driver != "vfio-pci");
        let order = Order {
            address: at(NIC),
            id: "8086:10d3".parse().unwrap(),
            driver: "vfio-pci".to_owned(),
            module: None,
            detach: native,
            allow: BTreeSet::new(),
            knobs: Knobs::default(),
            mappings: vec!["nic".to_owned()],
            undo: Some(undo.to_owned()),
        };
        self.fake.look(|look| apply(look, &self.fake, &order))
    }

    fn restore(&self) -> Returned {
        self.restore_with(&[])
    }

    fn restore_with(&self, together: &[&str]) -> Returned {
        let order = Return {
            address: at(NIC),
            together: together.iter().map(|address| at(address)).collect(),
            undo: self.undo(),
        };
        self.fake.look(|look| restore(look, &self.fake, &order))
    }

    fn now(&self) -> (Option<String>, Option<String>) {
        (self.fake.driver(NIC), self.fake.override_of(NIC))
    }

    fn taken(before: Before) -> Self {
        let host = Self::new(before);
        assert!(matches!(host.apply(), Outcome::Bound { .. }), "{before:?}");
        host.is_taken("it was taken");
        host
    }

    #[track_caller]
    fn is_taken(&self, how: &str) {
        let vfio = Some("vfio-pci".to_owned());
        assert_eq!(self.now(), (vfio.clone(), vfio), "{how}");
        assert_eq!(self.entry().phase, Phase::Taken, "{how}");
    }

    #[track_caller]
    fn is_as_before(&self, (driver, driver_override): Before, how: &str) {
        let before = (
            driver.map(str::to_owned),
            driver_override.map(str::to_owned),
        );
        assert_eq!(self.now(), before, "{how}");
        assert_eq!(self.entry().phase, Phase::Released, "{how}");
    }
}

fn given(before: Before) -> Returned {
    let driver = before.0.map(str::to_owned);
    Returned::Given { driver }
}

#[test]
fn what_it_was_is_on_the_disk_before_the_first_write() {
    for before in BEFORE {
        let host = Host::new(before);
        host.fake
            .with(|kernel| kernel.killed_at = Some((0, Killed::BeforeIt)));
        assert_eq!(host.fake.mortal(|| host.apply()), None, "{before:?}");
        assert_eq!(host.fake.writes(), Vec::<String>::new());
        let entry = host.entry();
        assert_eq!(entry.phase, Phase::Taken);
        assert_eq!(entry.former.driver.as_deref(), before.0);
        assert_eq!(entry.former.driver_override.as_deref(), before.1);
        assert_eq!(entry.driver, "vfio-pci");
        assert_eq!(entry.mappings, ["nic"]);
        assert_eq!(entry.function.boot, "a-boot");
        assert_eq!(entry.function.id.to_string(), "8086:10d3");
        assert_eq!(entry.function.path, "0000:00:01.0/00.0");
        let names: Vec<_> = fs::read_dir(host.undo()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing half written is left: {names:?}");
    }
}

#[test]
fn a_function_is_given_back_exactly() {
    for before in BEFORE {
        let host = Host::taken(before);
        assert_eq!(host.restore(), given(before));
        host.is_as_before(before, "after the restore");
        assert_eq!(host.fake.driver(TWIN), None);
        let writes = host.fake.writes().len();
        assert_eq!(host.restore(), given(before));
        assert_eq!(host.fake.writes().len(), writes, "a second time is none");
        // And taken once more: what it is now counts.
        assert!(matches!(host.apply(), Outcome::Bound { .. }));
        host.is_taken("after another apply");
        assert_eq!(host.restore(), given(before));
        host.is_as_before(before, "after another restore");
    }
}

#[test]
fn the_override_goes_before_the_driver_does() {
    let host = Host::taken((Some("e1000e"), None));
    let before = host.fake.writes().len();
    host.restore();
    assert_eq!(
        host.fake.writes()[before..],
        [
            "bus/pci/devices/0000:01:00.0/driver_override=",
            "bus/pci/drivers/vfio-pci/unbind=0000:01:00.0",
            "bus/pci/drivers/e1000e/bind=0000:01:00.0",
        ]
    );
}

/// Runs `work` on fresh hosts, killed at each of its writes, before and after
/// it; `then` goes on with what is left. Says how often.
fn killed_everywhere(
    before: Before,
    prepare: impl Fn(Before) -> Host,
    work: impl Fn(&Host),
    then: impl Fn(&Host, &str),
) -> u32 {
    let mut kills = 0;
    for when in [Killed::BeforeIt, Killed::AfterIt] {
        for write in 0.. {
            let host = prepare(before);
            host.fake
                .with(|kernel| kernel.killed_at = Some((write, when)));
            if host.fake.mortal(|| work(&host)).is_some() {
                break;
            }
            kills += 1;
            then(
                &host,
                &format!("{before:?}, killed at write {write}, {when:?}"),
            );
        }
    }
    kills
}

#[test]
fn an_apply_that_is_killed_anywhere_can_be_finished_or_undone() {
    let mut kills = 0;
    for before in BEFORE {
        let apply = |host: &Host| drop(host.apply());
        kills += killed_everywhere(before, Host::new, apply, |host, how| {
            let outcome = host.apply();
            let done = matches!(outcome, Outcome::Bound { .. } | Outcome::AlreadyBound);
            assert!(done, "{how}: {outcome:?}");
            host.is_taken(how);
            assert_eq!(host.restore(), given(before), "{how}");
            host.is_as_before(before, how);
        });
        kills += killed_everywhere(before, Host::new, apply, |host, how| {
            assert_eq!(host.restore(), given(before), "{how}");
            host.is_as_before(before, how);
        });
    }
    assert!(kills > 30, "{kills}");
}

#[test]
fn a_restore_that_is_killed_anywhere_can_be_finished_or_turned_back() {
    let mut kills = 0;
    for before in BEFORE {
        let restore = |host: &Host| drop(host.restore());
        kills += killed_everywhere(before, Host::taken, restore, |host, how| {
            assert_eq!(host.entry().phase, Phase::Returning, "{how}");
            assert_eq!(host.restore(), given(before), "{how}");
            host.is_as_before(before, how);
        });
        kills += killed_everywhere(before, Host::taken, restore, |host, how| {
            // What a reload does, and the apply that follows.
            let journal = Journal::new(&host.undo());
            assert!(journal.retake(at(NIC)).unwrap(), "{how}");
            let outcome = host.apply();
            let done = matches!(outcome, Outcome::Bound { .. } | Outcome::AlreadyBound);
            assert!(done, "{how}: {outcome:?}");
            assert_eq!(host.restore(), given(before), "{how}");
            host.is_as_before(before, how);
        });
    }
    assert!(kills > 20, "{kills}");
}

#[test]
fn a_reload_forgets_what_is_back_and_no_more() {
    let host = Host::taken((Some("e1000e"), None));
    let journal = Journal::new(&host.undo());
    assert!(journal.retake(at(NIC)).unwrap());
    host.is_taken("it was never given back");
    host.restore();
    assert!(!journal.retake(at(NIC)).unwrap());
    assert!(!host.file().exists());
    assert!(!journal.retake(at(NIC)).unwrap());
}

#[test]
fn an_apply_that_gave_the_function_back_leaves_nothing_to_undo() {
    for before in [BEFORE[1], BEFORE[3]] {
        let host = Host::new(before);
        let bad = |kernel: &mut fake_kernel::Kernel| kernel.bad_probe.insert(NIC.to_owned());
        host.fake.with(bad);
        let Outcome::Failed { text, .. } = host.apply() else {
            panic!("it did not fail");
        };
        assert!(text.ends_with("e1000e has it back"), "{text}");
        assert!(!host.file().exists(), "{before:?}");
        let (driver, driver_override) = before;
        assert_eq!(host.fake.driver(NIC).as_deref(), driver);
        assert_eq!(host.fake.override_of(NIC).as_deref(), driver_override);
    }
    // One that nothing had keeps what is left of the try.
    let host = Host::new((None, None));
    host.fake
        .with(|kernel| kernel.bad_probe.insert(NIC.to_owned()));
    assert!(matches!(host.apply(), Outcome::Failed { .. }));
    assert_eq!(host.restore(), given((None, None)));
    host.is_as_before((None, None), "after a bind that failed");
}

#[test]
fn what_cannot_be_written_down_is_not_touched() {
    let host = Host::new((Some("e1000e"), None));
    let file = host.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let Outcome::Failed { step, text } = host.apply_into(&file.join("undo")) else {
        panic!("it did not fail");
    };
    assert_eq!(step, Step::Journal);
    assert!(!step.touches());
    let place = file.display();
    assert!(text.starts_with(&format!("{place}/undo")), "{text}");
    assert_eq!(host.fake.writes(), Vec::<String>::new());
}

#[test]
fn an_entry_that_cannot_be_read_stops_everything_and_stays() {
    let whole = {
        let host = Host::taken((Some("e1000e"), None));
        fs::read_to_string(host.file()).unwrap()
    };
    let half = &whole[..whole.len() / 2];
    let newer = whole.replace("\"vfio-bindd-undo\": 1", "\"vfio-bindd-undo\": 2");
    let other = whole.replace(NIC, TWIN);
    let more = whole.replace("\"phase\"", "\"faze\"");
    for (text, word) in [
        ("", "cannot be read: "),
        (half, "cannot be read: "),
        ("[]", "cannot be read: "),
        (&newer, "format 2 is not known, expected 1"),
        (
            "{\"vfio-bindd-undo\": 7, \"x\": []}",
            "format 7 is not known",
        ),
        (&other, "it is about 0000:02:00.0"),
        (&more, "unknown field `faze`"),
    ] {
        let host = Host::new((Some("e1000e"), None));
        fs::create_dir(host.undo()).unwrap();
        fs::write(host.file(), text).unwrap();
        let Outcome::Failed { step, text: said } = host.apply() else {
            panic!("it did not fail: {text}");
        };
        assert_eq!(step, Step::Journal);
        assert!(said.starts_with(host.file().to_str().unwrap()), "{said}");
        assert!(
            said.contains(word) && said.contains("delete the file"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        let Returned::Failed {
            step,
            text: again,
            released,
        } = host.restore()
        else {
            panic!("it was restored: {text}");
        };
        assert_eq!((step, again, released), (Step::Journal, said, false));
        assert_eq!(host.fake.writes(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(host.file()).unwrap(), text);
        let contents = Journal::new(&host.undo()).contents(&host.fake, &host.fake, true);
        assert_eq!(contents.unreadable, [at(NIC)]);
        assert_eq!(contents.trouble.len(), 1);
        assert!(host.file().exists(), "it is left for a person");
    }
}

#[test]
fn entries_of_another_boot_or_device_are_void() {
    let host = Host::taken((Some("e1000e"), None));
    let boot = "/proc/sys/kernel/random/boot_id".to_owned();
    let journal = Journal::new(&host.undo());
    let contents = journal.contents(&host.fake, &host.fake, true);
    assert_eq!(contents.entries, [host.entry()]);
    host.fake
        .with(|kernel| kernel.host_files.insert(boot, format!("{OTHER_BOOT}\n")));
    let void = "is another device than the one that was taken".to_owned();
    assert_eq!(host.restore(), Returned::Untaken { text: void.clone() });
    // Only looked at, nothing is deleted.
    let contents = journal.contents(&host.fake, &host.fake, false);
    assert!(contents.entries.is_empty() && host.file().exists());
    fs::write(host.undo().join("README"), "").unwrap();
    fs::write(host.undo().join(format!("{TWIN}.json.new")), "{").unwrap();
    let contents = journal.contents(&host.fake, &host.fake, true);
    assert!(contents.entries.is_empty() && contents.trouble.is_empty());
    assert!(!host.file().exists());
    assert!(host.undo().join("README").exists());
    let never = Returned::Untaken {
        text: "was never taken".to_owned(),
    };
    assert_eq!(host.restore(), never);

    // An equal card at the same place has another past.
    let host = Host::taken((Some("e1000e"), None));
    host.fake.replug(NIC);
    assert_eq!(host.restore(), Returned::Untaken { text: void });
    assert!(matches!(host.apply(), Outcome::Bound { from: None, .. }));
    assert_eq!(host.entry().former.driver, None);
    assert_eq!(host.restore(), given((None, None)));
    host.fake.unplug(NIC);
    assert_eq!(host.restore(), Returned::Gone);
}

/// Refused with this text, and nothing is written to.
#[track_caller]
fn refuses(host: &Host, together: &[&str], text: &str) {
    let writes = host.fake.writes().len();
    let text = text.to_owned();
    let released = false;
    assert_eq!(
        host.restore_with(together),
        Returned::Refused { text, released }
    );
    assert_eq!(host.fake.writes().len(), writes);
    assert_eq!(host.entry().phase, Phase::Taken);
}

fn qemu() -> OpenNode {
    OpenNode {
        block: false,
        device: (240, 0),
        writing: true,
        process: "qemu-system-x86 (pid 812)".to_owned(),
    }
}

#[test]
fn what_a_virtual_machine_uses_stays() {
    let before = (Some("e1000e"), None);
    let host = Host::taken(before);
    host.fake
        .with(|kernel| kernel.open_nodes = Some(vec![qemu()]));
    let used = "is in use: qemu-system-x86 (pid 812) has /dev/vfio/7 open";
    refuses(&host, &[], used);
    host.fake.with(|kernel| kernel.open_nodes = None);
    let unseen = "is in use: what processes have open cannot be seen: permission denied";
    refuses(&host, &[], unseen);
    host.fake
        .with(|kernel| kernel.open_nodes = Some(Vec::new()));
    assert_eq!(host.restore(), given(before));
}

#[test]
fn nothing_is_given_back_while_one_of_the_others_is_used() {
    let before = (None, None);
    let host = Host::taken(before);
    host.fake.bind(TWIN, "vfio-pci");
    let group = "../../../../kernel/iommu_groups/9";
    host.fake
        .link(&format!("bus/pci/devices/{TWIN}/iommu_group"), group);
    host.fake.file("class/vfio/9/dev", "240:9\n");
    let mut user = qemu();
    user.device = (240, 9);
    host.fake
        .with(|kernel| kernel.open_nodes = Some(vec![user]));
    let text = "stays with 0000:02:00.0, which is in use: qemu-system-x86 (pid 812) has \
                /dev/vfio/9 open";
    refuses(&host, &[NIC, TWIN], text);
    assert_eq!(host.restore_with(&[NIC]), given(before));
}

#[test]
fn what_proxmox_has_reserved_stays() {
    let before = (Some("e1000e"), None);
    let host = Host::taken(before);
    let file = "/run/qemu-server/pci-id-reservations";
    let reserve = |text: &str| {
        let mut texts = vec![(file.to_owned(), text.to_owned())];
        texts.push(("/proc/4711/comm".to_owned(), "kvm\n".to_owned()));
        host.fake.with(|kernel| kernel.host_files.extend(texts));
    };
    for (line, text) in [
        (
            "0000:01:00.0 100 pid:4711",
            "is reserved by Proxmox VE for VM 100 (pid 4711)",
        ),
        (
            "junk\n0000:01:00.0 101 time:99999999999\n",
            "is reserved by Proxmox VE for the start of VM 101",
        ),
    ] {
        reserve(line);
        refuses(&host, &[], text);
    }
    reserve("0000:02:00.0 100 pid:4711");
    let text = "stays with 0000:02:00.0, which is reserved by Proxmox VE for VM 100 (pid 4711)";
    refuses(&host, &[TWIN], text);
    host.fake
        .with(|kernel| kernel.forbidden.insert(file.to_owned()));
    let text = format!("may be reserved by Proxmox VE: {file}: permission denied");
    refuses(&host, &[], &text);
    host.fake.with(|kernel| kernel.forbidden.clear());
    reserve("0000:01:00.0 100 pid:1\n0000:01:00.0 100 time:17\n0000:02:00.0 100 pid:4711");
    assert_eq!(host.restore(), given(before));
}

#[test]
fn what_somebody_else_changed_since_is_respected() {
    let host = Host::taken((Some("e1000e"), None));
    host.fake.set_override(NIC, "none");
    let text = "has the driver override 'none' by now, which somebody else set";
    refuses(&host, &[], text);
    let host = Host::taken((None, None));
    host.fake.bind(NIC, "e1000e");
    refuses(&host, &[], "was given to e1000e by somebody else");
    // What somebody gave back by hand is back.
    let before = (Some("e1000e"), None);
    let host = Host::taken(before);
    host.fake.bind(NIC, "e1000e");
    host.fake.set_override(NIC, "vfio-pci");
    assert_eq!(host.restore(), given(before));
    host.is_as_before(before, "by hand");
}

#[test]
fn an_override_is_not_cleared_while_modules_load() {
    let before = (Some("e1000e"), None);
    let host = Host::taken(before);
    host.fake.with(|kernel| kernel.udev_busy = 2);
    assert_eq!(host.restore(), given(before));
    let host = Host::taken(before);
    let writes = host.fake.writes().len();
    host.fake.with(|kernel| kernel.udev_busy = u32::MAX);
    let Returned::Failed {
        step,
        text,
        released,
    } = host.restore()
    else {
        panic!("it was restored");
    };
    assert_eq!((step, released), (Step::SetOverride, true));
    assert!(text.contains("udev"), "{text}");
    assert_eq!(host.fake.writes().len(), writes);
    host.fake.with(|kernel| kernel.udev_busy = 0);
    assert_eq!(host.restore(), given(before));
}

#[test]
fn a_former_driver_that_does_not_take_it_is_named_and_tried_again() {
    let before = (Some("e1000e"), None);
    let host = Host::taken(before);
    host.fake
        .with(|kernel| kernel.sick.insert("e1000e".to_owned()));
    let Returned::Failed {
        step,
        text,
        released,
    } = host.restore()
    else {
        panic!("it was restored");
    };
    assert_eq!((step, released), (Step::Bind, true));
    assert_eq!(text, "e1000e: input/output error");
    assert_eq!(host.now(), (None, None));
    assert_eq!(host.entry().phase, Phase::Returning);
    host.fake.with(|kernel| kernel.sick.clear());
    assert_eq!(host.restore(), given(before));
    host.is_as_before(before, "once it is well");

    // One that is not there keeps the function where somebody can use it.
    let host = Host::taken(before);
    host.fake.lose_driver("e1000e");
    let writes = host.fake.writes().len();
    let Returned::Failed { step, .. } = host.restore() else {
        panic!("it was restored");
    };
    assert_eq!(step, Step::LoadModule);
    assert_eq!(host.fake.writes().len(), writes);
    host.fake.has_module("e1000e");
    assert_eq!(host.restore(), given(before));
    host.is_as_before(before, "with the module");

    let host = Host::taken(before);
    host.fake
        .with(|kernel| kernel.clinging.insert("vfio-pci".to_owned()));
    let Returned::Failed { step, text, .. } = host.restore() else {
        panic!("it was restored");
    };
    assert_eq!((step, text.as_str()), (Step::Unbind, "vfio-pci: it stayed"));
}
