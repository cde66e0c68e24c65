"""The pins of pyproject.toml are what is installed, and what uv resolves to; their hashes refuse other files."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from importlib.metadata import distributions, version
from pathlib import Path
from typing import ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.pins import read_pins
from infra.pins import EXPORT, HASHES, without_hashes
from tests.conftest import ROOT
from tests.fixtures import serving

needs_uv = pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")
needs_lock = pytest.mark.skipif(
    not (shutil.which("uv") and (ROOT / "uv.lock").is_file()), reason="needs uv and its uv.lock"
)
PINS = read_pins((ROOT / "pyproject.toml").read_text())


def test_what_is_installed_is_what_is_pinned() -> None:
    wanted = [Requirement(pin) for pin in PINS]
    pinned = {pin.name: pin.specifier for pin in wanted if pin.marker is None or pin.marker.evaluate()}
    installed = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    del installed["cspipe"]
    assert installed.keys() - pinned.keys() == set(), "without a pin: `uv sync`, or `python infra/pins.py` renews them"
    off = [f"{name} {here}, pinned {pinned[name]}" for name, here in installed.items() if here not in pinned[name]]
    assert off == [], "`uv sync` installs what is pinned"


def test_every_pin_has_hashes() -> None:
    listed = HASHES.read_text()
    assert without_hashes(listed) == PINS
    assert [line for line in listed.splitlines() if not line.startswith(" ") and not line.endswith(" \\")] == []


@needs_lock
def test_uv_resolves_to_the_pins_on_every_python() -> None:
    """uv.lock holds all Pythons and platforms at once; a lock that disregards a pin is refused.

    A file missing among the index's was replaced; authors may have added some since.
    """
    done = subprocess.run([*EXPORT.split(), "--offline"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert without_hashes(done.stdout) == PINS
    listed, found = (set(re.findall("sha256:[0-9a-f]+", text)) for text in (HASHES.read_text(), done.stdout))
    assert listed - found == set(), "the index has not the files that were pinned"


class Osv(SimpleHTTPRequestHandler):
    """OSV's service, which knows a fault of one package; as an index of packages it has nothing."""

    asked: ClassVar[set[str]] = set()
    faulty = "iniconfig"

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        self.asked.update(f"{query['package']['name']}=={query['version']}" for query in queries)
        known = {"vulns": [{"id": "OSV-1", "modified": "2026-01-01T00:00:00Z"}]}
        self.tell({"results": [known if query["package"]["name"] == self.faulty else {} for query in queries]})

    def do_GET(self) -> None:
        if self.path == "/v1/vulns/OSV-1":
            self.tell({"id": "OSV-1", "modified": "2026-01-01T00:00:00Z", "affected": []})
        else:
            self.send_error(404)

    def tell(self, tree: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(tree).encode())


@needs_lock
def test_uv_audit_asks_about_every_pin_and_fails_for_a_known_fault(tmp_path: Path) -> None:
    with serving(Osv) as url:
        for name in ("pyproject.toml", "uv.lock"):
            text = (ROOT / name).read_text()
            (tmp_path / name).write_text(re.sub('registry = "[^"]*"', f'registry = "{url}"', text))
        command = ["uv", "audit", "--frozen", "--service-url", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert {pin.partition(" ")[0] for pin in PINS} == Osv.asked
    assert done.returncode != 0
    assert f"{Osv.faulty} {version(Osv.faulty)}" in done.stdout


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The address of an index on loopback, whose iniconfig has the pinned version and other bytes."""
    name = f"iniconfig-{version('iniconfig')}"
    (tmp_path / "index/iniconfig").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / f"index/iniconfig/{name}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: iniconfig\nVersion: {version('iniconfig')}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    with serving(partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))) as url:
        yield url


@needs_uv
def test_a_replaced_file_is_refused_by_its_hash_alone(index: str, tmp_path: Path) -> None:
    """As CI installs: the versions that pyproject.toml allows, held to the hashes."""
    place = ["--python", sys.executable, "--target", str(tmp_path / "packages"), "--cache-dir", str(tmp_path / "cache")]
    command = ["uv", "pip", "install", "--default-index", index, *place, "iniconfig"]
    refused = subprocess.run([*command, "--constraints", str(HASHES)], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode != 0
    assert f"iniconfig=={version('iniconfig')}" in refused.stderr
    assert "sha256" in refused.stderr
    taken = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr


class Proxy(SimpleHTTPRequestHandler):
    """Lets nobody through, and notes where they wanted to go; as an index of packages it has nothing."""

    wanted: ClassVar[list[str]] = []

    def do_CONNECT(self) -> None:
        self.wanted.append(self.path)
        self.send_error(403)

    def do_GET(self) -> None:
        self.send_error(404)


@needs_uv
@pytest.mark.parametrize(("option", "wanted"), [(["--torch-backend=cpu"], {"download.pytorch.org:443"}), ([], set())])
def test_torch_for_the_cpu_is_asked_of_pytorchs_own_index(
    option: list[str], wanted: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option of CONTRIBUTING's installation without CUDA; the build that needs CUDA is the index's."""
    Proxy.wanted.clear()
    place = ["--python", sys.executable, "--target", str(tmp_path / "packages"), "--cache-dir", str(tmp_path / "cache")]
    with serving(Proxy) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        command = ["uv", "pip", "install", "--dry-run", "--default-index", url, *place, *option, "torch"]
        subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert set(Proxy.wanted) == wanted
