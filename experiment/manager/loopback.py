"""NNI's web portal on 127.0.0.1 only, whoever starts it.

The portal has no login and NNI has no option for its address: it listens on every interface. NNI's
manager is a Node program, and Node loads what ``NODE_OPTIONS`` names before the program itself:
``loopback.js`` gives the portal its host. :func:`enable` sets that variable for what this process
starts. So that a bare ``nnictl create``, ``resume`` or ``view`` is covered too, ``make`` runs

    python -m experiment.manager.loopback

once: it copies the script into the environment's ``site-packages`` and puts beside it a one-line
``.pth`` file, which Python runs at its start, that sets the same variable. Both stand alone: the
environment works on when this project is moved or deleted, and ``nni_loopback.*`` may be removed.

To open the portal on purpose, to everyone who reaches this machine: ``NNI_PORTAL_HOST=0.0.0.0``.

A page in a browser on this machine could reach the portal all the same, by a name of its own that it lets point to
127.0.0.1 (DNS rebinding), or blindly by a form. So the script answers 403 where a request's ``Host`` is not the
portal's, or its ``Origin`` is another page, and where a link below ``/logs`` leads out of the experiment's logs.

The portal's page fetched its icons from the web, and fonts for its text. With the script it fetches nothing: it takes
the icons from a font that ``icons.py`` draws beside NNI's own files, which stay as they are. It is drawn by the command
above, and where it is missing when a manager starts; where it cannot be drawn, the icons come from the web as before.
"""

import json
import os
import sys
import sysconfig
from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".js")

# Run at every start of the environment's Python: nothing is imported but os, and a script that is gone
# is not named, since Node would then refuse to start.
STARTUP = (
    "import os; (lambda script, option: os.path.exists(script) and option not in "
    'os.environ.get("NODE_OPTIONS", "") and os.environ.update(NODE_OPTIONS='
    'os.environ.get("NODE_OPTIONS", "") + " " + option))({script!r}, {option!r})\n'
)


OPENED = (
    "NNI_PORTAL_HOST opens the portal to {host}: whoever reaches this machine there can see all of the experiment, "
    "change and stop it, and start trials. It has no login."
)


def warning() -> str | None:
    """Returns what follows from ``NNI_PORTAL_HOST``; None where the portal is on loopback."""
    host = os.environ.get("NNI_PORTAL_HOST", "127.0.0.1")
    return None if host == "localhost" or host.startswith("127.") or host == "::1" else OPENED.format(host=host)


def _option(script: Path) -> str:
    return f"--require {json.dumps(str(script))}"  # Node reads JSON's quotes and escapes


def enable() -> None:
    """Binds the portal of every manager that this process starts from now on."""
    options = os.environ.get("NODE_OPTIONS", "")
    if _option(SCRIPT) not in options:
        os.environ["NODE_OPTIONS"] = f"{options} {_option(SCRIPT)}".strip()
    draw_icons(again=False)


def draw_icons(again: bool) -> None:
    """Draws the font of the portal's icons where ``loopback.js`` looks for it: beside the folder of NNI's manager.

    Args:
        again: Whether to draw it where it is there already.
    """
    try:
        import nni_node

        font = Path(nni_node.__path__[0]).with_name("nni_icons.woff")
        if again or not font.exists():
            from experiment.manager import icons  # here, since it may fail, and takes half a second

            icons.write(font)
    except Exception as error:  # whatever it is: the portal has to be bound, and its icons are not worth a search
        print(f"NNI's portal fetches its icons from the web, since they cannot be drawn: {error}", file=sys.stderr)


def install(folder: Path) -> None:
    """Binds the portal of every manager that is started from the environment of ``folder``.

    Args:
        folder: The ``site-packages`` of a virtual environment.
    """
    script = folder / "nni_loopback.js"
    script.write_text(SCRIPT.read_text())
    (folder / "nni_loopback.pth").write_text(STARTUP.format(script=str(script), option=_option(script)))


if __name__ == "__main__":
    install(Path(sysconfig.get_path("purelib")))
    draw_icons(again=True)
