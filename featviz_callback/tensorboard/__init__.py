"""Event files for TensorBoard, and the tab that shows them.

`event_file` writes records, `summaries` knows the tags, and `plugin` is the tab
"Features". The room imports `records` alone. It never imports Keras or a framework, since
TensorBoard loads it in a process of its own.
"""

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile

__all__ = ["EventFile", "summaries"]
