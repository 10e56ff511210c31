"""python -m level1_pipeline: check-problem, train, watch, schedule, score, promote, rollback, history."""

from __future__ import annotations

import sys
import traceback


def main() -> int:
    """Run one command; returns its exit code. A problem.py that Python cannot read is one line, too."""
    try:
        from level1_pipeline import problem  # noqa: F401
    except Exception as error:  # whatever the file of a cloner raises
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1]
        text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
        print(
            f"ProblemRefused: level1_pipeline/problem.py, line {line}: {type(error).__name__}: {text}; mend that line",
            file=sys.stderr,
        )
        return 1
    from level1_pipeline import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
