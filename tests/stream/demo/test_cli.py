"""What the demo says where there is no terminal."""

from stream.demo.cli import said


def test_a_score_is_told_in_words():
    items = [{"item_id": f"i-{n}"} for n in range(5)]
    score = {"user_id": "u-1", "intent": {"1h": 0.0312, "24h": 0.5}, "recommendations": items}
    assert said(score) == "u-1 buys within 1h: 3.1%; may look at next: i-0, i-1, i-2"
