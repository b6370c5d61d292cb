"""Animations are made once."""

from featviz_callback.tensorboard.plugin import animations
from tests.tensorboard.plugin.conftest import NAMES, Browser, write_run


def test_an_animation_is_kept_until_there_is_another_picture(tmp_path, monkeypatch):
    write_run(tmp_path / "run")
    browser, made = Browser(tmp_path), []
    encode = animations.encode_film
    monkeypatch.setattr(animations, "encode_film", lambda film: made.append(film) or encode(film))
    first = browser.get("animation", run="run", name=NAMES[0]).data
    assert browser.get("animation", run="run", name=NAMES[0]).data == first
    assert len(made) == 1
    write_run(tmp_path / "run", steps=[2])
    assert browser.get("animation", run="run", name=NAMES[0]).data != first
    assert [len(film) for film in made] == [3, 4]
