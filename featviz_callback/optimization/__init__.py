"""Find the images that maximise an objective: settings, schedule, compiled step and run.

`prepare` checks all arguments and computes nothing. `run` computes and checks nothing.
`optimize` does both. This room imports `objectives`, `images`, `records` and `backend`,
and never anything about event files or training.
"""

from featviz_callback.optimization.api import optimize, prepare, with_parameterization
from featviz_callback.optimization.digest import (
    digest,
    digest_architecture,
    digest_targets,
    digest_task,
    digest_weights,
)
from featviz_callback.optimization.fingerprints import fingerprint, models_unchanged
from featviz_callback.optimization.run import run
from featviz_callback.optimization.settings import Settings
from featviz_callback.optimization.starts import find_starts
from featviz_callback.optimization.step import Plan, compile_seconds
from featviz_callback.optimization.task import Task
from featviz_callback.optimization.whole_pass import pass_seconds

__all__ = [
    "Plan",
    "Settings",
    "Task",
    "compile_seconds",
    "digest",
    "digest_architecture",
    "digest_targets",
    "digest_task",
    "digest_weights",
    "find_starts",
    "fingerprint",
    "models_unchanged",
    "optimize",
    "pass_seconds",
    "prepare",
    "run",
    "with_parameterization",
]
