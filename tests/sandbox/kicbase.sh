#!/bin/sh
# kicbase.sh ROOT MODULE CRICTL: make the Debian in the folder ROOT the node of minikube's drivers podman
# and docker. This follows deploy/kicbase/Dockerfile of minikube's Go module, which is in the folder
# MODULE; CRICTL is the archive of that program. containerd is Debian's, other runtimes are left out.
set -eu
root=$1 from=$2/deploy/kicbase crictl=$3
units=$root/etc/systemd/system

install -D -m 644 "$from/containerd.toml" "$root/etc/containerd/config.toml"
install -D -m 644 "$from/10-network-security.conf" "$from/11-tcp-mtu-probing.conf" -t "$root/etc/sysctl.d"
install -D -m 755 "$from/automount/minikube-automount" -t "$root/usr/sbin"
install -D -m 644 "$from/automount/minikube-automount.service" -t "$units"
tar -xzf "$crictl" -C "$root/usr/local/bin" crictl
mkdir -p "$root/opt/cni" "$root/kind" "$root/etc/kubernetes/manifests" "$root/etc/containerd/certs.d"
ln -s /usr/lib/cni "$root/opt/cni/bin"

# Of systemd's own start, the node needs little; udev and the loader of modules are the host's.
find "$root/lib/systemd/system/sysinit.target.wants" -name systemd-tmpfiles-setup.service -delete
rm -f "$root"/lib/systemd/system/multi-user.target.wants/* "$units"/*.wants/* \
    "$root"/lib/systemd/system/local-fs.target.wants/* "$root"/lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
for unit in systemd-binfmt.service systemd-modules-load.service systemd-logind.service; do
    ln -sf /dev/null "$units/$unit"
done
chroot "$root" systemctl --quiet enable minikube-automount.service ssh.service
sed -i 's/^\(hosts:\s*\).*/\1files dns/' "$root/etc/nsswitch.conf"

# The user of `minikube ssh`.
chroot "$root" useradd --create-home --shell /bin/bash --user-group --password '*' docker
echo 'docker ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/docker"
chroot "$root" install -d -o docker -g docker /home/docker/.ssh
printf '%s\n' PubkeyAcceptedAlgorithms=+ssh-rsa HostkeyAlgorithms=+ssh-rsa >>"$root/etc/ssh/sshd_config"
# The node of earlier minikubes was an Ubuntu, where users find the programs of sbin: the kubeadm of that
# time looks for losetup.
echo 'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"' >"$root/etc/environment"
