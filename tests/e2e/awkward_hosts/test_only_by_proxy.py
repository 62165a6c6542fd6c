"""A host whose only way out is a proxy becomes a working Airflow, from its packages on."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.support import deploy
from tests.sandbox.machine import Machine

PORT = 3128
ASKED = "journalctl -u tinyproxy -o cat | grep -c"
PROXY = f"""
unset http_proxy https_proxy HTTPS_PROXY
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends nftables tinyproxy >/dev/null 2>&1
cat > /etc/tinyproxy/tinyproxy.conf <<'END'
User tinyproxy
Group tinyproxy
Port {PORT}
LogLevel Connect
ConnectPort 443
END
systemctl restart tinyproxy
"""
# Of the host and its pods, only the proxy and questions about names reach other machines.
ONLY_WAY_OUT = """
nft -f - <<END
table inet e2e_way_out {{
    chain output {{
        type filter hook output priority 0; policy accept;
        ct state established,related accept
        oifname != {interface} accept
        meta skuid tinyproxy accept
        meta l4proto {{ tcp, udp }} th dport 53 accept
        counter reject
    }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        oifname {interface} ct state new counter reject
    }}
}}
END
"""
# As on a host that is new: packages and wheels have to come from the network.
NOTHING_KEPT = """
mount -t tmpfs tmpfs /root/.cache/uv
apt-get clean
find /var/lib/apt/lists -type f -delete
"""


@pytest.fixture(scope="module")
def settings(shell: Shell, machine: Machine) -> dict[str, object]:
    """The machine has no other way out than the proxy, which runs on it as another user."""
    shell(PROXY)
    interface = shell("ip -4 route show default | sed -n '1s/.* dev \\([^ ]*\\).*/\\1/p'")
    shell(ONLY_WAY_OUT.format(interface=interface))
    shell(NOTHING_KEPT)
    return {"proxy_url": f"http://{machine.address}:{PORT}"}


@pytest.mark.usefixtures("settings")
def test_without_the_setting_it_is_refused(shell: Shell) -> None:
    run = deploy()
    assert run.code != 0 and "nothing was changed" in run.output
    # The login of this machine has another one in /etc/environment.
    assert "proxy_url" in run.output
    assert shell("ls -d /etc/airflow 2>/dev/null || true") == ""


def test_it_becomes_a_working_airflow(settings: dict[str, object], shell: Shell) -> None:
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed
    assert int(shell(f"{ASKED} 'Request.*: CONNECT '")) > 0  # Python packages
    assert int(shell(f"{ASKED} 'Request.*: GET http://'")) > 0  # Debian packages
    again = deploy(settings=settings)
    assert again.code == 0 and again.changed == [], again.output
