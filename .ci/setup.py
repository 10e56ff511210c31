"""Make .venv with the locked packages, in any state of the machine: `make setup`.

With the user's uv, or with a pinned one that `venv`, `pip` or `virtualenv` installs into .tools. Each failure is one
line that says what to do here. Standard output ends with one line that says what came out. Needs Python 3.8 or newer,
and says so on one from 3.6 on.
"""

import os
import re
import shutil
import subprocess
import sys

import machine

VENV, LOCK, LOG = ".venv", "requirements.lock", os.path.join(machine.TOOLS, "setup.log")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
NETWORK = "look at the network, the proxy (https_proxy) or name a mirror (UV_DEFAULT_INDEX)"


class SetupFailed(Exception):
    """What is missing, and what to do here."""


def say(message):
    """Progress for a person who waits."""
    print("setup: " + message, flush=True)


def share_mirror_and_certificates(environment):
    """What is configured for pip holds for uv as well, and the other way round."""
    pairs = (
        ("PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
        ("PIP_EXTRA_INDEX_URL", ("UV_EXTRA_INDEX_URL",)),
        ("PIP_CERT", ("SSL_CERT_FILE",)),
    )
    for pip, names in pairs:
        uv = next((name for name in names if environment.get(name)), None)
        if environment.get(pip) and not uv:
            environment[names[0]] = environment[pip]
        elif uv and not environment.get(pip):
            environment[pip] = environment[uv]
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_REQUIRE_VIRTUALENV="0", PIP_USER="0")
    environment.pop("PYTHONPATH", None)
    environment.pop("PYTHONHOME", None)


def call(command, failure):
    """Run a command, show its progress, keep all that it says in a log. Raises SetupFailed with its own reason."""
    lines = []
    if not os.path.isdir(os.path.dirname(LOG)):
        os.makedirs(os.path.dirname(LOG))
    with open(LOG, "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process.stdout:
            for line in process.stdout:
                log.write(line)
                lines.append(line.decode("utf-8", "replace").strip())
                if re.match("(Downloading|Building|Prepared|Installed) ", lines[-1]):
                    print("  " + lines[-1], flush=True)
        process.wait()
    if process.returncode:
        # The innermost cause stands in the last line that names one.
        causes = [line for line in lines if re.match("(error|ERROR|cause|Caused by|×)", line)] or lines or ["no reason"]
        raise SetupFailed("%s (%s); all of it: %s" % (failure, re.sub("://[^/@ ]*@", "://", causes[-1]), LOG))
    return lines


def install_uv():
    """A pinned uv with checked hashes in .tools."""
    way = machine.way_to_uv()
    if sys.version_info < (3, 8):  # uv itself is not made for it
        raise SetupFailed(
            "%s is needed, and %s is too old even to install uv; install another one here: %s"
            % (machine.PYTHONS, machine.version(), machine.how_to_install("python3"))
        )
    if way is None:
        raise SetupFailed(
            "this machine has no uv, and its Python has neither venv, pip nor virtualenv; install one of them here: "
            + machine.how_to_install()
        )
    say("this machine has no uv, or not the pinned one in %s; it comes there (with %s)" % (machine.TOOLS, way))
    tools = os.path.realpath(machine.TOOLS)  # it may be a link
    shutil.rmtree(tools, ignore_errors=True)
    wanted = ["--quiet", "--require-hashes", "--only-binary", ":all:", "-r", machine.UV_LOCK]
    failure = "uv could not be installed: " + NETWORK
    if way == "pip":
        call([sys.executable, "-m", "pip", "install", "--target", tools, *wanted], failure)
        return os.path.join(machine.TOOLS, "bin", "uv")
    maker = [sys.executable, "-m", way] if way == "venv" or machine.has_modules(way) else [way]
    call([*maker, tools], "%s could not make an environment" % way)
    call([os.path.join(tools, "bin", "python"), "-m", "pip", "install", *wanted], failure)
    return os.path.join(machine.TOOLS, "bin", "uv")


def find_python(uv, named):
    """The interpreter of the new environment: the given one if it fits, else another of the machine, else uv's."""
    if machine.fits():
        return sys.executable
    this = "%s is needed, and this is %s" % (machine.PYTHONS, machine.version())
    if named:
        raise SetupFailed(this + "; name another one, or none: make setup PYTHON=python3.12")
    wanted = "cpython>=%d.%d,<%d.%d" % (*machine.OLDEST, machine.NEWEST[0], machine.NEWEST[1] + 1)
    search = [uv, "python", "find", "--no-python-downloads", wanted]
    done = subprocess.run(search, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    if done.returncode == 0 and machine.fits(done.stdout.strip()):
        say("%s; %s fits" % (this, done.stdout.strip()))
        return done.stdout.strip()
    say("%s; no other one is here, so uv brings %s" % (this, machine.BROUGHT))
    call(
        [uv, "python", "install", machine.BROUGHT],
        "uv could not bring Python %s: install one that fits (%s), or %s"
        % (machine.BROUGHT, machine.how_to_install("python3.13"), NETWORK),
    )
    return machine.BROUGHT


def main(arguments):
    """Make the environment; with `--only-uv` only what `make lock` needs."""
    share_mirror_and_certificates(os.environ)
    uv = machine.uv() or install_uv()
    if arguments == ["--only-uv"]:
        return
    if not machine.fits(VENV_PYTHON):
        python = find_python(uv, named=bool(os.environ.get("PYTHON_NAMED")))
        call([uv, "venv", "--clear", "--python", python, VENV], "the environment %s could not be made" % VENV)
    with open(LOCK) as lock:
        count = len(re.findall("^[a-z0-9].*==", lock.read(), re.MULTILINE))
    say("%d locked packages are coming, most of them small; it takes a minute or two" % count)
    flags = os.environ["INSTALL"].split()
    call(
        [uv, "pip", "sync", "--python", VENV_PYTHON, *flags, LOCK],
        "the packages could not be installed: " + NETWORK,
    )
    with open(os.path.join(VENV, ".installed"), "w"):
        pass
    shown = subprocess.check_output([VENV_PYTHON, "--version"], universal_newlines=True).strip()
    print("setup | %s in %s with %d locked packages" % (shown, VENV, count))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SetupFailed, OSError) as error:
        sys.exit("setup: %s" % error)
