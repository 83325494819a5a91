#!/usr/bin/env bash
# image.sh PREPARED PUBLIC_KEY DEST - create DEST/card.img, the SD card of an emulated Pi, and
# DEST/boot.gz, which boots it, from the files of prepare.sh in PREPARED. The card's user `pi`
# accepts PUBLIC_KEY and has sudo, like the first user of Raspberry Pi OS.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
[ $# = 3 ] || { echo "usage: image.sh PREPARED PUBLIC_KEY DEST" >&2; exit 1; }
prepared=$1 key=$2 dest=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

root=$work/root
mkdir "$root"
tar -C "$root" --exclude='./dev/*' -xf "$prepared/root.tar"
echo pi >"$root/etc/hostname"
printf '127.0.0.1 localhost pi\n' >"$root/etc/hosts"
echo uninitialized >"$root/etc/machine-id"
# The group of the pins has a fixed number: /init assigns the pins to it before udev runs.
echo 'gpio:x:950:' >>"$root/etc/group"
echo 'gpio:!::' >>"$root/etc/gshadow"
echo 'pi:x:1000:1000:pi:/home/pi:/bin/bash' >>"$root/etc/passwd"
echo 'pi:x:1000:' >>"$root/etc/group"
echo 'pi:*:19700:0:99999:7:::' >>"$root/etc/shadow"
install -d -m 700 -o 1000 -g 1000 "$root/home/pi" "$root/home/pi/.ssh"
install -m 600 -o 1000 -g 1000 "$key" "$root/home/pi/.ssh/authorized_keys"
echo 'pi ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/010_pi-nopasswd"
chmod 440 "$root/etc/sudoers.d/010_pi-nopasswd"

# The network on USB; time from the hub's host, as docs/installer/time.md says for a site
# without internet, polled often.
cat >"$root/etc/systemd/network/usb.network" <<'UNIT'
[Match]
Name=usb* en* eth*
[Network]
DHCP=ipv4
LinkLocalAddressing=no
UNIT
mkdir -p "$root/etc/systemd/timesyncd.conf.d"
printf '[Time]\nNTP=10.0.2.2\nFallbackNTP=\nConnectionRetrySec=3\nPollIntervalMinSec=16\n' \
    >"$root/etc/systemd/timesyncd.conf.d/doors.conf"
wanted=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wanted"
ln -sf /lib/systemd/system/systemd-networkd.service "$wanted/"
# The journal survives a power cut; it explains a failed run.
mkdir -p "$root/var/log/journal"
echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/test.conf"
# Units that slow down an emulated boot and are useless for a door.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    fstrim.timer e2scrub_reap.service systemd-pstore.service systemd-logind.service \
    systemd-update-utmp-runlevel.service getty@.service serial-getty@.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# ext4 with a journal as on Raspberry Pi OS, since power will be cut. The size of a card in QEMU is
# a power of two.
truncate -s 1G "$dest/card.img"
mkfs.ext4 -q -F -m 0 -E lazy_itable_init=0 -d "$root" "$dest/card.img"

boot=$work/boot
mkdir -p "$boot"/{bin,dev,proc,sys,root,modules}
cp "$prepared/busybox" "$boot/bin/"
cp "$prepared"/modules/*.ko "$boot/modules/"
install -m 755 "$here/init" "$boot/init"
(cd "$boot" && find . | cpio --quiet -o -H newc | gzip -1) >"$dest/boot.gz"
