//! A daemon that starts before anything is mounted, on a root that is on LVM on
//! LUKS: what fstab, crypttab, mdadm.conf and `root=` name stays with the host.

use std::time::Duration;

use super::storage::{READ_BACK, disk, untouched, unused};
use super::verdict::{booted, plan};
use super::{Case, Fate, idle, stays};
use crate::Result;
use crate::guest::Guest;
use crate::scenarios::{ensure, same};
use crate::topology::Topology;
use crate::topology::hosts::{ARRAY, MIRROR, PF, RAW, ROOT, SHELF, SWAP, VAULT, VAULT_TWIN};

const ROOT_PARAMETER: &str = "root=/dev/mapper/lab-root";

/// All disks, and nothing of the chipset's: whether its SATA controller has a
/// driver that early differs from boot to boot.
const CONFIG: &str = r#"[mapping.all]
match = { class = "01*" }
exclude = { address = "0000:00:1f.*" }
partial = true
"#;

/// What makes the packaged unit start before the first mount: it may wait for
/// nothing that does, and `PrivateTmp` waits for /tmp.
const EARLY: &str = "sed -e '/^\\(After\\|Wants\\)=/d; /^PrivateTmp/d' \
     -e 's/^\\[Unit\\]/&\\nDefaultDependencies=no\\nBefore=local-fs-pre.target sysinit.target\\n\
Wants=local-fs-pre.target modprobe@vfio_pci.service vfio-bindd-helper.socket\\n\
After=modprobe@vfio_pci.service vfio-bindd-helper.socket/' \
     -e 's,^ExecStart=.*,& --config /etc/lab-early.toml\\nExecStartPost=+/bin/sh /etc/lab-early.sh,' \
     -e 's/^TimeoutStartSec=.*/TimeoutStartSec=180s/' \
     -e 's/^WantedBy=.*/WantedBy=sysinit.target/' /usr/lib/systemd/system/vfio-bindd.service";

/// What the unit keeps of the moment at which it was ready; mounts wait for it.
/// On a busy machine this may need more time than a look at a function gets.
const SNAPSHOT: &str = "findmnt -N 1 -rno TARGET >/run/lab-early-mounts
for try in 1 2 3 4 5 6; do
    vfio-bindctl --config /etc/lab-early.toml plan --json >/run/lab-early-plan
    [ \"$(jq -r .mappings.all.verdict /run/lab-early-plan)\" = pending ] || exit 0
done
";

pub(super) fn before_mounts(guest: &mut Guest) -> Result<()> {
    idle(guest)?;
    guest.ok_for("cp -ax /. /srv", Duration::from_secs(180))?;
    guest.write_file("/srv/etc/lab-early.toml", CONFIG)?;
    guest.write_file("/srv/etc/lab-early.sh", SNAPSHOT)?;
    guest.ok(&format!(
        "set -e
         sed -i 's,^LABEL=lab-root,/dev/mapper/lab-root,' /srv/etc/fstab
         {EARLY} >/srv/etc/systemd/system/vfio-bindd.service
         rm /srv/etc/systemd/system/multi-user.target.wants/vfio-bindd.service
         ln -s ../vfio-bindd.service /srv/etc/systemd/system/sysinit.target.wants/
         umount /srv; umount /mnt/mirror; mdadm --stop /dev/md0; umount /mnt/shared; swapoff -a"
    ))?;
    let mut host = Topology::hosts(guest.release());
    host.root_parameter = ROOT_PARAMETER;
    guest.ok("sync")?;
    guest.boot_as(&host)?;

    same(
        "the root",
        &guest.ok("findmnt -no SOURCE /")?,
        "/dev/mapper/lab-root",
    )?;
    let mounts = guest.ok("cat /run/lab-early-mounts")?;
    for place in ["/mnt/mirror", "/mnt/shared"] {
        ensure(!mounts.lines().any(|line| line == place), || {
            format!("{place} was mounted before the daemon was ready:\n{mounts}")
        })?;
    }
    let state = guest.ok("systemctl is-system-running || true")?;
    let failed =
        guest.ok("systemctl --failed --no-legend --plain; systemctl list-jobs --no-legend")?;
    ensure(state == "running", || {
        format!("the boot is {state}:\n{failed}")
    })?;
    let early = plan(&guest.ok("cat /run/lab-early-plan")?)?;
    let cases = cases(guest)?;
    booted(guest, "class = \"01*\" before any mount", &cases, &early)
}

/// What this boot's disks are. The old root's is one that nothing names.
fn cases(guest: &mut Guest) -> Result<Vec<Case>> {
    let mut name = |address: &str| disk(guest, address);
    let (root, swap, array) = (name(ROOT)?, name(SWAP)?, name(ARRAY)?);
    let (vault, shared) = (name(VAULT)?, name(SHELF[0])?);
    let one = |name, address: &str, fate, proof: String| Case {
        name,
        functions: vec![(address.to_owned(), fate)],
        proof,
    };
    let mut cases = vec![
        one(
            "a root that is no longer one",
            ROOT,
            stays(&[&[&root, "ext4"]]),
            untouched(&root),
        ),
        one(
            "root on LVM on LUKS",
            VAULT,
            stays(&[
                &["lab-root", "mounted on /"],
                &[ROOT_PARAMETER],
                &[&vault, "luks-lab"],
            ]),
            format!("{READ_BACK} /lab-proof; {}", untouched(&vault)),
        ),
        Case {
            name: "md mirror",
            functions: MIRROR
                .map(|half| (half.to_owned(), stays(&[&["/etc/fstab", "/mnt/mirror"]])))
                .into(),
            proof: format!("{READ_BACK} /mnt/mirror/lab-proof"),
        },
        one(
            "swap only",
            SWAP,
            stays(&[&[&swap, "/etc/fstab"]]),
            format!("grep {swap} /proc/swaps"),
        ),
        one(
            "array in mdadm.conf",
            ARRAY,
            stays(&[&[&array], &["/etc/mdadm/mdadm.conf"]]),
            untouched(&array),
        ),
        Case {
            name: "NVMe subsystem with two controllers",
            functions: SHELF
                .map(|path| {
                    (
                        path.to_owned(),
                        stays(&[&[&shared, "/etc/fstab", "/mnt/shared"]]),
                    )
                })
                .into(),
            proof: format!("{READ_BACK} /mnt/shared/lab-proof"),
        },
        one(
            "idle twin of the root",
            VAULT_TWIN,
            Fate::Bound,
            "true".to_owned(),
        ),
        one("empty disk", RAW, Fate::Bound, "true".to_owned()),
        one("PF without VFs", PF, Fate::Bound, "true".to_owned()),
    ];
    cases.extend(unused(guest)?);
    Ok(cases)
}
