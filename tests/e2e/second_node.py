"""A bare machine that joins the cluster of another one, as an admin does it with kubeadm.

The cluster gets a network policy's enforcement, too, which the network of minikube lacks.
"""

from __future__ import annotations

from tests.e2e.support import SLACK, write_file
from tests.sandbox import common, kube_router, offline
from tests.sandbox import machine as machines
from tests.sandbox.machine import OFFLINE_INSIDE, Machine
from tests.support import wait_for

BINARIES = f"/var/lib/minikube/binaries/{offline.CURRENT.kubernetes}"
INSTALL_SECONDS = 300
ENDPOINT = "control-plane.minikube.internal"
PACKAGES = "containerd containernetworking-plugins iptables ipset conntrack socat ebtables"
KUBELET = """\
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
$KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
# A node knows the way to the pods of the other one, also after its reboot.
ROUTE = """\
[Service]
Type=oneshot
ExecStart=ip route replace {network} via {address}

[Install]
WantedBy=multi-user.target
"""
FIREWALL = """\
[Service]
ExecStart=/usr/local/bin/kube-router --run-router=false --run-service-proxy=false \
--run-firewall=true --kubeconfig=/root/e2e-cluster.yaml --hostname-override=%H
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


def join(first: Machine, second: Machine) -> None:
    """The second machine is a node of the first one's cluster, whose pods reach each other."""
    machines.run(
        second,
        f"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy {PACKAGES}"
        f" && test -d /opt/cni/bin || {{ mkdir -p /opt/cni && ln -s /usr/lib/cni /opt/cni/bin; }}"
        " && echo net.ipv4.ip_forward=1 >/etc/sysctl.d/e2e.conf && sysctl -q --system"
        f" && echo {first.address} {ENDPOINT} >>/etc/hosts"
        # Where kubelet's configuration of minikube expects what kubeadm writes.
        " && mkdir -p /var/lib/minikube && ln -s /etc/kubernetes/pki /var/lib/minikube/certs",
        timeout=INSTALL_SECONDS,
    )
    for name in ("kubelet", "kubeadm"):
        common.run(["cp", f"{first.root}{BINARIES}/{name}", f"{second.root}/usr/local/bin/{name}"])
    config = machines.run(first, "cat /etc/containerd/config.toml").stdout
    write_file(second, "/etc/containerd/config.toml", config)
    unit(second, "kubelet", KUBELET, "enable")
    machines.run(second, "systemctl restart containerd")
    if second.offline_dir:
        machines.run(
            second, f"ctr -n k8s.io images import {OFFLINE_INSIDE}/images.tar", timeout=120
        )
    words = machines.run(
        first,
        f"{BINARIES}/kubeadm token create --kubeconfig /etc/kubernetes/admin.conf"
        " --print-join-command",
    ).stdout
    machines.run(second, f"{words.strip()} --ignore-preflight-errors=all", timeout=180)
    networks = {each.name: pod_network(first, each.name) for each in (first, second)}
    # minikube's file would give each node the same addresses.
    network = machines.run(first, "cat /etc/cni/net.d/1-k8s.conflist").stdout
    for node, other in ((first, second), (second, first)):
        own = network.replace("10.244.0.0/16", networks[node.name])
        write_file(node, "/etc/cni/net.d/1-k8s.conflist", own)
        route = ROUTE.format(network=networks[other.name], address=other.address)
        unit(node, "e2e-route", route, "enable --now")
    # Pods of before have addresses that they take for those of the other node, too.
    machines.run(
        first,
        "ip link delete bridge; kubectl -n kube-system delete pods --wait=false"
        " -l k8s-app=kube-dns; kubectl -n kube-system delete pods storage-provisioner --wait=false",
    )
    ready = f"kubectl wait --for=condition=Ready node/{second.name} --timeout={120 + SLACK}s"
    machines.run(first, ready)
    kubeconfig = machines.run(
        first, "kubectl config view --kubeconfig=/root/.kube/config --flatten --raw"
    ).stdout
    program = kube_router.ensure()
    machines.run(first, "apt-get install -qy ipset")  # the second one has it
    for node in (first, second):
        write_file(node, "/root/e2e-cluster.yaml", kubeconfig, "600")
        common.run(["cp", program, f"{node.root}/usr/local/bin/kube-router"])
        unit(node, "e2e-kube-router", FIREWALL, "enable --now")


def pod_network(first: Machine, node: str) -> str:
    """The addresses of the pods of a node."""
    ask = f"kubectl get node {node} --ignore-not-found -o 'jsonpath={{.spec.podCIDR}}'"
    found = wait_for(
        lambda: machines.run(first, ask).stdout.strip(), 60 + SLACK, f"{node} has a network"
    )
    return str(found)


def unit(machine: Machine, name: str, text: str, verb: str) -> None:
    """Write a unit on a machine, and enable it."""
    write_file(machine, f"/etc/systemd/system/{name}.service", text)
    machines.run(machine, f"systemctl daemon-reload && systemctl -q {verb} {name}")
