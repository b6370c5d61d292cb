"""Checksums of records, against TensorBoard's own."""

import numpy as np
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from featviz_callback.tensorboard import checksums


def test_checksums_are_those_of_tensorboard():
    rng = np.random.default_rng(0)
    parts = [rng.bytes(length) for length in [0, 1, 8, *rng.integers(0, 600, 1200)]]
    expected = [masked_crc32c(part) for part in parts]
    assert checksums.of_each(parts).tolist() == expected
    assert [checksums.of(part) for part in parts[:50]] == expected[:50]
    assert [checksums.of_each([part])[0] for part in parts[:50]] == expected[:50]
    mixed = [rng.bytes(length) for length in [3, 64, 128, 70_001, 65_536, 5000, 4, 300, 0]]
    assert checksums.of_each(mixed).tolist() == [masked_crc32c(part) for part in mixed]
    assert checksums.of_each([]).tolist() == []
    long = rng.bytes(70_001)
    assert checksums.of_each([long]).tolist() == [masked_crc32c(long)]


def test_a_header_is_found_among_other_bytes():
    length = (77).to_bytes(8, "little")
    header = length + masked_crc32c(length).to_bytes(4, "little")
    noise = np.random.default_rng(1).bytes(5000)
    assert checksums.find_header(noise + header + noise, 1000) == 5000
    assert checksums.find_header(noise + header + noise, 76) is None
    assert checksums.find_header(bytes(5000), 1000) is None
    assert checksums.find_header(header[:11], 1000) is None
