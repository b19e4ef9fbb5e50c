#!/bin/bash
# Puts the early stage of vfio-bindd into an image: its program, the config, what
# the last boot proved, and the driver.

early=/usr/lib/vfio-bindd/early

check() {
    require_binaries $early || return 1
}

depends() {
    return 0
}

installkernel() {
    # Nothing on the host need have it now.
    hostonly='' instmods vfio_pci vfio_iommu_type1
}

install() {
    # Until this image is complete, nobody knows what is in it.
    rm -f "/var/lib/vfio-bindd/images/${kernel:?}"
    inst $early
    inst_multiple -o /etc/vfio-bindd/config.toml /etc/vfio-bindd/config.d/*.toml \
        /var/lib/vfio-bindd/verdicts.json
    # shellcheck disable=SC2154
    inst_hook pre-udev 00 "$moddir/take.sh"
    inst_hook initqueue/timeout 00 "$moddir/give-back.sh"
    inst_hook emergency 00 "$moddir/give-back.sh"
    if dracut_module_included systemd; then
        local unit=vfio-bindd-give-back
        # shellcheck disable=SC2154
        inst_simple "$moddir/$unit.timer" "$systemdsystemunitdir/$unit.timer"
        inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
        inst_simple "$moddir/waits-for-device.sh" /usr/lib/vfio-bindd/waits-for-device
        inst_multiple sh systemctl
        "${SYSTEMCTL:-systemctl}" -q --root "${initdir:?}" add-wants initrd.target "$unit.timer"
    fi
    $early --stamp "${initdir:?}" --kernel "$kernel" || :
}
