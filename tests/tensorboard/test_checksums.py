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


def _first_header(data, most, start):
    """Look at one place after the other, by TensorBoard's own checksum."""
    for at in range(start, len(data) - 11):
        length = int.from_bytes(data[at : at + 8], "little")
        checksum = int.from_bytes(data[at + 8 : at + 12], "little")
        if 0 < length <= most and masked_crc32c(data[at : at + 8]) == checksum:
            return at
    return None


def test_the_first_header_is_found_whatever_is_before_it():
    rng = np.random.default_rng(2)

    def header(length):
        data = length.to_bytes(8, "little")
        return data + masked_crc32c(data).to_bytes(4, "little")

    # Zeros, lengths without their checksum, records that are too long, and the halves of headers.
    parts = [bytes(30), b"\1\0\0\0\0", header(0), header(10**6), header(7)[:9], rng.bytes(40)]
    for _ in range(60):
        before = b"".join(parts[i] for i in rng.integers(0, len(parts), rng.integers(0, 40)))
        data = before + header(int(rng.integers(1, 300))) + rng.bytes(20) + header(5)
        for start in (0, len(before) // 2, len(before) + 1):
            found = checksums.find_header(data, 1000, start)
            assert found == _first_header(data, 1000, start)
    many = b"\1\0\0\0\0" * 5000
    assert checksums.find_header(many + header(3), 10) == len(many)
    assert checksums.find_header(many, 10) is None
