//! What is refused by what a function is.

use super::{Guard, Objection};
use crate::pci::{
    function::{Function, Header, Role},
    id::ClassCode,
};

/// What a bridge is, wherever it is asked: vfio-pci refuses any header type
/// but 0 (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_register_device`).
#[must_use]
pub fn is_bridge(function: &Function) -> bool {
    function.header == Header::Bridge || function.class.subclass() == 0x0604
}

/// What speaks against taking `function`, whatever the host does with it now.
#[must_use]
pub fn static_objections(function: &Function) -> Vec<Objection> {
    let mut objections = Vec::new();
    if is_bridge(function) {
        objections.push(Objection::absolute("is a bridge, which vfio cannot take"));
    } else if let Some((guard, what)) = system_class(function.class) {
        objections.push(Objection::guarded(
            guard,
            format!("is {what} (class {}), which the host needs", function.class),
        ));
    }
    if function.boot_vga {
        objections.push(Objection::guarded(
            Guard::Console,
            "is the display that the host booted with (boot_vga)",
        ));
    }
    if let Role::Pf { vfs, .. } = &function.role
        && !vfs.is_empty()
    {
        objections.push(Objection::guarded(
            Guard::PfWithVfs,
            format!("is a PF with {} VFs, which would go with it", vfs.len()),
        ));
    }
    objections
}

/// Classes that vfio-pci would bind and that the host must keep
/// (PCI Code and ID Assignment; which of them vfio-pci takes was tried on 6.1
/// to 7.2: ISA bridge, SMBus and host bridge all bind).
fn system_class(class: ClassCode) -> Option<(Guard, &'static str)> {
    match (class.base(), class.subclass()) {
        (0x06, _) => Some((Guard::SystemClass, "a host or ISA bridge")),
        (0x05, _) => Some((Guard::SystemClass, "a memory controller")),
        (0x08, _) => Some((Guard::SystemClass, "a system peripheral")),
        (0x0b, _) => Some((Guard::SystemClass, "a processor")),
        (0x11, _) => Some((Guard::SystemClass, "a signal processing controller")),
        (_, 0x0c05) => Some((Guard::SystemClass, "an SMBus controller")),
        (_, 0x0c07) => Some((Guard::Ipmi, "an IPMI interface")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_classes_are_the_ones_of_the_contract() {
        for (class, guarded) in [
            (0x06_0100, true),
            (0x05_8000, true),
            (0x08_0600, true),
            (0x0b_4000, true),
            (0x11_8000, true),
            (0x0c_0500, true),
            (0x0c_0701, true),
            (0x0c_0330, false),
            (0x02_0000, false),
            (0x03_0000, false),
            (0x01_0802, false),
            (0x12_0000, false),
        ] {
            assert_eq!(
                system_class(ClassCode::new(class)).is_some(),
                guarded,
                "{class:06x}"
            );
        }
    }
}
