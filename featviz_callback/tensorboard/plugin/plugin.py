"""Serve the tab: all routes answer GET, under `data/plugin/feature_vis`.

`/index`
    JSON `{"runs": [{"name": "run1", "began": 1.7e9}, ...]}`, by name.
`/frames?run=`
    JSON of every frame of a run: `{"version": 7, "steps": [-1, 0, 1], "targets":
    [{"name": "Neuron#logits_0", "layer": "logits", "order": 3, "key": [...], "score":
    [...], "drift": [...], "status": [...], "ratio": [...], "examples": [...]}, ...]}`. The
    lists have one entry a step, or null, and a series without any entry is absent. A
    status is a place in `summaries.STATUSES`. Add the `&version=` of an earlier answer to
    get 204 and no content if there is nothing newer.
`/picture?run=&name=&step=`
    One picture, as it was logged; `&kind=examples` gives the one with real images. Browsers
    may keep the answer for a year if the request has the `&key=` of the frame.
`/pictures?run=&step=&name=&name=...`
    Several targets' pictures of one step in one answer: for each name, in order,
    four bytes, the length of the PNG, little-endian, 0 if there is none, and the PNG.
`/animation?run=&name=`
    A GIF of all steps of a target.
`/static/<file>`
    The page.

Every request is answered from the runs found in the log directory. No path is ever made
from a request. A missing run or picture is answered by 404, a malformed request by 400.
"""

from __future__ import annotations

import importlib.resources
import io
import json
import re
import struct
import threading

import numpy as np
from PIL import Image
from tensorboard import errors
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from featviz_callback.records import pictures, spread
from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.plugin import logs, runs

_YEAR = 365 * 24 * 3600
_MOST_NAMES = 64
_MOST_GIF_VALUES = 32 * 1024 * 1024
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class FeaturesPlugin(base_plugin.TBPlugin):
    """The tab "Features".

    Args:
        context: The flags and services that TensorBoard gives to every plugin.
    """

    plugin_name = summaries.OBJECTIVES_PLUGIN

    def __init__(self, context: base_plugin.TBContext):
        super().__init__(context)
        spec = getattr(context.flags, "logdir_spec", "")
        self._runs = runs.Runs(runs.parse_roots(context.logdir, spec))
        self._one_animation_at_a_time = threading.Lock()
        self._static = {
            file.name: file.read_bytes()
            for file in (importlib.resources.files(__package__) / "static").iterdir()
            if file.is_file()
        }
        # A long log is read while TensorBoard starts, before you open the tab.
        read = threading.Thread(target=self._runs.read_newest, name=self.plugin_name, daemon=True)
        read.start()

    def is_active(self) -> bool:
        """Return whether there is a run to show."""
        return bool(self._runs.found())

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the name of the tab and the entry of its page."""
        return base_plugin.FrontendMetadata(
            es_module_path="/static/main.js", tab_name="Features", disable_reload=False
        )

    def get_plugin_apps(self) -> dict:
        """Return every route, see the module's docstring."""
        apps = {
            "/index": self._index,
            "/frames": self._frames,
            "/picture": self._picture,
            "/pictures": self._pictures,
            "/animation": self._animation,
        }
        routes = {route: _application(answer) for route, answer in apps.items()}
        for name, content in self._static.items():
            routes[f"/static/{name}"] = _application(_static_file(name, content))
        return routes

    def _index(self, request):
        found = sorted(self._runs.found().items())
        listed = [{"name": name, "began": run.began} for name, run in found]
        return _json(request, json.dumps({"runs": listed}))

    def _frames(self, request):
        run = self._run(request)
        run.update()
        version = request.args.get("version")
        content = run.frames(None if version is None else _integer(version, "version"))
        if content is None:
            return http_util.Respond(request, b"", "application/json", code=204)
        return _json(request, content)

    def _picture(self, request):
        run, name, step = self._run(request), _text(request, "name"), _step(request)
        kind = request.args.get("kind", logs.PICTURES)
        if kind not in (logs.PICTURES, logs.EXAMPLES):
            raise errors.InvalidArgumentError("Expected kind=pictures or kind=examples.")
        place = run.find(kind, name, step)
        if place is None:
            raise errors.NotFoundError("No such picture.")
        content = _read(place)
        kept = _YEAR if request.args.get("key") == place.key else 0
        return http_util.Respond(request, content, "image/png", expires=kept)

    def _pictures(self, request):
        run, step = self._run(request), _step(request)
        names = request.args.getlist("name")
        if not 0 < len(names) <= _MOST_NAMES:
            raise errors.InvalidArgumentError(f"Expected 1 to {_MOST_NAMES} names.")
        places = [run.find(logs.PICTURES, name, step) for name in names]
        contents = [_read_if_there(place) for place in places]
        body = b"".join(struct.pack("<I", len(content)) + content for content in contents)
        return http_util.Respond(request, body, "application/octet-stream")

    def _animation(self, request):
        film = self._run(request).film(_text(request, "name"))
        if not film:
            raise errors.NotFoundError("No such target.")
        with self._one_animation_at_a_time:
            return http_util.Respond(request, _encode_film(film), "image/gif")

    def _run(self, request):
        run = self._runs.found().get(_text(request, "run"))
        if run is None:
            raise errors.NotFoundError("No such run.")
        return run


def _application(answer):
    """Make a WSGI application of a function from a request to a response."""

    @wrappers.Request.application
    def application(request):
        if request.method not in ("GET", "HEAD"):
            return http_util.Respond(request, "Expected GET.", "text/plain", code=405)
        try:
            return answer(request)
        except errors.PublicError as error:
            return http_util.Respond(request, str(error), "text/plain", code=error.http_code)

    return application


def _static_file(name, content):
    suffix = name[name.rfind(".") :]
    return lambda request: http_util.Respond(request, content, _TYPES[suffix])


def _json(request, content):
    return http_util.Respond(request, content, "application/json")


def _text(request, argument):
    value = request.args.get(argument)
    if value is None:
        raise errors.InvalidArgumentError(f"Expected an argument {argument}.")
    return value


def _step(request):
    return _integer(_text(request, "step"), "step")


def _integer(text, argument):
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise errors.InvalidArgumentError(f"Expected {argument} to be a whole number.")
    return int(text)


def _read(place):
    try:
        return place.read()
    except ValueError as error:
        raise errors.NotFoundError(str(error)) from error


def _read_if_there(place):
    try:
        return b"" if place is None else place.read()
    except ValueError:
        return b""


def _encode_film(film):
    """Encode `(step, place)` pairs as a GIF, or as many of them as fit into memory."""
    most = max(2, _MOST_GIF_VALUES // _decode(film[-1][1]).size)
    frames = [_labelled(*film[i]) for i in spread(len(film), most)]
    # A resumed run may have pictures of another size.
    return pictures.encode_gif([frame for frame in frames if frame.shape == frames[-1].shape])


def _labelled(step, place):
    label = "untrained" if step < 0 else f"epoch {step}"
    return pictures.grid([[_decode(place)]], column_labels=[label], smallest=128)


def _decode(place):
    try:
        return np.asarray(Image.open(io.BytesIO(_read(place))).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise errors.NotFoundError("The picture cannot be decoded.") from error
