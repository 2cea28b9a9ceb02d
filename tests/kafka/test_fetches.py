"""What becomes of a fetch: each offset of its batches once, as a record or as a fault."""

import zlib

import pytest
from aiokafka import codec as codecs
from aiokafka.record.util import encode_varint
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.kafka.fetch.fetches import Fetched, FetchedRecord
from tests.kafka.built import (
    CODECS,
    DELTA,
    FIRST,
    HEAD,
    HELD,
    PARTITION,
    Fetching,
    MiB,
    batch,
    flipped,
    marker,
    message,
    sealed,
    with_data,
    written,
)

ENCODERS = {1: codecs.gzip_encode, 3: codecs.lz4_encode, 4: codecs.zstd_encode}
VALUES = [b'{"event_id":"e%d"}' % n for n in range(20)]


def told(records: list[FetchedRecord]) -> list[tuple[int, str]]:
    """Return offsets, and why they could not be read."""
    return [(r.offset, r.fault.facts.get("cause", r.fault.reason) if r.fault else "") for r in records]


def log(codec: int, broken: bytes | None = None) -> list[bytes]:
    """Make three batches of 20 records, the second one broken."""
    return [batch(0, VALUES, codec), broken or batch(20, VALUES, codec), batch(40, VALUES, codec)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("at", [17, 22, 24, 59, HEAD + 9, -3])
def test_a_batch_with_a_wrong_checksum_is_told_once_for_each_offset(codec: int, at: int):
    raws = log(codec, flipped(batch(20, VALUES, codec), at, bits=0x40))
    found = Fetching(high=60).log(raws, [0, 20, 40, 60])
    assert told(found) == [(n, "crc" if 20 <= n < 40 else "") for n in range(60)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_cannot_be_inflated_is_told_and_the_rest_of_the_fetch_is_read(codec: int):
    whole = batch(20, VALUES, codec)
    fetching = Fetching(high=60)
    found = fetching.one(b"".join(log(codec, with_data(whole, whole[HEAD:-7]))))
    assert told(found) == [(n, "compression" if 20 <= n < 40 else "") for n in range(60)]
    assert fetching.position == 60
    assert found[20].fault.facts["batch-offset"] == "20"
    assert (found[20].key, found[20].value, found[20].headers) == (None, None, ())


def test_an_unknown_codec_is_told():
    assert told(Fetching().one(flipped(batch(0, VALUES), 22, seal=True, bits=6))) == [
        (n, "compression") for n in range(20)
    ]


@pytest.mark.parametrize("codec", [0, 1])
def test_records_before_a_broken_one_are_read(codec: int):
    plain = bytearray(batch(0, VALUES))
    plain[HEAD + 25 * 10 : HEAD + 25 * 10 + 60] = b"\xff" * 60
    found = Fetching().one(sealed(bytes(plain)))
    broken = next(n for n, (_, cause) in enumerate(told(found)) if cause)
    assert 5 < broken < 15
    assert told(found) == [(n, "structure" if n >= broken else "") for n in range(20)]


@pytest.mark.parametrize("less", [0, 10, 40, 80])
def test_a_length_that_overflows_is_told(less: int):
    """Give a key nearly 2^63 bytes: the compiled reader's check overflows, and it raises MemoryError."""
    record = bytearray()
    for number in (50, 0, 0, 0, 2**63 - 1 - less):
        encode_varint(number, record.append)
    assert told(Fetching().one(with_data(batch(0, [b"x"]), bytes(record) + bytes(60)))) == [(0, "structure")]


@pytest.mark.parametrize("codec", [0, *ENCODERS])
@pytest.mark.parametrize("length", [2**24, 2**40, 2**62, 2**63 - 1])
def test_a_length_behind_a_name_that_is_no_text_leads_nowhere(length: int, codec: int):
    """Have the second reader meet it: by default that one follows a header's length to wherever it points."""
    record = bytearray()
    for number in (60, 0, 0, 0, -1, -1, 2, 1):
        encode_varint(number, record.append)
    record += b"\xff\x00"
    encode_varint(length, record.append)
    data = bytes(record) + bytes(60)
    raw = with_data(batch(0, [b"x"], codec), ENCODERS[codec](data) if codec else data)
    assert told(Fetching().one(raw)) == [(0, "structure")]


@pytest.mark.parametrize(
    ("held", "good"),
    [(19, 19), (3, 3), (0, 0), (21, 20), (2**31 - 1, 20), (-5, 0)],
)
def test_a_wrong_count_of_records_loses_none(held: int, good: int):
    raw = written(batch(0, VALUES), HELD, held)
    assert told(Fetching().one(raw)) == [(n, "structure" if n >= good else "") for n in range(20)]


def test_offsets_that_are_not_the_batchs_own_are_no_records():
    raw = bytearray(batch(0, VALUES))
    places = [i for i in range(HEAD, len(raw) - 3) if raw[i : i + 1] == b"k"]
    assert len(places) >= 20
    second = places[1]
    raw[second - 2] = 40  # the second record's offset becomes the 20th: none before it may be lost
    assert told(Fetching().one(sealed(bytes(raw)))) == [(0, ""), *((n, "structure") for n in range(1, 20))]


def test_a_header_of_two_milliards_of_offsets_reaches_to_the_next_batch_or_the_high_watermark():
    lie = written(batch(20, VALUES), DELTA, 2**31 - 1, seal=False)
    found = Fetching(high=60).log([batch(0, VALUES), lie, batch(40, VALUES)], [0, 20, 40, 60])
    assert told(found) == [(n, "crc" if 20 <= n < 40 else "") for n in range(60)]
    last = written(lie, HELD, 2**31 - 1, seal=False)
    assert told(Fetching(high=40).one(last, 20)) == [(n, "crc") for n in range(20, 40)]


def test_faults_are_made_as_they_are_taken():
    reader = Fetching().reader
    lie = written(written(batch(0, VALUES), HELD, 2**31 - 1), DELTA, 2**31 - 2)
    records = reader.partition(PARTITION, Fetched(lie), (), 0)
    assert told(records.take(25)) == [(n, "" if n < 20 else "structure") for n in range(25)]
    assert records.next_fetch_offset == 25


def test_a_batch_whose_offsets_go_back_is_not_passed_over():
    raws = [batch(0, VALUES), written(batch(20, VALUES), FIRST, 3, seal=False), batch(40, VALUES)]
    found = Fetching(high=60).log(raws, [0, 20, 40, 60])
    assert told(found) == [(n, "offsets" if 20 <= n < 40 else "") for n in range(60)]


def test_a_batch_beyond_the_high_watermark_is_not_believed():
    fetching = Fetching(high=20)
    assert told(fetching.one(written(batch(0, VALUES), FIRST, 2**40, seal=False)))[-1] == (19, "offsets")
    assert fetching.position == 20


def test_what_came_in_while_the_broker_answered_is_read():
    """Read beyond the high watermark of the answer: a broker looks at it before it looks into the log."""
    fetching = Fetching(high=10)
    assert told(fetching.one(b"".join(log(1)))) == [(n, "") for n in range(60)]


@pytest.mark.parametrize("length", [-1, 0, 14, 2**31 - 1, -(2**31)])
def test_a_wrong_length_is_told(length: int):
    raw = written(batch(0, VALUES), (8, ">i"), length, seal=False)
    fetching = Fetching(high=20)
    assert told(fetching.one(raw)) == [(n, "length") for n in range(20)]
    assert fetching.position == 20


@pytest.mark.parametrize("size", [1, 11, 12, 17, 60])
def test_what_is_too_short_for_a_header_is_told_for_one_offset(size: int):
    fetching = Fetching()
    assert told(fetching.one(batch(0, VALUES)[:size])) == [(0, "length")]
    assert fetching.position == 1


@pytest.mark.parametrize("size", [1, 30, 70, 200])
def test_where_the_broker_cuts_the_next_fetch_goes_on(size: int):
    fetching = Fetching()
    assert told(fetching.one(batch(0, VALUES) + batch(20, VALUES)[:size])) == [(n, "") for n in range(20)]
    assert fetching.position == 20


@pytest.mark.parametrize("codec", [0, 1, 4])
def test_a_batch_that_was_compacted_away_is_no_fault(codec: int):
    empty = written(flipped(batch(0, VALUES)[:HEAD], 22, bits=codec), HELD, 0)
    fetching = Fetching(high=21)
    assert told(fetching.one(empty + batch(20, [b"x"]))) == [(20, "")]
    assert fetching.position == 21


@pytest.mark.parametrize("codec", range(5))
def test_an_aborted_transaction_has_no_outcome_readable_or_not(codec: int):
    good = batch(20, VALUES, codec, producer=7)
    for broken, cause in (
        (good, ""),
        (flipped(good, HEAD + 9), "crc"),
        (with_data(good, good[HEAD:-7]), "structure" if codec == 0 else "compression"),
    ):
        raws = [batch(0, VALUES), broken, marker(40, 7), batch(41, VALUES, codec, producer=7), marker(61, 7, True)]
        bounds = [0, 20, 40, 41, 61, 62]
        rest = [(n, "") for n in [*range(20), *range(41, 61)]]
        assert told(Fetching(high=62).log(raws, bounds, [(7, 20)])) == rest
        dead = [(n, cause) for n in range(20, 40)]
        if cause != "structure":
            assert told(Fetching(high=62).log(raws, bounds)) == sorted(rest + dead)


def test_a_marker_that_cannot_be_read_ends_its_transaction():
    raws = [batch(0, VALUES, producer=7), flipped(marker(20, 7), -1), batch(21, VALUES, producer=7)]

    def told_of(position: int) -> list[tuple[int, int]]:  # what a broker says of a fetch from there
        return [(7, 0)] if position <= 20 else []

    fetching, position, found = Fetching(high=41), 0, []
    for first in (0, 2):
        found += fetching.one(b"".join(raws[first:]), position, told_of(position))
        position = fetching.position
    assert told(found) == [(n, "") for n in range(21, 41)]
    assert told(Fetching().one(b"".join([raws[0], with_data(marker(20, 7), b"\xff" * 9), raws[2]]), 0, [(7, 0)])) == [
        (n, "") for n in range(21, 41)
    ]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_inflates_too_far_is_told_with_its_sizes(codec: int):
    large = batch(20, [bytes(MiB)] * 3, codec)
    fetching = Fetching(limit=2 * MiB, high=43)
    found = fetching.one(batch(0, VALUES, codec) + large + batch(23, VALUES, codec))
    assert told(found) == [(n, "inflated" if 20 <= n < 23 else "") for n in range(43)]
    assert found[21].fault.facts == {
        "batch-offset": "20",
        "batch-bytes": str(len(large)),
        "limit-bytes": str(2 * MiB),
    }


def test_a_poll_ends_where_its_room_does():
    reader = Fetching().reader
    first = reader.partition(PARTITION, Fetched(batch(0, [bytes(MiB)] * 3, 1) + batch(3, VALUES)), (), 0)
    second = reader.partition(PARTITION, Fetched(batch(0, VALUES)), (), 0)
    reader.begin_poll(2 * MiB)
    assert [len(first.take(100)), len(second.take(100))] == [2, 0]
    assert (first.next_fetch_offset, second.next_fetch_offset) == (2, 0)  # of the same poll
    reader.begin_poll(2 * MiB)
    assert [len(first.take(100)), len(second.take(100))] == [21, 20]


def test_a_poll_has_one_record_however_large_and_no_more_than_it_was_asked_for():
    reader = Fetching().reader
    large = reader.partition(PARTITION, Fetched(batch(0, [bytes(MiB)] * 2)), (), 0)
    reader.begin_poll(1)
    assert len(large.take(100)) == 1
    small = reader.partition(PARTITION, Fetched(batch(0, [b"v"] * 3)), (), 0)
    reader.begin_poll(MiB)
    first, rest = small.take(2), small.take(2)
    assert [len(first), len(rest), small.ended] == [2, 1, True]
    assert MiB - reader.room == sum(record.size for record in first + rest) == 3 * len(b"k0v")


@given(st.integers(0, 1), st.binary(max_size=200), st.integers(0, 400), st.sampled_from([0, 1, 3, 4]))
@settings(max_examples=400, deadline=None)
def test_whatever_lies_in_a_batch_each_offset_has_one_outcome(keep: int, junk: bytes, at: int, codec: int):
    """Put junk for records, or among them, with a checksum that fits."""
    whole = batch(0, VALUES)[HEAD:]
    data = whole[: at * keep] + junk + whole[at * keep + len(junk) :] * keep
    packed = ENCODERS[codec](data) if codec else data
    raw = with_data(batch(0, VALUES, codec), packed)
    assert [r.offset for r in Fetching(high=20).log([raw], [0, 20])] == list(range(20))


@given(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]), st.data())
@settings(max_examples=400, deadline=None)
def test_broken_messages_of_before_batches_are_told(kind: tuple[int, int], data: st.DataObject):
    raw = message(4, [b"v"], *kind)
    for at, bits in data.draw(st.lists(st.tuples(st.integers(16, len(raw) - 1), st.integers(1, 255)), max_size=4)):
        raw = flipped(raw, at, bits=bits)
    if data.draw(st.booleans()):
        raw = raw[:12] + zlib.crc32(raw[16:]).to_bytes(4, "big") + raw[16:]
    assert [r.offset for r in Fetching(high=5).one(raw, 4)] in ([4], [])
    assert Fetching(high=5).one(raw, 4) or raw[16] == 2


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_whatever_is_flipped_each_offset_has_one_outcome(data: st.DataObject):
    """Break batches of any codec by random flips: records that are good, or faults, and every offset once."""
    codec = data.draw(st.sampled_from(list(CODECS.values())))
    raws = [batch(first, VALUES, codec) for first in (0, 20, 40)]
    flips = data.draw(st.lists(st.tuples(st.integers(16, len(raws[1]) - 1), st.integers(1, 255)), max_size=4))
    for at, bits in flips:
        raws[1] = flipped(raws[1], at, bits=bits)
    if data.draw(st.booleans()) and raws[1][16] == 2 and not any(21 <= at < HEAD for at, _ in flips):
        raws[1] = sealed(raws[1])  # broken inside, with a checksum that fits
    found = Fetching(limit=MiB, high=60).log(raws, [0, 20, 40, 60])
    if any(at == 22 for at, _ in flips) and not any(20 <= r.offset < 40 for r in found):
        found += [FetchedRecord("t", 0, n, 0, 0, b"", b"", ()) for n in range(20, 40)]  # it says it is a marker
    assert sorted(r.offset for r in found) == list(range(60))
    for record in found:
        if record.fault is None and not 20 <= record.offset < 40:
            assert record.value == VALUES[record.offset % 20]
