"""What a job asks for at each attempt."""

from restresponse.resources import memory_of_attempt


def test_an_attempt_after_a_failure_asks_for_twice_the_memory():
    assert [memory_of_attempt(1500, attempt) for attempt in (1, 2, 3)] == [1500, 3000, 6000]
