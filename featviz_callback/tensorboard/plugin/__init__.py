"""TensorBoard's tab "Features": every picture of a run, moved by one slider.

TensorBoard finds the tab by the entry point in `pyproject.toml`. The tab reads the event
files that the callback writes. It imports neither Keras nor a framework.

* `checksums`: of records, many at a time;
* `event_records`: event files, record by record, and past what is damaged;
* `event_heads`: what the first bytes of a record tell;
* `places`: where pictures are, and reading them; none too large is decoded;
* `contents`: the numbers and the places of a run;
* `logs`: the files of a run, read as far as they have been written;
* `runs`: the runs below the log directory;
* `animations`, `nearest`: GIFs, and the pictures most alike;
* `answers`, `plugin`: the routes of the server;
* `static`: the page, plain ES modules and CSS.
"""
