//! USB devices and input devices of a function.
//!
//! A hub is nothing by itself. Disks below a USB controller are `storage`'s as
//! well.

use super::{Device, Look, Subject};
use crate::{kernel::sysfs::text, pci::usage::Fact};

/// What speaks for a use of what is plugged in.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let devices: Vec<_> = subject
        .of("usb")
        .filter(|device| !is_interface(device))
        .filter(|device| attribute(look, device, "bDeviceClass").as_deref() != Some(HUB))
        .collect();
    let plugged = devices.iter().filter_map(|device| {
        let kind = kind(look, subject, device)?;
        Some(Fact::UsbDevice {
            device: device.name.clone(),
            kind: match product(look, device) {
                Some(product) => format!("the {kind} '{product}'"),
                None if kind.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {kind}"),
                None => format!("a {kind}"),
            },
        })
    });
    let inputs = subject.of("input").filter(|input| {
        let of_usb = devices.iter().any(|device| is_below(input, device));
        // Its event and mouse devices hang below it.
        input.name.starts_with("input") && !of_usb && !is_jack(input)
    });
    let inputs = inputs.map(|input| Fact::Input {
        name: match attribute(look, input, "name") {
            Some(name) if !name.is_empty() => format!("'{}'", plain(&name)),
            _ => input.name.clone(),
        },
    });
    plugged.chain(inputs).collect()
}

const HUB: &str = "09";

/// `2-1:1.0` beside `2-1`.
fn is_interface(device: &Device) -> bool {
    device.name.contains(':')
}

fn is_below(device: &Device, above: &Device) -> bool {
    let rest = device.place.strip_prefix(&above.place);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// The jacks of a sound card are input devices, which say only whether
/// something is plugged in (sound/core/jack.c, v6.12).
pub(super) fn is_jack(input: &Device) -> bool {
    input.place.contains("/sound/card")
}

fn attribute(look: Look<'_>, device: &Device, name: &str) -> Option<String> {
    text(look.sysfs, &format!("{}/{name}", device.place))
}

fn product(look: Look<'_>, device: &Device) -> Option<String> {
    let product = attribute(look, device, "product")?;
    let product = plain(product.trim());
    (!product.is_empty()).then_some(product)
}

/// What a device calls itself, without what would upset a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// What a host may need it for, `None` if for nothing: the codes are of
/// <https://www.usb.org/defined-class-codes>. The first that fits is taken; a
/// keyboard with a mouse in it is a keyboard.
fn kind(look: Look<'_>, subject: &Subject<'_>, device: &Device) -> Option<&'static str> {
    let interfaces: Vec<_> = subject
        .of("usb")
        .filter(|one| is_interface(one) && is_below(one, device))
        .map(|one| {
            let read = |name: &str| attribute(look, one, name).unwrap_or_default();
            (read("bInterfaceClass"), read("bInterfaceProtocol"))
        })
        .collect();
    let has = |class: &str| interfaces.iter().any(|(one, _)| one == class);
    let hid = |protocol: &str| {
        let mut all = interfaces.iter();
        all.any(|(class, one)| class == "03" && one == protocol)
    };
    let below = |subsystem: &'static str| {
        let mut all = subject.of(subsystem);
        all.any(|one| is_below(one, device))
    };
    let kinds = [
        (hid("01"), "keyboard"),
        (has("08") || below("block"), "storage device"),
        (below("net"), "network adapter"),
        (hid("02"), "mouse"),
        (below("tty"), "serial adapter"),
        (below("input"), "input device"),
        (has("03"), "HID device"),
        (has("02") || has("0a"), "communication device"),
        (has("0e"), "camera"),
        (has("e0"), "wireless adapter"),
    ];
    kinds.iter().find_map(|(is, kind)| is.then_some(*kind))
}
