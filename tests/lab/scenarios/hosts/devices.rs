//! What a host uses besides disks and networks: its display, a sound card, its
//! USB ports, its buses.

use super::network::interface;
use super::{Case, Fate, stays};
use crate::Result;
use crate::guest::Guest;
use crate::topology::hosts::{
    CHIPSET, DISPLAY, OLD_BRIDGE, PF, ROOT_PORT, SOUND, SOUND_TWIN, USB, USB_TWIN, VFS,
};

/// The two functions behind the bridge to the conventional bus.
pub(super) fn behind_old_bridge(guest: &mut Guest) -> Result<[String; 2]> {
    let mut at = |device: u8| {
        guest.ok(&format!(
            "cd /sys/bus/pci/devices/{OLD_BRIDGE} && ls -d [0-9a-f]*:??:0{device}.0"
        ))
    };
    Ok([at(1)?, at(2)?])
}

pub(super) fn set_up(guest: &mut Guest) -> Result<()> {
    let [_, used] = behind_old_bridge(guest)?;
    let used = interface(guest, &used)?;
    let script = format!(
        "set -e
         echo 2 >/sys/bus/pci/devices/{PF}/sriov_numvfs
         ip addr add 198.51.100.2/24 dev {used}; ip link set {used} up
         card=$(basename /sys/bus/pci/devices/{SOUND}/sound/card*)
         systemd-run -q --unit=lab-sound sh -c \"exec sleep infinity 3</dev/snd/controlC${{card#card}}\"
         stick=$(basename $(find /sys/bus/pci/devices/{USB}/ -path '*/block/sd?'))
         mkfs.ext4 -q -O ^has_journal /dev/$stick; mkdir -p /mnt/stick; mount /dev/$stick /mnt/stick
         head -c 100000 /dev/urandom >/mnt/stick/lab-proof; sync"
    );
    guest.ok(&script).map(drop)
}

pub(super) fn cases(guest: &mut Guest) -> Result<Vec<Case>> {
    let [idle, used] = behind_old_bridge(guest)?;
    let used_name = interface(guest, &used)?;
    let behind_port = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{ROOT_PORT} && ls -d [0-9a-f]*:??:00.0"
    ))?;
    let card = guest.ok(&format!("ls /sys/bus/pci/devices/{SOUND}/sound"))?;
    let card = card.trim_start_matches("card");
    let stick = guest.ok("basename $(findmnt -no SOURCE /mnt/stick)")?;
    let share = guest
        .ok("basename $(dirname $(readlink -f /sys/bus/virtio/drivers/9pnet_virtio/virtio0))")?;
    let owned = |address: &str, fate| (address.to_owned(), fate);
    let [host_bridge, isa, sata, smbus] = CHIPSET;
    Ok(vec![
        Case {
            name: "open sound card with an idle twin",
            functions: vec![
                owned(SOUND, stays(&[&[&format!("controlC{card}"), "sleep"]])),
                owned(SOUND_TWIN, Fate::Bound),
            ],
            proof: format!("systemctl is-active lab-sound; ls /proc/asound/card{card}"),
        },
        Case {
            name: "boot display",
            functions: vec![owned(DISPLAY, stays(&[&["boot_vga"]]))],
            proof: "cat /sys/class/graphics/fb0/name /sys/class/drm/card*-Virtual-1/status"
                .to_owned(),
        },
        Case {
            name: "USB with keyboard and stick, and an idle twin",
            functions: vec![
                owned(USB, stays(&[&["keyboard"], &[&stick, "/mnt/stick"]])),
                owned(USB_TWIN, Fate::Bound),
            ],
            proof: format!(
                "sha256sum /mnt/stick/lab-proof; \
                 cat /sys/block/{stick}/diskseq; find /sys/bus/pci/devices/{USB}/ -name 'event*'"
            ),
        },
        Case {
            name: "PF with VFs",
            functions: vec![
                owned(PF, stays(&[&["PF", "2 VFs"]])),
                owned(VFS[0], Fate::Bound),
                owned(VFS[1], Fate::Bound),
            ],
            proof: format!(
                "cd /sys/bus/pci/devices/{PF}; ls nvme; cat sriov_numvfs; readlink virtfn0"
            ),
        },
        Case {
            name: "used and idle NIC behind a PCIe-to-PCI bridge",
            functions: vec![
                owned(OLD_BRIDGE, stays(&[&["bridge"]])),
                (used.clone(), stays(&[&[&used_name, "198.51.100.2"]])),
                (idle, stays(&[&["IOMMU group", &used]])),
            ],
            proof: format!("ip -o link show dev {used_name}; ip -o addr show dev {used_name}"),
        },
        Case {
            name: "idle NIC behind a root port",
            functions: vec![
                owned(ROOT_PORT, stays(&[&["bridge"]])),
                (behind_port, Fate::Bound),
            ],
            proof: "true".to_owned(),
        },
        Case {
            name: "chipset",
            functions: vec![
                owned(host_bridge, stays(&[&["host or ISA bridge"]])),
                owned(isa, stays(&[&["host or ISA bridge"]])),
                // Idle by itself, but in one group with the others.
                owned(sata, stays(&[&["IOMMU group"]])),
                owned(smbus, stays(&[&["SMBus"]])),
            ],
            proof: "true".to_owned(),
        },
        Case {
            name: "the folder that the lab itself shares",
            functions: vec![(share, stays(&[&["virtio-pci"]]))],
            proof: "findmnt -no SOURCE,FSTYPE /mnt/share".to_owned(),
        },
    ])
}
