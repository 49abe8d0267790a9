"""Work that threads share is done once each, in order, whoever does it."""

import multiprocessing
import threading
import time

import pytest

from zeropoint.fgcm.threads import at_once, finish, in_order

THREADS = [1, 2, 3]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 40])
def test_results_come_in_order(threads: int, n: int) -> None:
    def run(k: int) -> int:
        time.sleep(0.001 * (k % 3))
        return k * k

    assert list(in_order(run, n, threads)) == [k * k for k in range(n)]


@pytest.mark.parametrize("threads", THREADS)
def test_each_is_done_once(threads: int) -> None:
    done: list[int] = []
    finish(done.append, 50, threads)
    assert sorted(done) == list(range(50))


def test_several_threads_take_part() -> None:
    both = threading.Barrier(2, timeout=20.0)  # passed only if two are at it at the same time
    finish(lambda k: both.wait(), 2, 2)


def test_few_results_wait() -> None:
    begun: list[int] = []
    for k, _ in enumerate(in_order(begun.append, 30, 2)):
        time.sleep(0.002)
        assert max(begun) <= k + 2


@pytest.mark.parametrize("threads", THREADS)
def test_shared_work_may_share_its_own(threads: int) -> None:
    def run(k: int) -> int:
        return sum(in_order(lambda j: j * k, 4, threads))

    assert list(in_order(run, 6, threads)) == [6 * k for k in range(6)]
    assert at_once(threads, lambda: run(1), lambda: run(2)) == (6, 12)


@pytest.mark.parametrize("threads", THREADS)
def test_an_error_is_raised_and_the_threads_stay(threads: int) -> None:
    def run(k: int) -> int:
        if k == 3:
            raise KeyError("three")
        return k

    seen: list[int] = []
    with pytest.raises(KeyError, match="three"):
        seen.extend(in_order(run, 9, threads))
    assert seen == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        finish(run, 9, threads)
    assert at_once(threads, lambda: 1, lambda: 2) == (1, 2)


def test_what_is_left_off_early_leaves_the_threads() -> None:
    results = in_order(lambda k: k, 20, 2)
    assert next(results) == 0
    results.close()
    assert list(in_order(lambda k: k, 3, 2)) == [0, 1, 2]


def test_a_forked_process_has_threads_of_its_own() -> None:
    finish(lambda k: None, 4, 2)
    child = multiprocessing.get_context("fork").Process(target=finish, args=(lambda k: None, 4, 2))
    child.start()
    child.join(20.0)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert child.exitcode == 0
