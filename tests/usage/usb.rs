//! USB controllers and what is plugged in.

use crate::one::{One, check};

/// A controller with its root hub and a hub.
fn controller() -> One {
    let one = One::new("0c0330", "xhci_hcd");
    one.device("usb", "usb2", &[("bDeviceClass", "09")]);
    one.device("usb", "usb2/2-0:1.0", &[("bInterfaceClass", "09")]);
    one.device("usb", "usb2/2-1", &[("bDeviceClass", "09")]);
    one.device("usb", "usb2/2-1/2-1:1.0", &[("bInterfaceClass", "09")]);
    one
}

/// A device of one interface at the hub.
fn plug(one: &One, class: &str, protocol: &str) {
    one.device("usb", "usb2/2-1/2-1.4", &[("bDeviceClass", "00")]);
    let attributes = [("bInterfaceClass", class), ("bInterfaceProtocol", protocol)];
    one.device("usb", "usb2/2-1/2-1.4/2-1.4:1.0", &attributes);
}

#[test]
fn what_is_plugged_in_counts_by_its_kind() {
    check(
        controller,
        &[
            ("hubs only", |_| {}, &[]),
            (
                "a keyboard",
                |one| plug(one, "03", "01"),
                &["usb: a keyboard is plugged in at 2-1.4"],
            ),
            (
                "a keyboard with a name",
                |one| {
                    plug(one, "03", "01");
                    one.set("usb2/2-1/2-1.4/product", "QEMU USB \u{1b}Keyboard ");
                },
                &["usb: the keyboard 'QEMU USB Keyboard' is plugged in at 2-1.4"],
            ),
            (
                "a mouse",
                |one| plug(one, "03", "02"),
                &["usb: a mouse is plugged in at 2-1.4"],
            ),
            (
                "a keyboard with a mouse in it",
                |one| {
                    plug(one, "03", "02");
                    let attributes = [("bInterfaceClass", "03"), ("bInterfaceProtocol", "01")];
                    one.device("usb", "usb2/2-1/2-1.4/2-1.4:1.1", &attributes);
                },
                &["usb: a keyboard is plugged in at 2-1.4"],
            ),
            (
                "an UPS",
                |one| plug(one, "03", "00"),
                &["usb: a HID device is plugged in at 2-1.4"],
            ),
            (
                "a stick",
                |one| plug(one, "08", "50"),
                &["usb: a storage device is plugged in at 2-1.4"],
            ),
            (
                "a modem",
                |one| plug(one, "02", "01"),
                &["usb: a communication device is plugged in at 2-1.4"],
            ),
            (
                "a camera",
                |one| plug(one, "0e", "00"),
                &["usb: a camera is plugged in at 2-1.4"],
            ),
            (
                "Bluetooth",
                |one| plug(one, "e0", "01"),
                &["usb: a wireless adapter is plugged in at 2-1.4"],
            ),
            ("a printer", |one| plug(one, "07", "02"), &[]),
            (
                "a serial adapter of a vendor's own class",
                |one| {
                    plug(one, "ff", "00");
                    one.device("tty", "usb2/2-1/2-1.4/2-1.4:1.0/ttyUSB0/tty/ttyUSB0", &[]);
                },
                &["usb: a serial adapter is plugged in at 2-1.4"],
            ),
            (
                "a gamepad of a vendor's own class",
                |one| {
                    plug(one, "ff", "00");
                    one.device(
                        "input",
                        "usb2/2-1/2-1.4/2-1.4:1.0/input/input9",
                        &[("name", "Pad")],
                    );
                },
                &["usb: an input device is plugged in at 2-1.4"],
            ),
        ],
    );
}

#[test]
fn other_controllers_of_usb_are_not_known_to_be_idle() {
    for (class, idle) in [
        ("0c0300", true),
        ("0c0310", true),
        ("0c0320", true),
        ("0c0330", true),
        ("0c0340", false),
        ("0c03fe", false),
    ] {
        assert_eq!(One::new(class, "x").uses().is_empty(), idle, "{class}");
    }
}

#[test]
fn input_devices_of_no_usb_device_count_but_for_jacks() {
    let one = One::new("040300", "snd_hda_intel");
    one.device("sound", "sound/card0", &[]);
    one.device("input", "sound/card0/input5", &[("name", "HDMI")]);
    one.device("input", "sound/card0/input5/event5", &[("dev", "13:69")]);
    one.opens("systemd-logind (pid 7)", (13, 69), true);
    assert_eq!(one.uses(), Vec::<String>::new());
    one.device("input", "rc0/input6", &[("name", "Remote")]);
    one.device("input", "rc0/input6/event6", &[]);
    one.device("input", "input/input7", &[]);
    assert_eq!(
        one.uses(),
        [
            "usb: 'Remote' is an input device of it",
            "usb: input7 is an input device of it",
        ]
    );
}
