"""Serve the tab, under `data/plugin/feature_vis`.

`/index`
    JSON `{"runs": [{"name": "run1", "label": "run1", "began": 1.7e9, "written": 1.7e9, "stamp":
    "4096-1f"}, ...]}`, by name. A stamp changes when the run's files do.
`/frames?run=`
    JSON of every frame of a run: `{"version": 7, "read": true, "steps": [-1, 0, 1], "targets":
    [{"name": "Neuron#logits_0", "layer": "logits", "order": 3, "key": [...], "score":
    [...], "drift": [...], "status": [...], "ratio": [...], "examples": [...], ...}, ...],
    "layers": {"steps": [...], "rows": [{"layer": "conv", "order": 1, "dead": [...], ...}]},
    "damaged": [{"file": "events...", "offset": 80, "bytes": 60}]}`. The lists have one entry
    a step, or null, and a series without any entry is absent. A target, or a layer, of few
    steps has `"at": [3, 40]`, the places of its steps among all, and no other entries. `key`,
    `examples`, `real`, `private`, `importance` and `accentuated` are keys of records. A status
    is a place in `summaries.STATUSES`. `read` is false while the server has not read the whole
    log yet. Add the `&version=` of an earlier answer to get 204 and no content if there is
    nothing newer.
`/news`, POST `{"runs": {"run1": 7, "run2": null}}`
    The same for several runs and the versions that the page has: `{"run1": null, "run2":
    {...}}`, null where there is nothing newer. A run that has gone is absent.
`/picture?key=`
    One picture, as it was logged, which browsers may keep for a year. Or
    `/picture?run=&name=&step=`; `&kind=examples` gives the one with real images.
`/pictures`, POST `{"keys": [...]}`
    Several pictures in one answer: for each key, in order, four bytes, the length of the
    PNG, little-endian, and the PNG. If the highest bit of the length is set, then what
    follows is no PNG but a sentence in UTF-8 that says why there is none. The answer ends
    where more would be too large, at least one picture in it: ask again for the others.
`/animation?run=&name=`
    A GIF of the steps of a target, evenly chosen if they are many. While others come first,
    503 with `Retry-After`: ask again so many seconds later.
`/real?run=&name=&step=`
    JSON of the real images of a target: `{"step": 3, "images": [{"key": "...", "place":
    "..." or null, "description": "..."}], "private": []}`, from the one that activates it
    most. Of private images there are their positions and scores: `[{"index": 7, "score": 2}]`.
`/nearest?run=&name=&step=`
    JSON of the targets whose pictures are most alike: `{"compared": 40, "targets": [{"name":
    "...", "alike": 0.9, "key": "..."}]}`; with `&by=function`, of those that the same real
    images activate most.
`/activations?run=&layer=`
    JSON of a layer's histograms at some steps: `{"layer": "...", "histograms": [{"step": 3,
    "buckets": [[left, right, count], ...]}, ...]}`.
`/static/<file>`
    The page.

The arguments of `/animation`, `/real`, `/nearest` and `/activations` may also come as JSON by
POST, since no address holds a name of any length. Every request is answered from the runs
found in the log directory. No path is ever made from a request. A missing run or picture is
answered by 404, a malformed request by 400, a picture of too many pixels by 413.
"""

from __future__ import annotations

import importlib.resources
import json
import struct
import threading
import time

from tensorboard import errors
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.plugin import answers, contents, details, logs, places, runs
from featviz_callback.tensorboard.plugin.animations import Animations, BusyError
from featviz_callback.tensorboard.plugin.nearest import Nearest

_YEAR = 365 * 24 * 3600
_MOST_KEYS, _KEYS_AT_ONCE = 2000, 64
_REASON = 1 << 31
_MOST_ANSWER, _MOST_PICTURES = 128 * 1024 * 1024, 32 * 1024 * 1024
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
        self._animations, self._nearest_pictures = Animations(), Nearest()
        self._static = {
            file.name: file.read_bytes()
            for file in (importlib.resources.files(__package__) / "static").iterdir()
            if file.is_file()
        }
        # A long log is read while TensorBoard starts, before you open the tab.
        name = self.plugin_name
        threading.Thread(target=self._runs.read_newest, name=name, daemon=True).start()

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
        read, both, write = ("GET", "HEAD"), ("GET", "HEAD", "POST"), ("POST",)
        apps = {
            "/index": (self._index, read),
            "/frames": (self._frames, read),
            "/news": (self._news, write),
            "/picture": (self._picture, read),
            "/pictures": (self._pictures, write),
            "/animation": (self._animation, both),
            "/real": (self._real, both),
            "/nearest": (self._nearest, both),
            "/activations": (self._activations, both),
        }
        routes = {route: answers.application(*app) for route, app in apps.items()}
        for name, content in self._static.items():
            routes[f"/static/{name}"] = answers.application(_static_file(name, content), read)
        return routes

    def _index(self, request):
        self._runs.is_watched = True
        listed = [
            {
                "name": name,
                "label": run.label,
                "began": run.began,
                "written": run.written,
                "stamp": run.stamp,
            }
            for name, run in sorted(self._runs.found().items())
        ]
        return _json(request, json.dumps({"runs": listed}))

    def _frames(self, request):
        run = self._run(answers.text(request.args, "run"))
        run.update()
        version = request.args.get("version")
        content = run.frames(None if version is None else answers.integer(version, "version"))
        if content is None:
            return http_util.Respond(request, b"", "application/json", code=204)
        return _json(request, content)

    def _news(self, request):
        wanted = answers.arguments(request).get("runs")
        if not isinstance(wanted, dict):
            raise errors.InvalidArgumentError("Expected runs and their versions.")
        found, parts, size = self._runs.found(), [], 0
        # All runs together take as long as one may, and each of them gets its turn.
        deadline = time.monotonic() + logs.PATIENCE
        for name, version in wanted.items():
            if name in found and size < _MOST_ANSWER:
                found[name].update(max(0.0, deadline - time.monotonic()) / 2)
                content = found[name].frames(version if isinstance(version, int) else None)
                parts.append(json.dumps(name).encode() + b":" + (content or b"null"))
                size += len(parts[-1])
        return _json(request, b"{" + b",".join(parts) + b"}")

    def _picture(self, request):
        key = request.args.get("key")
        if key is not None and "name" not in request.args:
            png = answers.found(lambda: places.read_by_key(key, self._runs.paths_by_key()).png)
            return http_util.Respond(request, png, "image/png", expires=_YEAR)
        run, name = self._run(answers.text(request.args, "run")), answers.text(request.args, "name")
        step = answers.step(request.args)
        kind = request.args.get("kind", contents.PICTURES)
        if kind not in (contents.PICTURES, contents.EXAMPLES):
            raise errors.InvalidArgumentError("Expected kind=pictures or kind=examples.")
        place = run.find(kind, name, step)
        if place is None:
            raise errors.NotFoundError("No such picture.")
        kept = _YEAR if key == place.key else 0
        return http_util.Respond(request, answers.found(place.read), "image/png", expires=kept)

    def _pictures(self, request):
        keys = answers.arguments(request).get("keys")
        is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not is_list or not 0 < len(keys) <= _MOST_KEYS:
            raise errors.InvalidArgumentError(f"Expected 1 to {_MOST_KEYS} keys.")
        paths = self._runs.paths_by_key()
        body: list[bytes] = []
        size = done = 0
        # The page asks again for those that do not fit.
        while done < len(keys) and size < _MOST_PICTURES:
            found = places.read_by_keys(keys[done : done + _KEYS_AT_ONCE], paths)
            for key, one in zip(keys[done:], found, strict=False):
                mark, content = _content_or_reason(one, key, paths)
                size += len(content)
                body += [struct.pack("<I", len(content) | mark), content]
            done += len(found)
        return http_util.Respond(request, b"".join(body), "application/octet-stream")

    def _animation(self, request):
        run, name, _ = self._target(request)
        film = run.look(lambda found: sorted(found.film(contents.PICTURES, name).items()))
        if not film:
            raise errors.NotFoundError("No such target.")
        try:
            gif = answers.found(lambda: self._animations.get(film))
        except BusyError as error:
            raise answers.NotReadyError from error
        return http_util.Respond(request, gif, "image/gif")

    def _real(self, request):
        run, name, asked = self._target(request)
        step = answers.step(asked)
        return _json(request, json.dumps(details.real_images(run, name, step)))

    def _nearest(self, request):
        run, name, asked = self._target(request)
        step, by = answers.step(asked), asked.get("by")
        if by not in (None, "picture", "function"):
            raise errors.InvalidArgumentError("Expected by=picture or by=function.")
        found = answers.found(
            lambda: details.nearest(run, name, step, by or "picture", self._nearest_pictures)
        )
        return _json(request, json.dumps(found))

    def _activations(self, request):
        asked = answers.arguments(request)
        run, layer = self._run(answers.text(asked, "run")), answers.text(asked, "layer")
        return _json(request, json.dumps(answers.found(lambda: details.activations(run, layer))))

    def _target(self, request):
        asked = answers.arguments(request)
        return self._run(answers.text(asked, "run")), answers.text(asked, "name"), asked

    def _run(self, name):
        run = self._runs.found().get(name)
        if run is None:
            raise errors.NotFoundError("No such run.")
        return run


def _content_or_reason(found, key, paths):
    if isinstance(found, ValueError):
        return _REASON, f"{found}{places.where(key, paths)}".encode(errors="replace")
    return 0, found.png


def _static_file(name, content):
    return lambda request: http_util.Respond(request, content, _TYPES[name[name.rfind(".") :]])


def _json(request, content):
    return http_util.Respond(request, content, "application/json")
