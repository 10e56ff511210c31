"""The commands `python -m level2_cicd delivery …`: release, deploy, approve, rollback, compare, up, down."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import Reason, console, new_app, open_settings, print_result
from level1_pipeline.errors import NotFound
from level1_pipeline.inputs import demo
from level1_pipeline.settings import Settings
from level2_cicd.delivery import build, comparison, components, deployment, images, stack
from level2_cicd.delivery.environments import APPROVED, STAGING, Environment
from level2_cicd.delivery.release import PIPELINE_LOCK, Release, open_release

CHECKS = ("check", "test")
DIFFERENT = 3  # exit code: two releases make different models
Name = Annotated[str, typer.Argument(metavar="ENV", help="staging, production, or another name.")]
ReleaseId = Annotated[str | None, typer.Option("--release", metavar="ID", help="Default: the newest one.")]

commands = new_app(
    "Deliver the pipeline itself: code and its environment.\n\nExample: python -m level2_cicd delivery release"
)


@commands.command("release")
def _release(
    repository: Annotated[Path, typer.Option(help="The checkout.")] = Path(),
    checks: Annotated[str, typer.Option(help="Targets of make that must succeed first; empty: none.")] = " ".join(
        CHECKS
    ),
) -> int:
    """Make a release of the checked-out commit: run the checks, build, and write a folder named by its content."""
    release, results = build.build(repository, _folder(open_settings()), checks.split(), _uv())
    ran = sum(result.passed for result in results)
    tests = f"{ran:,} passed" if results else "none, as wanted"
    print_result("release", f"{release.id} | tests: {tests} | {release.folder}")
    return 0


@commands.command("deploy")
def _deploy(
    name: Name = STAGING,
    release_id: ReleaseId = None,
    as_of: Annotated[str, typer.Option(metavar="DAY", help="Of the first training in staging.")] = demo.DEMO,
) -> int:
    """Bring a release into an environment: staging tries it, another one takes only what staging accepted."""
    settings = open_settings()
    release = _named(settings, release_id)
    if name == STAGING:
        deployment.stage(release, settings.home, _uv(), date.fromisoformat(demo.day(settings, as_of)), console.print)
    else:
        deployment.promote(release, settings.home, name, _uv(), settings.approve_releases, console.print)
    print_result("deploy", f"{name} runs {release.id} | {Environment.of(settings.home, name).home}")
    return 0


@commands.command("approve")
def _approve(name: Name, reason: Reason, release_id: ReleaseId = None) -> int:
    """Let a release into an environment, by name: it is deployed with make deploy."""
    settings = open_settings()
    release = _named(settings, release_id)
    facts = {"who": settings.who, "reason": reason, "at": datetime.now(UTC).isoformat()}
    Environment.of(settings.home, name).note(APPROVED, release.id, facts)
    print_result("approve", f"{release.id} may be deployed in {name}")
    return 0


@commands.command("rollback")
def _rollback(name: Name) -> int:
    """Make the release before the current one current again. The models that are served stay."""
    before, now = deployment.roll_back(open_settings().home, name)
    print_result("rollback", f"{name} runs {now.release.id} again, and not {before.release.id} | no model has changed")
    return 0


@commands.command("compare")
def _compare(
    base: Annotated[str, typer.Argument(help="The id of an earlier release.")],
    release_id: ReleaseId = None,
    as_of: Annotated[str, typer.Option(metavar="DAY", help="Of both trainings.")] = demo.DEMO,
) -> int:
    """Show which packages differ between two releases, train with both, and compare what the models say.

    Example: python -m level2_cicd delivery compare 0123456789abcdef
    """
    settings = open_settings()
    before, after = _named(settings, base), _named(settings, release_id)
    result = comparison.compare(
        before, after, settings.home, _uv(), date.fromisoformat(demo.day(settings, as_of)), console.print
    )
    if result.packages:
        table = Table("package", before.id, after.id)
        for name, versions in result.packages.items():
            table.add_row(name, *(version or "-" for version in versions))
        console.print(table)
    differ = f"{result.beyond} of {result.records} predictions differ by more than {comparison.TOLERANCE:g}"
    print_result("compare", f"{len(result.packages)} packages changed | {differ}, the largest by {result.largest:.3g}")
    return 0 if result.alike else DIFFERENT


@commands.command("components")
def _components(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to.")] = Path("components.cdx.json"),
    repository: Annotated[Path, typer.Option(help="The checkout.")] = Path(),
) -> int:
    """Write the list of components (SBOM, CycloneDX 1.6) of the checked-out commit; a release holds the same list."""
    lock = (repository / PIPELINE_LOCK).read_text()
    commit, at = build.head(repository)
    output.write_text(components.as_json(lock, commit, at))
    print_result("components", f"{len(components.packages(lock))} packages | {output}")
    return 0


@commands.command("up")
def _up(
    release_id: ReleaseId = None,
    containers: Annotated[Path, typer.Option(help="The folder with Dockerfile and compose.yaml.")] = Path("containers"),
) -> int:
    """Build the images of a release and start everything in containers."""
    settings = open_settings()
    release = _named(settings, release_id)
    with console.status("building the images"):
        images.build(release, containers.resolve(), images.official(containers)["PYTHON_IMAGE"])
    with console.status("starting the containers"):
        for message in stack.up(settings, release.id, containers):
            console.print(f"  {message}")
    for scope in ("predict", "admin"):
        console.print(f"  key of the scope {scope}: {stack.key_file(settings, scope)}")
    print_result("up", f"{release.id} | http://127.0.0.1:{settings.serving_port} | stop with: make down")
    return 0


@commands.command("down")
def _down(
    containers: Annotated[Path, typer.Option(help="The folder with compose.yaml.")] = Path("containers"),
) -> int:
    """Stop the containers and remove them. Their volumes, which hold all state, stay."""
    stack.down(open_settings(), containers)
    print_result("down", "the containers are gone, their volumes stay")
    return 0


def _folder(settings: Settings) -> Path:
    return settings.home / "releases" / problem.NAME


def _named(settings: Settings, release_id: str | None) -> Release:
    folder = _folder(settings)
    if release_id:
        return open_release(folder / release_id)
    made = sorted(folder.glob("*/release.json"), key=lambda index: index.stat().st_mtime)
    if not made:
        raise NotFound(f"there is no release in {folder}; make one: make release")
    return open_release(made[-1].parent)


def _uv() -> str:
    """The uv that make names, or that is here; with its whole path, because it is called in other folders."""
    named = os.environ.get("UV") or "uv"
    return str(Path(shutil.which(named) or ".tools/bin/uv").absolute())
