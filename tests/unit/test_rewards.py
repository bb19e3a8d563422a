"""Reward heads: late outcomes, corrections, splits, merges and snapshots."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.rewards import (
    ARRIVED,
    EXPOSED,
    FEATURES,
    HEAD_STATE,
    NO_FEATURE,
    UNDONE,
    ExposureRecords,
    HeadConfig,
    RewardHead,
)
from models.rewards.kernels import WIDTH
from models.rewards.table_chunks import TableChunks

HOUR = 3_600.0
DAY = 24 * HOUR
CONFIG = HeadConfig(window_s=7 * DAY, bits=10)


class Log:
    """What happened, in order: exposures of a few items, and outcomes some hours later."""

    def __init__(self, n: int = 4_000, rate: float = 0.2, mean_h: float = 12.0, seed: int = 0):
        rng = np.random.default_rng(seed)
        ts = np.sort(rng.random(n)) * 40 * DAY + 1.7e9
        item = rng.integers(1, 30, n)
        features = np.full((n, FEATURES), NO_FEATURE, dtype=np.uint32)
        features[:, 0], features[:, 1] = 0, item
        chance = rate * np.where(item % 2 == 0, 1.5, 0.5)
        came = np.flatnonzero(rng.random(n) < chance)
        age = rng.exponential(mean_h * HOUR, len(came))
        came, age = came[age < 7 * DAY], age[age < 7 * DAY]
        when = np.concatenate((ts, ts[came] + age))
        which = np.concatenate((np.arange(n), came))
        kind = np.concatenate((np.full(n, EXPOSED), np.full(len(came), ARRIVED)))
        order = np.lexsort((kind, when))
        self.ts, self.kind, self.features = when[order], kind[order].astype(np.int8), features
        self.which = which[order]
        self.features = features[self.which]
        self.age_s = np.concatenate((np.zeros(n), age))[order]
        self.rate = len(came) / n

    def learn(self, head: RewardHead, step: int = 10**9) -> NDArray[np.float64]:
        """Run a head over the log in calls of ``step`` rows; return its predictions."""
        out = np.empty(len(self.ts))
        first = np.zeros(len(self.ts))
        for start in range(0, len(self.ts), step):
            part = slice(start, start + step)
            out[part] = head.learn_many(
                self.features[part],
                self.ts[part],
                self.kind[part],
                age_s=self.age_s[part],
                p0=first[self.which[part]],
                origin=self._origin(part),
            )
            exposed = self.kind[part] == EXPOSED
            first[self.which[part][exposed]] = out[part][exposed]
        return out

    def _origin(self, part: slice) -> NDArray[np.int64]:
        rows = {int(e): r for r, e in enumerate(self.which[part]) if self.kind[part][r] == EXPOSED}
        return np.array([rows.get(int(e), -1) for e in self.which[part]], dtype=np.int64)


LOG = Log()


@pytest.mark.parametrize("step", [1, 17, 256])
def test_how_rows_are_split_into_calls_does_not_matter(step: int) -> None:
    whole, split = RewardHead(CONFIG), RewardHead(CONFIG)
    assert LOG.learn(whole).tobytes() == LOG.learn(split, step).tobytes()
    assert whole.to_bytes() == split.to_bytes()


def test_it_is_calibrated_while_outcomes_are_due() -> None:
    head = RewardHead(CONFIG)
    log = Log(n=12_000, mean_h=48.0)
    said = log.learn(head, 256)
    exposed = log.kind == EXPOSED
    late = said[exposed][4_000:].mean()
    assert late == pytest.approx(log.rate, rel=0.06)


def test_likes_are_told_apart() -> None:
    head = RewardHead(CONFIG)
    LOG.learn(head, 256)
    rows = np.full((2, FEATURES), NO_FEATURE, dtype=np.uint32)
    rows[:, 0] = 0
    rows[:, 1] = (2, 3)
    liked, unliked = head.predict_many(rows, LOG.ts[-1])
    assert liked > 2 * unliked


def test_a_negative_weighs_nothing_until_an_outcome_could_have_been_seen() -> None:
    head = RewardHead(CONFIG)
    Log(n=8_000, mean_h=48.0).learn(head, 256)
    rows = np.full((1, FEATURES), NO_FEATURE, dtype=np.uint32)
    rows[0, 0], rows[0, 1] = 0, 2
    now = float(Log(n=8_000, mean_h=48.0).ts[-1])
    before = head.predict_many(rows, now)[0]
    many = np.repeat(rows, 200, axis=0)
    head.learn_many(many, np.full(200, now), np.full(200, EXPOSED))
    at_once = head.predict_many(rows, now)[0]
    a_week_on = head.predict_many(rows, now + 7 * DAY)[0]
    assert abs(at_once - before) < 0.25 * (before - a_week_on)


def test_an_outcome_that_is_undone_counts_as_none() -> None:
    plain, corrected = RewardHead(CONFIG), RewardHead(CONFIG)
    LOG.learn(plain)
    LOG.learn(corrected)
    row = LOG.features[:1]
    now = [float(LOG.ts[-1])]
    raised = corrected.learn_many(row, now, [ARRIVED], age_s=[HOUR], p0=[0.1])
    corrected.learn_many(row, now, [UNDONE], p0=[0.1])
    settled = plain.predict_many(row, now[0])
    assert corrected.predict_many(row, now[0]) == pytest.approx(settled, rel=5e-3)
    assert raised == pytest.approx(settled)
    assert corrected.score.log_loss == plain.score.log_loss
    assert corrected.score.positives == plain.score.positives


def test_looking_changes_nothing() -> None:
    head = RewardHead(CONFIG)
    LOG.learn(head, 256)
    before = head.to_bytes()
    head.predict_many(LOG.features, LOG.ts[-1] + DAY)
    assert head.to_bytes() == before
    table = head.table.copy()
    head.learn_many(LOG.features[:9], LOG.ts[:9], LOG.kind[:9], learn=False)
    assert table.tobytes() == head.table.tobytes()


def test_its_score_is_that_of_its_predictions() -> None:
    head = RewardHead(CONFIG)
    said = LOG.learn(head, 64)
    exposed = LOG.kind == EXPOSED
    first = np.empty(exposed.sum())
    first[LOG.which[exposed]] = said[exposed]
    outcome = np.zeros(len(first), dtype=bool)
    outcome[LOG.which[LOG.kind == ARRIVED]] = True
    loss = -np.where(outcome, np.log(first), np.log1p(-first)).mean()
    assert head.score.log_loss == pytest.approx(loss, abs=1e-5)
    assert head.score.calibration == pytest.approx(first.sum() / outcome.sum(), rel=1e-4)
    base = head.score.base_log_loss
    assert base is not None and loss < base


def test_a_score_of_nothing_is_none() -> None:
    score = RewardHead(CONFIG).score
    assert (score.log_loss, score.calibration, score.base_log_loss) == (None, None, None)


def test_a_snapshot_comes_back_bit_for_bit() -> None:
    head = RewardHead(CONFIG)
    half = len(LOG.ts) // 2
    head.learn_many(LOG.features[:half], LOG.ts[:half], LOG.kind[:half], age_s=LOG.age_s[:half])
    by_bytes = RewardHead.from_bytes(head.to_bytes())
    by_chunks = RewardHead(CONFIG)
    by_chunks.load_chunks(head.dirty_chunks())
    rest = slice(half, None)
    expected = head.learn_many(
        LOG.features[rest], LOG.ts[rest], LOG.kind[rest], age_s=LOG.age_s[rest]
    )
    for other in (by_bytes, by_chunks):
        found = other.learn_many(
            LOG.features[rest], LOG.ts[rest], LOG.kind[rest], age_s=LOG.age_s[rest]
        )
        assert found.tobytes() == expected.tobytes()
        assert other.to_bytes() == head.to_bytes()


def test_only_what_changed_is_written_again() -> None:
    head = RewardHead(HeadConfig(window_s=DAY, bits=12))
    LOG.learn(head)
    assert len(head.dirty_chunks()) > 1
    assert list(head.dirty_chunks()) == ["state"]
    head.learn_many(LOG.features[:1], LOG.ts[-1:], [EXPOSED])
    changed = head.dirty_chunks()
    assert sorted(changed) == ["changes-1", "state"]
    assert len(changed["changes-1"]) < 1_000


@pytest.mark.parametrize("seed", range(3))
def test_what_many_saves_left_is_the_table(seed: int) -> None:
    config = HeadConfig(window_s=DAY, bits=12)
    head, rng, stored = RewardHead(config), np.random.default_rng(seed), dict[str, bytes]()
    for save in range(150):
        # Now a few rows, now more than are written as changes, and at times none.
        n = int(rng.choice([0, 1, 5, 100, 400, 900], p=[0.1, 0.3, 0.3, 0.1, 0.1, 0.1]))
        rows = rng.integers(0, 1 << 12, (n, FEATURES)).astype(np.uint32)
        head.learn_many(rows, np.full(n, 1.7e9 + save), np.full(n, EXPOSED))
        stored |= head.dirty_chunks()
        if rng.random() < 0.1:
            again = RewardHead(config)
            again.load_chunks(stored)
            assert again.to_bytes() == head.to_bytes()
            if rng.random() < 0.5:
                head = again
    again = RewardHead(config)
    again.load_chunks(stored)
    assert again.to_bytes() == head.to_bytes()


@pytest.mark.parametrize("changed", [10, 150, 600, 3_000])
def test_a_save_writes_little_more_than_changed_and_little_more_is_kept(changed: int) -> None:
    table, chunks = np.zeros((8_192, WIDTH)), TableChunks(8_192)
    rng, stored, sizes = np.random.default_rng(changed), dict[str, bytes](), []
    everybody = np.arange(8_192)
    for save in range(200):
        rows = rng.permutation(everybody)[:changed] if save else everybody
        table[rows] = rng.random((len(rows), WIDTH))
        chunks.touch(rows)
        written = chunks.written(table)
        stored |= written
        sizes.append(sum(map(len, written.values())))
    # Half as much again, but a block at least in turn.
    row = table.itemsize * WIDTH + 4
    assert np.mean(sizes[1:]) < 1.6 * row * max(changed, 8_192 / 16)
    assert sum(map(len, stored.values())) < 4.5 * row * len(table)
    again = np.zeros_like(table)
    TableChunks(len(again)).read(again, stored)
    assert (again == table).all()


@pytest.mark.parametrize("saves", [1, 3])
@pytest.mark.parametrize("size", [4_096, 32_768])
def test_processes_that_save_seldom_leave_no_more_behind(saves: int, size: int) -> None:
    table, stored = np.zeros((size, WIDTH)), dict[str, bytes]()
    for life in range(150):
        again, chunks = np.zeros_like(table), TableChunks(size)
        chunks.read(again, stored)
        assert (again == table).all()
        for save in range(saves):
            row = np.array([(3 * life + save) * 37 % size])
            table[row] += 1.0
            chunks.touch(row)
            stored |= chunks.written(table)
    # Each save looks at a block at least, so that changes of so many saves ago count no more.
    assert sum(name.startswith("changes-") for name in stored) <= size // 512 + 1


def test_a_table_that_an_older_program_stored_is_read() -> None:
    head = RewardHead(CONFIG)
    LOG.learn(head)
    version, config, chunks = msgspec.msgpack.decode(head.to_bytes())
    assert version == 2
    for name, data in chunks.items():
        fields = msgspec.msgpack.decode(data)
        fields = [1, *fields[1:]] if name == "state" else fields[:2]
        chunks[name] = msgspec.msgpack.encode(fields)
    older = RewardHead.from_bytes(msgspec.msgpack.encode((1, config, chunks)))
    assert older.to_bytes() == head.to_bytes()
    older.learn_many(LOG.features[:1], LOG.ts[-1:], [EXPOSED])
    chunks |= older.dirty_chunks()
    again = RewardHead(CONFIG)
    again.load_chunks(chunks)
    assert again.to_bytes() == older.to_bytes()


def test_nothing_of_a_head_that_was_given_up_comes_back() -> None:
    before, head = RewardHead(CONFIG), RewardHead(CONFIG)
    stored = dict[str, bytes]()
    for _ in range(40):
        LOG.learn(before)
        stored |= before.dirty_chunks()
    del stored[HEAD_STATE]
    head.load_chunks(stored)
    head.learn_many(LOG.features[:1], LOG.ts[:1], [EXPOSED])
    stored |= head.dirty_chunks()
    again = RewardHead(CONFIG)
    again.load_chunks(stored)
    assert again.to_bytes() == head.to_bytes()


def test_nothing_of_another_configuration_comes_back() -> None:
    larger, head = RewardHead(HeadConfig(window_s=DAY, bits=14)), RewardHead(CONFIG)
    stored = dict[str, bytes]()
    for _ in range(40):
        LOG.learn(larger)
        stored |= larger.dirty_chunks()
    head.load_chunks(stored)
    head.learn_many(LOG.features[:1], LOG.ts[:1], [EXPOSED])
    stored |= head.dirty_chunks()
    again = RewardHead(CONFIG)
    again.load_chunks(stored)
    assert again.to_bytes() == head.to_bytes()


def test_partitions_add_up_in_any_order() -> None:
    logs = [Log(n=2_000, seed=seed) for seed in range(3)]
    heads = []
    for log in logs:
        head = RewardHead(CONFIG)
        log.learn(head, 256)
        heads.append(head.to_bytes())
    found = []
    for order in ((0, 1, 2), (2, 1, 0)):
        merged = RewardHead.from_bytes(heads[order[0]])
        for place in order[1:]:
            merged.merge(RewardHead.from_bytes(heads[place]))
        found.append(merged.predict_many(logs[0].features[:50], 1.71e9))
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    alone = RewardHead.from_bytes(heads[0]).predict_many(logs[0].features[:50], 1.71e9)
    truth = np.where(logs[0].features[:50, 1] % 2 == 0, 0.3, 0.1)
    assert np.abs(found[0] - truth).mean() < np.abs(alone - truth).mean()


def test_a_linear_head_regresses_on_amounts() -> None:
    head = RewardHead(HeadConfig(window_s=DAY, linear=True, base_rate=0.0, bits=10))
    rng = np.random.default_rng(0)
    n = 3_000
    rows = np.full((n, FEATURES), NO_FEATURE, dtype=np.uint32)
    rows[:, 0], rows[:, 1] = 0, rng.integers(1, 6, n)
    amount = 10.0 * rows[:, 1] + rng.normal(0, 3, n)
    ts = np.arange(n) * 60.0 + 1.7e9
    head.learn_many(rows, ts, np.full(n, ARRIVED), value=amount)
    found = head.predict_many(rows[:20], ts[-1])
    assert found == pytest.approx(10.0 * rows[:20, 1], abs=1.5)


def test_what_is_remembered_of_an_exposure_comes_back() -> None:
    records = ExposureRecords(["click", "purchase", "retention"])
    features = np.arange(12, dtype=np.uint32).reshape(2, 6)
    p0 = np.array([[0.5, 0.25, np.nan], [0.125, np.nan, 1.0]])
    packed = records.pack(
        features, p0, np.array([9, 10]), np.array([[0, 1, 2], [0, 0, 0]], dtype=np.uint8)
    )
    row = records.unpack(packed[0])
    assert row is not None
    assert (row.version, row.features) == (9, features[0].tobytes())
    assert row.p0[:2] == (0.5, 0.25)
    assert list(row.state) == [0, 1, 2]
    again = records.unpack(records.restated(packed[0], bytes([1, 1, 2])))
    assert again is not None
    assert (again.version, list(again.state)) == (9, [1, 1, 2])
    assert ExposureRecords(["click", "purchase", "return"]).unpack(packed[0]) is None
    assert records.unpack(b"") is None


def test_other_configurations_and_newer_formats_are_no_use() -> None:
    head, other = RewardHead(CONFIG), RewardHead(HeadConfig(window_s=DAY, bits=10))
    LOG.learn(head)
    with pytest.raises(ValueError, match="do not add"):
        other.merge(head)
    fresh = other.to_bytes()
    other.load_chunks(head.dirty_chunks())
    assert other.to_bytes() == fresh
    with pytest.raises(ValueError, match="newer version"):
        RewardHead.from_bytes(b"\x93\x63" + head.to_bytes()[2:])
