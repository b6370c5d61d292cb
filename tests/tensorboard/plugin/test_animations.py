"""Animations are made once."""

import io
import threading
import tracemalloc

import numpy as np
from PIL import Image

from featviz_callback.tensorboard import EventFile, summaries
from featviz_callback.tensorboard.plugin import animations, logs
from featviz_callback.tensorboard.plugin.contents import PICTURES
from tests.tensorboard.conftest import event_file_in
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


def test_a_picture_of_few_rows_makes_a_small_animation(tmp_path):
    events = EventFile(tmp_path / "run")
    for step in (0, 1):
        events.image(summaries.IMAGE_TAG.format("x"), step, np.full((10, 4000, 1), step, "uint8"))
    gif = Image.open(io.BytesIO(Browser(tmp_path).animation("run", "x")))
    assert gif.n_frames == 2
    assert max(gif.size) < 1100


def test_pictures_of_another_size_than_the_last_one_are_not_decoded(tmp_path):
    events = EventFile(tmp_path / "run")
    for step in range(3):
        events.image(summaries.IMAGE_TAG.format("x"), step, np.zeros((3000, 3000, 1), "uint8"))
    events.image(summaries.IMAGE_TAG.format("x"), 3, np.zeros((8, 8, 1), "uint8"))
    browser = Browser(tmp_path)
    browser.json("frames", run="run")
    tracemalloc.start()
    gif = browser.animation("run", "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Image.open(io.BytesIO(gif)).n_frames == 1
    # One of them takes 27 MB.
    assert peak < 10e6


def test_greys_of_sixteen_bits_are_scaled(tmp_path):
    events, png = EventFile(tmp_path / "run"), io.BytesIO()
    Image.fromarray(np.full((160, 160), 0x4080, "uint16")).save(png, "PNG")
    events.encoded_image(summaries.IMAGE_TAG.format("x"), 0, png.getvalue(), (160, 160))
    gif = Image.open(io.BytesIO(Browser(tmp_path).animation("run", "x")))
    middle = gif.convert("L").getpixel((gif.width // 2, gif.height - 80))
    assert abs(middle - 0x40) <= 1


def test_an_animation_that_is_kept_waits_for_no_other(tmp_path):
    write_run(tmp_path / "run", names=NAMES[:1])
    run = logs.RunLog([str(event_file_in(tmp_path / "run"))])
    run.update()
    film = sorted(run.look(lambda found: found.film(PICTURES, NAMES[0])).items())
    kept, found = animations.Animations(), []
    gif = kept.get(film)
    is_over, begun = threading.Event(), threading.Barrier(3)
    for _ in range(2):
        kept._workers.submit(lambda: (begun.wait(10), is_over.wait(30)))
    # Both that make others are at it.
    begun.wait(10)
    thread = threading.Thread(target=lambda: found.append(kept.get(film)), daemon=True)
    thread.start()
    thread.join(10)
    is_over.set()
    assert found == [gif]


def test_few_frames_of_large_pictures_are_decoded(tmp_path):
    events = EventFile(tmp_path / "run")
    for step in range(6):
        events.image(summaries.IMAGE_TAG.format("x"), step, np.zeros((4000, 4000, 1), "uint8"))
    gif = Image.open(io.BytesIO(Browser(tmp_path).animation("run", "x")))
    assert gif.n_frames == 2


def test_a_film_of_any_length_makes_an_animation_of_bounded_size(tmp_path):
    """Pictures of a few pixels are enlarged, so a thousand of them are as many large ones."""
    events = EventFile(tmp_path / "run")
    for step in range(1000):
        look = np.full((8, 8, 1), step % 256, "uint8")
        events.image(summaries.IMAGE_TAG.format("x"), step, look)
    gif = Image.open(io.BytesIO(Browser(tmp_path).animation("run", "x")))
    assert 100 < gif.n_frames < 600
    gif.seek(gif.n_frames - 1)
    # The last picture is there, whatever is left out.
    middle = gif.convert("L").getpixel((gif.width // 2, gif.height - 64))
    assert abs(middle - 999 % 256) <= 1


def test_who_comes_after_many_asks_again(tmp_path):
    write_run(tmp_path / "run")
    browser, is_over = Browser(tmp_path), threading.Event()
    for _ in range(2):
        browser.plugin._animations._workers.submit(is_over.wait, 60)
    first = browser.get("animation", run="run", name=NAMES[0])
    assert (first.status_code, first.headers["Retry-After"]) == (503, "1")
    assert "Ask again" in first.text
    is_over.set()
    gif = browser.animation("run", NAMES[0])
    assert Image.open(io.BytesIO(gif)).n_frames == 3
    assert not browser.plugin._animations._waiting


def test_no_more_animations_wait_than_have_room(tmp_path):
    names = [f"x{i}" for i in range(40)]
    write_run(tmp_path / "run", names=names, steps=[0])
    run = logs.RunLog([str(event_file_in(tmp_path / "run"))])
    run.update()
    films = [
        sorted(run.look(lambda found, name=name: found.film(PICTURES, name)).items())
        for name in names
    ]
    kept, is_over, refused = animations.Animations(), threading.Event(), []
    for _ in range(2):
        kept._workers.submit(is_over.wait, 60)

    def ask(film):
        try:
            kept.get(film)
        except animations.BusyError:
            refused.append(film)

    threads = [threading.Thread(target=ask, args=(film,), daemon=True) for film in films]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 40
    assert len(kept._waiting) == animations._MOST_WAITING
    is_over.set()
    for film in films:
        kept._workers.submit(int).result()
        ask(film)
    assert not kept._waiting
