"""What this machine has of what the set-up needs, and what to install here. Runs on any Python from 3.6 on."""

import os
import shutil
import subprocess
import sys

OLDEST, NEWEST, BROUGHT = (3, 11), (3, 14), "3.13"  # the Pythons that fit, and the one that uv brings where none does
PYTHONS = "Python 3.11 to 3.14"
TOOLS, UV_LOCK = ".tools", "requirements-setup.lock"
# For each package manager: what makes environments (to hold uv), and what is needed for anything else.
INSTALL = {
    "apt-get": "apt-get install %s",
    "dnf": "dnf install %s",
    "apk": "apk add %s",
    "zypper": "zypper install %s",
    "pacman": "pacman -S %s",
    "brew": "brew install %s",
}
MAKES_ENVIRONMENTS = {"apt-get": "python3-venv", "apk": "py3-pip", "pacman": "uv", "brew": "uv"}  # others: python3-pip


def how_to_install(package=None):
    """The command that installs a package here; without a name, what makes environments."""
    manager = next((name for name in INSTALL if shutil.which(name)), None)
    if manager is None:
        return "with your system's package manager: " + (package or "python3-pip or uv")
    rights = "" if manager == "brew" or (hasattr(os, "getuid") and os.getuid() == 0) else "sudo "
    return rights + INSTALL[manager] % (package or MAKES_ENVIRONMENTS.get(manager, "python3-pip"))


def runs(*command):
    """Whether a command is there and ends well."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0


def has_modules(*names):
    """Whether this Python can import these (Debian's has venv without the ensurepip that it needs)."""
    return runs(sys.executable, "-c", "import " + ", ".join(names))


def uv():
    """A uv that runs: the user's own, or ours if it is the pinned one; None if there is neither."""
    if runs("uv", "--version"):
        return "uv"
    ours = os.path.join(TOOLS, "bin", "uv")
    if not runs(ours, "--version"):
        return None
    with open(UV_LOCK) as lock:
        pinned = lock.read().split()[0]
    version = subprocess.check_output([ours, "--version"], universal_newlines=True).split()[1]
    return ours if pinned == "uv==" + version else None


def way_to_uv():
    """What can install a uv of our own: venv, pip or virtualenv; None if nothing can."""
    if has_modules("venv", "ensurepip"):
        return "venv"
    if has_modules("pip"):
        return "pip"
    if has_modules("virtualenv") or shutil.which("virtualenv"):
        return "virtualenv"
    return None


def fits(python=None):
    """Whether an interpreter (default: this one) is one that the lock is for."""
    if python:
        test = "import sys; sys.exit(not %r <= sys.version_info[:2] <= %r)" % (OLDEST, NEWEST)
        return runs(python, "-c", test)
    return OLDEST <= sys.version_info[:2] <= NEWEST and sys.implementation.name == "cpython"


def version():
    """The version of this Python, and its kind where it is no usual one."""
    kind = "" if sys.implementation.name == "cpython" else " (%s)" % sys.implementation.name
    return ".".join(map(str, sys.version_info[:3])) + kind
