"""What is found in an image's output folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubsmith.errors import HubsmithError
from hubsmith.output import Output

SHA256 = "ab" * 32


@pytest.mark.parametrize("mark", ["  ", " *"])
def test_a_built_disk(tmp_path: Path, mark: str) -> None:
    folder = tmp_path / "out" / "hub"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text(f"{'00' * 32}  manifest.json\n{SHA256}{mark}hub.qcow2\n")
    (folder / "hub.qcow2").touch()
    (folder / "manifest.json").write_text('{"modules": ["base"]}')
    output = Output.of(tmp_path, "hub")
    assert (output.file, output.disk, output.sha256) == (folder / "hub.qcow2", folder / "hub.qcow2", SHA256)
    assert output.manifest == {"modules": ["base"]}


def test_a_container_image_has_no_disk(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{SHA256}  notebook.oci.tar\n")
    (tmp_path / "notebook.oci.tar").touch()
    output = Output("notebook", tmp_path)
    assert (output.file, output.sha256) == (tmp_path / "notebook.oci.tar", SHA256)
    with pytest.raises(HubsmithError, match="has no disk"):
        output.disk  # noqa: B018


@pytest.mark.parametrize("there", ["SHA256SUMS", "hub.qcow2", None])
def test_what_is_not_built_is_told_with_what_mends_it(tmp_path: Path, there: str | None) -> None:
    if there:
        (tmp_path / there).write_text(f"{SHA256}  hub.qcow2\n")
    output = Output("hub", tmp_path)
    assert output.manifest == {}
    with pytest.raises(HubsmithError, match="'hub' is not built") as caught:
        output.sha256  # noqa: B018
    assert caught.value.hint == "hubsmith build hub"
