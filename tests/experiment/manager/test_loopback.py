"""What the preload gives to the portal's page, and that the portal is bound whatever becomes of that.

The server is NNI's Express in NNI's Node, which serves a page as NNI's manager does.
"""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nni_node
import pytest
import requests

from experiment.manager import icons, loopback

NODE = Path(nni_node.__path__[0])
SERVER = """
const path = require('path');
const express = require(%r);
const app = express();
app.get('*', express.static(path.resolve('static')));
app.get('*', (_, response) => { response.sendFile(path.join(path.resolve('static'), 'index.html')); });
const server = app.listen(0, () => { const { address, port } = server.address(); console.log(address, port); });
"""
PAGE = "<!doctype html><html><head><title>Ä</title></head></html>"
FONT_OF_FLUENT = "icons/fabric-icons-3-089e217a.woff"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages, with a page and a small server in the place of NNI's manager."""
    manager = tmp_path / "nni_node"
    (manager / "static" / "icons").mkdir(parents=True)
    (manager / "main.js").write_text(SERVER % str(NODE / "node_modules" / "express"))
    (manager / "static" / "index.html").write_text(PAGE)
    os.utime(manager / "static" / "index.html", (0, 0))
    (manager / "static" / "icons" / "logo.png").write_bytes(b"a picture")
    return tmp_path


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of the server, started with the preload twice, as `launch.py` does in a set-up environment."""
    copy = site / "copy.js"
    copy.write_text(loopback.SCRIPT.read_text())
    environment = {"PATH": os.environ["PATH"], "NODE_OPTIONS": f"--require {copy} --require {loopback.SCRIPT}"}
    words = [NODE / "node", site / "nni_node" / "main.js", "--python-interpreter", sys.executable]
    folder = site / "nni_node"
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            address, port = server.stdout.readline().split()
            assert address == "127.0.0.1"
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def body_of(answer: requests.Response) -> str:
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["Content-Length"])
    assert answer.headers["Content-Type"].lower() == "text/html; charset=utf-8"
    assert "Content-Encoding" not in answer.headers
    return answer.content.decode()


def test_page_takes_its_fonts_from_here(site: Path):
    icons.write(site / "nni_icons.woff")
    font = (site / "nni_icons.woff").read_bytes()
    with served(site) as address:
        first = requests.get(address, timeout=20)
        body = body_of(first)
        line = '<script>window.FabricConfig = {"fontBaseUrl":"","iconBaseUrl":"./icons/"}</script>'
        assert body == PAGE.replace("<head>", f"<head>{line}")
        assert body_of(requests.get(f"{address}/detail?x=1", timeout=20)) == body
        again = requests.get(address, headers={"If-None-Match": first.headers["ETag"]}, timeout=20)
        assert (again.status_code, again.content) == (304, b"")
        old = requests.get(address, headers={"If-Modified-Since": "Wed, 01 Jan 2025 00:00:00 GMT"}, timeout=20)
        assert body_of(old) == body  # and not the page on the disk, which is older
        head = requests.head(address, timeout=20)
        assert head.headers["Content-Length"] == first.headers["Content-Length"]
        part = requests.get(address, headers={"Range": "bytes=3-30"}, timeout=20)
        assert (part.status_code, part.content) == (206, first.content[3:31])

        answer = requests.get(f"{address}/{FONT_OF_FLUENT}", timeout=20)
        assert (answer.status_code, answer.content) == (200, font)
        assert answer.headers["Content-Type"] == "font/woff"
        assert requests.get(f"{address}/icons/logo.png", timeout=20).content == b"a picture"
        foreign = requests.get(f"{address}/{FONT_OF_FLUENT}", headers={"Host": "evil.example"}, timeout=20)
        assert foreign.status_code == 403
    assert (site / "nni_node" / "static" / "index.html").read_text() == PAGE


def test_without_a_font_the_icons_are_those_of_the_web(site: Path):
    """Only the fonts of the text are no longer asked for."""
    line = '<script>window.FabricConfig = {"fontBaseUrl":""}</script>'
    with served(site) as address:
        for path in ("", FONT_OF_FLUENT):  # NNI's manager answers with the page what it does not know
            assert body_of(requests.get(f"{address}/{path}", timeout=20)) == PAGE.replace("<head>", f"<head>{line}")


@pytest.mark.parametrize(
    "page", ["<!doctype html><title>Another portal</title>", "", None], ids=["other", "empty", "none"]
)
def test_another_page_stays_as_it_is(site: Path, page: str | None):
    icons.write(site / "nni_icons.woff")
    file = site / "nni_node" / "static" / "index.html"
    file.unlink() if page is None else file.write_text(page)
    with served(site) as address:
        answer = requests.get(address, timeout=20)
        assert answer.status_code == 404 if page is None else body_of(answer) == page


@pytest.mark.parametrize("missing", ["fontTools.fontBuilder", "matplotlib", "nni_node", "room"])
def test_installed_where_no_icons_can_be_drawn(tmp_path: Path, monkeypatch, capsys, missing: str):
    """The portal is bound all the same, by the command and by a start; both say why there are no icons."""
    monkeypatch.delitem(sys.modules, "experiment.manager.icons")
    monkeypatch.delattr("experiment.manager.icons")
    if missing == "room":
        monkeypatch.setattr(nni_node, "__path__", [str(tmp_path / "file" / "nni_node")])
        (tmp_path / "file").touch()
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("NODE_OPTIONS", "")
    if missing != "nni_node":
        monkeypatch.setattr(nni_node, "__path__", [str(tmp_path / "file" / "nni_node")])
    runpy.run_path(loopback.__file__, run_name="__main__")
    assert "icons from the web, since they cannot be drawn: " in capsys.readouterr().err
    assert (tmp_path / "nni_loopback.js").read_text() == loopback.SCRIPT.read_text()
    assert "NODE_OPTIONS" in (tmp_path / "nni_loopback.pth").read_text()
    loopback.enable()
    assert str(loopback.SCRIPT) in os.environ["NODE_OPTIONS"]
    assert "cannot be drawn: " in capsys.readouterr().err
