"""From an objective to images: settings, schedule, compiled step, and the run of them.

`prepare` checks and computes nothing, `run` computes and asks nothing, `optimize` is both.
The room imports `objectives`, `images`, `records` and `backend`, and knows nothing of
event files or training.
"""

from featviz_callback.optimization.api import optimize, prepare
from featviz_callback.optimization.run import run
from featviz_callback.optimization.settings import Settings
from featviz_callback.optimization.step import Plan
from featviz_callback.optimization.task import Task

__all__ = ["Plan", "Settings", "Task", "optimize", "prepare", "run"]
