#!/bin/sh
# image-fill.sh CONTAINER VENV: buildah's container CONTAINER has the content of the worker image
# except DAGs: a small system of the host's release, the host's virtual environment VENV, and a list
# of both's packages. Written by the deploy of Airflow; image-build.sh calls it.
#
# The image's tag names this file's text: each change of it builds another image on each host.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck disable=SC1091
. /etc/os-release
[ $# = 2 ] || usage
container=$1 venv=$2
root=$(buildah mount "$container")
program=/usr/local/lib/airflow/start-task  # in the image
sbom=/usr/share/sbom                       # in the image
trusted=/etc/airflow/package-authority.pem # in the image

# Airflow's task runner needs these in addition to the virtual environment; PythonVirtualenvOperator
# needs python3-venv. Commands of BashOperator use curl and the programs of procps most.
packages=ca-certificates,curl,git,media-types,netbase,openssh-client,procps,python3,python3-venv
[ -z "$WORKER_PACKAGES" ] || packages=$packages,$WORKER_PACKAGES
# The host's own apt sources: a mirror that serves the host serves the image. With --quiet,
# mmdebstrap would not say why apt failed.
# apt reads only names like these, and they have no spaces.
sources=$(find /etc/apt/sources.list /etc/apt/sources.list.d -maxdepth 1 ! -type d 2>/dev/null |
    grep -E '/(sources\.list|[A-Za-z0-9_.-]+\.(list|sources))$' | LC_ALL=C sort || true)
# mmdebstrap's apt reads no settings of the host, such as a proxy or an authority. They reach it as a
# file, since a proxy's address may have a login: mmdebstrap puts it into the image, which must not keep
# it. The build needs neither translations nor index files of other programs.
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
apt-config dump --no-empty Acquire | sed -E '/^Acquire::(IndexTargets|Languages)(::| )/Id' >"$settings"
# The image gets the same of several versions as the host.
apt-config dump --no-empty APT::Default-Release >>"$settings"
# apt reads logins where they are, so the image never has them.
cat >>"$settings" <<END
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
Dir::Etc::preferences "/etc/apt/preferences";
Dir::Etc::preferencesparts "/etc/apt/preferences.d";
END
# The answers that an admin gave the host's debconf about these packages, such as to a licence; those to
# questions for passwords stay on the host.
answers="debconf-copydb host image --owner-pattern='^($(echo "$WORKER_PACKAGES" | sed 's/[.+]/\\&/g; s/,/|/g'))\$' \
    --config=Name:host --config=Driver:File --config=Readonly:true --config=Filename:/var/cache/debconf/config.dat \
    --config=Name:image --config=Driver:File --config=Filename:\"\$1\"/var/cache/debconf/config.dat"
# The release is that of the sources, since a mirror may call it by a name of its own. The hook is for
# sources that are folders of the host. The folders of manuals stay, since packages such as Java's make
# links in them.
# shellcheck disable=SC2086 # each source is an argument
mmdebstrap --variant=minbase --mode=root --format=directory --aptopt="$settings" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*/*' \
    --essential-hook="$answers" --hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount \
    --include="$packages" '' "$root" $sources
rm "$root/etc/apt/apt.conf.d/99mmdebstrap"
# A login to a mirror stays on the host.
find "$root/etc/apt" -type f -exec sed -i -E 's#(://)[^/@[:space:]]+@#\1#' {} +
# Tasks trust the authorities that people gave the host, such as a company's.
if [ -d "$HOST_AUTHORITIES" ]; then
    mkdir -p "$root$HOST_AUTHORITIES"
    cd "$HOST_AUTHORITIES"
    find -L . -type f -name '*.crt' \
        -exec cp -L --no-preserve=mode --parents -t "$root$HOST_AUTHORITIES" {} +
    cd /
    # The image does not have the host's folder of temporary files.
    env -u TMPDIR chroot "$root" update-ca-certificates >/dev/null
fi
echo "airflow:x:$AIRFLOW_UID:$AIRFLOW_UID::/tmp:/usr/sbin/nologin" >>"$root/etc/passwd"
echo "airflow:x:$AIRFLOW_UID:" >>"$root/etc/group"
# A pod gets its options as environment. Without a file Airflow would write one with all defaults at
# each start, which takes a worker 0.2 s.
mkdir -p "$root/etc/airflow" "$root$venv" "$root$sbom" "$root$(dirname "$program")"
touch "$root/etc/airflow/airflow.cfg"
# pip makes the virtual environments of tasks: it asks the host's index, and trusts the host's
# authorities. A file, since a task's own index_urls are in one and a variable would win over them.
# The login stays on the host.
if [ -n "$DEFAULT_INDEX" ]; then
    # shellcheck disable=SC2086 # there may be none
    cat /etc/ssl/certs/ca-certificates.crt $PACKAGE_AUTHORITY >"$root$trusted"
    printf '[global]\nindex-url = %s\ncert = %s\n' "$DEFAULT_INDEX" "$trusted" >"$root/etc/pip.conf"
fi
cp -a "$venv/." "$root$venv"
cat "$START_TASK" >"$root$program"
"$UV/bin/debsbom" generate --sbom-type cdx --cdx-schema-version 1.6 \
    --distro-name "$ID" --distro-version "$VERSION_ID" --root "$root" --out "$root$sbom/debian"
# Without --no-validate, cyclonedx-py would check its own output for 16 s.
"$UV/bin/cyclonedx-py" environment --no-validate --output-reproducible \
    --output-file "$root$sbom/python.cdx.json" "$venv"
buildah config --user "$AIRFLOW_UID:$AIRFLOW_UID" \
    --env "PATH=$venv/bin:/usr/local/bin:/usr/bin:/bin" --env LANG=C.UTF-8 \
    --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 \
    --env AIRFLOW_CONFIG=/etc/airflow/airflow.cfg \
    --entrypoint "[\"python\", \"$program\"]" "$container"
