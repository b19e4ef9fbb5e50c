//! Displays of a function: the console, monitors, drivers that do not let go.
//!
//! Open DRM nodes are `nodes`'.

use std::cell::OnceCell;

use super::{
    Look, Subject,
    files::{Files, attribute},
};
use crate::{kernel::sysfs::text, pci::usage::Fact};

/// What is read once for all functions.
#[derive(Debug, Default)]
pub(super) struct Tables {
    console: OnceCell<Result<bool, String>>,
    firmware: OnceCell<Firmware>,
}

/// Framebuffers that the firmware left behind, by name and range of memory.
#[derive(Debug, Default)]
struct Firmware {
    framebuffers: Vec<(String, u64, u64)>,
    troubles: Vec<String>,
}

/// Drivers of which an unbind is known to hang or to bring the kernel down
/// while anything is open, and what is open cannot all be seen
/// (open-gpu-kernel-modules 1374 and 1119; i915, xe and amdgpu under a
/// compositor).
const NATIVE: &[&str] = &["nvidia", "amdgpu", "i915", "xe"];

/// What speaks for a display in use.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = facts_without_driver(look, subject);
    for device in subject.of("drm") {
        if is_connector(&device.name) {
            facts.extend(connector(look, &device.name, &device.place));
        }
    }
    facts
}

/// What speaks for a display that no driver of its own has: the kernel draws on
/// what the firmware left behind, by simpledrm or efifb.
pub(super) fn facts_without_driver(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = console(look, subject);
    facts.extend(native(look, subject));
    facts
}

/// `card0-HDMI-A-1` beside `card0`.
fn is_connector(name: &str) -> bool {
    name.starts_with("card") && name.contains('-')
}

/// A connector is in use if a monitor is there, or if it is driven without one:
/// some cannot tell (drivers/gpu/drm/drm_sysfs.c, `status_show` and
/// `enabled_show`, v6.12).
fn connector(look: Look<'_>, name: &str, place: &str) -> Option<Fact> {
    let connector = name.to_owned();
    let status = text(look.sysfs, &format!("{place}/status"));
    let enabled = text(look.sysfs, &format!("{place}/enabled"));
    match status.as_deref() {
        Some("connected") => Some(Fact::Connected { connector }),
        Some("disconnected") => None,
        Some("unknown") if enabled.as_deref() == Some("disabled") => None,
        Some("unknown") => Some(Fact::Connected { connector }),
        _ => Some(Fact::Unchecked {
            text: format!("{name} does not say whether a monitor is connected"),
        }),
    }
}

fn native(look: Look<'_>, subject: &Subject<'_>) -> Option<Fact> {
    let driver = subject.driver.filter(|driver| NATIVE.contains(driver));
    // Longer than the driver's link, which goes before an unbind has finished.
    let gpus = look.host.list("/proc/driver/nvidia/gpus");
    let address = subject.address.to_string();
    let nvidia = gpus.is_ok_and(|gpus| gpus.contains(&address));
    let driver = driver.or_else(|| nvidia.then_some("nvidia"))?;
    Some(Fact::NativeGpu {
        driver: driver.to_owned(),
    })
}

/// Whether the console is drawn on it.
fn console(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let framebuffers = subject.of("graphics");
    for device in framebuffers.filter(|device| device.name.starts_with("fb")) {
        let drawn = look.tables.display.console.get_or_init(|| drawn(look));
        match drawn {
            Ok(false) => {}
            // Which of several framebuffers it is, sysfs does not say.
            Ok(true) => facts.push(Fact::ConsoleFramebuffer {
                framebuffer: device.name.clone(),
            }),
            Err(text) => facts.push(Fact::Unchecked { text: text.clone() }),
        }
    }
    for device in subject.of("drm") {
        // On the card that the firmware booted with, in Linux 7.3
        // (Documentation/ABI/testing/sysfs-class-drm).
        let boot = text(look.sysfs, &format!("{}/boot_display", device.place));
        if boot.as_deref() == Some("1") {
            facts.push(Fact::BootDisplay {
                card: device.name.clone(),
            });
        }
    }
    if subject.class.base() == 0x03 {
        firmware(look, subject, &mut facts);
    }
    facts
}

/// Whether a virtual console is drawn on a framebuffer
/// (Documentation/driver-api/console.rst).
fn drawn(look: Look<'_>) -> Result<bool, String> {
    let consoles = look.sysfs.list("class/vtconsole").unwrap_or_default();
    for console in consoles {
        let read = |name: &str| attribute(look.sysfs, &format!("class/vtconsole/{console}/{name}"));
        let (name, bound) = (read("name")?, read("bind")?);
        let is_framebuffer = name.is_none_or(|name| name.contains("frame buffer"));
        if is_framebuffer && bound.as_deref() != Some("0") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Framebuffers of the firmware that lie in memory of the function.
fn firmware(look: Look<'_>, subject: &Subject<'_>, facts: &mut Vec<Fact>) {
    let cell = &look.tables.display.firmware;
    let firmware = cell.get_or_init(|| Firmware::read(look));
    let troubles = firmware.troubles.iter();
    facts.extend(troubles.map(|text| Fact::Unchecked { text: text.clone() }));
    if firmware.framebuffers.is_empty() {
        return;
    }
    let Some(regions) = text(look.sysfs, &format!("{}/resource", subject.dir)) else {
        let text = "its regions of memory cannot be read".to_owned();
        facts.push(Fact::Unchecked { text });
        return;
    };
    let regions: Vec<_> = regions.lines().filter_map(region).collect();
    for (name, first, last) in &firmware.framebuffers {
        let lies_in = |(start, end): &(u64, u64)| start <= last && first <= end;
        if regions.iter().any(lies_in) {
            facts.push(Fact::ConsoleFramebuffer {
                framebuffer: name.clone(),
            });
        }
    }
}

/// `0x00000000e0000000 0x00000000efffffff 0x000000000014220c`; one that is not
/// there is all zero.
fn region(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line
        .split_whitespace()
        .map(|number| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok());
    let (start, end) = (numbers.next()??, numbers.next()??);
    (end > 0).then_some((start, end))
}

/// What those who draw on the firmware's framebuffer call its memory:
/// drivers/firmware/sysfb_simplefb.c, drivers/video/fbdev/efifb.c, vesafb.c,
/// simplefb.c, drivers/gpu/drm/tiny/simpledrm.c (v6.12).
const FRAMEBUFFERS: &[&str] = &[
    "bootfb",
    "efifb",
    "vesafb",
    "simplefb",
    "simpledrm",
    "-framebuffer",
];

impl Firmware {
    fn read(look: Look<'_>) -> Self {
        let mut files = Files::new(look.host);
        let mut firmware = Self::default();
        for line in files.read("/proc/iomem").lines() {
            let Some((range, name)) = line.split_once(" : ") else {
                continue;
            };
            let lower = name.to_ascii_lowercase();
            if !FRAMEBUFFERS.iter().any(|known| lower.contains(known)) {
                continue;
            }
            let range = range.trim().split_once('-').and_then(|(first, last)| {
                let hex = |text: &str| u64::from_str_radix(text, 16).ok();
                Some((hex(first)?, hex(last)?))
            });
            match range.filter(|(_, last)| *last > 0) {
                Some((first, last)) => {
                    let name = name.to_owned();
                    firmware.framebuffers.push((name, first, last));
                }
                // Without CAP_SYS_ADMIN all ranges are zero
                // (kernel/resource.c, `r_show`, v6.12).
                None => files
                    .troubles
                    .push(format!("/proc/iomem does not say where {name} lies")),
            }
        }
        firmware.troubles = files.troubles;
        firmware
    }
}
