"""What is missing on this machine, and how to get it. Runs before any set-up, on any Python from 3.6 on."""

import shutil
import sys

import machine

ADVICE = {
    "git": "needed to clone and to record the code revision",
    "make": "every command of the README as one word; without it use the `python -m` commands of the README",
    "bash": "the Makefile's shell",
}
OPTIONAL = {
    "chromium": "only to look at pages in browser tests; without it they skip",
    "promtool": "only to check the alert rules (Debian: the package prometheus); without it these tests skip",
    "pg_dump": "only to back up a store in PostgreSQL when a release is deployed (Debian: postgresql-client)",
}

# For `make up` and `make test-containers`: commands of which one must succeed, and how to get it.
CONTAINERS = {
    "docker": ([["docker", "--version"]], "Debian: the package docker.io"),
    "docker compose": (
        [["docker", "compose", "version"], ["docker-compose", "version"]],
        "Debian: the package docker-compose",
    ),
    "container engine": ([["docker", "info"]], "none answers: start it, and let your user use it (group docker)"),
}


def line(state, what, why=""):
    """One line of the table."""
    print("%-8s %s%s" % (state, what, " - " + why if why else ""))


def main():
    """Print one line per tool and a last line that sums up; the exit code counts what is missing."""
    missing = []
    if machine.fits():
        line("ok", "python %s (%s)" % (machine.version(), machine.PYTHONS))
    else:
        line("absent", "python %s" % machine.version(), "%s is needed: uv brings one" % machine.PYTHONS)
    uv, way = machine.uv(), machine.way_to_uv()
    if uv or way:
        line("ok", "uv" if uv else "uv, which `make setup` installs into .tools with %s" % way)
    else:
        line("MISSING", "uv, venv, pip or virtualenv", "one of them must make the environment")
        missing.append("what makes the environment: " + machine.how_to_install())
    for tool, why in ADVICE.items():
        line("ok" if shutil.which(tool) else "MISSING", tool, "" if shutil.which(tool) else why)
        if not shutil.which(tool):
            missing.append("%s: %s" % (tool, machine.how_to_install(tool)))
    for tool, why in OPTIONAL.items():
        line("ok" if shutil.which(tool) else "absent", tool, "" if shutil.which(tool) else why)
    for what, (ways, advice) in CONTAINERS.items():
        there = any(machine.runs(*way) for way in ways)
        line("ok" if there else "absent", what, "" if there else "only for containers (make up). " + advice)
    free = shutil.disk_usage(".").free / 2**30
    line("ok" if free >= 3 else "MISSING", "disk, %.1f GiB free (3 are needed)" % free)
    if free < 3:
        missing.append("disk space")
    print("doctor | " + ("nothing is missing: make setup" if not missing else "missing: " + "; ".join(missing)))
    return len(missing)


if __name__ == "__main__":
    sys.exit(main())
