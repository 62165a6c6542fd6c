# shellcheck shell=bash
# Sourced by the commands beside it: puts uv, in the version that the deploy pins, on the PATH.
tools=${AIRFLOW_SANDBOX_CACHE:-$HOME/.cache/airflow-sandbox}/tools
lock=files/opt/airflow/requirements/uv.txt
if ! cmp -s "$lock" "$tools/uv.txt"; then
    if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
        echo "Installing python3-venv…"
        apt-get -qq update && apt-get -qq install --yes python3-venv >/dev/null
    fi
    echo "Installing uv…"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet --disable-pip-version-check install --require-hashes -r "$lock"
    cp "$lock" "$tools/uv.txt"
fi
export PATH=$tools/bin:$PATH
