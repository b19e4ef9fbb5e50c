//! The hosts with SR-IOV: what they can do, and what their drivers make of it.
//! What is said here of `igb` and `nvme` is what anything about VFs goes by.

use super::clients::nested_qemu_shows;
use super::pf::{Pf, make, vfs};
use super::{SOON, ensure, same, wait_driver};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::sriov::{IGB, IGB_NODE1};
use crate::topology::{NVME_PF, SPARE};

/// The properties of the host with a few virtual functions.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_lab("lab_pfs_have_a_carrier", pfs_have_a_carrier),
    Scenario::of_lab("lab_nics_make_seven", nics_make_seven),
    Scenario::of_lab("lab_vf_settings_read_back", settings_read_back),
    Scenario::of_lab("lab_vfs_cost_the_pf_its_carrier", cost_the_carrier),
    Scenario::of_lab("lab_vf_is_on_the_cable", is_on_the_cable),
    Scenario::of_lab("lab_vf_in_nested_qemu", in_nested_qemu),
    Scenario::of_lab("lab_plugged_nic_makes_seven", plugged_nic_makes_seven),
    Scenario::of_lab("lab_igb_takes_its_vfs_along", takes_its_vfs_along),
    Scenario::of_lab("lab_disk_makes_four_and_keeps_them", disk_makes_four),
];

/// The properties of the host with many.
pub(crate) const MANY: &[Scenario] = &[Scenario::of_lab("lab_disk_makes_64", disk_makes_64)];

/// The ID of the NICs' virtual functions.
const VF: &str = "8086:10ca";

/// What a new virtual function of a NIC has.
const UNSET: &str = "00:00:00:00:00:00 0 0 0 true false auto";

fn pfs_have_a_carrier(guest: &mut Guest) -> Result<()> {
    for (port, node) in [(IGB, "-1"), (IGB_NODE1, "1")] {
        let pf = Pf::up(guest, port)?;
        let address = &pf.address;
        same("its driver", &guest.driver(address)?, "igb")?;
        let facts = guest.ok(&format!(
            "cd /sys/bus/pci/devices/{address} && echo $(cat numa_node sriov_totalvfs sriov_numvfs)"
        ))?;
        same(
            "its node, and how many VFs it can have and has",
            &facts,
            &format!("{node} 7 0"),
        )?;
    }
    Ok(())
}

/// On every other device number from .10.0 on, each in an IOMMU group of its own.
fn nics_make_seven(guest: &mut Guest) -> Result<()> {
    for port in [IGB, IGB_NODE1] {
        let pf = Pf::up(guest, port)?;
        make(guest, &pf.address, 7)?;
        let bus = pf.address.get(..8).unwrap_or_default();
        let wanted = ["10.0", "10.2", "10.4", "10.6", "11.0", "11.2", "11.4"];
        let found = vfs(guest, &pf.address)?;
        same(
            "the VFs",
            &found.join(" "),
            &wanted.map(|place| format!("{bus}{place}")).join(" "),
        )?;
        for vf in &found {
            let facts = guest.ok(&format!(
                "cd /sys/bus/pci/devices/{vf} && [ ! -e driver ] &&
                 echo $(lspci -n -s {vf} | cut -d' ' -f3) $(ls iommu_group/devices)"
            ))?;
            same("its ID and its group", &facts, &format!("{VF} {vf}"))?;
        }
        make(guest, &pf.address, 0)?;
        same("what is left", &vfs(guest, &pf.address)?.join(" "), "")?;
    }
    Ok(())
}

/// All that `igb` knows of is kept until the VFs go, and nothing longer.
fn settings_read_back(guest: &mut Guest) -> Result<()> {
    let pf = Pf::up(guest, IGB)?;
    make(guest, &pf.address, 7)?;
    pf.wait_carrier(guest)?;
    same("a new VF", &pf.settings(guest, 3)?, UNSET)?;
    for (words, wanted) in [
        (
            "mac 52:54:00:00:00:f3",
            "52:54:00:00:00:f3 0 0 0 true false auto",
        ),
        ("vlan 30", "52:54:00:00:00:f3 30 0 0 true false auto"),
        ("vlan 31 qos 5", "52:54:00:00:00:f3 31 5 0 true false auto"),
        (
            "max_tx_rate 200",
            "52:54:00:00:00:f3 31 5 200 true false auto",
        ),
        (
            "spoofchk off",
            "52:54:00:00:00:f3 31 5 200 false false auto",
        ),
        ("trust on", "52:54:00:00:00:f3 31 5 200 false true auto"),
    ] {
        pf.set(guest, 3, words)?;
        same(words, &pf.settings(guest, 3)?, wanted)?;
    }
    same("its neighbour", &pf.settings(guest, 2)?, UNSET)?;
    for (words, answer) in [
        ("state enable", "Operation not supported"),
        ("vlan 30 proto 802.1ad", "Protocol not supported"),
        ("min_tx_rate 10", "Invalid argument"),
        // More than the link has.
        ("max_tx_rate 2000", "Invalid argument"),
    ] {
        let error = pf.set(guest, 3, words).err().unwrap_or_default();
        ensure(error.contains(answer), || {
            format!("`{words}` is answered: {error:?}")
        })?;
    }
    // There is no rate without a link to be a part of.
    guest.ok(&format!("ip link set {} down", pf.interface))?;
    let error = pf.set(guest, 4, "max_tx_rate 200").err();
    ensure(error.is_some(), || "a rate without a link".to_owned())?;
    make(guest, &pf.address, 0)?;
    make(guest, &pf.address, 7)?;
    same("a VF made anew", &pf.settings(guest, 3)?, UNSET)?;
    make(guest, &pf.address, 0)
}

/// `igb` resets its NIC when VFs come and when they go; a PF that is down has
/// nothing to lose.
fn cost_the_carrier(guest: &mut Guest) -> Result<()> {
    let pf = Pf::up(guest, IGB)?;
    let other = Pf::up(guest, IGB_NODE1)?;
    let (before, others) = (pf.carrier_changes(guest)?, other.carrier_changes(guest)?);
    for (count, wanted) in [(7, before + 2), (0, before + 4)] {
        make(guest, &pf.address, count)?;
        pf.wait_carrier(guest)?;
        let changes = pf.carrier_changes(guest)?;
        ensure(changes == wanted, || {
            format!("with {count} VFs its carrier changed {changes} times, wanted {wanted}")
        })?;
    }
    ensure(other.carrier_changes(guest)? == others, || {
        "the other NIC lost its carrier as well".to_owned()
    })?;
    guest.ok(&format!("ip link set {} down", pf.interface))?;
    let down = pf.carrier_changes(guest)?;
    make(guest, &pf.address, 7)?;
    make(guest, &pf.address, 0)?;
    ensure(pf.carrier_changes(guest)? == down, || {
        "a NIC that is down changed its carrier".to_owned()
    })
}

/// What is set is what the other end of the cable sees.
fn is_on_the_cable(guest: &mut Guest) -> Result<()> {
    let pf = Pf::up(guest, IGB)?;
    let other = Pf::up(guest, IGB_NODE1)?;
    make(guest, &pf.address, 1)?;
    pf.set(guest, 0, "mac 52:54:00:00:00:f0 vlan 30")?;
    let vf = vfs(guest, &pf.address)?.concat();
    guest.ok(&format!(
        "modprobe igbvf && echo igbvf >/sys/bus/pci/devices/{vf}/driver_override &&
         echo {vf} >/sys/bus/pci/drivers_probe"
    ))?;
    wait_driver(guest, &vf, "igbvf")?;
    pf.wait_carrier(guest)?;
    let heard = guest.ok_for(
        &format!(
            "udevadm settle; near=$(ls /sys/bus/pci/devices/{vf}/net) far={far}
             ip netns add lab && ip link add link $far name lab30 type vlan id 30 &&
             ip addr add 10.9.0.2/24 dev lab30 && ip link set lab30 up &&
             ip link set $near netns lab && ip -n lab addr add 10.9.0.1/24 dev $near &&
             ip -n lab link set $near up
             for i in $(seq 40); do
                 ip netns exec lab bash -c 'echo >/dev/udp/10.9.0.2/9' || true
                 ip neigh show 10.9.0.1 dev lab30 | grep -o 'lladdr [^ ]*' && break
                 sleep 0.5
             done
             ip netns del lab; ip link del lab30",
            far = other.interface
        ),
        SOON * 4,
    )?;
    same(
        "who is heard in VLAN 30",
        &heard,
        "lladdr 52:54:00:00:00:f0",
    )?;
    make(guest, &pf.address, 0)
}

fn in_nested_qemu(guest: &mut Guest) -> Result<()> {
    let pf = Pf::up(guest, IGB)?;
    make(guest, &pf.address, 2)?;
    pf.set(guest, 1, "mac 52:54:00:00:00:f1 vlan 31")?;
    let set = pf.settings(guest, 1)?;
    let all = vfs(guest, &pf.address)?;
    let vf = all.last().ok_or("no VF")?;
    guest.ok(&format!(
        "modprobe vfio-pci && echo vfio-pci >/sys/bus/pci/devices/{vf}/driver_override &&
         echo {vf} >/sys/bus/pci/drivers_probe"
    ))?;
    nested_qemu_shows(guest, vf, VF)?;
    same(
        "what is set, after its guest",
        &pf.settings(guest, 1)?,
        &set,
    )?;
    make(guest, &pf.address, 0)
}

/// A card that comes later can have them, and goes with them.
fn plugged_nic_makes_seven(guest: &mut Guest) -> Result<()> {
    let address = guest.plug_kind("igb", SPARE, "lab-igb")?;
    wait_driver(guest, &address, "igb")?;
    make(guest, &address, 7)?;
    let count = vfs(guest, &address)?.len();
    same("the number of its VFs", &count.to_string(), "7")?;
    guest.unplug("lab-igb")?;
    let bus = address.get(..8).unwrap_or_default();
    let left = format!("[ -z \"$(ls /sys/bus/pci/devices | grep ^{bus})\" ]");
    guest.wait_until(SOON, &left).map(drop)
}

/// The VFs go with their driver, and do not come again with it.
fn takes_its_vfs_along(guest: &mut Guest) -> Result<()> {
    let pf = Pf::up(guest, IGB)?;
    make(guest, &pf.address, 7)?;
    let numbers = format!(
        "cd /sys/bus/pci/devices/{} && echo $(cat sriov_numvfs sriov_drivers_autoprobe)",
        pf.address
    );
    guest.ok("modprobe -r igb")?;
    same(
        "the VFs without igb",
        &vfs(guest, &pf.address)?.concat(),
        "",
    )?;
    same("their number and autoprobe", &guest.ok(&numbers)?, "0 0")?;
    guest.ok("modprobe igb")?;
    wait_driver(guest, &pf.address, "igb")?;
    same("both with igb again", &guest.ok(&numbers)?, "0 0")
}

/// `nvme` leaves its VFs to themselves.
fn disk_makes_four(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    make(guest, &pf, 4)?;
    let made = vfs(guest, &pf)?.join(" ");
    let bus = pf.get(..8).unwrap_or_default();
    let wanted = ["00.1", "00.2", "00.3", "00.4"].map(|place| format!("{bus}{place}"));
    same("the VFs", &made, &wanted.join(" "))?;
    let drivers = "/sys/bus/pci/drivers";
    guest.ok(&format!("echo {pf} >{drivers}/nvme/unbind"))?;
    same("the VFs without nvme", &vfs(guest, &pf)?.join(" "), &made)?;
    guest.ok(&format!("echo {pf} >{drivers}/nvme/bind"))?;
    make(guest, &pf, 0)
}

/// They need more than the eight functions of the PF's own device number, which ARI
/// has for them, and each is in a group of its own.
fn disk_makes_64(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    let seconds = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && echo 0 >sriov_drivers_autoprobe
         start=$(date +%s%N); echo 64 >sriov_numvfs && end=$(date +%s%N) &&
         echo $(( (end - start) / 1000000 ))"
    ))?;
    guest.figure(format!("64 VFs come within {seconds} ms"));
    let made = vfs(guest, &pf)?;
    let last = format!("{}08.0", pf.get(..8).unwrap_or_default());
    ensure(made.len() == 64 && made.last() == Some(&last), || {
        format!("the VFs are {made:?}")
    })?;
    let groups = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && readlink -f virtfn*/iommu_group | sort -u | wc -l"
    ))?;
    same("their groups", &groups, "64")?;
    ensure(seconds.parse().is_ok_and(|time: u32| time < 20_000), || {
        format!("they took {seconds} ms")
    })?;
    make(guest, &pf, 0)?;
    same("what is left", &vfs(guest, &pf)?.concat(), "")
}
