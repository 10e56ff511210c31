"""Levels 0 and 1 on a machine without make, as most with Windows: `python .ci/without_make.py`.

Makes .venv as `make setup` does, runs the notebooks, trains a model, and scores a row with it.
"""

import os
import re
import subprocess
import sys

import machine

BIN = os.path.join(".venv", "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
LEVELS = (
    ["level0_notebooks/run.py"],
    ["-m", "level1_pipeline", "train", "--as-of=demo"],
    ["-m", "level1_pipeline", "score"],
)


def uv_in_venv():
    """The pinned uv, installed with checked hashes into the new environment by its own pip."""
    subprocess.check_call([sys.executable, "-m", "venv", ".venv"])
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    subprocess.check_call([*pip, "-r", machine.UV_LOCK])
    return os.path.join(BIN, "uv")


def install():
    """The locked packages. `uv pip install` and not `sync`, which would remove the uv that is at work."""
    with open("Makefile", encoding="utf-8") as file:
        flags = re.search("^INSTALL := (.*)", file.read(), re.MULTILINE).group(1).split()
    subprocess.check_call(
        [uv_in_venv(), "pip", "install", "--quiet", "--python", PYTHON, *flags, "-r", "requirements.lock"]
    )


def main():
    """Stop at the first command that fails; the last line says what came out."""
    if not machine.fits():
        sys.exit("levels: %s is needed, and this is %s; see python.org" % (machine.PYTHONS, machine.version()))
    os.environ["PYTHONUTF8"] = "1"
    if not machine.fits(PYTHON) or not os.path.exists(os.path.join(".venv", ".without-make")):
        install()
        with open(os.path.join(".venv", ".without-make"), "w"):
            pass
    for command in LEVELS:
        print("levels: python " + " ".join(command), flush=True)
        subprocess.check_call([PYTHON, *command])
    print("levels | Levels 0 and 1 ran in %s" % BIN)


if __name__ == "__main__":
    try:
        main()
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit("levels: %s; see the output above" % error)
