//! What the machine itself needs, and what cannot be told.

use crate::one::{One, check};

fn serial() -> One {
    let one = One::new("070002", "serial");
    one.device(
        "tty",
        "0000:01:00.0:0/0000:01:00.0:0.0/tty/ttyS4",
        &[("dev", "4:68")],
    );
    one
}

#[test]
fn terminals_count_with_the_console_on_them() {
    check(
        serial,
        &[
            ("idle", |_| {}, &[]),
            (
                "active",
                |one| one.0.file("class/tty/console/active", "tty0 ttyS4\n"),
                &["serial: the console is on ttyS4"],
            ),
            (
                "registered",
                |one| one.file("/proc/consoles", "ttyS4  -W- (EC  p a)  4:68\n"),
                &["serial: the console is on ttyS4"],
            ),
            (
                "on another",
                |one| {
                    one.0.file("class/tty/console/active", "tty0 ttyS40\n");
                    one.file("/proc/consoles", "ttyS0  -W- (EC  p a)  4:64\n");
                },
                &[],
            ),
            (
                "open",
                |one| one.opens("agetty (pid 7)", (4, 68), false),
                &["serial: agetty (pid 7) has ttyS4 open"],
            ),
            (
                "not told",
                |one| one.forbid("/proc/consoles"),
                &["unchecked: /proc/consoles cannot be read: permission denied"],
            ),
        ],
    );
}

fn watchdog() -> One {
    let one = One::new("010000", "x");
    one.device("watchdog", "watchdog/watchdog0", &[("state", "inactive")]);
    one.device("misc", "misc/watchdog", &[("dev", "10:130")]);
    one
}

#[test]
fn watchdogs_count_while_they_run() {
    check(
        watchdog,
        &[
            ("inactive", |_| {}, &[]),
            (
                "active",
                |one| one.set("watchdog/watchdog0/state", "active"),
                &["watchdog: the watchdog watchdog0 runs"],
            ),
            (
                "not told",
                |one| one.set("watchdog/watchdog0/state", ""),
                &["unchecked: the watchdog watchdog0 does not say whether it runs"],
            ),
            (
                "open by its old node",
                |one| one.opens("systemd (pid 1)", (10, 130), true),
                &["watchdog: systemd (pid 1) has watchdog open"],
            ),
        ],
    );
}

#[test]
fn devices_of_the_system_count() {
    fn any() -> One {
        One::new("010000", "x")
    }
    check(
        any,
        &[
            (
                "a TPM",
                |one| one.device("tpm", "tpm/tpm0", &[]),
                &["tpm: tpm0 is a TPM of it"],
            ),
            (
                "a clock",
                |one| one.device("rtc", "rtc/rtc0", &[]),
                &["rtc: rtc0 is a clock of it"],
            ),
            (
                "the BMC",
                |one| one.device("ipmi", "ipmi/ipmi0", &[]),
                &["ipmi: ipmi0 is the way to the BMC"],
            ),
            (
                "a mediated device",
                |one| one.device("mdev", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", &[]),
                &["-: 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 was made of it for a virtual machine"],
            ),
            (
                "an idle DMA channel",
                |one| one.device("dma", "dma/dma0chan0", &[("in_use", "0")]),
                &[],
            ),
            (
                "a DMA channel",
                |one| one.device("dma", "dma/dma0chan0", &[("in_use", "1")]),
                &["unchecked: the kernel uses the DMA channel dma0chan0"],
            ),
            (
                "a DMA channel that does not tell",
                |one| one.device("dma", "dma/dma0chan0", &[]),
                &["unchecked: the DMA channel dma0chan0 does not say whether it is used"],
            ),
            (
                "functions behind it",
                |one| one.device("pci", "pci10000:e0/10000:e1:00.0", &[]),
                &["unchecked: the function 10000:e1:00.0 hangs below it"],
            ),
        ],
    );
    assert_eq!(
        One::new("0c0701", "ipmi_si").uses(),
        ["ipmi: ipmi_si is the way to the BMC"]
    );
}

#[test]
fn virtio_devices_count_unless_their_use_is_seen() {
    for (driver, idle) in [
        ("virtio_blk", true),
        ("virtio_scsi", true),
        ("virtiofs", false),
        ("virtio_console", false),
    ] {
        let one = One::new("018000", "virtio-pci");
        one.device("virtio", "virtio3", &[]);
        one.0.link(
            "class/virtio/virtio3/driver",
            &format!("../../../../bus/virtio/drivers/{driver}"),
        );
        let wanted = format!(
            "unchecked: {driver} holds virtio3, and nobody can tell whether the host needs it"
        );
        let wanted: &[String] = if idle { &[] } else { &[wanted] };
        assert_eq!(one.uses(), wanted);
    }
}

#[test]
fn only_what_works_through_devices_is_found_idle() {
    for (class, below, idle) in [
        ("010802", None, true),
        ("030200", None, true),
        ("040300", None, true),
        ("120000", None, false),
        ("120000", Some("accel"), true),
        ("070200", None, false),
        ("070200", Some("tty"), true),
        ("078000", None, false),
        ("0c0000", None, false),
        ("0c0400", None, false),
        ("108000", None, false),
        ("0b4000", None, false),
        ("060100", None, false),
    ] {
        let one = One::new(class, "x");
        if let Some(below) = below {
            one.device(below, &format!("{below}/{below}0"), &[]);
        }
        let text = "unchecked: x holds it, and nobody can tell whether the host needs it";
        let wanted: &[&str] = if idle { &[] } else { &[text] };
        assert_eq!(one.uses(), wanted, "{class}");
        assert_eq!(One::without_driver(class).uses(), Vec::<String>::new());
    }
}

#[test]
fn a_host_that_panics_when_an_unbind_hangs_is_not_put_at_risk() {
    const SETTING: &str = "/proc/sys/kernel/hung_task_panic";
    check(
        || One::new("040300", "snd_hda_intel"),
        &[
            ("no such setting", |_| {}, &[]),
            ("off", |one| one.file(SETTING, "0\n"), &[]),
            (
                "on",
                |one| one.file(SETTING, "1\n"),
                &[
                    "hung-task-panic: an unbind that hangs would take the host down \
                   (kernel.hung_task_panic is 1; sysctl kernel.hung_task_panic=0 ends that)",
                ],
            ),
            (
                "nobody can look",
                |one| one.forbid(SETTING),
                &["unchecked: /proc/sys/kernel/hung_task_panic cannot be read: permission denied"],
            ),
        ],
    );
    // Nothing is unbound.
    for one in [
        One::without_driver("040300"),
        One::new("040300", "vfio-pci"),
    ] {
        one.file(SETTING, "1\n");
        assert_eq!(one.uses(), Vec::<String>::new());
    }
}
