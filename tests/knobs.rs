//! Settings of functions, against a kernel that answers like the real one and real
//! files: set at a bind, put right under a driver, given back exactly; also where a
//! helper is killed half-way.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/fake_kernel.rs"]
mod fake_kernel;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use fake_kernel::{Fake, Killed};
use tempfile::TempDir;
use vfio_bindd::{
    kernel::{
        apply::apply,
        inspect::{Wanted, inspect},
        order::{Order, Outcome, Return, Returned, Tune, Tuned},
        restore::restore,
        tune::tune,
        undo::{Entry, Journal, Phase},
    },
    pci::{
        address::Address,
        settings::{Power, Settings},
    },
    policy::knobs::{Knobs, ResetMethod},
};

const GPU: &str = "0000:01:00.0";

/// 256M, 512M, 1G.
const SIZES: &str = "0000000000000700";

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn knobs(reset: &[ResetMethod], d3cold: Option<bool>, power: Option<Power>) -> Knobs {
    Knobs {
        reset_method: reset.to_vec(),
        d3cold,
        power,
        resize_bar: BTreeMap::new(),
    }
}

fn sized(knobs: Knobs, size: &str) -> Knobs {
    Knobs {
        resize_bar: BTreeMap::from([(0, size.parse().unwrap())]),
        ..knobs
    }
}

/// One of each.
fn all() -> Knobs {
    let some = knobs(&[ResetMethod::Bus], Some(false), Some(Power::On));
    sized(some, "1G")
}

struct Host {
    fake: Fake,
    folder: TempDir,
}

impl Host {
    /// A device with three ways to be reset, and two BARs of which one can be
    /// resized.
    fn new(driver: Option<&'static str>) -> Self {
        let fake = Fake::new(&["vfio-pci", "e1000e"]);
        fake.add("0000:00:01.0", GPU, &[("reset_method", "flr pm bus")]);
        fake.bar(GPU, 0, 256, Some(SIZES));
        fake.bar(GPU, 1, 32, None);
        if let Some(driver) = driver {
            fake.bind(GPU, driver);
        }
        let place = format!("../../devices/pci0000:00/0000:00:01.0/{GPU}/net/enp1s0");
        fake.link("class/net/enp1s0", &place);
        fake.file("class/net/enp1s0/flags", "0x1002\n");
        fake.file("class/net/enp1s0/ifindex", "2\n");
        let folder = tempfile::tempdir().unwrap();
        Self { fake, folder }
    }

    fn undo(&self) -> PathBuf {
        self.folder.path().join("undo")
    }

    fn entry(&self) -> Option<Entry> {
        Journal::new(&self.undo()).read(at(GPU)).unwrap()
    }

    fn apply(&self, knobs: &Knobs) -> Outcome {
        self.apply_with(knobs, Some(self.undo()))
    }

    fn apply_with(&self, knobs: &Knobs, undo: Option<PathBuf>) -> Outcome {
        let native = self.fake.driver(GPU).filter(|driver| driver != "vfio-pci");
        let order = Order {
            address: at(GPU),
            id: "8086:10d3".parse().unwrap(),
            driver: "vfio-pci".to_owned(),
            module: None,
            detach: native,
            allow: BTreeSet::new(),
            knobs: knobs.clone(),
            mappings: vec!["gpu".to_owned()],
            undo,
        };
        self.fake.look(|look| apply(look, &self.fake, &order))
    }

    fn tune(&self, knobs: &Knobs) -> Tuned {
        let order = Tune {
            address: at(GPU),
            id: "8086:10d3".parse().unwrap(),
            knobs: knobs.clone(),
            mappings: vec!["gpu".to_owned()],
            undo: Some(self.undo()),
        };
        self.fake.look(|look| tune(look, &order))
    }

    fn restore(&self) -> Returned {
        let order = Return {
            address: at(GPU),
            together: Vec::new(),
            undo: self.undo(),
        };
        self.fake.look(|look| restore(look, &self.fake, &order))
    }

    fn settings(&self) -> String {
        let wanted = Wanted {
            serial: false,
            variant: false,
            settings: true,
        };
        let found = self.fake.look(|look| inspect(look, at(GPU), wanted));
        found.unwrap().settings.to_string()
    }

    /// The writes since the last call, without the function's directory.
    fn writes(&self) -> Vec<String> {
        let writes = self.fake.writes();
        self.fake.with(|kernel| kernel.writes.clear());
        let dir = format!("bus/pci/devices/{GPU}/");
        let writes = writes.into_iter();
        writes
            .map(|one| one.replace(&dir, "").replace(GPU, "it"))
            .collect()
    }
}

const BEFORE: &str = "reset_method \"flr pm bus\", d3cold true, power on, BAR 0 256M";
const AFTER: &str = "reset_method \"bus\", d3cold false, power on, BAR 0 1G";

fn is_bound(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Bound { .. } | Outcome::AlreadyBound)
}

#[test]
fn they_are_set_around_the_bind_and_only_those_that_differ() {
    let host = Host::new(Some("e1000e"));
    assert_eq!(host.settings(), BEFORE);
    assert!(is_bound(&host.apply(&all())));
    assert_eq!(host.settings(), AFTER);
    assert_eq!(
        host.writes(),
        [
            "reset_method=bus",
            "d3cold_allowed=0",
            "driver_override=vfio-pci",
            "bus/pci/drivers/e1000e/unbind=it",
            "resource0_resize=10",
            "bus/pci/drivers/vfio-pci/bind=it",
            // vfio-pci had let it sleep.
            "power/control=on",
        ]
    );
    let former = host.entry().unwrap().former;
    assert_eq!(former.driver.as_deref(), Some("e1000e"));
    assert_eq!(former.settings.to_string(), BEFORE);
    let native = Returned::Given {
        driver: Some("e1000e".to_owned()),
    };
    assert_eq!(host.restore(), native);
    assert_eq!(host.settings(), BEFORE);
    assert_eq!(
        host.writes(),
        [
            "driver_override=",
            "bus/pci/drivers/vfio-pci/unbind=it",
            "resource0_resize=8",
            "bus/pci/drivers/e1000e/bind=it",
            "reset_method=flr pm bus",
            "d3cold_allowed=1",
        ]
    );
}

#[test]
fn what_no_mapping_wants_is_neither_read_nor_written() {
    let host = Host::new(Some("e1000e"));
    host.apply(&Knobs::default());
    host.restore();
    let reads = host.fake.with(|kernel| kernel.reads.clone());
    for name in ["reset_method", "d3cold_allowed", "resource", "_resize"] {
        let read = reads.iter().find(|one| one.ends_with(name));
        assert_eq!(read, None);
    }
    let text = serde_json::to_string(&host.entry()).unwrap();
    assert!(!text.contains("settings"), "{text}");
}

#[test]
fn whether_it_may_sleep_is_given_back_though_no_mapping_says_a_word() {
    for power in ["on", "auto"] {
        for wanted in [Knobs::default(), all()] {
            let host = Host::new(Some("e1000e"));
            host.fake.file(
                &format!("bus/pci/devices/{GPU}/power/control"),
                &format!("{power}\n"),
            );
            assert!(is_bound(&host.apply(&wanted)));
            // A reload.
            host.tune(&knobs(&[], None, Some(Power::On)));
            host.tune(&Knobs::default());
            let now = host.fake.attribute(GPU, "power/control");
            assert_eq!(now.as_deref(), Some("auto"), "as vfio-pci has it");
            assert!(matches!(host.restore(), Returned::Given { .. }));
            let now = host.fake.attribute(GPU, "power/control");
            assert_eq!(now.as_deref(), Some(power));
        }
    }
}

#[test]
fn an_entry_of_an_older_version_is_read() {
    let host = Host::new(Some("e1000e"));
    host.apply(&all());
    let file = host.undo().join(format!("{GPU}.json"));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let former = json["former"].as_object_mut().unwrap();
    former.remove("settings").unwrap();
    former.remove("power").unwrap();
    std::fs::write(&file, json.to_string()).unwrap();
    assert_eq!(host.entry().unwrap().former.settings, Settings::default());
    assert!(matches!(host.restore(), Returned::Given { .. }));
}

#[test]
fn a_device_that_does_not_offer_it_stays_with_the_host_as_it_was() {
    let cxl = knobs(&[ResetMethod::Flr, ResetMethod::CxlBus], None, None);
    let bar = |bar, size: &str| Knobs {
        resize_bar: BTreeMap::from([(bar, size.parse().unwrap())]),
        ..Knobs::default()
    };
    for (wanted, lacks, why) in [
        (
            cxl,
            "",
            "does not offer reset_method \"cxl_bus\", but: flr pm bus",
        ),
        (
            knobs(&[ResetMethod::Flr], None, None),
            "reset_method",
            "does not offer reset_method \"flr\": it cannot be reset",
        ),
        (
            knobs(&[ResetMethod::Bus], Some(false), None),
            "d3cold_allowed",
            "offers no d3cold: its kernel has no d3cold_allowed for it",
        ),
        (
            knobs(&[ResetMethod::Bus], None, Some(Power::On)),
            "power/control",
            "offers no power: its kernel has no power/control for it",
        ),
        (
            bar(0, "8G"),
            "",
            "does not offer BAR 0 of 8G, but: 256M 512M 1G",
        ),
        (bar(1, "1G"), "", "cannot have BAR 1 resized, but BAR 0"),
        (
            bar(0, "1G"),
            "resource0_resize",
            "has no BAR that can be resized",
        ),
    ] {
        for driver in [None, Some("e1000e")] {
            let host = Host::new(driver);
            if !lacks.is_empty() {
                host.fake.lacks(GPU, lacks);
            }
            let before = host.settings();
            let text = why.to_owned();
            assert_eq!(host.apply(&wanted), Outcome::Refused { text }, "{driver:?}");
            assert_eq!(host.settings(), before, "{why}");
            assert_eq!(host.fake.driver(GPU).as_deref(), driver);
            assert_eq!(host.fake.override_of(GPU), None);
            assert!(host.entry().is_none(), "nothing is left to undo: {why}");
            // Neither is it under a vfio driver.
            host.fake.bind(GPU, "vfio-pci");
            let text = why.to_owned();
            assert_eq!(host.tune(&wanted), Tuned::Refused { text });
            assert_eq!(host.settings(), before, "{why}");
        }
    }
}

#[test]
fn a_word_that_is_not_offered_is_never_written_and_what_was_set_stays() {
    let host = Host::new(Some("vfio-pci"));
    host.fake
        .file(&format!("bus/pci/devices/{GPU}/reset_method"), "pm\n");
    let wanted = knobs(&[ResetMethod::AfFlr], None, None);
    let text = "does not offer reset_method \"af_flr\", but: flr pm bus".to_owned();
    assert_eq!(host.tune(&wanted), Tuned::Refused { text });
    assert_eq!(host.writes(), ["reset_method=default", "reset_method=pm"]);
    // What somebody narrowed offers the rest all the same.
    let wanted = knobs(&[ResetMethod::Bus, ResetMethod::Flr], None, None);
    assert!(matches!(host.tune(&wanted), Tuned::Set { .. }));
    assert_eq!(
        host.writes(),
        ["reset_method=default", "reset_method=bus flr"]
    );
    let former = host.entry().unwrap().former.settings;
    assert_eq!(former.reset_method.as_deref(), Some("pm"));
    // And a list that was empty is empty again.
    let host = Host::new(Some("vfio-pci"));
    host.fake
        .file(&format!("bus/pci/devices/{GPU}/reset_method"), "");
    host.tune(&wanted);
    assert_eq!(
        host.fake.attribute(GPU, "reset_method").as_deref(),
        Some("bus flr")
    );
    assert!(matches!(host.tune(&Knobs::default()), Tuned::Set { .. }));
    assert_eq!(
        host.fake.attribute(GPU, "reset_method").as_deref(),
        Some("")
    );
}

#[test]
fn a_bound_function_is_tuned_and_put_back() {
    let host = Host::new(Some("e1000e"));
    assert!(is_bound(&host.apply(&Knobs::default())));
    host.writes();
    let some = knobs(&[ResetMethod::Bus], Some(false), Some(Power::On));
    let Tuned::Set { changed, found } = host.tune(&some) else {
        panic!("it was not tuned");
    };
    let told = "reset_method \"bus\", d3cold false, power on";
    assert_eq!(changed.to_string(), told);
    assert_eq!(found.to_string(), format!("{told}, BAR 0 256M"));
    let former = host.entry().unwrap().former;
    assert_eq!(former.driver.as_deref(), Some("e1000e"));
    let was = "reset_method \"flr pm bus\", d3cold true, power auto";
    assert_eq!(former.settings.to_string(), was);
    // That was vfio-pci's doing.
    assert_eq!(former.power, Some(Power::On));
    host.writes();
    // Once is enough.
    let Tuned::Set { changed, .. } = host.tune(&some) else {
        panic!("it was not tuned");
    };
    assert!(changed.is_empty());
    assert_eq!(host.writes(), [""; 0]);
    // One that is wanted no more, and one that is wanted otherwise.
    let other = knobs(&[ResetMethod::Pm], Some(false), None);
    assert!(matches!(host.tune(&other), Tuned::Set { .. }));
    assert_eq!(host.writes(), ["power/control=auto", "reset_method=pm"]);
    let former = host.entry().unwrap().former.settings;
    assert_eq!(
        former.to_string(),
        "reset_method \"flr pm bus\", d3cold true"
    );
    assert!(matches!(host.restore(), Returned::Given { .. }));
    assert_eq!(host.settings(), BEFORE);
}

#[test]
fn a_bar_is_not_resized_under_a_driver() {
    let host = Host::new(Some("e1000e"));
    host.apply(&Knobs::default());
    let text = "its BAR 0 is 256M and not 1G, which no driver may have it for: vfio-bindctl \
                restore gpu, then vfio-bindctl rescan --take";
    let text = text.to_owned();
    host.writes();
    assert_eq!(
        host.tune(&sized(Knobs::default(), "1G")),
        Tuned::Refused { text }
    );
    assert_eq!(host.writes(), [""; 0]);
    // As it says.
    assert!(matches!(host.restore(), Returned::Given { .. }));
    Journal::new(&host.undo()).retake(at(GPU)).unwrap();
    assert!(is_bound(&host.apply(&sized(Knobs::default(), "1G"))));
    let tuned = host.tune(&sized(Knobs::default(), "1G"));
    assert!(matches!(tuned, Tuned::Set { .. }), "{tuned:?}");
    // Wanted no more, it stays as long as a driver has it, and the way back is known.
    assert!(matches!(host.tune(&Knobs::default()), Tuned::Set { .. }));
    assert!(host.settings().ends_with("BAR 0 1G"));
    assert!(matches!(host.restore(), Returned::Given { .. }));
    assert_eq!(host.settings(), BEFORE);
}

#[test]
fn a_bar_that_finds_no_room_gives_the_host_its_function_back() {
    let host = Host::new(Some("e1000e"));
    host.fake
        .with(|kernel| kernel.crowded.insert(GPU.to_owned()));
    let Outcome::Failed { text, .. } = host.apply(&all()) else {
        panic!("it did not fail");
    };
    assert_eq!(
        text,
        "BAR 0 is 256M and not 1G: no space left on device (the bridges above it have no room \
         for that); e1000e has it back"
    );
    assert_eq!(host.fake.driver(GPU).as_deref(), Some("e1000e"));
    assert_eq!(host.settings(), BEFORE);
    assert!(host.entry().is_none());
}

#[test]
fn a_host_that_has_no_room_for_the_old_size_has_its_function_all_the_same() {
    let host = Host::new(Some("e1000e"));
    assert!(is_bound(&host.apply(&all())));
    host.fake
        .with(|kernel| kernel.crowded.insert(GPU.to_owned()));
    let Returned::Failed { text, released, .. } = host.restore() else {
        panic!("it did not fail");
    };
    assert!(released);
    assert!(
        text.starts_with("BAR 0 is 1G and not 256M: no space left"),
        "{text}"
    );
    assert_eq!(host.fake.driver(GPU).as_deref(), Some("e1000e"));
    assert_eq!(host.entry().unwrap().phase, Phase::Returning);
}

#[test]
fn what_the_kernel_does_not_take_is_told_with_what_is_there() {
    let host = Host::new(Some("vfio-pci"));
    let place = format!("bus/pci/devices/{GPU}/d3cold_allowed");
    host.fake.with(|kernel| kernel.read_only.insert(place));
    let text = "d3cold is true and not false: input/output error".to_owned();
    let cold = knobs(&[], Some(false), None);
    assert_eq!(host.tune(&cold), Tuned::Failed { text });
    host.fake.with(|kernel| kernel.bound_to(GPU, None));
    assert_eq!(host.tune(&cold), Tuned::Unbound);
    let Outcome::Failed { text, .. } = host.apply(&cold) else {
        panic!("it did not fail");
    };
    assert_eq!(text, "d3cold is true and not false: input/output error");
    assert_eq!(host.fake.override_of(GPU), None);
}

#[test]
fn without_a_journal_they_are_set_all_the_same() {
    let host = Host::new(Some("e1000e"));
    assert!(is_bound(&host.apply_with(&all(), None)));
    assert_eq!(host.settings(), AFTER);
}

#[test]
fn what_somebody_else_bound_goes_back_to_just_that() {
    let host = Host::new(None);
    host.fake.set_override(GPU, "vfio-pci");
    host.fake.bind(GPU, "vfio-pci");
    let some = knobs(&[ResetMethod::Bus], Some(false), None);
    assert!(matches!(host.tune(&some), Tuned::Set { .. }));
    let vfio = Returned::Given {
        driver: Some("vfio-pci".to_owned()),
    };
    assert_eq!(host.restore(), vfio);
    assert_eq!(host.settings(), BEFORE);
    let writes = host.writes();
    assert!(!writes.iter().any(|one| one.contains("bind")), "{writes:?}");
}

#[test]
fn another_device_at_its_address_is_left_alone() {
    let host = Host::new(Some("vfio-pci"));
    host.fake
        .file(&format!("bus/pci/devices/{GPU}/device"), "0x1234\n");
    assert_eq!(host.tune(&all()), Tuned::Unbound);
    host.fake.unplug(GPU);
    assert_eq!(host.tune(&all()), Tuned::Unbound);
    assert_eq!(host.writes(), [""; 0]);
}

#[test]
fn a_sleeping_device_is_not_woken_up_to_be_looked_at() {
    let host = Host::new(None);
    host.fake
        .file(&format!("bus/pci/devices/{GPU}/power_state"), "D3cold\n");
    let known = BEFORE.strip_suffix(", BAR 0 256M").unwrap();
    assert_eq!(host.settings(), known);
    let reads = host.fake.with(|kernel| kernel.reads.clone());
    assert!(!reads.iter().any(|one| one.ends_with("_resize")));
}

/// Runs `work` on fresh hosts, killed at each of its writes, before and after it;
/// `then` goes on with what is left. Says how often.
fn killed_everywhere(
    prepare: impl Fn() -> Host,
    work: impl Fn(&Host),
    then: impl Fn(&Host, &str),
) -> u32 {
    let mut kills = 0;
    for when in [Killed::BeforeIt, Killed::AfterIt] {
        for write in 0.. {
            let host = prepare();
            host.fake
                .with(|kernel| kernel.killed_at = Some((write, when)));
            if host.fake.mortal(|| work(&host)).is_some() {
                break;
            }
            kills += 1;
            then(&host, &format!("killed at write {write}, {when:?}"));
        }
    }
    kills
}

#[test]
fn whoever_is_killed_anywhere_leaves_what_can_be_finished_and_undone() {
    let mut kills = 0;
    for driver in [None, Some("e1000e")] {
        let fresh = || Host::new(driver);
        let back = |host: &Host, how: &str| {
            let given = Returned::Given {
                driver: driver.map(str::to_owned),
            };
            assert_eq!(host.restore(), given, "{driver:?}, {how}");
            assert_eq!(host.settings(), BEFORE, "{driver:?}, {how}");
            assert_eq!(host.fake.driver(GPU).as_deref(), driver, "{how}");
        };
        let taken = || {
            let host = fresh();
            assert!(is_bound(&host.apply(&all())));
            host
        };
        kills += killed_everywhere(fresh, |host| drop(host.apply(&all())), back);
        kills += killed_everywhere(
            fresh,
            |host| drop(host.apply(&all())),
            |host, how| {
                assert!(is_bound(&host.apply(&all())), "{how}");
                let tuned = host.tune(&all());
                assert!(matches!(tuned, Tuned::Set { .. }), "{how}: {tuned:?}");
                assert_eq!(host.settings(), AFTER, "{how}");
                back(host, how);
            },
        );
        // The config is another one by then.
        kills += killed_everywhere(
            fresh,
            |host| drop(host.apply(&all())),
            |host, how| {
                assert!(is_bound(&host.apply(&Knobs::default())), "{how}");
                let tuned = host.tune(&Knobs::default());
                assert!(matches!(tuned, Tuned::Set { .. }), "{how}: {tuned:?}");
                back(host, how);
            },
        );
        kills += killed_everywhere(taken, |host| drop(host.restore()), back);
        let other = knobs(&[ResetMethod::Pm], Some(true), Some(Power::Auto));
        kills += killed_everywhere(taken, |host| drop(host.tune(&other)), back);
        kills += killed_everywhere(
            taken,
            |host| drop(host.tune(&other)),
            |host, how| {
                let tuned = host.tune(&other);
                assert!(matches!(tuned, Tuned::Set { .. }), "{how}: {tuned:?}");
                back(host, how);
            },
        );
        // What is refused is killed where the kernel is asked what there is.
        let none = knobs(&[ResetMethod::Acpi], None, None);
        kills += killed_everywhere(
            fresh,
            |host| drop(host.apply(&none)),
            |host, how| {
                let refused = matches!(host.apply(&none), Outcome::Refused { .. });
                assert!(refused, "{how}");
                assert_eq!(host.settings(), BEFORE, "{how}");
            },
        );
        kills += killed_everywhere(taken, |host| drop(host.tune(&none)), back);
    }
    assert!(kills > 100, "{kills}");
}
