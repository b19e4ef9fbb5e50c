//! The guest slots that a domain has free.

use std::collections::BTreeSet;

use roxmltree::Node;

use super::super::{
    hostdev::GuestSlot,
    xml::{children, number, value},
};

/// The slots of the PCI Express root ports on bus 0 that no device is on, in
/// the order of their buses. All else (bridges, switches, expander buses with a
/// NUMA node of their own) is libvirt's to choose from. Devices without an
/// address do not matter: libvirt places those after the ones that have one.
pub(super) fn free(root: Node<'_, '_>) -> Vec<GuestSlot> {
    let elements = || {
        children(root, "devices")
            .flat_map(|devices| devices.children())
            .filter(Node::is_element)
    };
    let used: BTreeSet<u8> = elements().filter_map(bus).collect();
    let ports: BTreeSet<u8> = elements().filter_map(port).collect();
    let free = ports.difference(&used);
    free.filter_map(|bus| GuestSlot::new(*bus, 0)).collect()
}

/// The bus that a device is on.
fn bus(device: Node<'_, '_>) -> Option<u8> {
    let on_pci = |address: &Node<'_, '_>| value(*address, "type") == Some("pci");
    let address = children(device, "address").find(on_pci)?;
    u8::try_from(number(value(address, "bus").unwrap_or("0"))?).ok()
}

/// The bus that a root port makes.
fn port(device: Node<'_, '_>) -> Option<u8> {
    let is_port = value(device, "type") == Some("pci")
        && value(device, "model") == Some("pcie-root-port")
        && bus(device).unwrap_or(0) == 0;
    let index = value(device, "index").filter(|_| is_port)?;
    u8::try_from(number(index)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::super::xml::parse, *};

    #[test]
    fn a_port_is_free_without_a_device() {
        let text = "<domain><devices>
            <controller type='pci' index='0' model='pcie-root'/>
            <controller type='pci' index='1' model='pcie-root-port'><address type='pci' bus='0x00' slot='0x02' function='0x0'/></controller>
            <controller type='pci' index='3' model='pcie-root-port'><address type='pci' slot='0x02' function='0x2'/></controller>
            <controller type='pci' index='2' model='pcie-root-port'/>
            <controller type='pci' index='4' model='pcie-expander-bus'/>
            <controller type='pci' index='5' model='pcie-root-port'><address type='pci' bus='0x04' slot='0x00'/></controller>
            <controller type='pci' index='6' model='pcie-to-pci-bridge'><address type='pci' bus='0x07' slot='0x00'/></controller>
            <controller type='pci' index='7' model='pcie-root-port'/>
            <controller type='pci' model='pcie-root-port'/>
            <controller type='pci' index='x' model='pcie-root-port'/>
            <controller type='usb' index='8' model='pcie-root-port'/>
            <disk><address type='drive' bus='2'/></disk>
            <disk><address type='pci' bus='0x01' slot='0x00'/></disk>
            <hostdev><source><address type='pci' bus='0x03'/></source></hostdev>
            </devices></domain>";
        let document = parse(text).unwrap();
        let expected = [2, 3].map(|bus| GuestSlot::new(bus, 0).unwrap());
        assert_eq!(free(document.root_element()), expected);
    }
}
