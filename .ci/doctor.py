"""What is missing on this machine, and how to get it. Runs on any Python 3, before any set-up."""

import shutil
import sys

ADVICE = {
    "git": "needed to clone and to record the code revision: install git",
    "make": "every command of the README as one word; without it use the `python -m` commands of the README",
    "bash": "the Makefile's shell: install bash",
}
OPTIONAL = {
    "uv": "not needed: `make setup` installs a pinned one into .tools",
    "chromium": "only to look at pages in browser tests; without it they skip",
    "promtool": "only to check the alert rules (Debian: the package prometheus); without it these tests skip",
}


def main():
    """Print one line per tool and a last line that sums up; the exit code counts what is missing."""
    missing = []
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    version = ".".join(map(str, sys.version_info[:3]))
    print(("ok       " if supported else "MISSING  ") + "python %s (3.11, 3.12 or 3.13 is needed)" % version)
    if not supported:
        missing.append("python: install 3.11 to 3.13 and name it, for example `make setup PYTHON=python3.12`")
    for tool, why in ADVICE.items():
        path = shutil.which(tool)
        print("%s %s %s" % ("ok      " if path else "MISSING ", tool, "" if path else "- " + why))
        if not path:
            missing.append(tool)
    for tool, why in OPTIONAL.items():
        print(
            "%s %s %s"
            % ("ok      " if shutil.which(tool) else "absent  ", tool, "" if shutil.which(tool) else "- " + why)
        )
    free = shutil.disk_usage(".").free / 2**30
    print("%s disk, %.1f GiB free (3 are needed)" % ("ok      " if free >= 3 else "MISSING ", free))
    if free < 3:
        missing.append("disk space")
    print("doctor | " + ("nothing is missing: make setup" if not missing else "missing: " + "; ".join(missing)))
    return len(missing)


if __name__ == "__main__":
    sys.exit(main())
