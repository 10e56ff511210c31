"""TODO docstring."""

from __future__ import annotations

from level1_pipeline.steps.step import Facts, Run, step


@step
def publish(run: Run, facts: dict[str, Facts]) -> Facts:
    """Put the bundles where the service finds them and, if asked for, change what is served."""
    registry, versions = run.registry, facts["register"]["versions"]
    if not versions:
        return {"alias": None}
    for version in versions.values():
        registry.publish(version)
    if run.promote_to == "none":
        return {"alias": None}
    evidence = {
        "run_id": facts["register"]["run_id"],
        "metrics": facts["evaluate"]["metrics"],
        "judged_version": versions["judged"],
    }
    reason = run.reason or f"{run.trigger}: passed the gate as of {run.day}"
    registry.promote(
        versions["refitted"], run.promote_to, reason, evidence, judged_against=facts["evaluate"]["champion"]
    )
    return {"alias": run.promote_to}
