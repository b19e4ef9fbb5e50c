//! What a helper would find of a made host's functions.

use vfio_bindd::pci::usage::Fact;

pub(super) fn up(interface: &str) -> Fact {
    Fact::LinkUp {
        interface: interface.to_owned(),
    }
}

pub(super) fn port(interface: &str, master: &str) -> Fact {
    Fact::PortOf {
        interface: interface.to_owned(),
        master: master.to_owned(),
    }
}

pub(super) fn busy(disk: &str) -> Fact {
    Fact::DiskHeld {
        disk: disk.to_owned(),
        error: "device or resource busy".to_owned(),
    }
}

pub(super) fn open(subsystem: &str, node: &str) -> Fact {
    Fact::NodeOpen {
        subsystem: subsystem.to_owned(),
        node: node.to_owned(),
        process: "gnome-shell (pid 2417)".to_owned(),
    }
}

pub(super) fn framebuffer(name: &str) -> Fact {
    Fact::ConsoleFramebuffer {
        framebuffer: name.to_owned(),
    }
}

pub(super) fn keyboard(device: &str) -> Fact {
    Fact::UsbDevice {
        device: device.to_owned(),
        kind: "a keyboard".to_owned(),
    }
}
