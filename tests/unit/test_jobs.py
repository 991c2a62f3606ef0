"""The agent's jobs: what must not wait for others does not."""

from __future__ import annotations

import threading

from flask_hsmx_cluster.agent.jobs import THREADS, Jobs


def test_a_job_apart_runs_while_all_others_wait_for_a_database_that_stands_still() -> None:
    """Health was not looked at any more: nobody learned that the database was the one that stood still."""
    jobs, answered, looked = Jobs(), threading.Event(), threading.Event()
    waiting = threading.Barrier(THREADS + 1)

    def wait() -> str:
        waiting.wait(30)
        answered.wait(60)
        return "answered"

    try:
        for number in range(THREADS):
            jobs.every(f"data {number}", 3600, wait)
        waiting.wait(30)
        jobs.every("health", 3600, lambda: looked.set() or "looked", apart=True)
        assert looked.wait(30) and not answered.is_set()
    finally:
        answered.set()
        jobs.stop()
