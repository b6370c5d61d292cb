"""TensorBoard's tab "Features": every picture of a run, moved by one slider.

TensorBoard finds it by the entry point in `pyproject.toml`. It reads the event
files that the callback writes, and nothing of this package but the names of their
tags and what makes a GIF: neither Keras nor a framework is imported.

* `event_records`: event files, record by record;
* `logs`: what is known of a run, and where its pictures are;
* `runs`: where the runs are;
* `plugin`: what the browser may ask for, and the answers;
* `static`: the page, plain ES modules and CSS.
"""
