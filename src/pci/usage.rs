//! Use: what the host does with a function, as facts.
//!
//! Owns the facts and their names; serialised, they are a part of a recorded
//! host. Never reads them itself; what each speaks against is `policy::guard`'s.

use serde::{Deserialize, Serialize};

/// One thing that was found out about the host's use of a function. Names of
/// devices are the kernel's: `nvme0n1p2`, `dm-0`, `eth0`, `controlC0`. For each
/// kind of device, what says most to a person comes first: sorted, the first one
/// is the one to tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fact {
    /// A file system on it is mounted.
    Mounted {
        /// The disk, the partition, or what is made of them.
        device: String,
        /// Where, as PID 1 sees it.
        on: String,
    },
    /// It is swapped to.
    Swap {
        /// The disk, the partition, or what is made of them.
        device: String,
    },
    /// The kernel's command line, or its setting for hibernation, names it.
    KernelParameter {
        /// The disk, the partition, or what is made of them.
        device: String,
        /// The parameter, `root=UUID=...`.
        parameter: String,
    },
    /// A file of the host's configuration names it.
    Listed {
        /// The disk, the partition, or what is made of them.
        device: String,
        /// The file.
        file: String,
        /// What the file has it for, as a mount point or a pool's name.
        entry: String,
    },
    /// A process has the block device open for writing.
    OpenForWriting {
        /// The disk or partition.
        device: String,
        /// Who, `qemu-system-x86 (pid 812)`.
        process: String,
    },
    /// Another block device is made of the disk or of a part of it.
    Holder {
        /// The disk or partition.
        device: String,
        /// What is made of it, `dm-0 (pve-root)`.
        holder: String,
    },
    /// The kernel does not let the disk be opened exclusively.
    DiskHeld {
        /// The whole disk.
        disk: String,
        /// What the kernel says, in words.
        error: String,
    },
    /// It carries a file system or is a member of a pool, and nothing that was
    /// looked at names it.
    Signature {
        /// The disk or partition.
        device: String,
        /// The type as udev calls it (`ID_FS_TYPE`).
        kind: String,
    },
    /// A network interface is up.
    LinkUp {
        /// The interface.
        interface: String,
    },
    /// A network interface has an address.
    HasAddress {
        /// The interface.
        interface: String,
        /// The address.
        address: String,
    },
    /// A route leads through a network interface.
    Routed {
        /// The interface.
        interface: String,
        /// Its destination, `default` or a prefix.
        destination: String,
    },
    /// A network interface is a part of another one.
    PortOf {
        /// The interface.
        interface: String,
        /// A bridge, bond, team or switch.
        master: String,
    },
    /// Another network interface is made of it: a VLAN, macvlan or the like.
    Carries {
        /// The interface.
        interface: String,
        /// The other one.
        upper: String,
    },
    /// The host's network configuration names the interface.
    Configured {
        /// The interface.
        interface: String,
        /// The file.
        file: String,
    },
    /// A network driver holds the function, and no interface is seen: it may be
    /// in another network namespace.
    Elsewhere {
        /// The driver.
        driver: String,
    },
    /// A port of an InfiniBand device is active.
    InfinibandActive {
        /// The device and its port, `mlx5_0/1`.
        port: String,
    },
    /// A monitor is connected.
    Connected {
        /// The connector, `card0-HDMI-A-1`.
        connector: String,
    },
    /// The console is drawn on it.
    ConsoleFramebuffer {
        /// The framebuffer, `fb0`, or the kernel's name for its memory.
        framebuffer: String,
    },
    /// The firmware booted with it as its display.
    BootDisplay {
        /// The card, `card0`.
        card: String,
    },
    /// A display driver whose unbind is known to hang holds it.
    NativeGpu {
        /// The driver.
        driver: String,
    },
    /// A process has a device node of it open.
    NodeOpen {
        /// What kind of device, as its subsystem in sysfs: `drm`, `sound`.
        subsystem: String,
        /// The node.
        node: String,
        /// Who, `pipewire (pid 812)`.
        process: String,
    },
    /// A USB device that the host may need is plugged in below it.
    UsbDevice {
        /// The device's place, `2-1`.
        device: String,
        /// What it is, in words: `a keyboard`, `the keyboard 'Model M'`.
        kind: String,
    },
    /// An input device below it that no USB device accounts for.
    Input {
        /// The kernel's name for it.
        name: String,
    },
    /// A terminal that the kernel's console is on.
    ConsoleTerminal {
        /// The terminal, `ttyS4`.
        terminal: String,
    },
    /// A TPM.
    Tpm {
        /// The device.
        device: String,
    },
    /// A real-time clock.
    Rtc {
        /// The device.
        device: String,
    },
    /// An interface to the BMC.
    Ipmi {
        /// The device.
        device: String,
    },
    /// A watchdog that runs.
    WatchdogActive {
        /// The device.
        device: String,
    },
    /// A mediated device that was made of it for a virtual machine.
    Mediated {
        /// Its UUID.
        device: String,
    },
    /// A process, most likely a virtual machine, has its vfio device open.
    VfioOpen {
        /// The node, `/dev/vfio/12`.
        node: String,
        /// Who, `qemu-system-x86 (pid 812)`.
        process: String,
    },
    /// The host panics when an unbind does not come back.
    HungTaskPanic {
        /// What `kernel.hung_task_panic` says.
        value: String,
    },
    /// Something could not be checked.
    Unchecked {
        /// What and why, as a clause.
        text: String,
    },
}
