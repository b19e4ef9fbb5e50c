//! Displays: the console, monitors, drivers that do not let go.

use crate::one::{Case, One, check};

fn gpu() -> One {
    let one = One::new("030000", "nouveau");
    one.device("drm", "drm/card1", &[]);
    one.device(
        "drm",
        "drm/card1/card1-HDMI-A-1",
        &[("status", "disconnected"), ("enabled", "disabled")],
    );
    one.device("graphics", "graphics/fb1", &[]);
    one.set("resource", REGIONS);
    one
}

const REGIONS: &str = "0x00000000fd000000 0x00000000fdffffff 0x0000000000040200\n\
                       0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n\
                       0x0000000000000000 0x0000000000000000 0x0000000000000000";

fn console(one: &One, name: &str, bound: &str) {
    one.0.file("class/vtconsole/vtcon1/name", name);
    one.0.file("class/vtconsole/vtcon1/bind", bound);
}

const CONSOLE: &[Case] = &[
    ("nothing", |_| {}, &[]),
    (
        "a console on another device",
        |one| console(one, "(S) VGA+\n", "1\n"),
        &[],
    ),
    (
        "a console that was taken off",
        |one| console(one, "(M) frame buffer device\n", "0\n"),
        &[],
    ),
    (
        "a console on the framebuffer",
        |one| console(one, "(M) frame buffer device\n", "1\n"),
        &["console: the console is drawn on fb1"],
    ),
    (
        "a console that does not say so",
        |one| {
            console(one, "(M) frame buffer device\n", "1\n");
            let bind = "class/vtconsole/vtcon1/bind".to_owned();
            one.0.with(|kernel| kernel.broken.insert(bind));
        },
        &["unchecked: /sys/class/vtconsole/vtcon1/bind cannot be read: input/output error"],
    ),
    (
        "the firmware's framebuffer in one of its regions",
        |one| {
            one.file(
                "/proc/iomem",
                "e0000000-efffffff : PCI Bus\n  e0000000-e07e8fff : BOOTFB\n",
            )
        },
        &["console: the console is drawn on BOOTFB"],
    ),
    (
        "the firmware's framebuffer elsewhere",
        |one| one.file("/proc/iomem", "  c0000000-c07e8fff : efifb\n"),
        &[],
    ),
    (
        "the firmware's framebuffer at no place that is told",
        |one| one.file("/proc/iomem", "00000000-00000000 : simple-framebuffer.0\n"),
        &["unchecked: /proc/iomem does not say where simple-framebuffer.0 lies"],
    ),
    (
        "no word of the memory",
        |one| one.forbid("/proc/iomem"),
        &["unchecked: /proc/iomem cannot be read: permission denied"],
    ),
    (
        "the card of the boot",
        |one| one.set("drm/card1/boot_display", "1"),
        &["console: the host booted with card1 as its display"],
    ),
];

#[test]
fn the_console_counts() {
    check(gpu, CONSOLE);
}

/// As simpledrm leaves it: the device of the firmware is below the function,
/// which no driver has.
#[test]
fn the_console_counts_without_a_driver_too() {
    fn free() -> One {
        let one = One::without_driver("030000");
        one.device("drm", "simple-framebuffer.0/drm/card1", &[]);
        one.device("graphics", "simple-framebuffer.0/graphics/fb1", &[]);
        one.set("resource", REGIONS);
        one
    }
    let (boot, others) = CONSOLE.split_last().unwrap();
    check(free, others);
    let one = free();
    one.set("simple-framebuffer.0/drm/card1/boot_display", "1");
    assert_eq!(one.uses(), boot.2);
    one.set("simple-framebuffer.0/drm/card1/boot_display", "0");
    one.set("simple-framebuffer.0/drm/card1/dev", "226:1");
    one.opens("gnome-shell (pid 7)", (226, 1), true);
    assert_eq!(one.uses(), ["display: gnome-shell (pid 7) has card1 open"]);
    let other = One::without_driver("020000");
    other.set("resource", REGIONS);
    other.file("/proc/iomem", "  e0000000-e07e8fff : BOOTFB\n");
    assert_eq!(other.uses(), Vec::<String>::new());
}

#[test]
fn monitors_count() {
    check(
        gpu,
        &[
            (
                "connected",
                |one| one.set("drm/card1/card1-HDMI-A-1/status", "connected"),
                &["display: a monitor is connected to card1-HDMI-A-1"],
            ),
            (
                "not known, and off",
                |one| one.set("drm/card1/card1-HDMI-A-1/status", "unknown"),
                &[],
            ),
            (
                "not known, and driven",
                |one| {
                    one.set("drm/card1/card1-HDMI-A-1/status", "unknown");
                    one.set("drm/card1/card1-HDMI-A-1/enabled", "enabled");
                },
                &["display: a monitor is connected to card1-HDMI-A-1"],
            ),
            (
                "not told",
                |one| one.breaks("drm/card1/card1-HDMI-A-1/status"),
                &["unchecked: card1-HDMI-A-1 does not say whether a monitor is connected"],
            ),
        ],
    );
}

#[test]
fn drivers_whose_unbind_hangs_count() {
    for driver in ["nvidia", "amdgpu", "i915", "xe"] {
        for class in ["030000", "030200", "038000"] {
            let wanted = format!("native-gpu: {driver} holds it, whose unbind is known to hang");
            assert_eq!(One::new(class, driver).uses(), [wanted], "{class}");
        }
    }
    for driver in ["nouveau", "ast", "bochs-drm"] {
        assert_eq!(One::new("030000", driver).uses(), Vec::<String>::new());
    }
    // The link to the driver goes first, and the driver may cling for long.
    let late = One::without_driver("030000");
    late.file("/proc/driver/nvidia/gpus/0000:01:00.0/information", "");
    let wanted = "native-gpu: nvidia holds it, whose unbind is known to hang";
    assert_eq!(late.uses(), [wanted]);
    let other = One::without_driver("030000");
    other.file("/proc/driver/nvidia/gpus/0000:02:00.0/information", "");
    assert_eq!(other.uses(), Vec::<String>::new());
}

#[test]
fn any_open_node_of_nvidia_counts() {
    let one = One::new("030200", "nvidia");
    one.file(
        "/proc/devices",
        "Character devices:\n  1 mem\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n511 nvidia-x\n",
    );
    one.opens("persistenced (pid 7)", (195, 0), true);
    one.opens("persistenced (pid 7)", (195, 255), true);
    one.opens("trainer (pid 8)", (510, 0), true);
    one.opens("other (pid 9)", (511, 0), true);
    assert_eq!(
        one.uses(),
        [
            "native-gpu: nvidia holds it, whose unbind is known to hang",
            "display: trainer (pid 8) has nvidia-uvm open",
            "display: persistenced (pid 7) has nvidia0 open",
            "display: persistenced (pid 7) has nvidiactl open",
        ]
    );
}
