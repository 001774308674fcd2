"""What a sweep needs before its first chunk: what images tell the autoencoder, and the method of every base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cfalign._audit.choice import choose
from cfalign._audit.informing import informed_for
from cfalign._audit.plan import Plan
from cfalign._runs.codec import plain, read_json, write_json
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run

FILE = "methods.json"


def prepared(
    plan: Plan, run: Run, judges: Mapping[str, str], *, progress: Progress = silent
) -> tuple[Plan, dict[str, Any]]:
    """The plan, ready, and what the record says of the methods that were chosen; both are kept in the run's folder.

    ``judges``: columns of the judge by attribute.
    """
    options = plan.options
    autoencoder = informed_for(
        options.search, plan.autoencoder, plan.source, folder=run.path, seed=options.seed, progress=progress
    )
    plan = replace(plan, autoencoder=autoencoder)
    if options.search.method != "auto":
        return plan, {}
    file = run.path / FILE
    if not file.is_file():
        bases = [base for base in plan.walks if base.label in plan.bases]
        chosen = choose(
            bases,
            judges,
            plan.source,
            plan.order().tolist(),
            panel=plan.panel,
            autoencoder=autoencoder,
            settings=plan.walk_settings,
            progress=progress,
        )
        write_json(file, plain({label: asdict(choice) for label, choice in chosen.items()}))
    found = read_json(file)
    return replace(plan, methods={label: one["method"] for label, one in found.items()}), {"methods": found}
