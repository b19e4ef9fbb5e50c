//! One PCI function on the bus.

use zbus::interface;

use crate::{
    engine::snapshot::FunctionView,
    pci::{function::is_vfio_driver, id::PciId},
};

/// A function's object: what was last published of it.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) view: FunctionView,
}

impl Function {
    fn subsystem(&self) -> PciId {
        let none = PciId {
            vendor: 0,
            device: 0,
        };
        self.view.function.subsystem.unwrap_or(none)
    }
}

/// A PCI function that a mapping names.
#[interface(name = "org.vfiobindd1.Function")]
impl Function {
    /// Domain, bus, device and function, as in 0000:3b:00.0.
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> String {
        self.view.function.address.to_string()
    }

    /// The vendor ID.
    #[zbus(property)]
    fn vendor_id(&self) -> u16 {
        self.view.function.id.vendor
    }

    /// The device ID.
    #[zbus(property)]
    fn device_id(&self) -> u16 {
        self.view.function.id.device
    }

    /// The subsystem's vendor ID, 0 if there is none.
    #[zbus(property)]
    fn subsystem_vendor_id(&self) -> u16 {
        self.subsystem().vendor
    }

    /// The subsystem's device ID, 0 if there is none.
    #[zbus(property)]
    fn subsystem_device_id(&self) -> u16 {
        self.subsystem().device
    }

    /// The class code: base class, subclass and programming interface.
    #[zbus(property)]
    fn class(&self) -> u32 {
        self.view.function.class.value()
    }

    /// The NUMA node, -1 if it is not known.
    #[zbus(property)]
    fn numa_node(&self) -> i32 {
        number(self.view.function.numa_node)
    }

    /// The IOMMU group, -1 if there is none.
    #[zbus(property)]
    fn iommu_group(&self) -> i32 {
        number(self.view.function.iommu_group)
    }

    /// The driver that has it, empty if none has.
    #[zbus(property)]
    fn driver(&self) -> &str {
        self.view.function.driver.as_deref().unwrap_or_default()
    }

    /// The mappings that name it.
    #[zbus(property)]
    fn mappings(&self) -> &[String] {
        &self.view.mappings
    }

    /// The group node that a VMM opens, as /dev/vfio/7; empty unless a vfio
    /// driver has the function.
    #[zbus(property)]
    fn node(&self) -> String {
        let function = &self.view.function;
        let vfio = function.driver.as_deref().is_some_and(is_vfio_driver);
        function
            .iommu_group
            .filter(|_| vfio)
            .map_or_else(String::new, |group| format!("/dev/vfio/{group}"))
    }

    /// The reset methods that the kernel would try, in order.
    #[zbus(property)]
    fn reset_methods(&self) -> &[String] {
        &self.view.function.reset_methods
    }

    /// One of bound, pending, refused, stuck, failed, released.
    #[zbus(property)]
    fn state(&self) -> &str {
        self.view.state.as_str()
    }

    /// Why, in one clause; empty if there is nothing to say.
    #[zbus(property)]
    fn reason(&self) -> &str {
        &self.view.reason
    }
}

fn number(value: Option<u32>) -> i32 {
    value
        .and_then(|value| i32::try_from(value).ok())
        .unwrap_or(-1)
}
