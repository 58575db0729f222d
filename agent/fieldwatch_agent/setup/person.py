"""Asks the person at the terminal; where nobody is there, or they leave, says which flag would have answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Unanswered(Exception):
    """A question that nobody answers; the message says what is to be given instead."""


class Person:
    """Whoever runs the command. ``ask``: shows a question and returns the answer; None: nobody is there."""

    def __init__(self, ask: Callable[[str], str] | None, say: Callable[[str], None]) -> None:
        self._ask = ask
        self._say = say

    @property
    def there(self) -> bool:
        """Whether somebody answers."""
        return self._ask is not None

    def text(self, question: str, instead: str, default: str = "", wrong: Callable[[str], str] = lambda _: "") -> str:
        """Return an answer for which ``wrong`` has no complaint; the default where nothing is typed.

        Raises :class:`Unanswered` with ``instead``.
        """
        while True:
            answer = self._answer(f"{question}{f' [{default}]' if default else ''}: ", instead) or default
            complaint = wrong(answer) if answer else "an answer is needed here"
            if not complaint:
                return answer
            self._say(complaint)

    def choose(self, question: str, choices: Sequence[str], instead: str) -> int:
        """Return the place of the chosen one. Raises :class:`Unanswered` with ``instead``."""
        numbers = [str(number) for number in range(1, len(choices) + 1)]
        if self.there:
            self._say(question)
            for number, choice in zip(numbers, choices, strict=True):
                self._say(f"  {number}  {choice}")
        answer = self.text(
            f"1 to {len(choices)}" if len(choices) > 1 else "1", instead, "1",
            lambda text: "" if text in numbers else f"a number from 1 to {len(choices)}",
        )  # fmt: skip
        return int(answer) - 1

    def agrees(self, question: str, instead: str) -> bool:
        """Return whether the answer is yes, which is the default. Raises :class:`Unanswered` with ``instead``."""
        answer = self.text(
            f"{question} (y/n)", instead, "y",
            lambda text: "" if text.lower() in {"y", "yes", "n", "no"} else "y or n",
        )  # fmt: skip
        return answer.lower().startswith("y")

    def _answer(self, question: str, instead: str) -> str:
        if self._ask is None:
            raise Unanswered(instead)
        try:
            return self._ask(question).strip()
        except EOFError:
            raise Unanswered(instead) from None
