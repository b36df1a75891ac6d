"""Publishing to a real Glance: once, again, interrupted, refused; and what the standard client sees of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from line import Line
from local_archive import tree
from project import CLOUD, Cloud
from test_release import FIRST, SECOND, build, released

import hubsmith
from hubsmith.release.folder import Release
from hubsmith.run import run

#: Code whose checksums are in a manifest.
MAKERS = [f"src/hubsmith/{room}/**/*.py" for room in ("build", "disk", "guest", "settings")]
pytestmark = [pytest.mark.slow, pytest.mark.reads(*MAKERS)]

MIB = 1 << 20


@pytest.fixture
def release(cloud: Cloud) -> Release:
    """A release of a disk of some megabytes, which compress to nothing less."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cloud.folder / "release_key"])
    code = tree(cloud.folder / "tree") / "src/hubsmith"
    code.parent.mkdir()
    # A link: copying would make the tests depend on all of the code.
    code.symlink_to(Path(hubsmith.__file__).parent)
    return another(cloud, FIRST)


def another(cloud: Cloud, packages: dict[str, tuple[str, str]], version: str | None = None) -> Release:
    root = cloud.folder / "tree"
    build(root, packages, random.Random(repr(packages) + str(version)).randbytes(4 * MIB))
    return released(root, cloud.folder / "release_key", version=version)


@pytest.fixture
def line(cloud: Cloud, tmp_path: Path) -> Iterator[Line]:
    """What is between the publisher and Glance."""
    with Line(cloud, tmp_path / "requests") as line:
        yield line


def right(cloud: Cloud, release: Release) -> dict[str, Any]:
    """The one image of the project, which is as it should be."""
    (image,) = cloud.images()
    assert (image["status"], image["visibility"], image["disk_format"]) == ("active", "community", "qcow2")
    assert (image["min_disk"], image["min_ram"]) == (release.about.min_disk_gb, release.about.min_ram_mb)
    assert image["hubsmith_sha256"] == release.about.image_sha256
    assert image["hubsmith_manifest_sha256"] == release.about.manifest_sha256
    assert image["hubsmith_version"] == release.about.version
    assert "hubsmith" in image["tags"]
    return image


def test_published_once_and_again(cloud: Cloud, release: Release) -> None:
    number, told = cloud.publish(release.folder)
    assert "published" in told
    image = right(cloud, release)
    assert image["id"] == number.strip()
    assert image["name"] == f"hubsmith-tiny-{release.about.version}"
    saved = cloud.folder / "saved"
    cloud.services.save(image["id"], saved)
    assert saved.read_bytes() == release.qcow2.read_bytes()
    again, told = cloud.publish(release.folder)
    assert (again, "is there already" in told) == (number, True)
    assert right(cloud, release)["updated_at"] == image["updated_at"]


def test_the_standard_client_sees_all(cloud: Cloud, release: Release) -> None:
    number = cloud.publish(release.folder)[0].strip()
    rows = json.loads(cloud.openstack("image", "list", "--community", "-f", "json"))
    assert (number, f"hubsmith-tiny-{release.about.version}") in {(row["ID"], row["Name"]) for row in rows}
    image = json.loads(cloud.openstack("image", "show", number, "-f", "json"))
    assert (image["status"], image["visibility"]) == ("active", "community")
    assert image["properties"]["hubsmith_version"] == release.about.version


def test_each_request_is_a_known_one(cloud: Cloud, release: Release, line: Line) -> None:
    cloud.publish(release.folder)
    asked = line.requests()
    about, image = release.about, cloud.images()[0]["id"]
    hidden = {
        about.version: "VERSION", about.image_sha256: "SHA256", about.made: "MADE", about.manifest_sha256: "MANIFEST",
        cloud.project: "PROJECT", image: "IMAGE",
    }  # fmt: skip
    text = json.dumps(asked, indent=1) + "\n"
    for value, name in hidden.items():
        text = text.replace(value, name)
    golden = Path(__file__).parent / "publish.requests.json"
    if os.environ.get("HUBSMITH_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_is_cut_anywhere(cloud: Cloud, release: Release, line: Line, seed: int) -> None:
    whole = release.qcow2.stat().st_size + 12_000  # of the requests and answers around it
    line.order(cut=int(random.Random(seed).random() * whole))
    _, told = cloud.publish(release.folder, code=9)
    assert "hint: run it again" in told
    assert [one["visibility"] for one in cloud.images() if one["visibility"] != "private"] == []
    line.order()
    cloud.publish(release.folder)
    right(cloud, release)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_killed_in_the_middle(cloud: Cloud, release: Release, line: Line, share: float) -> None:
    line.order(hold=int(release.qcow2.stat().st_size * share))
    process = cloud.start("publish", release.folder, "--cloud", CLOUD)
    line.wait_for_hold()
    process.send_signal(signal.SIGKILL)
    process.wait()
    line.order()
    assert [one["visibility"] for one in cloud.images()] == ["private"]
    cloud.publish(release.folder)
    right(cloud, release)


def test_ctrl_c(cloud: Cloud, release: Release, line: Line) -> None:
    line.order(hold=2 * MIB)
    process = cloud.start("publish", release.folder, "--cloud", CLOUD)
    line.wait_for_hold()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; run it again to go on" in err
    line.order()
    cloud.publish(release.folder)
    right(cloud, release)


def test_bytes_that_change_on_the_way(cloud: Cloud, release: Release, line: Line) -> None:
    line.order(flip=3 * MIB)
    _, told = cloud.publish(release.folder, code=9)
    assert "the cloud stored other bytes than were sent" in told
    assert cloud.images() == []
    line.order()
    cloud.publish(release.folder)
    right(cloud, release)


def test_a_file_that_is_replaced_after_its_check(cloud: Cloud, release: Release, line: Line) -> None:
    line.order(pause=MIB)
    process = cloud.start("publish", release.folder, "--cloud", CLOUD)
    line.wait_for_hold()
    with release.qcow2.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    line.order()
    _, err = process.communicate(timeout=300)
    assert (process.returncode, cloud.images()) == (9, [])
    assert "the file was replaced during the upload" in err


def test_expired_credentials(cloud: Cloud, release: Release) -> None:
    told = cloud.credential(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 3)))
    cloud.log_in(**told)
    time.sleep(4)
    _, err = cloud.publish(release.folder, code=9)
    assert "they may have expired" in err
    assert told["secret"] not in err


def test_a_cloud_that_is_not_known(cloud: Cloud, release: Release) -> None:
    _, err = cloud.hubsmith("publish", release.folder, "--cloud", "nowhere", code=9)
    assert "no cloud 'nowhere'" in err


def test_what_is_not_proven_is_not_sent(cloud: Cloud, release: Release) -> None:
    report = json.loads((release.folder / "test-report.json").read_text())
    (release.folder / "test-report.json").write_text(json.dumps({**report, "green": False}))
    _, err = cloud.publish(release.folder, code=1)
    assert "the report is not green" in err
    (release.folder / "test-report.json").write_text(json.dumps({**report, "note": "x"}))
    _, err = cloud.publish(release.folder, code=1)
    assert "test-report.json: another checksum" in err
    assert cloud.images() == []


def test_another_image_under_the_same_version(cloud: Cloud, release: Release) -> None:
    first = another(cloud, FIRST, "1")
    cloud.publish(first.folder)
    first.folder.rename(first.folder.with_name("away"))
    second = another(cloud, SECOND, "1")
    _, err = cloud.publish(second.folder, code=9)
    assert "another image is already published as tiny 1" in err


def test_retired_and_deleted_and_published_again(cloud: Cloud, release: Release) -> None:
    cloud.publish(release.folder)
    out, _ = cloud.hubsmith("catalog", "retire", "tiny", "--cloud", CLOUD)
    assert "hidden" in out
    (image,) = cloud.images()
    assert image["os_hidden"]
    cloud.hubsmith("catalog", "retire", image["id"], "--delete", "--cloud", CLOUD)
    assert cloud.images() == []
    number, _ = cloud.publish(release.folder)
    assert number.strip() != image["id"]
    right(cloud, release)


def test_only_the_newest_stay(cloud: Cloud, release: Release) -> None:
    for number in range(1, 6):
        cloud.publish(another(cloud, FIRST, str(number)).folder, "--keep", "2")
    rows = json.loads(cloud.hubsmith("catalog", "list", "--cloud", CLOUD, "--json")[0])
    assert {row["version"]: row["state"] for row in rows} == {
        "2": "hidden", "3": "hidden", "4": "active", "5": "active",
    }  # fmt: skip


def test_the_list_and_one_of_it(cloud: Cloud, release: Release) -> None:
    number, _ = cloud.publish(release.folder)
    out, _ = cloud.hubsmith("catalog", "list", "--cloud", CLOUD)
    assert re.search(rf"tiny +{re.escape(release.about.version)} +active +community .* {number.strip()}", out)
    out, _ = cloud.hubsmith("catalog", "show", f"tiny@{release.about.version}", "--cloud", CLOUD)
    assert release.about.image_sha256 in out
    _, err = cloud.hubsmith("catalog", "show", "tiny@0", "--cloud", CLOUD, code=9)
    assert "no image 'tiny@0'" in err
