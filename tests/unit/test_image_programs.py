"""The programs that build, push, load, try and remove worker images, with stand-ins for buildah,
skopeo and the cluster."""

from __future__ import annotations

import configparser
import grp
import os
import platform
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import Settings
from tasks.worker import image
from tests.unit import fake
from tests.unit.stand_ins import Host

TAG, VENV = "3.3.2-abc", "3.3.2-venv"
IMAGE = f"localhost/airflow-worker:{TAG}"
DIGEST = f"sha256:{'a' * 64}"

# Containers are folders; an archive has the name of the image that it holds.
BUILDAH = """
here={folder}
case $1 in
from)
    mkdir -p "$here/root"
    for base; do :; done
    if test -e "$here/bases/$base"; then cp -r "$here/bases/$base/." "$here/root"; fi ;;
mount) echo "$here/root" ;;
images)
    case $2 in
    -q) ls "$here/bases/localhost" ;;
    *) test -e "$here/bases/$2" || exit 1 ;;
    esac ;;
commit)
    for to; do :; done
    case $to in
    docker-archive:*)
        to=${{to#docker-archive:}}
        {{ echo "${{to#*:}}"; cat "$here/root/opt/airflow/dags/"* 2>/dev/null; }} > "${{to%%:*}}" ;;
    *) mkdir -p "$here/bases/localhost"; cp -r "$here/root" "$here/bases/$to" ;;
    esac
    rm -r "$here/root" ;;
rm) rm -r "$here/root" ;;
esac
true
"""
# It keeps the settings of apt that it is given as a file, and "given" shows them afterwards. "hook"
# is the command that it would run when debconf is in the image.
MMDEBSTRAP = """
for word; do
    case $word in
    --aptopt=*) settings=${word#--aptopt=} ;;
    --essential-hook=*) hook=${word#--essential-hook=} ;;
    */root) root=$word; mkdir -p "$root/etc/apt/apt.conf.d" "$root/usr/share" ;;
    esac
done
cp "$settings" "$root/etc/apt/apt.conf.d/99mmdebstrap"
cp "$settings" "$(dirname "$root")/given"
echo "$hook" > "$(dirname "$root")/hook"
"""
APT_CONFIG = """
case "$*" in *Release) echo 'APT::Default-Release "stable";' && exit ;; esac
cat <<'END'
Acquire "";
Acquire::IndexTargets::deb::Contents::DefaultEnabled "true";
Acquire::Languages:: "de";
Acquire::http::Proxy "http://ada:s3cret@proxy.example:3128";
Acquire::https::CaInfo "/etc/ssl/company.pem";
END
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with a virtual environment, and with the programs that build an image of it."""
    return building(tmp_path)


def building(folder: Path, given: dict[str, Any] | None = None) -> Host:
    """A host that can build images with these settings."""
    host = Host(folder, given)
    for name in ("IMAGES", "VENVS", "UV", "IMAGE_DAGS", "IMAGE_PLUGINS"):
        host.values[name] = str(folder / name)
        (folder / name).mkdir()
    (folder / "VENVS" / VENV / "bin").mkdir(parents=True)
    host.values["START_TASK"] = str(folder / "start-task")
    (folder / "start-task").write_text("starts\n")
    host.values["REGISTRY_LOGIN"] = str(folder / "login")
    host.values["DAGS"] = "/opt/airflow/dags"
    host.values["PLUGINS"] = "/opt/airflow/plugins"
    host.program("buildah", BUILDAH.format(folder=folder))
    host.program("mmdebstrap", MMDEBSTRAP)
    host.program("apt-config", APT_CONFIG)
    host.values["HOST_AUTHORITIES"] = str(folder / "authorities")
    host.program("ctr")
    (folder / "UV/bin").mkdir()
    for name in ("debsbom", "cyclonedx-py"):
        host.program(name)
        (folder / "UV/bin" / name).symlink_to(host.bin / name)
    return host


def test_an_image_is_built_once(host: Host) -> None:
    arguments = ("image-build.sh", TAG, VENV)
    assert host.check(*arguments).startswith(f"{IMAGE} is neither in the cluster nor an archive")
    assert not host.called("buildah")
    assert host.apply(*arguments) == ""
    archive = host.folder / "IMAGES" / f"{TAG}.tar"
    assert archive.read_text() == f"{IMAGE}\n"
    assert host.check(*arguments) == ""
    # After it is loaded, the cluster has it instead.
    archive.unlink()
    host.program("ctr", f"echo {IMAGE}")
    assert host.check(*arguments) == ""


def test_the_image_has_packages_venv_and_user(host: Host) -> None:
    host.values["WORKER_PACKAGES"] = "jq,libpq5"
    # The root file system stays to be looked at.
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    assert host.apply("image-build.sh", TAG, VENV) == ""
    (words,) = host.called("mmdebstrap")
    (packages,) = (word for word in words if word.startswith("--include="))
    names = packages.removeprefix("--include=").split(",")
    assert names[-2:] == ["jq", "libpq5"]
    # GitDagBundle, PythonVirtualenvOperator and BashOperator need these.
    assert {"ca-certificates", "curl", "git", "procps", "python3", "python3-venv"} <= set(names)
    root = host.folder / "root"
    assert (root / "usr/local/lib/airflow/start-task").read_text() == "starts\n"
    assert (root / str(host.folder / "VENVS" / VENV).lstrip("/") / "bin").is_dir()
    uid = host.values["AIRFLOW_UID"]
    assert f"airflow:x:{uid}:{uid}::" in (root / "etc/passwd").read_text()
    assert (root / "etc/airflow/airflow.cfg").read_text() == ""
    (config,) = (words for words in host.called("buildah") if words[0] == "config")
    assert config[1:3] == ["--user", f"{uid}:{uid}"]
    (listing,) = host.called("debsbom")
    release = platform.freedesktop_os_release()
    assert listing[listing.index("--distro-name") + 1] == release["ID"]
    assert listing[listing.index("--distro-version") + 1] == release["VERSION_ID"]


def test_a_login_to_a_mirror_is_not_in_the_image(host: Host) -> None:
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    # As mmdebstrap leaves the sources that it was given.
    left = """
mkdir -p "$root/etc/apt/sources.list.d"
echo 'deb [signed-by=/k] https://ada:s3cret@mirror.example/debian sid main' \
    > "$root/etc/apt/sources.list.d/0000own.list"
echo 'URIs: https://token@mirror.example/debian' > "$root/etc/apt/sources.list.d/0001own.sources"
"""
    host.program("mmdebstrap", MMDEBSTRAP + left)
    assert host.apply("image-build.sh", TAG, VENV) == ""
    sources = host.folder / "root/etc/apt/sources.list.d"
    assert {path.name: path.read_text() for path in sources.iterdir()} == {
        "0000own.list": "deb [signed-by=/k] https://mirror.example/debian sid main\n",
        "0001own.sources": "URIs: https://mirror.example/debian\n",
    }


def test_the_image_is_built_with_the_hosts_settings_of_apt_and_keeps_none(host: Host) -> None:
    host.values["TEMPORARY"] = str(host.folder / "temporary")
    (host.folder / "temporary").mkdir()
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    assert host.apply("image-build.sh", TAG, VENV) == ""
    given = (host.folder / "given").read_text()
    assert 'Acquire::http::Proxy "http://ada:s3cret@proxy.example:3128";\n' in given
    assert 'Acquire::https::CaInfo "/etc/ssl/company.pem";\n' in given
    # The build would load lists that nothing reads.
    assert "IndexTargets" not in given and "Languages" not in given
    assert 'Dir::Etc::netrc "/etc/apt/auth.conf";\n' in given
    assert 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";\n' in given
    # Otherwise a host with sources of two releases would get an image of the other one.
    assert 'APT::Default-Release "stable";\n' in given
    assert 'Dir::Etc::preferences "/etc/apt/preferences";\n' in given
    assert 'Dir::Etc::preferencesparts "/etc/apt/preferences.d";\n' in given
    # No argument, image or file that stays has the proxy's login.
    assert "s3cret" not in host.calls.read_text()
    for folder in ("root", "temporary"):
        texts = [path.read_text() for path in (host.folder / folder).rglob("*") if path.is_file()]
        assert not [text for text in texts if "proxy.example" in text]


def test_the_image_trusts_the_authorities_of_the_host(host: Host) -> None:
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    host.program("chroot", 'test -z "${TMPDIR+set}" || exit 1')  # the image lacks that folder
    authorities = host.folder / "authorities"
    (authorities / "company").mkdir(parents=True)
    (authorities / "company/root.crt").write_text("company")
    (authorities / "company/root.crt").chmod(0o600)
    (authorities / "company/root.key").write_text("private")
    (host.folder / "kept.pem").write_text("a link")
    (authorities / "linked one.crt").symlink_to(host.folder / "kept.pem")
    (authorities / "dangling.crt").symlink_to(host.folder / "none")
    host.values["TEMPORARY"] = str(host.folder)
    assert host.apply("image-build.sh", TAG, VENV) == ""
    copied = host.folder / "root" / str(authorities).lstrip("/")
    found = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert found == {"company/root.crt", "linked one.crt"}
    assert (copied / "linked one.crt").read_text() == "a link"
    assert (copied / "company/root.crt").stat().st_mode & 0o777 == 0o644
    assert host.called("chroot") == [[str(host.folder / "root"), "update-ca-certificates"]]


# As debconf has them.
ANSWERS = """\
Name: odbc/accept
Template: odbc/accept
Value: true
Owners: libodbc++1
Flags: seen

Name: mail/relay
Template: mail/relay
Value: hidden
Owners: mail, libodbc++10
Flags: seen

"""


def test_the_image_has_the_hosts_answers_about_its_own_packages_alone(tmp_path: Path) -> None:
    host = building(tmp_path, {"worker_extra_apt_packages": ["jq", "libodbc++1"]})
    assert host.apply("image-build.sh", TAG, VENV) == ""
    answers, image = (
        tmp_path / name / "config.dat" for name in ("host", "image/var/cache/debconf")
    )
    for file in (answers, image):
        file.parent.mkdir(parents=True)
    answers.write_text(ANSWERS)
    here = "Filename:/var/cache/debconf"
    hook = (tmp_path / "hook").read_text().replace(here, f"Filename:{answers.parent}")
    # As mmdebstrap runs it.
    subprocess.run(["sh", "-c", hook, "exec", str(tmp_path / "image")], check=True)
    assert "Value: true" in image.read_text() and "hidden" not in image.read_text()
    assert answers.read_text() == ANSWERS


def test_a_package_can_link_its_manual(host: Host) -> None:
    """As Java's do: the folders of manuals are in the image, and dpkg's patterns leave them."""
    assert host.apply("image-build.sh", TAG, VENV) == ""
    (words,) = host.called("mmdebstrap")
    start = "--dpkgopt=path-exclude="
    patterns = [each.removeprefix(start) for each in words if each.startswith(start)]
    manuals = "/usr/share/man/man1"
    assert not any(fnmatch(manuals, each) for each in patterns)
    assert any(fnmatch(f"{manuals}/ls.1.gz", each) for each in patterns)


def test_pip_of_the_image_has_the_hosts_index_without_its_login(host: Host) -> None:
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    assert host.apply("image-build.sh", TAG, VENV) == ""
    root = host.folder / "root"
    assert not (root / "etc/pip.conf").exists()
    shutil.rmtree(root)
    (host.folder / "authority").write_text("-- ours --\n")
    (host.folder / "netrc").write_text("machine pypi.example login deploy password s3cret")
    host.values |= {
        "DEFAULT_INDEX": "https://pypi.example/simple",
        "PACKAGE_AUTHORITY": str(host.folder / "authority"),
        "PACKAGE_LOGINS": str(host.folder / "netrc"),
    }
    assert host.apply("image-build.sh", TAG, VENV) == ""
    config = configparser.RawConfigParser()
    config.read(root / "etc/pip.conf")
    assert dict(config["global"]) == {
        "index-url": "https://pypi.example/simple",
        "cert": "/etc/airflow/package-authority.pem",
    }
    trusted = (root / "etc/airflow/package-authority.pem").read_text()
    assert trusted.endswith("-- ours --\n") and "BEGIN CERTIFICATE" in trusted
    texts = [path.read_text() for path in root.rglob("*") if path.is_file()]
    assert not [text for text in texts if "s3cret" in text]


def test_another_index_is_another_image() -> None:
    index = {"build_indexes": {"company": {"url": "https://pypi.example/simple", "default": True}}}
    beside = {"build_indexes": {"company": {"url": "https://pypi.example/simple"}}}
    trusted = fake.VARIANTS["package index"]["build_ca_certificate"]
    names = [
        image.reference(fake.settings(each))
        for each in ({}, beside, index, index | {"build_ca_certificate": trusted})
    ]
    assert names[0] == names[1] and len(set(names)) == 3


def test_another_edition_is_another_image_and_another_base() -> None:
    for source in ({}, {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"}):
        given = [{}, {"worker_image_edition": 1}, {"worker_image_edition": 202611}]
        settings = [fake.settings(source | each) for each in given]
        assert len({image.reference(each) for each in settings}) == 3
        assert len({image._base(each) for each in settings}) == 3


def test_other_authorities_of_the_host_are_another_image(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    command = image.LIST_AUTHORITIES.replace("/usr/local/share/ca-certificates", str(folder))

    def named() -> tuple[str, str]:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        settings = Settings.from_data({}).for_release(
            "bookworm", authorities=image.name_of_authorities(done.stdout)
        )
        return image.reference(settings), image._base(settings)

    without = named()
    assert without[0] == image.reference(fake.settings())
    (folder / "company").mkdir(parents=True)
    (folder / "README").write_text("update-ca-certificates ignores it")
    assert named() == without
    (folder / "company/one.crt").write_text("one")
    (folder / "company/two.crt").symlink_to(tmp_path / "two")
    first = named()
    assert first != without and first == named()
    (tmp_path / "two").write_text("two")  # a link that leads somewhere
    both = named()
    (folder / "company/one.crt").write_text("renewed")
    every = [without, first, both, named()]
    assert [len({*each}) for each in zip(*every, strict=True)] == [4, 4]


def test_a_killed_run_leaves_nothing_in_the_way(host: Host) -> None:
    left = host.folder / "IMAGES/3.3.2-old.tar.new"
    left.write_text("half")
    (host.folder / "root").mkdir()
    (host.folder / "IMAGES" / TAG).mkdir()
    assert host.apply("image-build.sh", TAG, VENV) == ""
    assert not left.exists()
    assert (host.folder / "IMAGES" / TAG).is_dir()


def test_an_error_ends_the_build(host: Host) -> None:
    host.program("mmdebstrap", "echo no mirror >&2; exit 1")
    assert host.apply("image-build.sh", TAG, VENV) == "no mirror"
    assert not (host.folder / "IMAGES" / f"{TAG}.tar").exists()


def test_dags_lie_on_a_base_that_stays(host: Host) -> None:
    for version in ("one", "two"):
        folder = host.folder / "IMAGE_DAGS" / version
        folder.mkdir()
        (folder / "dag.py").write_text(version)
    assert host.apply("image-build.sh", "t1", VENV, "base", "one") == ""
    assert host.apply("image-build.sh", "t2", VENV, "base", "two") == ""
    assert len(host.called("mmdebstrap")) == 1
    archive = host.folder / "IMAGES/t2.tar"
    assert archive.read_text() == "localhost/airflow-worker:t2\ntwo"
    assert (host.folder / "bases/localhost/airflow-worker-base:base").is_dir()
    # Another base takes the place of the one before.
    assert host.apply("image-build.sh", "t3", VENV, "other", "two") == ""
    assert len(host.called("mmdebstrap")) == 2
    (removed,) = (words for words in host.called("buildah") if words[0] == "rmi")
    assert removed[-1].startswith("airflow-worker-base:base")


def test_plugins_lie_on_a_base_beside_dags_or_alone(host: Host) -> None:
    (host.folder / "IMAGE_DAGS/one").mkdir()
    (host.folder / "IMAGE_DAGS/one/dag.py").write_text("dag")
    (host.folder / "IMAGE_PLUGINS/team").mkdir()
    (host.folder / "IMAGE_PLUGINS/team/shout.py").write_text("plugin")
    # The root file system stays to be looked at.
    host.program("buildah", BUILDAH.format(folder=host.folder).replace('rm -r "$here/root"', ":"))
    assert host.apply("image-build.sh", "t1", VENV, "base", "one", "plugins-one") == ""
    root = host.folder / "root/opt/airflow"
    assert (root / "dags/dag.py").read_text() == "dag"
    assert (root / "plugins/team/shout.py").read_text() == "plugin"
    shutil.rmtree(host.folder / "root")
    assert host.apply("image-build.sh", "t2", VENV, "base", "plugins-one") == ""
    assert (root / "plugins/team/shout.py").exists() and not (root / "dags").exists()


def test_lists_of_an_images_packages_are_kept_for_the_youngest(host: Host) -> None:
    host.values["WORKER_IMAGES_KEPT"] = "2"
    for age, name in enumerate(["b-young", "a-old"]):
        (host.folder / "IMAGES" / name).mkdir()
        os.utime(host.folder / "IMAGES" / name, (0, 1000 - age))
    assert host.apply("image-build.sh", TAG, VENV) == ""
    listed = {path.name for path in (host.folder / "IMAGES").iterdir() if path.is_dir()}
    assert listed == {TAG, "b-young"}


@pytest.mark.parametrize("driver", ["none", "podman", "docker", "kvm2"])
def test_an_image_is_loaded_once(driver: str, tmp_path: Path) -> None:
    host = building(tmp_path, {**fake.ANOTHER_DRIVER, "minikube_driver": driver})
    archive = tmp_path / "IMAGES" / f"{TAG}.tar"
    archive.write_text("the archive\n")
    for name in ("ctr", "minikube"):
        host.program(
            name,
            f'case "$*" in *" ls"*) cat {tmp_path}/there 2>/dev/null ;;'
            f' *"import -") grep -qx "the archive" && echo {IMAGE} > {tmp_path}/there ;;'
            f' *"load {archive}") echo {IMAGE} > {tmp_path}/there ;; esac; true',
        )
    for name in ("podman", "docker"):
        host.program(name, 'test "$1 $2 $3" = "exec -i minikube" && shift 3 && exec "$@"')
    assert host.check("image-load.sh", IMAGE) == f"the cluster does not have {IMAGE}"
    assert host.apply("image-load.sh", IMAGE) == ""
    assert host.check("image-load.sh", IMAGE) == ""
    assert not archive.exists()
    other = "ctr" if driver == "kvm2" else "minikube"
    loads = [words for name in ("ctr", "minikube") for words in host.called(name)]
    assert (
        not host.called(other)
        and sum({*words} & {"import", "load"} != set() for words in loads) == 1
    )
    for engine in ("podman", "docker"):
        assert bool(host.called(engine)) is (driver == engine)
    # A full disk does not cost the node an image that no registry has.
    labels = [words for words in host.called("ctr") if "label" in words]
    wanted = [["-n", "k8s.io", "images", "label", IMAGE, "io.cri-containerd.pinned=pinned"]]
    assert labels == (wanted if driver != "kvm2" else [])


def test_an_image_that_was_loaded_without_its_label_gets_it(tmp_path: Path) -> None:
    host = building(tmp_path, {})
    host.program(
        "ctr",
        f'case "$*" in *pinned*==*) cat {tmp_path}/pinned 2>/dev/null ;; *" ls"*) echo {IMAGE} ;;'
        f" *label*) echo {IMAGE} > {tmp_path}/pinned ;; *) exit 1 ;; esac; true",
    )
    assert host.check("image-load.sh", IMAGE) != ""
    assert host.apply("image-load.sh", IMAGE) == host.check("image-load.sh", IMAGE) == ""


# The registry: the message of skopeo, and the sentence that the deploy ends with.
REFUSALS = {
    "manifest unknown": "",
    "name unknown: repository name not known to registry": "",
    "requested access to the resource is denied": "",
    "unauthorized: authentication required": "does not let the user deploy in",
    "invalid username/password": "does not let the user deploy in",
    "x509: certificate signed by unknown authority": "the host trusts no CA of the certificate",
    "no route to host": f"can't be asked for registry.example:5000/team/airflow:{TAG}: no route",
}


@pytest.mark.parametrize("said", REFUSALS)
def test_an_image_is_built_and_pushed_unless_the_registry_refuses(
    said: str, tmp_path: Path
) -> None:
    host = building(tmp_path, fake.VARIANTS["registry"])
    (tmp_path / "login").touch()
    pushed = tmp_path / "pushed"
    host.program(
        "skopeo",
        f"case $1 in inspect) test -e {pushed} || {{ echo '{said}' >&2; exit 1; }} ;;"
        f" copy) touch {pushed}; echo -n {DIGEST} > $5 ;; esac",
    )
    host.values["WORKER_DIGESTS"] = str(tmp_path / "digests")
    arguments = ("image-push.sh", TAG, VENV)
    assert host.check(*arguments) != ""
    sentence = host.apply(*arguments)
    if REFUSALS[said]:
        assert sentence.startswith("worker_registry: ") and REFUSALS[said] in sentence
        assert len(sentence.splitlines()) == 1
        assert "registry.example:5000" in sentence and not host.called("buildah")
        return
    assert sentence == "" and host.check(*arguments) == ""
    *_, copy = (words for words in host.called("skopeo") if words[0] == "copy")
    archive = tmp_path / "IMAGES" / f"{TAG}.tar"
    assert copy[-2:] == [
        f"docker-archive:{archive}",
        f"docker://registry.example:5000/team/airflow:{TAG}",
    ]
    assert f"--authfile={tmp_path}/login" in copy
    assert not archive.exists()
    # From now on it is known by its digest, whatever the registry has under its tag.
    assert (
        tmp_path / "digests"
    ).read_text() == f"registry.example:5000/team/airflow:{TAG} {DIGEST}\n"
    assert host.called("skopeo")[-1][-1] == f"docker://registry.example:5000/team/airflow@{DIGEST}"


# The image of the settings, the words of the cluster about that of the trial's pod, and the pod
# template's: https://pkg.go.dev/k8s.io/api/core/v1#ContainerStatus
PINNED = {
    ("r.example/w:1", "r.example/w@{0}"): "r.example/w:1@{0}",
    ("r.example:5000/w", "r.example:5000/w@{0}"): "r.example:5000/w@{0}",
    ("apache/airflow:3", "docker.io/apache/airflow@{0}"): "apache/airflow:3@{0}",
    ("debian:12", "docker.io/library/debian@{0}"): "debian:12@{0}",
    ("r.example/w:1", "docker-pullable://r.example/w@{0}"): "r.example/w:1@{0}",
    # The same content, but that digest is perhaps unknown to this registry.
    ("r.example/w:1", "other.example/w@{0}"): "r.example/w:1",
    ("localhost/w:1", "{0}"): "localhost/w:1",
    ("r.example/w:1@{0}", "r.example/w@{0}"): "r.example/w:1@{0}",
}


@pytest.mark.parametrize(("image", "found"), PINNED)
def test_pods_get_the_image_that_was_tried(image: str, found: str, tmp_path: Path) -> None:
    image, expected = image.format(DIGEST), PINNED[image, found].format(DIGEST)
    host = trying(tmp_path, found.format(DIGEST), {"worker_image": image})
    arguments = ("image-trial.sh", image, "3.3.2", "3.11")
    assert host.apply(*arguments) == host.check(*arguments) == ""
    # A host of before tried it without a word about digests.
    digests = tmp_path / "digests"
    digests.rename(tmp_path / "away")
    assert "digest" in host.check(*arguments)
    (tmp_path / "away").rename(digests)
    template = f"image: {image}\n- {{name: x, image: {image}-debug}}\n  value: {image}\n"
    (tmp_path / "candidate").write_text(template)
    assert host.check("pod-image.sh", image) != ""
    assert host.apply("pod-image.sh", image) == host.check("pod-image.sh", image) == ""
    top, *rest = (tmp_path / "template").read_text().splitlines()
    assert top.startswith("# Written by the deploy")
    assert rest == [
        f"image: {expected}",
        f"- {{name: x, image: {image}-debug}}",
        f"  value: {expected}",
    ]
    (tmp_path / "template").chmod(0o644)
    assert host.check("pod-image.sh", image) != ""


def test_the_trial_is_of_the_image_that_the_host_pushed(tmp_path: Path) -> None:
    """Somebody who may push, such as another host, gives the tag to another image."""
    host = trying(tmp_path, f"r.example/w@{DIGEST}", fake.VARIANTS["registry"])
    others = [f"r.example/w:of-{number} {DIGEST}" for number in range(60)]
    ours = f"r.example/w:1 {DIGEST}"
    (tmp_path / "digests").write_text("".join(f"{line}\n" for line in [ours, *others]))
    (tmp_path / "trial").write_text('{\n  "image": "r.example/w:1",\n}\n')
    assert host.apply("image-trial.sh", "r.example/w:1", "3.3.2", "3.11") == ""
    assert (tmp_path / "created").read_text() == f'{{\n  "image": "r.example/w:1@{DIGEST}",\n}}\n'
    assert host.check("image-trial.sh", "r.example/w:1", "3.3.2", "3.11") == ""
    # Not all digests of all times are kept.
    assert (tmp_path / "digests").read_text().splitlines() == [*others[-50:], ours]


def test_a_tag_of_an_own_image_that_somebody_moved_is_refused(tmp_path: Path) -> None:
    """It is tried again when the host's Airflow changes."""
    given = {"worker_image": "r.example/w:1"}
    host = trying(tmp_path, f"r.example/w@sha256:{'b' * 64}", given)
    (tmp_path / "digests").write_text(f"r.example/w:1 {DIGEST}\n")
    said = host.apply("image-trial.sh", "r.example/w:1", "3.3.2", "3.11")
    assert "its tag now names another image" in said and "give the new image another tag" in said
    assert host.check("image-trial.sh", "r.example/w:1", "3.3.2", "3.11") != ""


def trying(folder: Path, found: str, given: dict[str, Any]) -> Host:
    """A host whose cluster runs a pod of an image, which it finds under a name with a digest."""
    host = Host(folder, given)
    host.program(
        "kubectl",
        f'case "$*" in *"create -f -"*) cat >{folder}/created ;;'
        f' *imageID*) echo "{found}" ;; *"get pod"*) echo "Succeeded Completed " ;;'
        ' *logs*) echo "3.3.2 3.11" ;; esac',
    )
    group = grp.getgrgid(os.getgid()).gr_name
    for name, value in (("DIGESTS", "digests"), ("REPOSITORIES", "repositories")):
        host.values[f"WORKER_{name}"] = str(folder / value)
    (folder / "trial").write_text("{}\n")
    host.values["TRIAL_POD"] = str(folder / "trial")
    host.values |= {"POD_CANDIDATE": f"{folder}/candidate", "POD_TEMPLATE": f"{folder}/template"}
    host.values["CONTROL_USER"] = group
    return host


def test_a_registry_that_wants_a_login_says_so(tmp_path: Path) -> None:
    host = building(tmp_path, fake.VARIANTS["registry without a login"])
    host.program("skopeo", "echo 'authentication required' >&2; exit 1")
    sentence = host.apply("image-push.sh", TAG, VENV)
    assert sentence.startswith("worker_registry: registry.example wants a login")
    assert not any("--authfile" in word for words in host.called("skopeo") for word in words)


# The trial: the pod's state, its output, and the sentence that the deploy ends with.
TRIALS = {
    ("Succeeded Completed ", "3.3.2 3.11"): "",
    ("Succeeded Completed ", "3.3.1 3.11"): "it has Airflow and Python 3.3.1 3.11",
    ("Failed Error ", "No module named airflow"): "can't run Airflow's tasks: No module named",
    ("Pending ErrImagePull not found", ""): "the node can't pull it: Pending ErrImagePull",
    ("Pending ImagePullBackOff x", ""): "the node can't pull it",
    ("Failed StartError exec: python: executable file not found", ""): "there is no python in it",
    ("Pending CreateContainerConfigError no", ""): "it does not start",
    ("Running  ", ""): "its pod did not end within 10 minutes",
}


@pytest.mark.parametrize(("state", "said"), TRIALS)
@pytest.mark.parametrize("given", [fake.VARIANTS["registry"], {"worker_image": "r.example/w:1"}])
def test_an_image_is_tried_once(
    state: str, said: str, given: dict[str, Any], tmp_path: Path
) -> None:
    host = Host(tmp_path, given)
    host.values["WORKER_REPOSITORIES"] = str(tmp_path / "repositories")
    host.values["WORKER_DIGESTS"] = str(tmp_path / "digests")
    (tmp_path / "trial").write_text("{}\n")
    host.values["TRIAL_POD"] = str(tmp_path / "trial")
    host.program(
        "kubectl", f'case "$*" in *"get pod"*) echo "{state}" ;; *logs*) echo "{said}" ;; esac'
    )
    host.program("sleep")
    host.program("seq", "echo 1; echo 2")  # of the 600 looks that it is asked for
    arguments = ("image-trial.sh", "r.example/w:1", "3.3.2", "3.11")
    assert host.check(*arguments) != ""
    sentence = host.apply(*arguments)
    expected = TRIALS[state, said]
    assert expected in sentence and bool(sentence) is bool(expected)
    assert host.called("seq") == [["600"]]
    # No pod is left, however the trial ends.
    assert "delete" in host.called("kubectl")[-1]
    assert (host.check(*arguments) == "") is not bool(expected)
    if expected:
        assert sentence.startswith("r.example/w:1: ")
        cure = (
            "build it from the same versions" if "worker_image" in given else "look at the registry"
        )
        assert cure in sentence
    else:
        (create,) = (words for words in host.called("kubectl") if "create" in words)
        assert create[-1] == "-"
        remembered = (tmp_path / "repositories").exists()
        assert remembered is ("worker_image" not in given)
        # Another version of the host is another trial.
        assert host.check("image-trial.sh", "r.example/w:1", "3.3.3", "3.11") != ""


def test_the_trial_says_why_its_pod_has_no_node(tmp_path: Path) -> None:
    host = Host(tmp_path, fake.VARIANTS["registry"])
    why = "0/1 nodes are available: 1 node did not match the selector"
    # It is in none of the answers that were asked for before.
    host.program(
        "kubectl", f'case "$*" in *\'=="Unschedulable")].message\'*) echo "Pending {why}" ;; esac'
    )
    host.program("sleep")
    host.program("seq", "echo 1")
    assert why in host.apply("image-trial.sh", "r.example/w:1", "3.3.2", "3.11")


# The images of the node, from the youngest to the oldest: the repositories of the last four are
# not the deploy's.
IMAGES = [
    "localhost/airflow-worker:current",
    "registry.example/airflow:young",
    "localhost/airflow-worker:used",
    "localhost/airflow-worker:old",
    "registry.example/airflow:oldest",
    "registry.example/airflow-dashboards:1",
    "localhost/airflow-worker-mine:1",
    "registry.k8s.io/pause:3.10",
    "registry.example/other/airflow:1",
]


@pytest.mark.parametrize(
    ("kept", "removed"), [(1, [1, 3, 4]), (2, [3, 4]), (3, [4]), (4, []), (9, [])]
)
def test_old_images_are_removed_but_not_those_in_use(
    kept: int, removed: list[int], tmp_path: Path
) -> None:
    host = Host(tmp_path)
    host.program("ctr", f"printf '%s\\n' {' '.join(reversed(IMAGES))}")
    ages = " ".join(f"{name}) day={30 - number} ;;" for number, name in enumerate(IMAGES))
    host.program(
        "crictl",
        f'test "$2" = inspecti || exit 0; for name; do :; done; case $name in {ages} esac;'
        ' echo "2026-11-${day}T10:00:00Z $name"',
    )
    host.program("kubectl", f"echo registry.k8s.io/pause:3.10 {IMAGES[2]}@{DIGEST}")
    repositories = tmp_path / "repositories"
    repositories.write_text("registry.example/airflow\n")
    host.values["WORKER_REPOSITORIES"] = str(repositories)
    arguments = ("prune-images.sh", str(kept), IMAGES[0])
    surplus = [IMAGES[number] for number in removed]
    assert host.check(*arguments).partition(": ")[2].split() == surplus
    assert not [words for words in host.called("crictl") if words[1] == "rmi"]
    assert host.apply(*arguments) == ""
    assert [words[2] for words in host.called("crictl") if words[1] == "rmi"] == surplus


def test_an_image_that_the_node_knows_by_its_digest_only_goes_when_no_pod_names_it(
    tmp_path: Path,
) -> None:
    images = [f"r.example/w@sha256:{each * 64}" for each in "abc"]
    host = Host(tmp_path)
    host.program("ctr", f"printf '%s\\n' {' '.join(images)}")
    host.program(
        "crictl", "test $2 = inspecti || exit 0; for name; do :; done; echo 2026-11-20 $name"
    )
    host.program("kubectl", f"echo r.example/w:old@sha256:{'b' * 64}")
    for name, text in (("REPOSITORIES", "r.example/w\n"), ("DIGESTS", f"r.example/w:1 {DIGEST}\n")):
        host.values[f"WORKER_{name}"] = str(tmp_path / name)
        (tmp_path / name).write_text(text)
    assert host.apply("prune-images.sh", "1", "r.example/w:1") == ""
    assert [words[2] for words in host.called("crictl") if words[1] == "rmi"] == [images[2]]


def test_no_image_is_removed_if_the_cluster_does_not_answer(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.program("ctr", f"printf '%s\\n' {' '.join(IMAGES)}")
    host.program("crictl")
    host.program("kubectl", "exit 1")
    done = host.run("prune-images.sh", "apply", "1", IMAGES[0])
    assert done.returncode != 0
    assert not host.called("crictl")
