# shellcheck shell=bash
# Sourced by the commands beside it: puts uv, in the version that the deploy pins, on the PATH.
# Each version has a folder of its own, which appears whole: other runs may use or make it now.
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lock=$checkout/files/opt/airflow/requirements/uv.txt
version=$(sha256sum "$lock" | cut -c1-12)
tools=${AIRFLOW_SANDBOX_CACHE:-$HOME/.cache/airflow-sandbox}/tools/$version
if ! test -x "$tools/bin/uv"; then
    if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
        echo "Installing python3-venv…"
        apt-get -qq update && apt-get -qq install --yes python3-venv >/dev/null
    fi
    echo "Installing uv…"
    mkdir -p "$tools"
    python3 -m venv "$tools.$$"
    "$tools.$$/bin/pip" --quiet --disable-pip-version-check install --require-hashes -r "$lock"
    mkdir -p "$tools/bin"
    mv "$tools.$$"/bin/uv* "$tools/bin/"
    rm -r "$tools.$$"
fi
export PATH=$tools/bin:$PATH
