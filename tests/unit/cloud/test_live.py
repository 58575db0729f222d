"""The live feed: no reader blocks it, none misses something without being told."""

from __future__ import annotations

import asyncio
import threading

from fieldwatch_cloud.live import LiveFeed, Notice, Resync


def notice(number: int) -> Notice:
    return Notice("health", "press-0001", {"n": number})


def numbers(found: list[tuple[int, Notice]] | Resync) -> list[int]:
    assert not isinstance(found, Resync)
    return [item.data["n"] for _, item in found]


def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    feed = LiveFeed(size=10)
    feed.publish(notice(i) for i in range(1, 6))
    assert feed.last == 5
    newest, found = feed.after(3)
    assert (newest, numbers(found)) == (5, [4, 5])


def test_a_reader_that_was_away_too_long_or_comes_from_another_process_is_told() -> None:
    feed = LiveFeed(size=10)
    feed.publish(notice(i) for i in range(1, 31))
    assert feed.after(19) == (30, Resync())
    assert numbers(feed.after(20)[1]) == list(range(21, 31))
    assert feed.after(31) == (30, Resync())


def test_readers_follow_while_another_thread_publishes() -> None:
    feed = LiveFeed(size=1000)
    total = 300

    async def follow() -> list[int]:
        seen: list[int] = []
        async for _, item in feed.follow(0, heartbeat=0.05):
            if isinstance(item, Notice):
                seen.append(item.data["n"])
            if len(seen) == total:
                return seen
        raise AssertionError("the feed ended")

    async def both() -> list[list[int]]:
        writer = threading.Thread(target=lambda: [feed.publish([notice(i)]) for i in range(total)])
        readers = [asyncio.create_task(follow()) for _ in range(3)]
        writer.start()
        found = await asyncio.wait_for(asyncio.gather(*readers), 30)
        writer.join()
        return found

    assert asyncio.run(both()) == [list(range(total))] * 3
    assert feed._waiting == {}


def test_silence_is_marked_and_a_slow_reader_must_load_again() -> None:
    feed = LiveFeed(size=5)

    async def read() -> list[object]:
        found: list[object] = []
        stream = feed.follow(heartbeat=0.01)
        found.append((await anext(stream))[1])
        feed.publish(notice(i) for i in range(50))
        found.append((await anext(stream))[1])
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(read()) == [None, Resync()]


def test_a_closed_loop_does_not_disturb_the_publisher() -> None:
    feed = LiveFeed()

    async def leave() -> None:
        stream = feed.follow(heartbeat=0.01)
        await anext(stream)
        feed._waiting[asyncio.Event()] = asyncio.get_running_loop()  # a reader that never said goodbye

    asyncio.run(leave())
    feed.publish([notice(1)])
    assert feed.last == 1
    assert feed._waiting == {}
