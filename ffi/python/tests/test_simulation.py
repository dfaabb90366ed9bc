"""Simulator and planner: the library's figures under the command's words."""

import dataclasses

import pytest
import twinstream

DEVICE = "up=12us+6us,compute=500us+25us,down=10us+100ns"


def test_policies_beside_their_bounds():
    found = twinstream.simulate(DEVICE, "poisson:1k", ["serial", "stream"], duration="5s")
    assert [row.policy for row in found] == ["serial", "stream"]
    for row in found:
        assert row.offered == row.completed > 4000
        assert 0 < row.bound_mean_ms <= row.mean_ms <= row.p99_ms <= row.max_ms
        assert sum(row.decisions["compute"].values()) > 0
    again = twinstream.simulate(DEVICE, "poisson:1k", "serial,stream", duration=5.0)
    assert again == found
    other = twinstream.simulate(DEVICE, "poisson:1k", "serial,stream", duration=5.0, seed=2)
    assert other[0].event_hash != found[0].event_hash
    assert dataclasses.asdict(found[0])["rate_hz"] == 1000


def test_plans():
    (found,) = twinstream.plan(DEVICE, "5ms", "serial")
    assert (
        found.method == "exact"
        and found.rate_hz > 1000
        and found.p99_ms == pytest.approx(5, rel=1e-3)
    )
    (hopeless,) = twinstream.plan(DEVICE, 0.0001, "serial")
    assert hopeless.rate_hz is None


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("gtx-1080ti", lambda: twinstream.simulate("gtx-1081ti", "poisson:1k")),
        ("poison", lambda: twinstream.simulate(DEVICE, "poison:1k")),
        ("policies: .*best", lambda: twinstream.plan(DEVICE, "5ms", "best")),
        ("not a duration", lambda: twinstream.plan(DEVICE, "5")),
        ("latency_bound: .*-1", lambda: twinstream.plan(DEVICE, -1.0)),
        ("slot_len: .*got 0", lambda: twinstream.simulate(DEVICE, "poisson:1k", slot_len=0)),
        ("first_fit: .*got 0", lambda: twinstream.simulate(DEVICE, "poisson:1k", first_fit=0)),
        ("batch_len_max: .*got 0", lambda: twinstream.plan(DEVICE, "5ms", batch_len_max=0)),
    ],
)
def test_wrong_words_are_refused(text, call):
    with pytest.raises(ValueError, match=text):
        call()
