"""The numbers of xdist's workers: which databases each has follows from them."""

from aioredis_kit.testing.shared import WorkerNumbers, number_of_worker


def test_a_worker_that_takes_the_place_of_another_has_its_number():
    """Its name is a new one, and its databases must be nobody else's."""
    numbers, told = WorkerNumbers(), {}

    def announce(worker):
        numbers.announce(worker, told.setdefault(worker, {}))
        return number_of_worker(told[worker])

    assert [announce(worker) for worker in ("gw0", "gw1", "gw2")] == [0, 1, 2]
    numbers.give_back("gw1")
    assert announce("gw3") == 1
    numbers.give_back("gw3")
    numbers.give_back("gw0")
    assert [announce("gw4"), announce("gw5")] == [0, 1]
