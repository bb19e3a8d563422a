"""Without which topics a worker refuses to start."""

from stream.config import Settings
from stream.distributed.options import worker_topics
from stream.events import DECISIONS, GOVERNANCE, LABELS


def test_a_worker_needs_every_topic_that_it_reads_or_publishes_to() -> None:
    settings = Settings(log={"url": "kafka://broker:9092"}, store={"url": "redis://store:6379/0"})
    names = {spec.name for spec in worker_topics(settings)}
    assert {DECISIONS, GOVERNANCE, LABELS} <= names
