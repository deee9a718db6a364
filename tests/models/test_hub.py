"""Published weights, through the real hub client, from a small server of the hub's shape on this machine."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from vidlatent.errors import BadWeights
from vidlatent.jobs import models
from vidlatent.models import hub, registry
from vidlatent.models.base import Hub
from vidlatent.models.published import KNOWN, hub_of

COMMIT, NEXT_COMMIT = "a" * 40, "b" * 40
CONFIG = {"_class_name": "CausalVAEModel", "hidden_size": 32, "hidden_size_mult": [1, 1, 1, 1]}
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
PLACE = Hub("someone/some-model", "vae/checkpoint.ckpt", "vae/config.json")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Shelf:
    """What the server holds, and what was asked of it."""

    files: dict[str, bytes]
    commit: str = COMMIT  # of main
    etags: dict[str, str] = field(default_factory=dict)  # where they lie
    breaks: int = 0  # how many transfers to break half-way
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """A hub with one shelf, which hangs at the server."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        shelf = self.server.shelf
        shelf.asked.append(f"{self.command} {self.path}")
        repo, _, rest = self.path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        data = shelf.files.get(f"{repo}/{name}")
        if data is None:
            self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
            return
        facts = {
            "X-Repo-Commit": shelf.commit if revision == "main" else revision,
            "ETag": f'"{shelf.etags.get(name, sha256(data))}"',
        }
        start = self._start()
        if start:
            facts["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._head(206 if start else 200, facts | {"Content-Length": str(len(data) - start)})
        if body:
            self._body(data[start:])

    def _start(self) -> int:
        asked = self.headers.get("Range")
        if asked is None:
            return 0
        self.server.shelf.ranges.append(asked)
        return int(asked.removeprefix("bytes=").split("-")[0])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _body(self, data: bytes) -> None:
        shelf = self.server.shelf
        if shelf.breaks and len(data) > 1000:
            shelf.breaks -= 1
            self.close_connection = True
            data = data[: len(data) // 2]
        self.wfile.write(data)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def shelf():
    files = {
        "someone/some-model/vae/checkpoint.ckpt": WEIGHTS,
        "someone/some-model/vae/config.json": json.dumps(CONFIG).encode(),
    }
    return Shelf(files)


@pytest.fixture
def endpoint(shelf):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.shelf = shelf
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(endpoint, tmp_path, monkeypatch):
    """The hub client, as a process with HF_ENDPOINT and HF_HOME set would find it."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # what is lost when a transfer breaks


@pytest.fixture
def offline(monkeypatch):
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("client")
def test_the_right_files_are_asked_for_and_come_whole(shelf):
    fetched = hub.fetch(PLACE)
    assert fetched.weights.read_bytes() == WEIGHTS
    assert json.loads(fetched.config.read_text()) == CONFIG
    assert fetched.sha256 == sha256(WEIGHTS)
    gets = [line for line in shelf.asked if line.startswith("GET /someone/")]
    assert gets == [
        f"GET /someone/some-model/resolve/{COMMIT}/vae/config.json",
        f"GET /someone/some-model/resolve/{COMMIT}/vae/checkpoint.ckpt",
    ]


@pytest.mark.usefixtures("client")
def test_size_and_revision_are_known_before_anything_is_fetched(shelf):
    assert hub.look(PLACE) == hub.Remote(bytes=len(WEIGHTS), revision=COMMIT, cached=False)
    assert shelf.asked == ["HEAD /someone/some-model/resolve/main/vae/checkpoint.ckpt"]
    assert not hub.here(PLACE)


@pytest.mark.usefixtures("client")
def test_a_second_fetch_asks_nobody(shelf):
    first = hub.fetch(PLACE)
    shelf.asked.clear()
    assert hub.fetch(PLACE) == first
    assert shelf.asked == []
    assert hub.here(PLACE)


@pytest.mark.usefixtures("client")
def test_the_first_download_pins_the_revision(shelf):
    first = hub.fetch(PLACE)
    shelf.commit = NEXT_COMMIT
    shelf.files["someone/some-model/vae/checkpoint.ckpt"] = WEIGHTS[::-1]
    assert hub.fetch(PLACE) == first
    config = sha256(json.dumps(CONFIG).encode())
    assert hub.read_pin(PLACE) == hub.Pin(COMMIT, sha256(WEIGHTS), config)


@pytest.mark.usefixtures("client")
def test_a_broken_transfer_resumes_where_it_broke(shelf):
    shelf.breaks = 1
    assert hub.fetch(PLACE).weights.read_bytes() == WEIGHTS
    assert shelf.ranges == [f"bytes={len(WEIGHTS) // 2}-"]


@pytest.mark.usefixtures("client")
def test_bytes_other_than_those_the_hub_promised_are_refused_and_removed(shelf):
    promised = sha256(b"something else")
    shelf.etags["vae/checkpoint.ckpt"] = promised
    with pytest.raises(BadWeights, match=rf"sha256 {sha256(WEIGHTS)}, expected {promised}"):
        hub.fetch(PLACE)
    assert not hub.here(PLACE)
    del shelf.etags["vae/checkpoint.ckpt"]
    assert hub.fetch(PLACE).sha256 == sha256(WEIGHTS)


@pytest.mark.usefixtures("client")
def test_bytes_other_than_those_we_know_are_refused():
    known = Hub(PLACE.repo, PLACE.file, PLACE.config, sha256="0" * 64)
    with pytest.raises(BadWeights, match=rf"checkpoint\.ckpt: sha256 {sha256(WEIGHTS)}, expected 0000"):
        hub.fetch(known)


@pytest.mark.usefixtures("client")
def test_a_config_other_than_the_one_we_know_is_refused():
    known = replace(PLACE, config_sha256="0" * 64)
    with pytest.raises(BadWeights, match=r"some-model/vae/config\.json: sha256 [0-9a-f]{64}, expected 0000"):
        hub.fetch(known)
    assert not hub.here(known)


@pytest.mark.usefixtures("client")
def test_a_config_that_changes_after_the_first_download_is_refused(shelf):
    config = hub.fetch(PLACE).config
    assert hub.read_pin(PLACE).config_sha256 == sha256(json.dumps(CONFIG).encode())
    config.resolve().write_text("{}")
    with pytest.raises(BadWeights, match=rf"config\.json: sha256 {sha256(b'{}')}, expected"):
        hub.fetch(PLACE)


@pytest.mark.usefixtures("client")
def test_a_pin_from_before_configs_were_recorded_is_still_read_and_completed():
    hub.fetch(PLACE)
    hub.write_pin(PLACE, hub.Pin(COMMIT, sha256(WEIGHTS)))
    hub.fetch(PLACE)
    assert hub.read_pin(PLACE).config_sha256 == sha256(json.dumps(CONFIG).encode())


@pytest.mark.usefixtures("client")
def test_a_commit_that_we_know_is_asked_for_whatever_main_is_by_now(shelf):
    fixed = replace(PLACE, revision=NEXT_COMMIT)
    assert hub.fetch(fixed).sha256 == sha256(WEIGHTS)
    assert all("/main/" not in line for line in shelf.asked)
    assert hub.read_pin(fixed).revision == NEXT_COMMIT


@pytest.mark.usefixtures("client")
def test_what_we_know_of_weights_outweighs_what_a_record_here_says():
    """A record of a download is a file that anybody may have written."""
    hub.fetch(PLACE)
    known = replace(PLACE, sha256="0" * 64)
    assert hub.fetch(known).sha256 == "0" * 64  # what loading then demands of the file


DAMAGED = (
    *(b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000),
    *(b'{"revision": "main", "sha256": "x"}', json.dumps({"revision": COMMIT, "sha256": 7}).encode()),
)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: str(text[:20]))
def test_a_damaged_record_of_a_download_is_one_line(text):
    hub.fetch(PLACE)
    pin = next(Path(constants.HF_ASSETS_CACHE).rglob("*.json"))
    pin.write_bytes(text)
    with pytest.raises(BadWeights, match="a damaged record of what was downloaded") as e:
        hub.fetch(PLACE)
    assert str(pin) in e.value.what and "\n" not in e.value.what and "remove it" in e.value.hint


@pytest.mark.usefixtures("client")
def test_models_are_listed_though_one_record_is_damaged():
    hub.write_pin(registry.find("od-vae-1.2").hub, hub.Pin(COMMIT, "damaged"))
    rows = {row.name: row for row in models.list_models()}
    assert rows["od-vae-1.2"].weights == "damaged pin" and rows["od-vae-1.1"].weights == "to pull"
    assert {row.trust for row in rows.values()} == {"", "sha256", "commit", "first download"}


@pytest.mark.usefixtures("client")
def test_pull_says_what_it_trusts(shelf):
    assert hub.describe_trust(PLACE).startswith("main as it is now; vidlatent knows no sha256 of it")
    hub.fetch(PLACE)
    assert f"commit {COMMIT[:12]}, sha256 {sha256(WEIGHTS)}, as the first download" in hub.describe_trust(
        PLACE
    )
    known = replace(PLACE, revision=NEXT_COMMIT, sha256="0" * 64)
    told = hub.describe_trust(known)
    assert told.startswith(f"commit {NEXT_COMMIT[:12]}, sha256 {'0' * 64}, both known") and "config" in told


@pytest.mark.parametrize("repo", KNOWN)
def test_what_is_known_of_a_repository_is_of_one_model_and_complete_hexadecimal(repo):
    known = KNOWN[repo]
    assert re.fullmatch("[0-9a-f]{40}", known.revision)
    assert all(text is None or re.fullmatch("[0-9a-f]{64}", text) for text in (known.weights, known.config))
    places = [spec.hub for spec in registry.specs() if spec.hub and spec.hub.repo == repo]
    assert [(place.revision, place.sha256) for place in places] == [(known.revision, known.weights)]


def test_what_is_known_is_asked_of_every_published_model():
    for spec in registry.specs():
        assert spec.hub is None or spec.hub == hub_of(spec.hub.repo, spec.hub.file, spec.hub.config)


@pytest.mark.usefixtures("client")
def test_a_file_that_is_not_there_is_named():
    with pytest.raises(BadWeights, match=r"someone/some-model/vae/none\.ckpt: not on the hub"):
        hub.fetch(Hub(PLACE.repo, "vae/none.ckpt"))


@pytest.mark.usefixtures("client")
def test_offline_without_a_copy_says_what_to_do(offline, shelf):
    offline()
    with pytest.raises(
        BadWeights,
        match=r"checkpoint\.ckpt: not here, and the hub cannot be reached\nhint: go online, or down",
    ):
        hub.fetch(PLACE)
    assert shelf.asked == []


@pytest.mark.usefixtures("client")
def test_without_a_network_nobody_is_asked_time_and_again(shelf, monkeypatch):
    """The client library tried five times, for half a minute, and printed each attempt."""

    def no_name(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(BadWeights, match="not here, and the hub cannot be reached"):
        hub.fetch(PLACE)
    assert not shelf.asked


@pytest.mark.usefixtures("client")
def test_offline_with_a_copy_is_no_trouble(offline):
    first = hub.fetch(PLACE)
    offline()
    assert hub.fetch(PLACE) == first


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("name", "repo", "file"),
    [
        ("od-vae-1.0", "LanguageBind/Open-Sora-Plan-v1.0.0", "vae/diffusion_pytorch_model.safetensors"),
        ("od-vae-1.1", "LanguageBind/Open-Sora-Plan-v1.1.0", "vae/diffusion_pytorch_model.safetensors"),
        ("od-vae-1.2", "LanguageBind/Open-Sora-Plan-v1.2.0", "vae/checkpoint.ckpt"),
    ],
)
def test_released_models_come_from_their_repositories_and_are_what_their_config_says(shelf, name, repo, file):
    shelf.files = {
        f"{repo}/{file}": WEIGHTS,
        f"{repo}/vae/config.json": json.dumps(CONFIG).encode(),
    }
    found = registry.resolve(name)
    assert found.spec.name == name
    assert found.spec.licence == "MIT"
    assert found.spec.config == CONFIG
    assert found.weights.read_bytes() == WEIGHTS
    assert found.sha256 == sha256(WEIGHTS)


def without_hashes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a model's files be of any bytes, as those of the small server are."""
    spec = registry.find(name)
    free = replace(spec, hub=replace(spec.hub, sha256=None, config_sha256=None))
    monkeypatch.setattr(registry, "find", lambda wanted: free if wanted == name else None)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("name", "repo", "folder", "file"),
    [
        ("cv-vae-sd2.1", "AILab-CVC/CV-VAE", "vae3d/", "diffusion_pytorch_model.safetensors"),
        ("cv-vae-sd2.1-v1.1", "AILab-CVC/CV-VAE", "vae3d_v1-1/", "diffusion_pytorch_model.safetensors"),
        ("cv-vae-sd3", "AILab-CVC/CV-VAE", "vae3d_sd3/", "diffusion_pytorch_model.safetensors"),
        ("wf-vae-s", "LanguageBind/Open-Sora-Plan-v1.3.0", "vae/", "merged.ckpt"),
        ("wf-vae-l", "chestnutlzj/WF-VAE-L-16Chn", "", "diffusion_pytorch_model.safetensors"),
        ("sd-vae-1.5", "stabilityai/sd-vae-ft-mse", "", "diffusion_pytorch_model.safetensors"),
        ("sdxl-vae", "stabilityai/sdxl-vae", "", "diffusion_pytorch_model.safetensors"),
        ("flux-vae", "black-forest-labs/FLUX.1-schnell", "vae/", "diffusion_pytorch_model.safetensors"),
    ],
)
def test_of_a_repository_with_more_in_it_only_the_weights_and_their_config_are_fetched(
    shelf, monkeypatch, name, repo, folder, file
):
    without_hashes(monkeypatch, name)
    spec = registry.find(name)
    config = json.dumps(spec.config).encode()
    shelf.files = {f"{repo}/{folder}{file}": WEIGHTS, f"{repo}/{folder}config.json": config}
    shelf.files |= {f"{repo}/{folder}cv_vae.ckpt": b"a pickle", f"{repo}/README.md": b"words"}
    found = registry.resolve(name)
    assert (found.spec.name, found.spec.channels, found.spec.plan) == (name, spec.channels, spec.plan)
    assert found.weights.read_bytes() == WEIGHTS
    gets = (line.partition("/resolve/")[2] for line in shelf.asked if line.startswith("GET "))
    fetched = {rest.partition("/")[2] for rest in gets if rest}
    assert fetched == {f"{folder}{file}", f"{folder}config.json"}


def test_the_hub_client_obeys_its_environment(endpoint, shelf, tmp_path):
    code = (
        "from vidlatent.models import hub\nfrom vidlatent.models.base import Hub\n"
        "print(hub.fetch(Hub('someone/some-model', 'vae/checkpoint.ckpt')).weights)"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert Path(run.stdout.strip()).is_relative_to(tmp_path), run.stderr
    assert "GET /someone/some-model/resolve/" + COMMIT + "/vae/checkpoint.ckpt" in shelf.asked
