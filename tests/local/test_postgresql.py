"""Several publishers over one PostgreSQL: the whole tool, with nothing but another `[store] url`."""

from __future__ import annotations

from tests.local.publisher import Publisher
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]  # the fixture


def test_two_runs_at_once_publish_each_job_once(publisher: Publisher, postgres: Postgres) -> None:
    url = postgres.create()
    try:
        publisher.configure(
            "us-east-1",
            edit=lambda text: text.replace(f"sqlite:///{publisher.folder}/ebspub.db", url),
        )
        both = [publisher.start("run"), publisher.start("run")]
        codes = sorted(process.wait(110) for process in both)

        assert codes in ([0, 0], [0, 75], [75, 75]), (publisher.folder / "err").read_text()
        assert publisher.call("run").returncode == 0
        publisher.assert_published(["us-east-1"])
        builders = publisher.mine(publisher.cloud.inventory().instances)
        assert [builder.tags["ebspub:attempt"] for builder in builders] == ["1", "1"]
    finally:
        postgres.drop(url)
