"""Fingerprints: the same everywhere, whatever else is in the batch."""

from hypothesis import given
from hypothesis import strategies as st

from stream.core.hashing import fingerprints

ids = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=30)


@given(ids)
def test_an_id_has_one_fingerprint_in_any_company(names: list[str]):
    together = fingerprints(names)
    assert [int(fingerprints([name])[0]) for name in names] == [int(x) for x in together]
    assert (together != 0).all()


@given(ids)
def test_different_ids_differ(names: list[str]):
    assert len(set(fingerprints(names).tolist())) == len(set(names))


def test_similar_ids_spread_over_all_bits():
    prints = fingerprints([f"event-{n}" for n in range(100_000)])
    assert len(set(prints.tolist())) == 100_000
    for bit in range(64):
        share = float(((prints >> bit) & 1).mean())
        assert 0.49 < share < 0.51, f"bit {bit}: {share}"


def test_a_fingerprint_never_changes_between_versions():
    """Fingerprints are stored in session records: their values are part of the format."""
    assert [hex(x) for x in fingerprints(["item-1", "", "ä" * 20])] == GOLDEN


GOLDEN = ["0xcdf9cffc0232c598", "0xe220a8397b1dcdaf", "0xd3ef9fda6463f25d"]
