"""Write event files for TensorBoard, and show them in a tab of its page.

`run_folders` gives each training its folder, `event_file` writes records, `summaries`
defines the tags, and `plugin` is the tab "Features". This room imports only `records`. It
never imports Keras or a framework, since TensorBoard loads the tab in a process of its own.
"""

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.run_folders import (
    absolute,
    find_runs,
    read_note,
    unique,
    write_note,
)

__all__ = [
    "EventFile",
    "absolute",
    "find_runs",
    "read_note",
    "summaries",
    "unique",
    "write_note",
]
