//! Disks that a host uses, in each way that there is.

use std::time::Duration;

use super::{Case, Fate, stays};
use crate::Result;
use crate::guest::Guest;
use crate::topology::hosts::{
    ARRAY, BTRFS, CRYPTTAB, LISTED, MIRROR, RAW, ROOT, SHELF, SWAP, VAULT, VAULT_TWIN, ZFS,
};

/// Finds the disk below a function; for a path of a shared one, the shared one.
const DISK: &str = "disk() { ls -d /sys/bus/pci/devices/$1/nvme/*/nvme*n1 | \
                    sed 's,.*/,,; s/c[0-9]*n/n/'; }\n";

/// The UUID by which the initrd finds the container with the root, see image.sh.
const LUKS: &str = "c0ffee00-0000-4000-8000-000000000001";

/// Where a label for a disk of a ZFS pool lies in the guest.
const ZFS_LABEL: &str = "/run/lab-zfs-label";

/// Reads a file back; caches are dropped before all proofs.
pub(super) const READ_BACK: &str = "sha256sum";

/// The kernel's name of the disk below a function.
pub(super) fn disk(guest: &mut Guest, address: &str) -> Result<String> {
    guest.ok(&format!("{DISK}disk {address}"))
}

pub(super) fn set_up(guest: &mut Guest) -> Result<()> {
    guest.write_file(ZFS_LABEL, &zfs_label())?;
    // Few rounds for the key: it is no secret, and each costs time here.
    let script = format!(
        "{DISK}set -e
         vault=/dev/$(disk {VAULT})
         cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
             --uuid {LUKS} --key-file /etc/lab.key $vault
         cryptsetup open --key-file /etc/lab.key $vault luks-lab
         echo \"luks-lab UUID={LUKS} /etc/lab.key luks\" >>/etc/crypttab
         pvcreate -q /dev/mapper/luks-lab; vgcreate -q lab /dev/mapper/luks-lab
         lvcreate -q -n root -l 100%FREE lab
         file_system() {{ # DEVICE MOUNTPOINT
             mkfs.ext4 -q -O ^has_journal $1; mkdir -p $2; mount $1 $2
             head -c 100000 /dev/urandom >$2/lab-proof; sync -f $2
         }}
         in_fstab() {{ # DEVICE MOUNTPOINT TYPE OPTIONS
             echo \"UUID=$(blkid -o value -s UUID -p $1) $2 $3 $4 0 0\" >>/etc/fstab
         }}
         file_system /dev/lab/root /srv
         head -c 100000 /dev/urandom >/lab-proof
         set -- $(disk {}) $(disk {})
         mdadm --quiet --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 \
             --assume-clean /dev/$1 /dev/$2
         file_system /dev/md0 /mnt/mirror; in_fstab /dev/md0 /mnt/mirror ext4 defaults,nofail
         mkfs.btrfs -q /dev/$(disk {BTRFS})
         dd if={ZFS_LABEL} of=/dev/$(disk {ZFS}) bs=1024 seek=16 conv=notrunc status=none
         for block in 4 5 6 7; do
             printf '\\014\\261\\272\\0\\0\\0\\0\\0' |
                 dd of=/dev/$(disk {ZFS}) bs=1024 seek=$(( 128 + block )) conv=notrunc status=none
         done
         swap=/dev/$(disk {SWAP})
         mkswap -q $swap; swapon $swap; in_fstab $swap none swap defaults,nofail
         listed=/dev/$(disk {LISTED})
         mkfs.ext4 -q $listed; in_fstab $listed /var/backups ext4 noauto
         array=/dev/$(disk {ARRAY})
         mdadm --quiet --create /dev/md1 --run --level=1 --raid-devices=2 --metadata=1.2 \
             $array missing
         mdadm --detail --brief /dev/md1 >>/etc/mdadm/mdadm.conf; mdadm --quiet --stop /dev/md1
         systemd-run -q --unit=lab-raw sh -c \"exec sleep infinity 3<>/dev/$(disk {RAW})\"
         shared=/dev/$(disk {})
         file_system $shared /mnt/shared; in_fstab $shared /mnt/shared ext4 defaults,nofail
         crypttab=/dev/$(disk {CRYPTTAB})
         cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
             --key-file /etc/lab.key $crypttab
         echo \"backup UUID=$(cryptsetup luksUUID $crypttab) none luks,noauto\" >>/etc/crypttab",
        MIRROR[0], MIRROR[1], SHELF[0],
    );
    guest.ok_for(&script, Duration::from_secs(120)).map(drop)
}

/// The first label of a disk in a ZFS pool, as it lies 16 KiB into the disk: a
/// list of names and values in XDR (lib/libnvpair in OpenZFS), with what
/// libblkid wants of it. All bytes are ASCII. Before 2.41 it looked for the magic
/// number of four uberblocks instead, which [`set_up`] writes.
fn zfs_label() -> String {
    let word = |number: usize| {
        let bytes = u32::try_from(number).unwrap_or_default().to_be_bytes();
        bytes.map(char::from).iter().collect::<String>()
    };
    let padded = |text: &str| format!("{text}{}", "\0".repeat(text.len().wrapping_neg() % 4));
    let pair = |name: &str, kind: usize, value: &str| {
        let name = word(name.len()) + &padded(name);
        let body = name + &word(kind) + &word(1) + value;
        // Its own two sizes count too; the second is that of the decoded pair.
        word(body.len() + 8) + &word(32) + &body
    };
    // XDR, little endian, then version 0 with unique names.
    let mut label = "\u{1}\u{1}\0\0".to_owned() + &word(0) + &word(1);
    for (name, value) in [
        ("version", 28),
        ("state", 0),
        ("txg", 4),
        ("pool_guid", 7),
        ("guid", 9),
    ] {
        label += &pair(name, 8, &(word(0) + &word(value)));
    }
    label + &pair("name", 9, &(word(4) + "tank")) + &word(0) + &word(0)
}

pub(super) fn cases(guest: &mut Guest) -> Result<Vec<Case>> {
    let mut name = |address: &str| disk(guest, address);
    let (root, vault, swap) = (name(ROOT)?, name(VAULT)?, name(SWAP)?);
    let (mirror_a, mirror_b) = (name(MIRROR[0])?, name(MIRROR[1])?);
    let (array, raw, shared) = (name(ARRAY)?, name(RAW)?, name(SHELF[0])?);
    let one = |name, address: &str, fate, proof: &str| Case {
        name,
        functions: vec![(address.to_owned(), fate)],
        proof: proof.to_owned(),
    };
    let half = |disk: &str| stays(&[&[disk, "md0"], &["md0", "/mnt/mirror"]]);
    let mut cases = vec![
        one(
            "root on NVMe",
            ROOT,
            stays(&[
                &[&root, "mounted on /"],
                &[&root, "root=LABEL=lab-root"],
                &[&root, "/etc/fstab"],
            ]),
            &format!("{READ_BACK} /lab-proof; {}", untouched(&root)),
        ),
        Case {
            name: "LVM on LUKS with an idle twin",
            functions: vec![
                (
                    VAULT.to_owned(),
                    stays(&[
                        &[&vault, "luks-lab"],
                        &["lab-root", "/srv"],
                        &[&vault, "/etc/crypttab"],
                    ]),
                ),
                (VAULT_TWIN.to_owned(), Fate::Bound),
            ],
            proof: format!(
                "{READ_BACK} /srv/lab-proof; {}; dmsetup ls",
                untouched(&vault)
            ),
        },
        Case {
            name: "md mirror",
            functions: vec![
                (MIRROR[0].to_owned(), half(&mirror_a)),
                (MIRROR[1].to_owned(), half(&mirror_b)),
            ],
            proof: format!("{READ_BACK} /mnt/mirror/lab-proof; grep -A 1 md0 /proc/mdstat"),
        },
        one(
            "swap only",
            SWAP,
            stays(&[&[&swap, "swap"], &[&swap, "/etc/fstab"]]),
            &format!(
                "grep {swap} /proc/swaps | cut -d ' ' -f 1; {}",
                untouched(&swap)
            ),
        ),
        one(
            "array in mdadm.conf",
            ARRAY,
            stays(&[&[&array, "/etc/mdadm/mdadm.conf"]]),
            &untouched(&array),
        ),
        one(
            "disk that is written to raw",
            RAW,
            stays(&[&[&raw, "sleep", "writing"]]),
            &format!("systemctl is-active lab-raw; {}", untouched(&raw)),
        ),
        Case {
            name: "NVMe subsystem with two controllers",
            functions: SHELF
                .map(|path| (path.to_owned(), stays(&[&[&shared, "/mnt/shared"]])))
                .into(),
            proof: format!("{READ_BACK} /mnt/shared/lab-proof; {}", untouched(&shared)),
        },
    ];
    cases.extend(unused(guest)?);
    Ok(cases)
}

/// Disks that only what is written on them or about them speaks for.
pub(super) fn unused(guest: &mut Guest) -> Result<Vec<Case>> {
    let of = [
        ("btrfs pool that is not mounted", BTRFS, vec![vec!["btrfs"]]),
        ("ZFS pool by its label", ZFS, vec![vec!["zfs_member"]]),
        (
            "fstab entry that is not mounted",
            LISTED,
            vec![vec!["/etc/fstab", "/var/backups"]],
        ),
        (
            "crypttab entry that is not open",
            CRYPTTAB,
            vec![vec!["/etc/crypttab", "backup"]],
        ),
    ];
    let mut cases = Vec::new();
    for (name, address, mut reasons) in of {
        let disk = disk(guest, address)?;
        for words in &mut reasons {
            words.push(&disk);
        }
        let reasons: Vec<_> = reasons.iter().map(Vec::as_slice).collect();
        cases.push(Case {
            name,
            functions: vec![(address.to_owned(), stays(&reasons))],
            proof: format!(
                "{}; dd if=/dev/{disk} iflag=direct bs=64k count=8 status=none | sha256sum",
                untouched(&disk)
            ),
        });
    }
    Ok(cases)
}

/// A command whose output changes where a disk was taken and came back.
pub(super) fn untouched(disk: &str) -> String {
    format!("cat /sys/block/{disk}/diskseq")
}
