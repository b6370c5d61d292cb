"""TensorBoard's tab "Features": every picture of a run, moved by one slider.

TensorBoard finds the tab by the entry point in `pyproject.toml`. The tab reads the event
files that the callback writes. It imports neither Keras nor a framework.

* `event_records`: event files, record by record;
* `logs`: the numbers of a run, and the places of its pictures;
* `runs`: the runs below the log directory;
* `plugin`: the routes of the server;
* `static`: the page, plain ES modules and CSS.
"""
